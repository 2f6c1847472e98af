//! The chain's names as a person sees them at a glance: which of them somebody has to look after.

use crate::{
	chain::records::{Eligibility, Protection},
	output::Mood,
	words,
};

/// Whether a snapshot would be taken now, as a sentence in the colour of its mood.
pub(crate) fn eligibility(eligibility: &Eligibility) -> String {
	let words = words::eligibility(eligibility);
	eligibility.mood().map_or_else(|| words.clone(), |mood| mood.paint_head(&words))
}

impl Eligibility {
	/// Whether somebody has to look after it. Nothing where snapshots come as they should.
	pub(crate) fn mood(&self) -> Option<Mood> {
		match self {
			Self::Eligible { .. } | Self::NotDue { .. } => None,
			Self::NotRunning
			| Self::DeletionPending
			| Self::ChainPaused
			| Self::Paused
			| Self::Full => Some(Mood::Careful),
			Self::NoBackup
			| Self::NoNode
			| Self::Disabled
			| Self::Unpaid
			| Self::NoOwnerKey
			| Self::FailedInSlot { .. } => Some(Mood::Bad),
		}
	}
}

impl Protection {
	/// How well a backup is protected.
	pub(crate) fn mood(&self) -> Mood {
		match (&self.claimed, &self.confirmed) {
			(None, _) => Mood::Careful,
			(Some(_), None) => Mood::Bad,
			(Some(newest), Some(safe)) if safe.sequence >= newest.sequence => Mood::Good,
			(Some(_), Some(_)) => Mood::Careful,
		}
	}
}

/// What of a backup outlives its node, as a sentence whose head is in the colour of its mood.
pub(crate) fn protection(protection: &Protection) -> String {
	protection.mood().paint_head(&words::protection(protection))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::chain::records::Point;

	#[test]
	fn what_is_not_protected_is_seen_at_a_glance() {
		let point = |sequence| Some(Point { sequence, taken_at: 100 });
		for (claimed, confirmed, mood) in [
			(None, None, Mood::Careful),
			(point(4), None, Mood::Bad),
			(point(4), point(2), Mood::Careful),
			(point(4), point(4), Mood::Good),
		] {
			let holders = Vec::new();
			let protection = Protection { claimed, confirmed, holders_wanted: 2, holders };
			assert_eq!(protection.mood(), mood, "{protection:?}");
		}
		let paused = eligibility(&Eligibility::Paused);
		assert_eq!(paused, Mood::Careful.paint("the owner paused these backups"));
		assert_eq!(
			eligibility(&Eligibility::NotDue { due_at: 7 }),
			"the next snapshot is due at block 7"
		);
	}
}
