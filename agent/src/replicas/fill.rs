//! What a replica lacks is sent and pinned, the newest snapshot first.

use super::{
	Replica, Replicas,
	hold::Hold,
	listing::{Theirs, Wanted},
	pass::PassError,
	send::{Order, SendError, Sender},
};
use crate::repositories::{KuboError, kubo::IMPORT_TIME_MAX};
use backup_primitives::Cid;
use std::{
	cmp::Reverse,
	collections::HashSet,
	time::{Duration, Instant},
};

/// How often it is looked for snapshots that were pinned without a word, copies for example.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// After so many snapshots in a row at which the daemon failed, the others wait for the next look:
/// each may have cost minutes.
const REFUSED_MAX: u32 = 3;

/// One replica while it is filled.
pub(super) struct Fill<'a> {
	replicas: &'a Replicas,
	member: &'a Replica,
	sender: Sender<'a>,
	pub(super) theirs: Theirs,
	/// What the store pins, and when it was asked.
	wanted: Vec<Wanted>,
	asked_at: Instant,
	/// What it had pinned at the beginning. Whatever is not among it is newer, and goes first.
	old: HashSet<Cid>,
	/// What had its turn.
	tried: HashSet<Cid>,
	/// How many in a row the daemon has failed at.
	refused: u32,
	/// What went wrong with one snapshot, and kept no other.
	pub(super) failure: Option<PassError>,
}

impl Replica {
	/// Let go of batches that were sent and of which nobody knows whether they are there: an agent was
	/// killed, or the daemon did not answer. It may be at one still, so that is noted for a while.
	fn undo_imports(&self) -> Result<(), PassError> {
		for batch in self.imports.list() {
			if self.kubo.unpin(&batch)? || self.imports.is_older(&batch, IMPORT_TIME_MAX) {
				self.imports.remove(&batch)?;
			}
		}
		Ok(())
	}

	/// Let go of a batch that is there.
	fn release(&self, batch: &Cid) -> Result<(), PassError> {
		self.kubo.unpin(batch)?;
		Ok(self.imports.remove(batch)?)
	}
}

impl<'a> Fill<'a> {
	pub(super) fn begin(
		replicas: &'a Replicas,
		member: &'a Replica,
		on_sent: &'a dyn Fn(u64),
		is_urged: &'a dyn Fn() -> bool,
	) -> Result<Self, PassError> {
		let Replicas { store, names, cancel, .. } = replicas;
		member.note_news();
		let wanted = replicas.wanted()?;
		// As far as is known: the daemon may be away.
		member.state().count_missing(&wanted);
		member.undo_imports()?;
		let mut theirs = replicas.theirs(member, &wanted)?;
		theirs.note(member, &wanted);
		Ok(Self {
			replicas,
			member,
			sender: Sender::new(
				store,
				(&member.kubo, &member.imports),
				names,
				on_sent,
				is_urged,
				cancel,
			),
			theirs,
			asked_at: Instant::now(),
			old: wanted.iter().map(|pin| pin.root).collect(),
			wanted,
			tried: HashSet::new(),
			refused: 0,
			failure: None,
		})
	}

	/// What is to be sent next. Also releases what is on its way to nowhere.
	pub(super) fn next(&mut self) -> Result<Option<Wanted>, PassError> {
		if self.member.has_news() || self.asked_at.elapsed() > LOOK_EVERY {
			self.member.note_news();
			self.wanted = self.replicas.wanted()?;
			self.asked_at = Instant::now();
			let is_missing = |pin: &&Wanted| !self.theirs.held.contains_key(&pin.root);
			self.member.state().behind = self.wanted.iter().filter(is_missing).count();
		}
		self.release_loose()?;
		if self.refused >= REFUSED_MAX {
			return Ok(None);
		}
		let failures = self.member.state().refused.clone();
		let waiting = self.missing().filter(|pin| !self.tried.contains(&pin.root));
		// What failed before keeps nothing from its turn, whatever its sequence.
		let next = waiting.min_by_key(|pin| {
			let failed = failures.get(&pin.root).copied().unwrap_or(0);
			(self.old.contains(&pin.root), failed, Reverse(pin.sequence))
		});
		Ok(next.cloned())
	}

	/// Snapshots that are not there, or of which blocks may be missing.
	fn missing(&self) -> impl Iterator<Item = &Wanted> {
		let doubtful = self.member.state().doubtful.clone();
		self.wanted.iter().filter(move |pin| {
			!self.theirs.held.contains_key(&pin.root) || doubtful.contains(&pin.root)
		})
	}

	/// Send one snapshot and pin it. An error is one that keeps all others, too.
	pub(super) fn one(&mut self, pin: &Wanted) -> Result<(), PassError> {
		let is_wanted = || self.replicas.store.is_pinned(&pin.root);
		// It was given up meanwhile, and must not come back.
		if !is_wanted() {
			self.tried.insert(pin.root);
			return Ok(());
		}
		let result = self.replicate(pin);
		let sent = self.sender.take_batches();
		match result {
			Ok(()) => {
				self.tried.insert(pin.root);
				self.refused = 0;
				// What another one waits with is known by its batches alone.
				if !self.theirs.batches.contains_key(&pin.series) {
					self.sender.forget(&pin.series);
				}
				// They are below its root now.
				sent.iter().try_for_each(|batch| self.member.release(batch))?;
				return Ok(());
			}
			Err(PassError::Send { source: SendError::Interrupted, .. }) => (),
			Err(error) if is_of_all(&error) => return Err(error),
			Err(error) => {
				// What was on its way may have been lost.
				self.sender.abandon(&pin.series);
				self.tried.insert(pin.root);
				if is_wanted() {
					self.note_failure(pin, error);
				}
			}
		}
		if !sent.is_empty() {
			self.theirs.batches.entry(pin.series.clone()).or_default().extend(sent);
		}
		Ok(())
	}

	fn note_failure(&mut self, pin: &Wanted, error: PassError) {
		if of_daemon(&error).is_some() {
			self.refused += 1;
			*self.member.state().refused.entry(pin.root).or_default() += 1;
		}
		self.failure.get_or_insert(error);
	}

	/// Let go of batches of which no snapshot is missing any more.
	fn release_loose(&mut self) -> Result<(), PassError> {
		let missing: HashSet<&str> = self.missing().map(|pin| pin.series.as_str()).collect();
		let is_loose = |series: &&String| !missing.contains(series.as_str());
		let on_their_way = self.member.state().on_their_way.clone();
		let loose: Vec<String> = on_their_way.iter().filter(is_loose).cloned().collect();
		for series in loose {
			for batch in self.theirs.batches.remove(&series).unwrap_or_default() {
				self.member.release(&batch)?;
			}
			self.sender.forget(&series);
			self.member.state().on_their_way.remove(&series);
		}
		Ok(())
	}

	fn replicate(&mut self, pin: &Wanted) -> Result<(), PassError> {
		let (member, root) = (self.member, pin.root);
		let is_in_doubt = !member.state().doubtful.is_empty();
		let pinned = self.theirs.held.get(&root).copied();
		// What somebody else has sent is not sent again.
		let is_careful = is_in_doubt || member.kubo.absent(&[root])?.is_empty();
		member.state().on_their_way.insert(pin.series.clone());
		if !is_careful && !self.sender.knows(&pin.series) {
			self.take_up(&pin.series)?;
		}
		let other = self.nearest(pin);
		let others: Vec<Cid> = other.iter().map(|(root, _)| *root).collect();
		let mut holds = self.replicas.names.holds(&root);
		let hold = match pinned {
			Some(pinned) => holds.find(|hold| hold.cid() == pinned),
			None => holds.next(),
		};
		let hold = hold.expect("what is held is held by one of our names");
		let order = Order { series: &pin.series, hold, others: &others, is_careful };
		self.sender.send(&order).map_err(|source| PassError::Send { root, source })?;
		if pinned.is_none() {
			self.pin(&hold, &pin.series, other.map(|(_, hold)| hold)).map_err(|source| {
				// Something below it is not there although it was relied on. Where there is a network,
				// it is searched for.
				if !is_careful && matches!(source, KuboError::Missing(_) | KuboError::Slow) {
					member.state().doubt_all();
				}
				PassError::Pin { root, source }
			})?;
			tracing::info!(target: "replicas", replica = member.name, %root, "snapshot replicated");
		}
		self.note_held(&root, &hold.cid());
		Ok(())
	}

	/// It is there, and pinned.
	pub(super) fn note_held(&mut self, root: &Cid, hold: &Cid) {
		self.theirs.held.insert(*root, *hold);
		self.member.state().note_held(root, hold);
	}

	/// Go on with what an earlier run has sent of a series. Batches that are of no use are removed.
	fn take_up(&mut self, series: &str) -> Result<(), PassError> {
		let batches = self.theirs.batches.remove(series).unwrap_or_default();
		let mut taken = Vec::new();
		for batch in batches {
			match self.sender.take_up(series, &batch)? {
				true => taken.push(batch),
				false => self.member.release(&batch)?,
			}
		}
		if !taken.is_empty() {
			self.theirs.batches.insert(series.to_owned(), taken);
		}
		Ok(())
	}

	/// The snapshot of the same series that is nearest of those that are surely there, and its hold.
	fn nearest(&self, pin: &Wanted) -> Option<(Cid, Cid)> {
		let state = self.member.state();
		let there = self.wanted.iter().filter_map(|other| {
			let hold = state.held.get(&other.root)?;
			(other.series == pin.series && other.root != pin.root).then_some((other, *hold))
		});
		let nearest = there.min_by_key(|(other, _)| other.sequence.abs_diff(pin.sequence));
		nearest.map(|(other, hold)| (other.root, hold))
	}

	/// Pin what holds a root whose blocks are there, by what differs from another if there is one.
	fn pin(&self, hold: &Hold, series: &str, other: Option<Cid>) -> Result<(), KuboError> {
		let (kubo, hold) = (&self.member.kubo, hold.cid());
		let name = self.replicas.names.name(series);
		match other.map(|other| kubo.pin_update(&other, &hold)) {
			Some(Ok(())) => (),
			// The other one's pin may be gone meanwhile, or there is much that differs.
			Some(Err(KuboError::Failed(_) | KuboError::Slow)) | None => {
				kubo.pin_add(&hold, &name)?
			}
			Some(Err(error)) => return Err(error),
		}
		match kubo.pin_name(&hold)? {
			Some(found) if found == name => Ok(()),
			// Older daemons give no name to what is pinned by an update, others that of the old pin,
			// which an identity may have given that is gone some day.
			Some(_) => kubo.pin_add(&hold, &name),
			None => Err(KuboError::Malformed("it said that the root is pinned, and it is not")),
		}
	}
}

/// What a daemon said, if it is the daemon that failed.
fn of_daemon(error: &PassError) -> Option<&KuboError> {
	match error {
		PassError::Kubo(source)
		| PassError::Pin { source, .. }
		| PassError::Send { source: SendError::Kubo(source), .. } => Some(source),
		_ => None,
	}
}

/// Whether another snapshot would fare no better.
fn is_of_all(error: &PassError) -> bool {
	use KuboError::{Refused, Status, Unreachable};
	match (of_daemon(error), error) {
		(Some(source), _) => matches!(source, Unreachable(_) | Refused(_) | Status(_)),
		(None, PassError::Send { source, .. }) => {
			matches!(source, SendError::Cancelled | SendError::Notes(_))
		}
		(None, _) => true,
	}
}
