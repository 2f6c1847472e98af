//! Damaged blocks of a replica are replaced by sound ones.
//!
//! What a look or a reader found damaged is fetched and hashed once more at the next look. If it still
//! is, and the store or another replica has it sound, it is replaced. Nothing is taken away before a
//! sound one is at hand; where the replacing breaks off the block is missing, which the next look
//! notices.

use super::{Replica, Replicas, pass::PassError};
use crate::repositories::{BlockSource, KuboError, Repository};
use backup_primitives::Cid;
use std::time::{Duration, Instant};

/// How long damaged blocks of a replica are replaced before a look goes on. The daemon walks all its
/// pins for each of them.
const MEND_TIME_MAX: Duration = Duration::from_secs(300);

impl Replicas {
	/// Replace what is known to be damaged, or have it forgotten if it is so no more.
	pub(super) fn mend(&self, member: &Replica) -> Result<(), PassError> {
		let end = Instant::now() + MEND_TIME_MAX;
		let damaged = {
			let mut state = member.state();
			state.not_mended = None;
			state.damaged.clone()
		};
		for cid in damaged {
			if self.cancel.is_cancelled() || Instant::now() >= end {
				break;
			}
			// The operator may have had it removed, or replaced.
			let is_sound = self.look(member, &cid)?;
			let is_damaged = !is_sound && member.state().damaged.contains(&cid);
			if is_sound || is_damaged && self.replace(member, &cid)? {
				member.state().damaged.remove(&cid);
			}
		}
		Ok(())
	}

	/// Says whether a sound block stands there now.
	fn replace(&self, member: &Replica, cid: &Cid) -> Result<bool, PassError> {
		let Some(block) = self.sound(cid) else {
			member.state().not_mended = Some("nobody else has a sound one".to_owned());
			return Ok(false);
		};
		match member.kubo.replace(cid, &block) {
			Ok(()) => (),
			Err(error @ (KuboError::Unreachable(_) | KuboError::Refused(_))) => {
				return Err(error.into());
			}
			Err(error) => {
				member.state().not_mended = Some(error.to_string());
				return Ok(false);
			}
		}
		let is_sound = self.look(member, cid)?;
		if is_sound {
			member.state().mended += 1;
			tracing::warn!(
				target: "replicas", replica = member.name, block = %cid,
				"a damaged block was replaced by a sound one"
			);
		}
		Ok(is_sound)
	}

	/// A block, from the store or from whichever replica has it sound.
	fn sound(&self, cid: &Cid) -> Option<Vec<u8>> {
		let hold = || {
			let roots = self.store.pins().ok()?.into_iter().map(|pin| pin.root);
			let mut holds = roots.flat_map(|root| self.names.holds(&root).collect::<Vec<_>>());
			holds.find(|hold| hold.cid() == *cid).map(|hold| hold.encode())
		};
		let here = self.store.get(cid).ok().flatten();
		here.or_else(hold).or_else(|| self.get(cid).ok().flatten())
	}
}
