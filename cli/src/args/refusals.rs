//! Calls that are turned down, and what is said of them.

use super::Args;
use clap::Parser;

/// What is wrong with a call, which has to be wrong.
fn refusal(call: &str) -> String {
	let parsed = Args::try_parse_from(call.split_whitespace());
	parsed.expect_err("it was understood").to_string()
}

#[test]
fn a_root_is_one_snapshot_and_no_time_chooses_among_it() {
	const ROOT: &str = "--root bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
	for verb in
		["restore --identity k --output o", "verify", "show --identity k", "export --output o"]
	{
		for time in ["--at 7", "--at 2026-05-01", "--latest"] {
			let words = refusal(&format!("backup {verb} {ROOT} {time}"));
			assert!(words.contains("cannot be used with"), "{verb} {time}: {words}");
		}
	}
}

#[test]
fn what_is_no_number_is_answered_with_what_is_expected() {
	for (call, expected) in [
		("cadence 1d", "a number of blocks, such as 14400"),
		("hold web-1 x", "a snapshot's number, as 'backup snapshots' shows it"),
		("request-restore 7 x", "a snapshot's number"),
		("snapshots --newest x", "a number, such as 5"),
		("snapshots --by-node x", "the id of a node"),
		("governance vote x --aye", "a motion's number, as 'backup governance motions' shows it"),
		("governance propose cadence x", "a number of blocks"),
		("request create --disk-bytes 64MB", "64M, 64MiB, 10G"),
		("request end web-1", "the number of a request"),
		("subscribe --periods all", "a number of periods"),
	] {
		let words = refusal(&format!("backup {call}"));
		assert!(words.contains(expected), "{call}: {words}");
	}
}
