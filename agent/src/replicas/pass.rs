//! One look at a replica: what it holds is compared with the store, and made good.

use super::{
	Replica, Replicas, State,
	names::{self, Name, Series},
	note_damaged,
	send::{SendError, Sender},
};
use crate::{
	format::{RootBlock, links},
	node::PinLabel,
	pipeline::{CopyError, copy},
	repositories::{BlockSource, KuboError, Repository, RepositoryError, is_trial},
};
use backup_primitives::{Cid, cid::BlockCodec};
use rand::seq::IndexedRandom;
use std::{
	collections::{BTreeMap, BTreeSet, HashSet},
	io,
	num::NonZero,
	sync::PoisonError,
};

/// Ways from a root to a chunk that are fetched and hashed at each look.
const SAMPLES: usize = 4;

/// Most blocks on one.
const SAMPLE_BLOCKS_MAX: usize = 64;

/// Threads that fetch a snapshot back.
const THREADS: NonZero<usize> = NonZero::new(4).expect("four is more than zero");

/// Why a replica is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
	#[error(transparent)]
	Kubo(#[from] KuboError),
	#[error("the store cannot be asked: {0}")]
	Store(#[from] RepositoryError),
	#[error("snapshot {root} is not sent: {source}")]
	Send { root: Cid, source: SendError },
	#[error("snapshot {root} is not pinned: {source}")]
	Pin { root: Cid, source: KuboError },
	#[error("snapshot {root} is here no more and does not come back: {source}")]
	FetchBack { root: Cid, source: CopyError },
	#[error("snapshot {root} is not here, and its root not there as its pin says")]
	NoSnapshot { root: Cid },
	#[error(
		"{count} blocks are damaged there, {first} for one: `ipfs repo verify --drop` removes them, and they are sent again"
	)]
	Damaged { count: usize, first: Cid },
	#[error("notes of what was given up cannot be written: {0}")]
	Notes(#[from] io::Error),
	#[error("the thread that looked after it panicked")]
	Panic,
}

/// A snapshot that the store pins.
struct Wanted {
	root: Cid,
	series: String,
	sequence: u64,
}

/// What a replica holds that is ours.
#[derive(Default)]
struct Theirs {
	/// Snapshots, by their series.
	roots: BTreeMap<Cid, String>,
	/// Blocks that an earlier run has sent.
	batches: Vec<Cid>,
}

impl Replicas {
	/// Compare a replica with the store once, and make good what is to be.
	pub(super) fn pass(&self, member: &Replica) -> Result<(), PassError> {
		let mut theirs = self.theirs(member)?;
		// In this order: what is given up meanwhile is noted before its pin goes.
		let wanted = self.wanted()?;
		self.let_go(member, &mut theirs)?;
		let is_there = |pin: &&Wanted| theirs.roots.contains_key(&pin.root);
		{
			let mut state = member.state();
			// What blocks are missing below is held again when it has been gone through.
			state.held = match state.is_hollow {
				true => BTreeSet::new(),
				false => theirs.roots.keys().copied().collect(),
			};
			state.behind = wanted.len() - wanted.iter().filter(is_there).count();
			state.is_known = true;
		}
		self.fill(member, &wanted, &theirs)?;
		self.fetch_back(member, &wanted, &theirs)?;
		self.sample(member)?;
		let state = member.state();
		match state.damaged.first() {
			Some(first) => Err(PassError::Damaged { count: state.damaged.len(), first: *first }),
			None => Ok(()),
		}
	}

	fn theirs(&self, member: &Replica) -> Result<Theirs, PassError> {
		let mut theirs = Theirs::default();
		for pin in member.kubo.pins(names::PREFIX)? {
			match self.names.read(&pin.name) {
				Some(Name::Blocks) => theirs.batches.push(pin.root),
				Some(Name::Series(series)) => drop(theirs.roots.insert(pin.root, series)),
				None => (),
			}
		}
		Ok(theirs)
	}

	/// What the store pins, the newest snapshots first: they are what would be missed most.
	fn wanted(&self) -> Result<Vec<Wanted>, PassError> {
		let pins = self.store.pins()?.into_iter().filter(|pin| !is_trial(&pin.label)).map(|pin| {
			let (series, sequence) = names::place(&pin.label);
			Wanted { root: pin.root, series, sequence }
		});
		let mut wanted: Vec<Wanted> = pins.collect();
		wanted.sort_by_key(|pin| std::cmp::Reverse(pin.sequence));
		Ok(wanted)
	}

	/// Unpin what was given up.
	fn let_go(&self, member: &Replica, theirs: &mut Theirs) -> Result<(), PassError> {
		for root in member.releases.list() {
			// It is wanted again, or the store is about to let go of it.
			if self.store.is_pinned(&root) {
				continue;
			}
			if theirs.roots.remove(&root).is_some() {
				member.kubo.unpin(&root)?;
				tracing::info!(target: "replicas", replica = member.name, %root, "root given up");
			}
			member.state().held.remove(&root);
			member.releases.remove(&root)?;
		}
		Ok(())
	}

	/// Send what is missing. What one snapshot lacks here does not keep the others.
	fn fill(&self, member: &Replica, wanted: &[Wanted], theirs: &Theirs) -> Result<(), PassError> {
		let is_hollow = member.state().is_hollow;
		let on_sent = |bytes| member.state().sent_bytes += bytes;
		let name = self.names.of_blocks();
		let mut sender =
			Sender::new(&self.store, &member.kubo, name, is_hollow, &on_sent, &self.cancel);
		for batch in &theirs.batches {
			sender.take_up(*batch)?;
		}
		let is_there = |pin: &&Wanted| theirs.roots.contains_key(&pin.root);
		// What blocks are missing below is gone through, however well it is pinned.
		let mut whole: Vec<&Wanted> = match is_hollow {
			true => Vec::new(),
			false => wanted.iter().filter(is_there).collect(),
		};
		let mut failure = None;
		for pin in wanted.iter().filter(|pin| is_hollow || !is_there(pin)) {
			// It was given up meanwhile, and must not come back.
			if !self.store.is_pinned(&pin.root) {
				continue;
			}
			let is_pinned = is_there(&pin);
			match self.fill_one(member, &mut sender, pin, is_pinned, &whole) {
				Ok(()) => whole.push(pin),
				// It was given up meanwhile.
				Err(_) if !self.store.is_pinned(&pin.root) => (),
				Err(error @ PassError::Send { .. }) if is_of_store(&error) => {
					failure.get_or_insert(error);
				}
				Err(error) => return Err(error),
			}
		}
		if let Some(error) = failure {
			return Err(error);
		}
		sender.finish()?;
		member.state().is_hollow = false;
		Ok(())
	}

	fn fill_one(
		&self,
		member: &Replica,
		sender: &mut Sender<'_>,
		pin: &Wanted,
		is_pinned: bool,
		whole: &[&Wanted],
	) -> Result<(), PassError> {
		let root = pin.root;
		// Of another, whose pin is left as it is.
		let foreign =
			|name: Option<String>| name.is_some_and(|name| self.names.read(&name).is_none());
		if !is_pinned && !sender.is_careful && foreign(member.kubo.pin_name(&root)?) {
			self.note_held(member, &root);
			return Ok(());
		}
		let like = whole.iter().filter(|other| other.series == pin.series);
		let nearest = like.min_by_key(|other| other.sequence.abs_diff(pin.sequence));
		let other = nearest.map(|other| other.root);
		let others: Vec<Cid> = other.into_iter().collect();
		sender.send(&root, &others).map_err(|source| PassError::Send { root, source })?;
		if !is_pinned {
			self.pin(member, pin, other).map_err(|source| {
				// Something below it is not there although it was relied on. Where there is a network,
				// it is searched for.
				member.state().is_hollow |=
					matches!(source, KuboError::Missing(_) | KuboError::Slow);
				PassError::Pin { root, source }
			})?;
			tracing::info!(target: "replicas", replica = member.name, %root, "snapshot replicated");
		}
		self.note_held(member, &root);
		Ok(())
	}

	/// Pin a root whose blocks are there, by what differs from another one if there is one.
	fn pin(&self, member: &Replica, pin: &Wanted, other: Option<Cid>) -> Result<(), KuboError> {
		let (kubo, root) = (&member.kubo, &pin.root);
		let name = self.names.name(&pin.series);
		match other.map(|other| kubo.pin_update(&other, root)) {
			Some(Ok(())) => (),
			// The other one's pin may be gone meanwhile, or there is much that differs.
			Some(Err(KuboError::Failed(_) | KuboError::Slow)) | None => {
				kubo.pin_add(root, &name)?
			}
			Some(Err(error)) => return Err(error),
		}
		match kubo.pin_name(root)? {
			Some(found) if found == name => Ok(()),
			// Older daemons give no name to what is pinned by an update, others that of the old pin,
			// which an identity may have given that is gone some day.
			Some(_) => kubo.pin_add(root, &name),
			None => Err(KuboError::Malformed("it said that the root is pinned, and it is not")),
		}
	}

	fn note_held(&self, member: &Replica, root: &Cid) {
		let mut state = member.state();
		if state.held.insert(*root) {
			state.behind = state.behind.saturating_sub(1);
		}
	}

	/// Fetch snapshots back that were lost here and not given up.
	fn fetch_back(
		&self,
		member: &Replica,
		wanted: &[Wanted],
		theirs: &Theirs,
	) -> Result<(), PassError> {
		let here: HashSet<&Cid> = wanted.iter().map(|pin| &pin.root).collect();
		let lost = theirs.roots.iter().filter(|(root, _)| !here.contains(root));
		let lost: Vec<(&Cid, &String)> = lost.collect();
		if lost.is_empty() {
			return Ok(());
		}
		let _turn = self.fetching_back.lock().unwrap_or_else(PoisonError::into_inner);
		let mut found = Vec::new();
		let mut failure = None;
		for (root, series) in lost {
			let Some(series) = names::series(series) else { continue };
			match member.kubo.block(root)?.map(|block| RootBlock::decode(&block)) {
				Some(Ok(block)) if *block.request() == series.lineage.request => {
					found.push((block.sequence(), *root, series));
				}
				_ => failure = Some(PassError::NoSnapshot { root: *root }),
			}
		}
		found.sort_by_key(|(sequence, ..)| std::cmp::Reverse(*sequence));
		for (sequence, root, Series { lineage, copy_for }) in found {
			// Another replica has given it, or it was given up while this was under way.
			if self.store.is_pinned(&root) || member.releases.has(&root) {
				continue;
			}
			let label = PinLabel::of_found(lineage, sequence, copy_for);
			if let Err(error) = self.fetch_one_back(&root, &label) {
				failure.get_or_insert(error);
				continue;
			}
			tracing::warn!(
				target: "replicas", replica = member.name, %root,
				"the snapshot was not in the store any more, and was fetched back"
			);
		}
		failure.map_or(Ok(()), Err)
	}

	fn fetch_one_back(&self, root: &Cid, label: &[u8]) -> Result<(), PassError> {
		let session = self.store.open_session()?;
		copy(self, session.as_ref(), root, THREADS, &|_| (), &self.cancel)
			.map_err(|source| PassError::FetchBack { root: *root, source })?;
		session.flush()?;
		Ok(session.pin(root, label)?)
	}

	/// Fetch some blocks that should be there, and hash them.
	fn sample(&self, member: &Replica) -> Result<(), PassError> {
		let (held, damaged) = {
			let state = member.state();
			(state.held.iter().copied().collect::<Vec<_>>(), state.damaged.clone())
		};
		// The operator may have had them removed, or replaced.
		for cid in damaged {
			if self.look(member, &cid)? {
				member.state().damaged.remove(&cid);
			}
		}
		for _ in 0..SAMPLES {
			let Some(root) = held.choose(&mut rand::rng()) else { break };
			let mut cid = *root;
			for _ in 0..SAMPLE_BLOCKS_MAX {
				if !self.look(member, &cid)? || cid.codec() == BlockCodec::Raw {
					break;
				}
				let Ok(Some(block)) = self.store.get(&cid) else { break };
				match links(&block).unwrap_or_default().choose(&mut rand::rng()) {
					Some(child) => cid = *child,
					None => break,
				}
			}
		}
		match member.state().is_hollow {
			true => Err(PassError::Kubo(KuboError::Missing("it lost some that it had".into()))),
			false => Ok(()),
		}
	}

	/// Whether a block is there and sound. Notes it if it is not.
	fn look(&self, member: &Replica, cid: &Cid) -> Result<bool, PassError> {
		let found = member.kubo.block(cid);
		let mut state = member.state();
		let State { damaged, is_hollow, .. } = &mut *state;
		match found {
			Ok(Some(_)) => return Ok(true),
			Ok(None) => {
				damaged.remove(cid);
				*is_hollow = true;
			}
			Err(KuboError::Damaged { cid }) => note_damaged(&mut state, cid),
			Err(error) => return Err(error.into()),
		}
		Ok(false)
	}
}

/// Whether it is the store that lacks something.
fn is_of_store(error: &PassError) -> bool {
	let PassError::Send { source, .. } = error else { return false };
	!matches!(source, SendError::Kubo(_) | SendError::Cancelled)
}
