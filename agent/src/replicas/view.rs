//! Replicas as people and their programs see them.

use super::{Replica, Replicas};
use serde::Serialize;

/// One replica.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaView {
	/// Its name in the configuration.
	pub name: String,
	/// Address of the daemon's RPC.
	pub url: String,
	/// `whole`, `filling`, `waiting` for the next try after a failure, or `unknown` before the first
	/// look.
	pub state: &'static str,
	/// Snapshots that it holds.
	pub held: usize,
	/// Snapshots of the store that it lacks, as of the last look.
	pub behind: usize,
	/// Snapshots that it holds and the store does not, as of the last look: they are fetched back, or
	/// given up, as the chain has it.
	pub lost: usize,
	/// Roots that it has yet to let go of.
	pub releasing: usize,
	/// Blocks of it that were found damaged, and not replaced yet.
	pub damaged: Vec<String>,
	/// How many damaged blocks were replaced by sound ones since the agent started.
	pub mended: u64,
	/// When all of its blocks had been hashed in turn the last time, in milliseconds since 1970.
	pub hashed_at_ms: Option<u64>,
	/// Bytes that were sent since the agent started.
	pub sent_bytes: u64,
	/// When all was there the last time, in milliseconds since 1970.
	pub last_success_ms: Option<u64>,
	/// What went wrong the last time, if nothing went well since.
	pub error: Option<String>,
	/// When that was.
	pub error_at_ms: Option<u64>,
}

/// Most damaged blocks that are named.
const NAMED_MAX: usize = 20;

impl Replicas {
	/// All of them, in the order of the configuration.
	pub fn list(&self) -> Vec<ReplicaView> {
		self.members.iter().map(view).collect()
	}
}

fn view(member: &Replica) -> ReplicaView {
	let releasing = member.releases.list().len();
	let state = member.state();
	let is_whole = state.behind == 0 && state.doubtful.is_empty() && state.damaged.is_empty();
	let (error_at_ms, error) = state.error.clone().unzip();
	ReplicaView {
		name: member.name.clone(),
		url: member.kubo.url().to_owned(),
		state: match (&error, state.is_known, is_whole) {
			(Some(_), ..) => "waiting",
			(None, false, _) => "unknown",
			(None, true, true) => "whole",
			(None, true, false) => "filling",
		},
		held: state.held.len(),
		behind: state.behind,
		lost: state.strangers.len(),
		releasing,
		damaged: state.damaged.iter().take(NAMED_MAX).map(ToString::to_string).collect(),
		mended: state.mended,
		hashed_at_ms: state.round.ended_ms,
		sent_bytes: state.sent_bytes,
		last_success_ms: state.last_success_ms,
		error,
		error_at_ms,
	}
}
