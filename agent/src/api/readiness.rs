//! Whether the agent can do its work now, check by check, and how to mend what is wrong.

use super::Api;
use crate::{
	chain::FinalizedChain,
	repositories::{Repository, Usage},
};
use axum::{
	Json,
	extract::State,
	http::StatusCode,
	response::{IntoResponse, Response},
};
use indicatif::HumanBytes;
use serde::Serialize;
use std::{
	fmt,
	sync::Arc,
	time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How long the node may take to say what is final.
const NODE_TIME_MAX: Duration = Duration::from_secs(3);

/// How long the node's answer holds, so that it is not asked for each look.
const NODE_ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// How long no worker may have spoken. Each speaks at every block.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Room that must be left in the store, in bytes.
const ROOM_BYTES_MIN: u64 = 1 << 30;

/// Asks the node whether it is there, and not too often. Clones are the same.
#[derive(Clone)]
pub struct NodeProbe(Arc<Inner>);

struct Inner {
	chain: Arc<dyn FinalizedChain>,
	/// The last answer. Locked while the node is asked, so that it is asked once at a time.
	last: Mutex<Option<(Instant, Result<u64, String>)>>,
}

impl NodeProbe {
	/// Ask this chain.
	pub fn new(chain: Arc<dyn FinalizedChain>) -> Self {
		Self(Arc::new(Inner { chain, last: Mutex::new(None) }))
	}

	/// Number of the finalized block, or what is wrong.
	async fn finalized(&self) -> Result<u64, String> {
		let mut last = self.0.last.lock().await;
		if let Some((at, answer)) = &*last
			&& at.elapsed() < NODE_ANSWER_HOLDS
		{
			return answer.clone();
		}
		let answer = match tokio::time::timeout(NODE_TIME_MAX, self.0.chain.finalized()).await {
			Ok(Ok(view)) => Ok(view.number()),
			Ok(Err(error)) => Err(error.to_string()),
			Err(_) => Err(format!("the node gave no answer in {} s", NODE_TIME_MAX.as_secs())),
		};
		*last = Some((Instant::now(), answer.clone()));
		answer
	}
}

impl fmt::Debug for NodeProbe {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("NodeProbe")
	}
}

/// What `GET /ready` answers.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
	/// Whether all checks are good.
	ready: bool,
	checks: Vec<Check>,
}

/// One thing without which the agent cannot do its work.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
	/// `store`, `pins`, `node`, `worker` or `room`.
	name: &'static str,
	is_good: bool,
	/// What was found.
	detail: String,
	/// What to do, if it is not good.
	mend: Option<&'static str>,
}

/// What is found out, before it is judged.
struct Facts {
	usage: Result<Usage, String>,
	pins_unconfirmed: bool,
	finalized: Result<u64, String>,
	heard: Option<Duration>,
}

/// The handler of `GET /ready`: 200 if the agent is ready, 503 if it is not.
pub(super) async fn ready(State(api): State<Api>) -> Response {
	match find_out(api).await {
		Some(readiness) if readiness.ready => Json(readiness).into_response(),
		Some(readiness) => (StatusCode::SERVICE_UNAVAILABLE, Json(readiness)).into_response(),
		None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
	}
}

/// The handler of `GET /v1/readiness`: the same for people, for whom it is no error.
pub(super) async fn readiness(State(api): State<Api>) -> Result<Json<Readiness>, StatusCode> {
	find_out(api).await.map(Json).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn find_out(api: Api) -> Option<Readiness> {
	let finalized = match &api.node {
		Some(node) => node.finalized().await,
		None => Err("no node is known".into()),
	};
	let found = tokio::task::spawn_blocking(move || Facts {
		usage: match &api.store {
			Some(store) => store.usage().map_err(|error| error.to_string()),
			None => Err("no store is open".into()),
		},
		pins_unconfirmed: api.jobs.executor().pins_unconfirmed(),
		finalized,
		heard: api.jobs.heard(),
	});
	found.await.ok().map(|facts| judge(&facts))
}

fn judge(facts: &Facts) -> Readiness {
	let checks = vec![store(facts), pins(facts), node(facts), worker(facts), room(facts)];
	Readiness { ready: checks.iter().all(|check| check.is_good), checks }
}

fn check(name: &'static str, found: Result<String, String>, mend: &'static str) -> Check {
	let is_good = found.is_ok();
	let (Ok(detail) | Err(detail)) = found;
	Check { name, is_good, detail, mend: (!is_good).then_some(mend) }
}

fn store(facts: &Facts) -> Check {
	let found = facts.usage.as_ref().map_err(Clone::clone);
	let found = found.map(|usage| format!("open, {} blocks", usage.blocks));
	check(
		"store",
		found,
		"look at the disk below state_dir; stop the agent and run `backup-agent fsck`",
	)
}

fn pins(facts: &Facts) -> Check {
	let found = match facts.pins_unconfirmed {
		false => Ok("confirmed".into()),
		true => Err("some may have been lost, so nothing is collected".into()),
	};
	check(
		"pins",
		found,
		"nothing, they are compared with the chain as soon as the node answers; but where a pack is away \
		 (`backup-agent doctor` names it), bring it back and start the agent anew, or go on without it: \
		 `backup-agent fsck --repair`",
	)
}

fn node(facts: &Facts) -> Check {
	let found = facts.finalized.clone().map(|number| format!("finalized block {number}"));
	check("node", found, "start the node, or set node_rpc to the address of its WebSocket")
}

fn worker(facts: &Facts) -> Check {
	let found = match facts.heard {
		Some(ago) if ago <= SILENCE_MAX => Ok(format!("spoke {} s ago", ago.as_secs())),
		Some(ago) => Err(format!("has not spoken for {} s", ago.as_secs())),
		None => Err("has not spoken since the agent started".into()),
	};
	check(
		"worker",
		found,
		"start the node with --backup-agent-url and --backup-agent-secret-file as `backup-agent init` prints them",
	)
}

fn room(facts: &Facts) -> Check {
	let found = match &facts.usage {
		Ok(usage) if usage.available_bytes >= ROOM_BYTES_MIN => {
			Ok(format!("{} left", HumanBytes(usage.available_bytes)))
		}
		Ok(usage) => Err(format!(
			"{} left, less than {}",
			HumanBytes(usage.available_bytes),
			HumanBytes(ROOM_BYTES_MIN)
		)),
		Err(_) => Err("not known".into()),
	};
	check("room", found, "make room on the file system of state_dir, or move it to a larger one")
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::page::answer_with;
	use serde_json::to_value;

	fn good() -> Facts {
		Facts {
			usage: Ok(Usage { blocks: 2, bytes: 3, available_bytes: ROOM_BYTES_MIN }),
			pins_unconfirmed: false,
			finalized: Ok(7),
			heard: Some(SILENCE_MAX),
		}
	}

	/// Names of the checks that are not good. Each of them says how to mend it, the others do not.
	fn bad(facts: &Facts) -> Vec<&'static str> {
		let readiness = judge(facts);
		assert_eq!(readiness.checks.len(), 5);
		for check in &readiness.checks {
			assert_eq!(check.is_good, check.mend.is_none(), "{check:?}");
		}
		let bad: Vec<_> = readiness
			.checks
			.iter()
			.filter(|check| !check.is_good)
			.map(|check| check.name)
			.collect();
		assert_eq!(readiness.ready, bad.is_empty());
		bad
	}

	#[test]
	fn an_agent_that_has_all_it_needs_is_ready() {
		assert!(bad(&good()).is_empty());
	}

	#[test]
	fn the_page_shows_what_is_answered() {
		let usage = Usage { blocks: 812_345, ..good().usage.unwrap() };
		let heard = Some(Duration::from_secs(340));
		let mut answered = to_value(judge(&Facts { usage: Ok(usage), heard, ..good() })).unwrap();
		let mut shown = answer_with("ready");
		// It leaves out checks that are good, and the end of what is to be done.
		let checks = answered["checks"].as_array_mut().unwrap();
		checks.retain(|check| ["store", "worker"].contains(&check["name"].as_str().unwrap()));
		let (told, mend) = (checks[1]["mend"].take(), shown["checks"][1]["mend"].take());
		assert!(told.as_str().unwrap().starts_with(mend.as_str().unwrap().trim_end_matches('…')));
		assert_eq!(answered, shown);
	}

	#[test]
	fn each_thing_that_is_wrong_is_named_with_what_mends_it() {
		assert_eq!(bad(&Facts { usage: Err("gone".into()), ..good() }), ["store", "room"]);
		assert_eq!(bad(&Facts { pins_unconfirmed: true, ..good() }), ["pins"]);
		assert_eq!(bad(&Facts { finalized: Err("refused".into()), ..good() }), ["node"]);
		assert_eq!(bad(&Facts { heard: None, ..good() }), ["worker"]);
	}

	#[test]
	fn boundary_silence_and_room_have_a_limit() {
		let silence = SILENCE_MAX + Duration::from_secs(1);
		assert_eq!(bad(&Facts { heard: Some(silence), ..good() }), ["worker"]);
		let usage = Usage { available_bytes: ROOM_BYTES_MIN - 1, ..Usage::default() };
		assert_eq!(bad(&Facts { usage: Ok(usage), ..good() }), ["room"]);
	}
}
