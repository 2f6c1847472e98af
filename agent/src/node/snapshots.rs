//! Snapshots: a machine's disks on their way into the store.

use super::{Known, NodeExecutor, PinLabel, SAMPLES, backed_up, opened, recipients, stored};
use crate::{
	format::{Geometry, Object, Root},
	jobs::{Effort, JobContext, JobError, now_ms},
	metrics::Sealed,
	pipeline::{Backup, BackupError, Base, Blob, Cancel, Disk, DiskReader, Progress, Stored},
	repositories::{Repository, RepositoryError, Session},
	sources::{Checkpoint, DESCRIPTION_FILE, OpenDisk, OpenVm, SourceError, Vm},
	stage::{self, Stage},
	verification::make_whole,
};
use backup_primitives::{
	Cid, FailureReason, LineageId, OpaqueId, job::SnapshotOrder, report::TakenSnapshot,
};
use codec::{Decode, Encode};

/// How often a snapshot is begun again because damage was noted meanwhile. A verification notes what
/// it finds in no more rounds than that.
const NOTES_MAX: u32 = 8;

/// What came of beginning a snapshot.
enum Attempt {
	/// It is pinned.
	Taken(TakenSnapshot),
	/// The record of what was written, or the snapshot that it goes by, proved to be of no use.
	BaseIsOfNoUse,
	/// The store has noted damage in what the snapshot relied on, or a sync has failed.
	StoreHasLost,
}

impl NodeExecutor {
	/// Take a snapshot of a machine, again if that shows that it must be begun otherwise.
	pub(super) fn take(
		&self,
		origin: (&[u8; 32], &OpaqueId),
		order: &SnapshotOrder,
		vm: &Vm,
		context: &JobContext,
	) -> Result<TakenSnapshot, JobError> {
		let known = self.known(Some(&order.lineage))?;
		let attempt = |known: &[Known]| self.attempt(origin, order, vm, known, context);
		persist(known, || self.store.times_noted(), attempt)
	}

	/// Take a snapshot, reading what was written since one of the known ones if that was recorded.
	fn attempt(
		&self,
		origin: (&[u8; 32], &OpaqueId),
		order: &SnapshotOrder,
		vm: &Vm,
		known: &[Known],
		context: &JobContext,
	) -> Result<Attempt, JobError> {
		let checkpoints: Vec<Checkpoint> = known.iter().map(|known| known.checkpoint).collect();
		// Before the disks stand still: the chain must never hear of a later time than the true
		// one.
		let taken_at = context.clock();
		let machine = vm.open(order.vm_tag, &checkpoints, &self.open_options());
		if let Err(error @ SourceError::TagMismatch { .. }) = machine {
			// Another machine, whose bitmaps are not ours to settle.
			return Err(opened(error));
		}
		let begun = machine.as_ref().ok().and_then(|machine| machine.checkpoint);
		let taken = machine
			.map_err(opened)
			.and_then(|machine| self.back_up(origin, order, taken_at, machine, vm, known, context));
		let _close = stage::enter(Stage::Close);
		let settled = match (&taken, begun) {
			(Ok(Attempt::Taken(_)), Some(begun)) => vm.settle(&[begun]),
			(Ok(Attempt::BaseIsOfNoUse), _) => {
				// Before all else, and for good: the next samples may find nothing.
				self.discredit(known)?;
				vm.settle(&[])
			}
			_ => vm.settle(&checkpoints),
		};
		if let Err(error) = settled {
			tracing::warn!(%error, "the machine's bitmaps are settled before the next snapshot");
		}
		taken
	}

	/// Seal a machine that is held, let go of it as soon as its disks are read, and pin the root.
	#[expect(clippy::too_many_arguments, reason = "all of one snapshot, from one caller")]
	fn back_up(
		&self,
		origin: (&[u8; 32], &OpaqueId),
		order: &SnapshotOrder,
		taken_at: u64,
		mut machine: OpenVm,
		vm: &Vm,
		known: &[Known],
		context: &JobContext,
	) -> Result<Attempt, JobError> {
		let in_force = self.in_force.borrow().clone();
		let disk_bytes = machine.disks.iter().map(|disk| disk.reader.logical_bytes()).sum();
		ensure_capacity(order, disk_bytes)?;
		let taken_at_ms = now_ms();
		let recipients = recipients::recipients(order, &self.identities);
		let key = self.keys.of(&order.owner, &order.owner_recipients, &self.identities)?;
		let recorded = machine.base.and_then(|base| self.open_known(known, base));
		let disks: Vec<Disk<'_>> =
			machine.disks.drain(..).map(|disk| self.disk_since(disk, recorded.as_ref())).collect();
		let is_recorded = disks.iter().any(|disk| disk.changed.is_some());
		let base = recorded.or_else(|| self.base(order));
		let session = self.store.open_session().map_err(stored)?;
		let backup = Backup {
			genesis: *origin.0,
			node: origin.1.clone(),
			request: order.lineage.request.clone(),
			sequence: order.sequence,
			taken_at_ms,
			consistency: machine.consistency,
			base: base.as_ref().map(|root| Base { root }),
			geometry: Geometry::V1,
			samples: SAMPLES,
			key: &key,
			compression: in_force.compression,
			recipients: &recipients,
			session: session.as_ref(),
			repository: &self.store,
			threads: in_force.threads,
			on_progress: &|progress: Progress| {
				context.progress.set(progress.done_bytes, progress.total_bytes);
			},
			cancel: &context.cancel,
		};
		let description = (DESCRIPTION_FILE.to_owned(), vm.describe().into_bytes());
		let blobs = machine.files.drain(..).chain([description]);
		let blobs = blobs.map(|(name, bytes)| Blob { name, bytes }).collect();
		let run = || {
			let _read = stage::enter(Stage::Read);
			backup.run(disks, blobs)
		};
		let report = match run() {
			Err(error) if is_recorded && error.is_of_base() => {
				tracing::warn!(%error, "the machine is read in full");
				return Ok(Attempt::BaseIsOfNoUse);
			}
			Err(BackupError::Repository(RepositoryError::SessionLost)) => {
				return Ok(Attempt::StoreHasLost);
			}
			result => result.map_err(backed_up)?,
		};
		let (consistency, checkpoint) = (machine.consistency, machine.checkpoint);
		let pause = machine.pause;
		// The blocks are whole: a machine that does not let go well is tried again beside.
		let close = || {
			let _close = stage::enter(Stage::Close);
			machine.close()
		};
		if let Err(error) = close() {
			tracing::error!(%error, "failed to take the backup's nodes out of the machine");
		}
		let _pin = stage::enter(Stage::Pin);
		match self.pin(session.as_ref(), order, &report.root, checkpoint) {
			Err(RepositoryError::SessionLost) => return Ok(Attempt::StoreHasLost),
			result => result.map_err(stored)?,
		}
		self.mend_older(&order.lineage, &context.cancel);
		let read_bytes = report.stored.read_bytes;
		// It is told once: a snapshot that is taken a second time has not come this far.
		let _ = context.effort.set(Effort {
			read_bytes,
			fresh_bytes: fresh_bytes(&report.stored),
			store_bytes: self.store.usage().map_or(0, |usage| usage.bytes),
			is_recorded,
			pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
		});
		context.metrics.count_snapshot(&Sealed {
			vm: &String::from_utf8_lossy(&order.vm),
			read_bytes,
			stored_bytes: report.stored.new_bytes,
			is_recorded,
			pause,
			taken_at_ms,
		});
		tracing::info!(root = %report.root, read_bytes, is_recorded, "the machine was sealed");
		Ok(Attempt::Taken(TakenSnapshot {
			cid: report.root,
			taken_at,
			logical_bytes: disk_bytes,
			new_bytes: report.stored.new_bytes,
			consistency,
			owner_key_version: order.owner_key_version,
		}))
	}

	/// What damage had taken from older snapshots may have been stored again with this one. Those of
	/// the same machine that still lack something will not get it from its disks any more.
	fn mend_older(&self, lineage: &LineageId, cancel: &Cancel) {
		let lost = match make_whole(&self.store, cancel) {
			Ok(made) => made.lost,
			Err(error) => {
				return tracing::warn!(%error, "damaged snapshots are looked at after the next one");
			}
		};
		if lost.is_empty() {
			return;
		}
		let labels = self.labels().unwrap_or_default().into_iter();
		let of_machine = labels.filter(|(root, label)| {
			lost.contains(root) && label.lineage == *lineage && label.copy_for.is_none()
		});
		for (root, PinLabel { sequence, .. }) in of_machine {
			tracing::error!(
				%root,
				sequence,
				"a snapshot stays damaged: what it has lost is not on the machine's disks any more"
			);
		}
	}

	fn pin(
		&self,
		session: &dyn Session,
		order: &SnapshotOrder,
		root: &Cid,
		checkpoint: Option<Checkpoint>,
	) -> Result<(), RepositoryError> {
		let label = PinLabel {
			lineage: order.lineage.clone(),
			sequence: order.sequence,
			pinned_at_ms: now_ms(),
			checkpoint,
			copy_for: None,
		};
		session.flush()?;
		session.pin(root, &label.encode())?;
		self.replicas.wake();
		Ok(())
	}

	/// The snapshots from which on writes were recorded, the newest first: of one lineage, or all.
	pub(super) fn known(&self, lineage: Option<&LineageId>) -> Result<Vec<Known>, JobError> {
		let mut labels = self.labels()?;
		labels.retain(|(_, label)| lineage.is_none_or(|lineage| label.lineage == *lineage));
		labels.sort_by_key(|(_, label)| std::cmp::Reverse(label.pinned_at_ms));
		let known = labels.into_iter().filter_map(|(root, label)| {
			label.checkpoint.map(|checkpoint| Known { checkpoint, root })
		});
		Ok(known.collect())
	}

	/// Forget from which checkpoints on writes were recorded: the record has proved to be wrong.
	fn discredit(&self, known: &[Known]) -> Result<(), JobError> {
		for Known { checkpoint, root } in known {
			let without = |label: &[u8]| {
				let label = PinLabel::decode(&mut &*label).ok()?;
				let is_meant = label.checkpoint == Some(*checkpoint);
				is_meant.then(|| PinLabel { checkpoint: None, ..label }.encode())
			};
			// It may be damaged, too, and is known to be wrong all the same.
			self.store.relabel(root, without).map_err(stored)?;
		}
		Ok(())
	}

	/// The root of a known snapshot. One that cannot be opened costs a full reading.
	fn open_known(&self, known: &[Known], checkpoint: Checkpoint) -> Option<Root> {
		let known = known.iter().find(|known| known.checkpoint == checkpoint)?;
		self.open(&self.store, &known.root)
			.inspect_err(|error| tracing::warn!(%error, "the last snapshot cannot be opened"))
			.ok()
	}

	/// The newest snapshot of the lineage that is here: the one before on chain, or one whose
	/// report was refused. Whatever it is, every new root is complete in itself.
	fn base(&self, order: &SnapshotOrder) -> Option<Root> {
		let newest = || {
			let own = self.labels().ok()?.into_iter();
			let own = own.filter(|(_, label)| label.lineage == order.lineage);
			own.max_by_key(|(_, label)| label.pinned_at_ms).map(|(root, _)| root)
		};
		let cid = newest().or(order.parent)?;
		self.open(&self.store, &cid).ok()
	}

	/// A disk to read, of which no more is read than was written since a snapshot, if that is of the
	/// same disk.
	fn disk_since(&self, disk: OpenDisk, base: Option<&Root>) -> Disk<'static> {
		let logical_bytes = disk.reader.logical_bytes();
		let is_same = |old: &Object| old.name == disk.name && old.logical_bytes == logical_bytes;
		let fits = base
			.is_some_and(|base| base.geometry == Geometry::V1 && base.disks.iter().any(is_same));
		if base.is_some() && !fits {
			tracing::warn!(
				disk = disk.name,
				"the disk is another one or has another size; read in full"
			);
		}
		let reader = Box::new(self.read_pace.limit(disk.reader));
		Disk { name: disk.name, reader, changed: disk.written.filter(|_| fits) }
	}
}

/// Begin until a snapshot is taken: once more in full, once more if the store has lost something
/// meanwhile, and again as often as damage was noted that was not known before. Each time the machine
/// may stand still, so no more often than that.
fn persist<K>(
	mut known: Vec<K>,
	times_noted: impl Fn() -> u64,
	mut attempt: impl FnMut(&[K]) -> Result<Attempt, JobError>,
) -> Result<TakenSnapshot, JobError> {
	let (mut has_lost, mut notes_left) = (false, NOTES_MAX);
	loop {
		let noted_before = times_noted();
		match attempt(&known)? {
			Attempt::Taken(taken) => return Ok(taken),
			Attempt::BaseIsOfNoUse if known.is_empty() => {
				return Err(JobError::internal("a full reading needs no base"));
			}
			Attempt::BaseIsOfNoUse => known.clear(),
			Attempt::StoreHasLost => {
				// What is noted is not relied on again, while a disk that does not sync may go on so.
				match times_noted() > noted_before && notes_left > 0 {
					true => notes_left -= 1,
					false if has_lost => return Err(store_has_lost()),
					false => has_lost = true,
				}
				tracing::warn!("the block store has lost what the snapshot relied on; read again");
			}
		}
	}
}

fn store_has_lost() -> JobError {
	let detail = "the block store has lost again what the snapshot relied on: its disk failed to sync, \
		or damage was found in it";
	JobError { reason: FailureReason::StoreUnavailable, detail: detail.to_owned() }
}

/// Whole chunks are counted, and no more than what was read: the last chunk of a disk is smaller.
fn fresh_bytes(stored: &Stored) -> u64 {
	let chunk_bytes = u64::from(Geometry::V1.chunk_bytes());
	stored.new_chunks.saturating_mul(chunk_bytes).min(stored.read_bytes)
}

fn ensure_capacity(order: &SnapshotOrder, disk_bytes: u64) -> Result<(), JobError> {
	if disk_bytes <= order.capacity_bytes {
		return Ok(());
	}
	let detail = format!(
		"the machine's disks have {disk_bytes} bytes, the request provides {}",
		order.capacity_bytes
	);
	Err(JobError { reason: FailureReason::CapacityExceeded, detail })
}

#[cfg(test)]
mod tests {
	use super::*;
	use backup_primitives::Consistency;
	use std::cell::RefCell;

	/// How often it is begun and with how much that is known, if these come of it. Damage is noted
	/// during so many of the attempts.
	fn persisted(
		attempts: Vec<Attempt>,
		noted_during: usize,
	) -> (Vec<usize>, Result<TakenSnapshot, JobError>) {
		let (begun, mut attempts) = (RefCell::new(Vec::new()), attempts.into_iter());
		let times_noted = || begun.borrow().len().min(noted_during) as u64;
		let taken = persist(vec![(), ()], times_noted, |known| {
			begun.borrow_mut().push(known.len());
			Ok(attempts.next().expect("it is not begun more often"))
		});
		(begun.into_inner(), taken)
	}

	fn taken() -> Attempt {
		Attempt::Taken(TakenSnapshot {
			cid: Cid::dag_cbor([1; 32]),
			taken_at: 2,
			logical_bytes: 3,
			new_bytes: 4,
			consistency: Consistency::Crash,
			owner_key_version: 5,
		})
	}

	#[test]
	fn a_snapshot_is_begun_once_more_in_full_and_once_more_if_the_store_lost_something() {
		use Attempt::{BaseIsOfNoUse, StoreHasLost};
		for (attempts, expected) in [
			(vec![taken()], vec![2]),
			(vec![BaseIsOfNoUse, taken()], vec![2, 0]),
			(vec![StoreHasLost, taken()], vec![2, 2]),
			(vec![StoreHasLost, BaseIsOfNoUse, taken()], vec![2, 2, 0]),
			(vec![BaseIsOfNoUse, StoreHasLost, taken()], vec![2, 0, 0]),
		] {
			let (begun, taken) = persisted(attempts, 0);
			assert_eq!(begun, expected);
			assert_eq!(taken.unwrap().taken_at, 2);
		}
	}

	#[test]
	fn a_store_that_goes_on_losing_is_told_of_and_the_machine_left_alone() {
		use Attempt::{BaseIsOfNoUse, StoreHasLost};
		for (attempts, expected) in [
			(vec![StoreHasLost, StoreHasLost], vec![2, 2]),
			(vec![StoreHasLost, BaseIsOfNoUse, StoreHasLost], vec![2, 2, 0]),
		] {
			let (begun, taken) = persisted(attempts, 0);
			assert_eq!(begun, expected);
			let error = taken.unwrap_err();
			assert_eq!(error.reason, FailureReason::StoreUnavailable);
			assert!(error.detail.contains("failed to sync"), "{}", error.detail);
		}
	}
	/// Cause: it was begun once more, whatever the store had lost. Effect: a backup beside a
	/// verification that notes one thing after the other failed, although each was mended by it.
	#[test]
	fn a_snapshot_is_begun_again_as_often_as_damage_is_noted() {
		use Attempt::StoreHasLost;
		let lost = |times: usize| (0..times).map(|_| StoreHasLost);
		let max = NOTES_MAX as usize;
		let (begun, sealed) = persisted(lost(max).chain([taken()]).collect(), max);
		assert_eq!((begun.len(), sealed.unwrap().taken_at), (max + 1, 2));
		// A sync that fails besides is still repeated once.
		let (begun, sealed) = persisted(lost(4).chain([taken()]).collect(), 3);
		assert_eq!((begun.len(), sealed.unwrap().taken_at), (5, 2));
		let (begun, failed) = persisted(lost(5).collect(), 3);
		assert_eq!((begun.len(), failed.unwrap_err().reason), (5, FailureReason::StoreUnavailable));
		// And there is an end to it.
		let (begun, failed) = persisted(lost(max + 2).collect(), usize::MAX);
		assert_eq!(
			(begun.len(), failed.unwrap_err().reason),
			(max + 2, FailureReason::StoreUnavailable)
		);
	}
}
