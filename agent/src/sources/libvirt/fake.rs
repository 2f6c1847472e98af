//! A `virsh` that answers from a list, for what no real domain does on demand.

use super::{Domain, virsh::Virsh};
use crate::sources::LIBVIRT_URI;
use std::fs;

pub(super) const UUID: &str = "c0ffee00-0000-8000-8000-000000000001";

/// An answer that does not come.
pub(super) const HANG: &str = "hang";

/// Writes down each command. Without an answer it refuses, and also if the answer is an error, be it
/// slow or not.
const SCRIPT: &str = r#"
	[ "$3" != --quiet ] || shift
	echo "$3" >> "$0/calls"
	[ -f "$0/$3" ] || { echo "error: no $3" >&2; exit 1; }
	case "$(cat "$0/$3")" in
		hang) exec sleep 1000 ;;
		error:*) cat "$0/$3" >&2; exit 1 ;;
		slow:*) sleep 0.1; cat "$0/$3" >&2; exit 1 ;;
	esac
	cat "$0/$3"
"#;

pub(super) struct FakeDomain {
	pub(super) domain: Domain,
	folder: tempfile::TempDir,
}

/// A domain of which these questions are answered; it runs.
pub(super) fn domain(answers: &[(&str, &str)]) -> FakeDomain {
	let folder = tempfile::tempdir().unwrap();
	for (command, answer) in [("domstate", "running")].iter().chain(answers) {
		fs::write(folder.path().join(command), answer).unwrap();
	}
	let program = ["/bin/sh", "-c", SCRIPT, folder.path().to_str().unwrap()];
	let virsh = Virsh::with(program.map(str::to_owned).into(), LIBVIRT_URI);
	let domain = Domain { virsh, name: "web".into(), uuid: UUID.into() };
	FakeDomain { domain, folder }
}

impl FakeDomain {
	/// The commands that were given so far.
	pub(super) fn calls(&self) -> Vec<String> {
		let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
		calls.lines().map(str::to_owned).collect()
	}
}
