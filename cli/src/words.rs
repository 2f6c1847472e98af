//! The chain's names in plain words, and text from strangers made harmless.

use crate::chain::records::{Eligibility, Protection};
use backup_primitives::FailureReason;

/// What stood in the way of a job.
pub(crate) fn failure(reason: &FailureReason) -> &'static str {
	match reason {
		FailureReason::VmNotFound => "the node knows no machine of that name",
		FailureReason::VmTagMismatch => "the machine does not carry the tag of this request",
		FailureReason::VmUnreachable => "the machine's control socket does not answer",
		FailureReason::VmVanished => "the machine ended while it was read",
		FailureReason::ImageUnreadable => "the disk image is missing or unreadable",
		FailureReason::ImageInUse => "another program holds the disk image",
		FailureReason::ScratchFull => "the space for guest writes during the backup ran out",
		FailureReason::StoreFull => "the block store is full",
		FailureReason::StoreUnavailable => "the block store cannot be read or written",
		FailureReason::CapacityExceeded => "the disks are larger than what was provisioned",
		FailureReason::BlockMissing => "a block of the snapshot is missing",
		FailureReason::BlockCorrupt => "a block of the snapshot is damaged",
		FailureReason::KeyRejected => "the snapshot is not sealed to the node's key",
		FailureReason::TargetFull => "the place to restore to is full",
		FailureReason::TargetUnwritable => "the place to restore to cannot be written",
		FailureReason::Interrupted => "the job was interrupted and could not be resumed",
		FailureReason::Internal => "a fault without a name; the agent's log has it",
		FailureReason::VmRunning => "the machine whose disks were to be replaced runs",
		FailureReason::Unsupported => "the node's agent cannot do that",
	}
}

/// What the reader of [`failure`] can do.
pub(crate) fn failure_hint(reason: &FailureReason) -> &'static str {
	match reason {
		FailureReason::VmNotFound | FailureReason::VmUnreachable => {
			"the operator checks the agent's list of machines and its sockets"
		}
		FailureReason::VmTagMismatch => {
			"the operator starts the machine with the UUID that 'backup request tag' prints"
		}
		FailureReason::VmVanished | FailureReason::Interrupted => {
			"ask again; the next attempt starts where the chain stands"
		}
		FailureReason::ImageUnreadable | FailureReason::ImageInUse => {
			"the operator checks the image and who has it open"
		}
		FailureReason::ScratchFull | FailureReason::StoreFull | FailureReason::TargetFull => {
			"the operator makes room on the node"
		}
		FailureReason::CapacityExceeded => "ask for a request with larger disks",
		FailureReason::BlockMissing | FailureReason::BlockCorrupt => {
			"restore an older snapshot, or from another copy"
		}
		FailureReason::KeyRejected => "restore it off chain with the owner's own key",
		FailureReason::VmRunning => "stop the machine and ask again",
		FailureReason::Unsupported => "ask for an image beside the machine instead",
		FailureReason::StoreUnavailable
		| FailureReason::TargetUnwritable
		| FailureReason::Internal => "the agent's log on the node says more",
	}
}

/// Whether a snapshot would be taken now, as a sentence.
pub(crate) fn eligibility(eligibility: &Eligibility) -> String {
	match eligibility {
		Eligibility::Eligible { .. } => {
			"a snapshot is due; the worker of the node has it made".into()
		}
		Eligibility::NoBackup => "nobody created a backup of this request".into(),
		Eligibility::NotRunning => "the machine does not run on a node".into(),
		Eligibility::NoNode => "the node is not registered".into(),
		Eligibility::Disabled => "the owner has no subscription to backups".into(),
		Eligibility::Unpaid => "the owner's subscription has run out".into(),
		Eligibility::NoOwnerKey => "the owner has registered no key to seal backups to".into(),
		Eligibility::DeletionPending => {
			"the owner asked for the deletion of this backup or of all".into()
		}
		Eligibility::ChainPaused => "governance paused all backups of the chain".into(),
		Eligibility::Paused => "the owner paused these backups".into(),
		Eligibility::Full => {
			"as many snapshots are kept as may ever be, and those that could go are held".into()
		}
		Eligibility::NotDue { due_at } => format!("the next snapshot is due at block {due_at}"),
		Eligibility::FailedInSlot { reason, retry_at } => format!(
			"the last attempt failed: {}; the next one is at block {retry_at}",
			reason.known().map_or_else(|| reason.kebab(), |known| failure(&known).into())
		),
	}
}

/// What of a backup outlives its node, as a sentence.
pub(crate) fn protection(protection: &Protection) -> String {
	let Protection { claimed, confirmed, holders_wanted, holders } = protection;
	let heard = holders.iter().filter(|holder| !holder.is_silent).count();
	let nodes = format!("{heard} of {holders_wanted} other nodes are heard of");
	match (claimed, confirmed) {
		(None, _) => "there is no snapshot yet".into(),
		(Some(_), None) if *holders_wanted == 0 => {
			"NOT PROTECTED: on its own node only; the chain wants no copies".into()
		}
		(Some(_), None) => {
			format!("NOT PROTECTED: no other node confirms a snapshot; {nodes}")
		}
		(Some(newest), Some(safe)) if safe.sequence >= newest.sequence => {
			format!(
				"protected: another node confirms the newest snapshot, {}; {nodes}",
				safe.sequence
			)
		}
		(Some(newest), Some(safe)) => format!(
			"protected up to snapshot {} of block {}; the newest, {}, is on its own node only; {nodes}",
			safe.sequence, safe.taken_at, newest.sequence
		),
	}
}

/// What to do about a refusal of the chain, by the name of the error.
pub(crate) fn dispatch_hint(error: &str) -> &'static str {
	let name = error.rsplit("::").next().unwrap_or(error);
	match name {
		"SnapshotNotFound" | "BackupNotFound" | "NotBackupOwner" => {
			"list your snapshots with 'backup snapshots', and sign with the owner's key"
		}
		"MalformedCid" => {
			"a root is written as b and 58 characters, as 'backup snapshots' prints it"
		}
		"TooManyRestores" => "close an old restore with 'backup close-restore ID'",
		"OwnerKeyPending" => "wait until the key registered last is active",
		"TooManyOwnerKeys" => "no further key can be registered for this account",
		"FrequencyOutOfBounds" => {
			"choose a cadence from the chain's min_frequency to its max_frequency, in blocks"
		}
		"FrequencyBoundsInvalid" => {
			"min_frequency may not be above max_frequency, nor either beyond the runtime's constants"
		}
		"SettingsOutOfBounds" => "a setting is zero, or beyond the constants of the runtime",
		"DeletionPending" => "wait until the deletion is done",
		"BackupsNotEnabled" | "NotSubscribed" => "subscribe first: 'backup subscribe --periods N'",
		"PeriodsOutOfBounds" => "ask for fewer periods, and at least one",
		"NotAuthorized" | "BadOrigin" => "sign with the key of the account that may do this",
		"BadProof" => "give the authority's own secret with --authority-secret-file",
		"NodeIdTaken" | "AuthorityTaken" => "choose another id, or another authority key",
		"WrongState" => "look at the request with 'backup status REQUEST'",
		"VmNameTaken" | "VmNameMalformed" => {
			"a machine's name is used once and has letters, digits, '-', '_' and '.'"
		}
		"RestoreRunning" => "wait until it ends or expires",
		"DiskSizeOutOfBounds" => "ask for at least one byte, and no more than the chain allows",
		"RequestNotRunning" | "RequestNotFound" | "NodeNotFound" => {
			"check the number, and that the request runs on a node"
		}
		"AccessAlreadyGranted" => "to change what it may, take it back first with 'backup revoke'",
		"BackupAlreadyExists" => "nothing is left to do",
		"SnapshotPending" => {
			"wait for the one that is due: 'backup watch' tells when it is recorded"
		}
		"SnapshotNotHeld" => "only who holds a snapshot can release it",
		"ProposalNotFound" => "see what a machine waits for with 'backup vms'",
		"DeletionNotFound" => "nothing is to be deleted; see 'backup status'",
		"NotMember" => "sign with the key of a member of the council",
		"TooEarly" => "wait for more votes: 'backup governance motions' counts them",
		"DuplicateVote" => "this member's vote stands like that already",
		"DuplicateProposal" => "it is proposed already: 'backup governance motions' lists it",
		_ => "the name tells what the chain's rules forbid; see the pallet's documentation",
	}
}

/// Text that somebody else wrote, fit for a terminal: control characters and everything
/// that could change the direction or look of other text is escaped.
pub(crate) fn escape(bytes: &[u8]) -> String {
	let mut safe = String::new();
	for c in String::from_utf8_lossy(bytes).chars() {
		match c {
			'\\' => safe.push_str("\\\\"),
			c if c.is_control() || is_format(c) => {
				safe.extend(c.escape_unicode());
			}
			c => safe.push(c),
		}
	}
	safe
}

/// Bidirectional marks, zero-width characters and the like.
fn is_format(c: char) -> bool {
	matches!(c,
		'\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
		| '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes in the unit that a person would choose.
pub(crate) fn bytes(count: u64) -> String {
	const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
	if count < 1024 {
		return format!("{count} B");
	}
	let (mut value, mut unit) = (count, 0);
	while value >= 1024 * 1024 && unit + 1 < UNITS.len() {
		value /= 1024;
		unit += 1;
	}
	format!("{}.{} {}", value / 1024, value % 1024 * 10 / 1024, UNITS[unit])
}

/// A number of things.
pub(crate) fn count(number: u64, thing: &str) -> String {
	match number {
		1 => format!("1 {thing}"),
		_ => format!("{number} {thing}s"),
	}
}

/// A time in UTC, from seconds since 1970; the number itself where no calendar reaches.
pub(crate) fn time(seconds: i64) -> String {
	match jiff::Timestamp::from_second(seconds) {
		Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
		Err(_) => seconds.to_string(),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::chain::records::{CopyHolder, Point};

	#[test]
	fn escape_leaves_nothing_that_moves_a_cursor_or_turns_text() {
		assert_eq!(escape(b"nightly \x1b[2J\r\n"), "nightly \\u{1b}[2J\\u{d}\\u{a}");
		assert_eq!(escape("a\u{202e}b\u{200b}".as_bytes()), "a\\u{202e}b\\u{200b}");
		assert_eq!(escape(b"back\\slash"), "back\\\\slash");
		assert_eq!(escape(&[0xff, b'x']), "\u{fffd}x");
		assert_eq!(escape("Müller ✓".as_bytes()), "Müller ✓");
	}

	#[test]
	fn what_is_claimed_is_told_from_what_is_confirmed() {
		let point = |sequence| Some(Point { sequence, taken_at: 100 + sequence });
		let holder = |is_silent| CopyHolder { node: 2, from: 0, to: 3, is_silent };
		let said = |claimed, confirmed, holders_wanted| {
			let holders = vec![holder(false), holder(true)];
			protection(&Protection { claimed, confirmed, holders_wanted, holders })
		};
		assert_eq!(said(None, None, 2), "there is no snapshot yet");
		assert!(said(point(4), None, 0).contains("wants no copies"));
		let lost = said(point(4), None, 2);
		assert!(
			lost.starts_with("NOT PROTECTED") && lost.ends_with("1 of 2 other nodes are heard of")
		);
		assert!(said(point(4), point(4), 2).starts_with("protected: "));
		let behind = said(point(4), point(2), 2);
		assert!(
			behind.starts_with("protected up to snapshot 2 of block 102; the newest, 4, is on")
		);
	}

	#[test]
	fn times_are_shown_as_dates() {
		assert_eq!(time(0), "1970-01-01 00:00:00");
		assert_eq!(time(1_700_000_000), "2023-11-14 22:13:20");
		assert_eq!(time(i64::MAX), i64::MAX.to_string());
	}

	#[test]
	fn bytes_are_shown_in_their_unit() {
		assert_eq!(bytes(0), "0 B");
		assert_eq!(bytes(1023), "1023 B");
		assert_eq!(bytes(1536), "1.5 KiB");
		assert_eq!(bytes(1 << 30), "1.0 GiB");
		assert_eq!(bytes(u64::MAX), "16383.9 PiB");
	}
}
