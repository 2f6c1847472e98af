//! Live restores: machines that start at once, on images that fill in behind them.
//!
//! 1. A machine that this node does not have is set up again as the snapshot describes it, in a
//!    folder of its own.
//! 2. Its images are made, empty, with the snapshot's disks behind them, which are served from
//!    then on (`sources::filling`). The operator starts the machine.
//! 3. While it runs, QEMU copies what the images lack. When nothing is missing the live restore is
//!    over, by itself.
//!
//! What this node's store lacks is read from replicas and other nodes, as by an ordinary restore.
//! Only what is here, whole, is kept from being given up by this node itself.
//!
//! A record says what is served, under a socket that no other live restore ever has. An agent that
//! starts serves it again, and gives up what a killed one had not finished setting up. While there
//! is a record the snapshot is not given up, whatever becomes of it on chain. A record that is of no
//! use stops its own live restore alone, until it is put right or its operator ends it.

mod records;
mod resume;
mod serving;
mod setup;

use super::{opened, stored, written};
use crate::{
	jobs::JobError,
	peers::Elsewhere,
	pipeline::Cancel,
	repositories::EmbeddedStore,
	secret::NodeIdentities,
	sources::{Filling, Inventory, SourceError},
};
use backup_primitives::{Cid, FailureReason, OpaqueId};
use records::{Record, Records, Unusable};
use serde::{Deserialize, Serialize};
use serving::{Served, Serving};
use setup::{Setup, pair, remove_images, socket_beside};
use std::{
	collections::{BTreeMap, BTreeSet},
	fmt, fs,
	path::PathBuf,
	sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is to be restored live.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRestoreOrder {
	/// The snapshot.
	pub root: Cid,
	/// Name of the machine on this node.
	pub vm: String,
	/// Where a machine goes that this node does not have.
	pub folder: Option<PathBuf>,
	/// QEMU's control socket of a machine that this node does not have, if it is another than it
	/// was.
	pub qmp: Option<PathBuf>,
}

/// A live restore, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveRestoreView {
	/// Name of the machine.
	pub vm: String,
	/// The snapshot; nothing if its record is of no use and does not tell.
	pub root: Option<Cid>,
	/// Its images, in the order of its disks.
	pub images: Vec<PathBuf>,
	/// `waiting` while the machine is off, `filling`, or `stuck`.
	pub state: String,
	/// Bytes of its disks that are there, while it runs.
	pub done_bytes: u64,
	/// Bytes of its disks.
	pub total_bytes: u64,
	/// What stands in the way.
	pub problem: Option<String>,
}

/// A live restore that is recorded.
struct LiveRestore {
	record: Record,
	filling: Result<Filling, String>,
	/// Nothing while it cannot be served.
	served: Option<Served>,
}

/// The live restores of a node.
pub struct LiveRestores {
	records: Records,
	vms_dir: PathBuf,
	serving: Serving,
	all: Mutex<BTreeMap<String, LiveRestore>>,
	/// Those whose records are of no use.
	unusable: Mutex<BTreeMap<String, Unusable>>,
	/// Machines whose images are being replaced.
	replacing: Mutex<BTreeSet<String>>,
	/// Only one begins or ends at a time.
	turn: Mutex<()>,
}

/// While it lives, no live restore of a machine begins.
#[derive(Debug)]
pub(super) struct Exclusion<'l> {
	live_restores: &'l LiveRestores,
	vm: String,
}

impl Drop for Exclusion<'_> {
	fn drop(&mut self) {
		lock(&self.live_restores.replacing).remove(&self.vm);
	}
}

impl fmt::Debug for LiveRestores {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("LiveRestores").field("records", &self.records).finish_non_exhaustive()
	}
}

impl LiveRestores {
	/// Those that are recorded in this folder. None is served before [`resume`](Self::resume).
	pub(super) fn at(
		folder: PathBuf,
		vms_dir: PathBuf,
		store: EmbeddedStore,
		elsewhere: Arc<Elsewhere>,
		identities: Arc<NodeIdentities>,
	) -> Self {
		Self {
			records: Records::at(folder),
			vms_dir,
			serving: Serving { store, elsewhere, identities, cancel: Cancel::new() },
			all: Mutex::default(),
			unusable: Mutex::default(),
			replacing: Mutex::default(),
			turn: Mutex::default(),
		}
	}

	/// Wait for nobody any more: the agent ends.
	pub fn stop(&self) {
		self.serving.cancel.cancel();
	}

	/// Whether the disks of a machine fill in, or would if its record were of use.
	pub fn has(&self, vm: &str) -> bool {
		lock(&self.all).contains_key(vm) || lock(&self.unusable).contains_key(vm)
	}

	/// Why a machine cannot be backed up now, if a live restore is the reason.
	pub(super) fn obstacle(&self, vm: &str) -> Option<String> {
		if let Some(unusable) = lock(&self.unusable).get(vm) {
			return Some(format!("{vm:?} is being restored live, and {unusable}"));
		}
		lock(&self.all).contains_key(vm).then(|| {
			format!(
				"the disks of {vm:?} fill in after a live restore; it is backed up as soon as they are complete"
			)
		})
	}

	/// Whether a snapshot is needed by any.
	pub(super) fn needs(&self, root: &Cid) -> bool {
		lock(&self.all).values().any(|live| live.record.root == *root)
			|| lock(&self.unusable).values().any(|unusable| unusable.root == Some(*root))
	}

	/// All that are under way, by the names of their machines.
	pub fn list(&self) -> Vec<LiveRestoreView> {
		let mut views: Vec<_> = lock(&self.all).iter().map(|(vm, live)| live.view(vm)).collect();
		views.extend(lock(&self.unusable).iter().map(|(vm, unusable)| unusable.view(vm)));
		views.sort_by(|one, other| one.vm.cmp(&other.vm));
		views
	}

	/// Keep live restores of a machine from beginning, if none is under way.
	pub(super) fn exclude(&self, vm: &str) -> Result<Exclusion<'_>, JobError> {
		let _turn = lock(&self.turn);
		if self.has(vm) {
			return Err(unwritable(format!("a live restore of {vm:?} is under way")));
		}
		lock(&self.replacing).insert(vm.to_owned());
		Ok(Exclusion { live_restores: self, vm: vm.to_owned() })
	}

	/// Set a machine up, so that it can be started. `nodes` are those that workers speak for here.
	pub fn begin(
		&self,
		order: &LiveRestoreOrder,
		nodes: &[OpaqueId],
	) -> Result<LiveRestoreView, JobError> {
		let _turn = lock(&self.turn);
		if self.has(&order.vm) {
			return Err(unwritable(format!("a live restore of {:?} is under way", order.vm)));
		}
		if lock(&self.replacing).contains(&order.vm) {
			return Err(unwritable(format!("the disks of {:?} are being replaced", order.vm)));
		}
		let (session, is_whole) = self.serving.hold(&order.root)?;
		let (node, request) = self.serving.origin(&order.root, nodes)?;
		let source = self.serving.source(&node, &request);
		if !is_whole && !source.has_others().map_err(stored)? {
			let detail = format!(
				"the snapshot {} is not whole here, and no other node or replica is known that may have the rest",
				order.root
			);
			return Err(JobError { reason: FailureReason::BlockMissing, detail });
		}
		let root = self.serving.open(&order.root, &source)?;
		let setup = Setup {
			order,
			root: &root,
			source: &source,
			vms_dir: &self.vms_dir,
			cancel: &self.serving.cancel,
		};
		let vm = setup.machine()?;
		if vm.libvirt.is_some() {
			return Err(JobError {
				reason: FailureReason::Unsupported,
				detail: "libvirt's machines cannot fill in, for their QEMU obeys libvirt alone; restore in full, or run the machine without libvirt and say where its control socket is".into(),
			});
		}
		let disks = pair(&root, &vm, &order.vm)?;
		if vm.is_running().map_err(opened)? {
			return Err(opened(SourceError::Running));
		}
		let images: Vec<PathBuf> = disks.iter().map(|(_, image)| image.clone()).collect();
		let record = Record {
			root: order.root,
			node,
			request,
			socket: socket_beside(&images)?,
			images,
			total_bytes: root.disks.iter().map(|disk| disk.logical_bytes).sum(),
			is_ready: false,
		};
		let ready = Record { is_ready: true, ..record.clone() };
		let served = setup.make(&vm, &disks, (&record, &self.records)).and_then(|()| {
			let served = self.serving.serve(&ready, &root, &source, session)?;
			self.records.write(&order.vm, &ready).map(|()| served)
		});
		let served = match served {
			Ok(served) => served,
			Err(error) => {
				self.give_up(&order.vm, &record).map_err(|left| also(&error, &left))?;
				return Err(error);
			}
		};
		tracing::info!(vm = order.vm, root = %order.root, "a machine can be started, and its disks fill in");
		let live = LiveRestore { record: ready, filling: Ok(Filling::Off), served: Some(served) };
		let view = live.view(&order.vm);
		lock(&self.all).insert(order.vm.clone(), live);
		Ok(view)
	}

	/// Look after all of them: serve them, have machines copy what they lack, and end what is
	/// complete.
	pub fn step(&self) {
		self.look_again();
		let all: Vec<(String, Record, bool)> = lock(&self.all)
			.iter()
			.map(|(vm, live)| (vm.clone(), live.record.clone(), live.served.is_some()))
			.collect();
		for (vm, record, is_served) in all {
			let filling = match is_served {
				true => self.fill(&vm, &record),
				false => self.serve_late(&vm, &record),
			};
			if filling.as_ref().is_ok_and(|filling| *filling == Filling::Complete) {
				match self.end_this(&vm, &record) {
					Ok(_) => tracing::info!(vm, "the machine's disks are complete"),
					Err(error) => tracing::error!(vm, %error, "a live restore does not end"),
				}
			} else {
				self.note(&vm, &record, filling.map_err(|error| error.to_string()));
			}
		}
	}

	fn fill(&self, vm: &str, record: &Record) -> Result<Filling, JobError> {
		let machine = Inventory::at(&self.vms_dir).find(vm.as_bytes()).map_err(opened)?;
		let filling = machine.fill(&record.images, &record.socket).map_err(opened)?;
		if filling == Filling::Complete {
			// From here on nobody could help.
			for image in &record.images {
				fs::File::open(image).and_then(|image| image.sync_all()).map_err(written)?;
			}
		}
		Ok(filling)
	}

	fn serve_late(&self, vm: &str, record: &Record) -> Result<Filling, JobError> {
		let _turn = lock(&self.turn);
		let served = self.serving.again(record)?;
		if let Some(live) = lock(&self.all).get_mut(vm).filter(|live| live.record == *record) {
			live.served = Some(served);
			tracing::info!(vm, "the disks of a machine go on filling in");
		}
		Ok(Filling::Off)
	}

	fn note(&self, vm: &str, record: &Record, filling: Result<Filling, String>) {
		let mut all = lock(&self.all);
		let Some(live) = all.get_mut(vm).filter(|live| live.record == *record) else { return };
		if let Err(problem) = &filling
			&& live.filling.as_ref().err() != Some(problem)
		{
			tracing::warn!(vm, problem, "a machine's disks do not fill in");
		}
		live.filling = filling;
	}

	/// Serve no longer. What an image lacks is missing from then on. Says whether there was one.
	pub fn end(&self, vm: &str) -> Result<bool, JobError> {
		if self.end_unusable(vm)? {
			return Ok(true);
		}
		let record = lock(&self.all).get(vm).map(|live| live.record.clone());
		record.map_or(Ok(false), |record| self.end_this(vm, &record))
	}

	/// The same, unless another has begun since.
	fn end_this(&self, vm: &str, record: &Record) -> Result<bool, JobError> {
		let _turn = lock(&self.turn);
		if lock(&self.all).get(vm).is_none_or(|live| live.record != *record) {
			return Ok(false);
		}
		// The record first: what is not recorded is not served again.
		self.records.remove(vm)?;
		let ended = lock(&self.all).remove(vm);
		drop(ended);
		Ok(true)
	}

	/// Remove what was made of a live restore that its operator never heard of.
	fn give_up(&self, vm: &str, record: &Record) -> Result<(), JobError> {
		remove_images(record)?;
		self.records.remove(vm)
	}
}

impl LiveRestore {
	fn view(&self, vm: &str) -> LiveRestoreView {
		let mut view = LiveRestoreView {
			vm: vm.to_owned(),
			root: Some(self.record.root),
			images: self.record.images.clone(),
			state: "filling".into(),
			done_bytes: 0,
			total_bytes: self.record.total_bytes,
			problem: None,
		};
		match &self.filling {
			Ok(Filling::Running { done_bytes, total_bytes }) => {
				(view.done_bytes, view.total_bytes) = (*done_bytes, *total_bytes);
			}
			Ok(Filling::Complete) => view.done_bytes = self.record.total_bytes,
			Ok(Filling::Off) => view.state = "waiting".into(),
			Err(problem) => {
				view.state = "stuck".into();
				view.problem = Some(problem.clone());
			}
		}
		view
	}
}

/// What failed, and what is left because it could not be cleaned up either.
fn also(error: &JobError, left: &JobError) -> JobError {
	let detail = format!("{}; what was made of it is not removed: {}", error.detail, left.detail);
	JobError { reason: error.reason, detail }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unwritable(detail: String) -> JobError {
	JobError { reason: FailureReason::TargetUnwritable, detail }
}

#[cfg(test)]
mod tests;
