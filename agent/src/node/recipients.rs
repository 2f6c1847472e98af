//! Whom a snapshot is sealed to.
//!
//! The chain names the node's recipient, and it must be one that this agent opens. Around a
//! rotation it may be an older one, or, after a re-org, be so again: such a snapshot is taken
//! all the same, and sealed to the newest as well. So the identity that was in front when a
//! snapshot was taken opens it, whatever the chain said at that block.

use crate::{jobs::JobError, secret::NodeIdentities};
use backup_primitives::{FailureReason, Recipient, job::SnapshotOrder};

/// Refuses an order to seal to a key that this node could not open: that would show only when
/// the root is restored.
pub(super) fn check(order: &SnapshotOrder, identities: &NodeIdentities) -> Result<(), JobError> {
	let (named, newest) = (order.node_recipient, identities.recipient());
	if named == newest {
		return Ok(());
	}
	if identities.opens(&named) {
		tracing::error!(
			"the chain has {named} as this node's key, an older one of this agent, whose newest is {newest}; if they stand in the right order in the identity file, finish the rotation with `rotate_keys` on chain"
		);
		return Ok(());
	}
	let detail = format!(
		"the chain has {named} as this node's key, and none of the {} identities of this agent opens what is sealed to it; add its identity to the identity file, or register the newest, {newest}, on chain",
		identities.count()
	);
	Err(JobError { reason: FailureReason::KeyRejected, detail })
}

/// The owner, the node as the chain names it, and the newest identity if that is another.
pub(super) fn recipients(order: &SnapshotOrder, identities: &NodeIdentities) -> Vec<Recipient> {
	let newest = identities.recipient();
	let mut recipients = order.owner_recipients.to_vec();
	recipients.push(order.node_recipient);
	if order.node_recipient != newest {
		recipients.push(newest);
	}
	recipients
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::jobs::fixture::snapshot;

	/// Identities after one rotation, and the recipients of the newest and of the one before.
	fn rotated() -> (NodeIdentities, Recipient, Recipient) {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("identity");
		NodeIdentities::create(&path).unwrap();
		let older = NodeIdentities::load(&path).unwrap().recipient();
		let identities = NodeIdentities::rotate(&path).unwrap();
		let newest = identities.recipient();
		(identities, newest, older)
	}

	fn order(node_recipient: Recipient) -> SnapshotOrder {
		SnapshotOrder { node_recipient, ..snapshot(7, 1, 0) }
	}

	#[test]
	fn a_snapshot_is_sealed_to_the_owner_and_the_newest_identity() {
		let (identities, newest, _) = rotated();
		check(&order(newest), &identities).unwrap();
		let owner = order(newest).owner_recipients[0];
		assert_eq!(recipients(&order(newest), &identities), [owner, newest]);
	}

	#[test]
	fn an_order_that_names_an_older_identity_is_sealed_to_the_newest_as_well() {
		let (identities, newest, older) = rotated();
		check(&order(older), &identities).unwrap();
		let owner = order(older).owner_recipients[0];
		assert_eq!(recipients(&order(older), &identities), [owner, older, newest]);
	}

	#[test]
	fn an_order_that_names_a_stranger_is_refused_with_both_keys() {
		let (identities, newest, _) = rotated();
		let (_, stranger, _) = rotated();
		let refused = check(&order(stranger), &identities).unwrap_err();
		assert_eq!(refused.reason, FailureReason::KeyRejected);
		for recipient in [stranger, newest] {
			assert!(refused.detail.contains(&recipient.to_string()), "{refused}");
		}
	}
}
