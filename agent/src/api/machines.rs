//! The machines of this node and what became of their backups, for people and their programs.

use super::Api;
use crate::{
	jobs::{
		Cadence, Confirmed, LedgerError,
		history::{Age, Attempt, Ending, MachineRecord},
		now_ms,
	},
	sources::SourceError,
};
use axum::{
	Json,
	extract::{Path, Query, State},
	http::StatusCode,
};
use backup_primitives::{Consistency, FailureReason};
use serde::{Deserialize, Serialize};
use std::{
	collections::{BTreeMap, BTreeSet, HashMap, HashSet},
	io,
};

/// How many attempts are shown where nothing is said.
const ATTEMPTS_DEFAULT: usize = 500;

/// Most attempts that are shown at once.
const ATTEMPTS_MAX: usize = 2000;

/// A machine, as `GET /v1/machines` shows it.
#[derive(Debug, Serialize)]
pub(super) struct MachineView {
	/// Its name on this node.
	name: String,
	/// Whether the inventory has it.
	is_in_inventory: bool,
	/// What is wrong with its file.
	fault: Option<String>,
	/// `running`, `waiting` for its turn, or `idle`.
	state: &'static str,
	/// How old its last backup is, as a judgement. Where the chain wants copies, by what other nodes
	/// confirm, too.
	age: Age,
	/// Whether the chain wants snapshots of it now. Nothing before a worker has spoken of it.
	is_wanted: Option<bool>,
	/// How often. Nothing where it is not known, and where none are wanted.
	cadence: Option<Cadence>,
	/// What other nodes confirm. Nothing where the chain wants no copies, and before a worker has
	/// spoken of it.
	confirmed: Option<Confirmed>,
	/// The last backup that went well.
	last: Option<AttemptView>,
	/// The failure that no success has followed.
	failure: Option<AttemptView>,
	/// The time that usually lies between two backups.
	usual_interval_ms: Option<u64>,
	/// When the next one is to be expected.
	next_at_ms: Option<u64>,
	/// Snapshots of it that are held here.
	held: usize,
}

/// An attempt, as it is shown.
#[derive(Debug, Serialize)]
struct AttemptView {
	/// The job's id, in hexadecimal digits.
	job: String,
	vm: String,
	request: String,
	sequence: u64,
	started_at_ms: u64,
	ended_at_ms: u64,
	/// What was taken, if it went well.
	taken: Option<TakenView>,
	/// Why it was not.
	failed: Option<FailedView>,
}

#[derive(Debug, Serialize)]
struct TakenView {
	cid: String,
	consistency: Consistency,
	logical_bytes: u64,
	read_bytes: u64,
	fresh_bytes: u64,
	new_bytes: u64,
	store_bytes: u64,
	held_bytes: u64,
	is_recorded: bool,
	pause_ms: u64,
}

#[derive(Debug, Serialize)]
struct FailedView {
	reason: FailureReason,
	detail: String,
}

impl From<&Attempt> for AttemptView {
	fn from(attempt: &Attempt) -> Self {
		let (taken, failed) = match &attempt.ending {
			Ending::Taken { snapshot, effort, held_bytes } => {
				let taken = TakenView {
					cid: snapshot.cid.to_string(),
					consistency: snapshot.consistency,
					logical_bytes: snapshot.logical_bytes,
					read_bytes: effort.read_bytes,
					fresh_bytes: effort.fresh_bytes,
					new_bytes: snapshot.new_bytes,
					store_bytes: effort.store_bytes,
					held_bytes: *held_bytes,
					is_recorded: effort.is_recorded,
					pause_ms: effort.pause_ms,
				};
				(Some(taken), None)
			}
			Ending::Failed { reason, detail } => {
				(None, Some(FailedView { reason: *reason, detail: detail.clone() }))
			}
		};
		Self {
			job: hex::encode(attempt.job.0),
			vm: attempt.vm.clone(),
			request: attempt.request.to_string(),
			sequence: attempt.sequence,
			started_at_ms: attempt.started_at_ms,
			ended_at_ms: attempt.ended_at_ms,
			taken,
			failed,
		}
	}
}

/// Why a view cannot be shown.
#[derive(Debug, thiserror::Error)]
enum ViewError {
	#[error("read the inventory: {0}")]
	Inventory(#[from] io::Error),
	#[error(transparent)]
	Ledger(#[from] LedgerError),
}

/// The handler of `GET /v1/machines`: all machines of the inventory, and those that were backed up
/// from here before, by name.
pub(super) async fn machines(State(api): State<Api>) -> Result<Json<Vec<MachineView>>, StatusCode> {
	read(move || list(&api)).await
}

fn list(api: &Api) -> Result<Vec<MachineView>, ViewError> {
	let inventory = api.inventory.as_ref().map(|inventory| inventory.list());
	let inventory = inventory.transpose()?.unwrap_or_default().into_iter();
	// What is wrong with the file of each.
	let fault = |found: Result<_, SourceError>| found.err().map(|error| error.to_string());
	let shelved: BTreeMap<_, _> = inventory.map(|(name, found)| (name, fault(found))).collect();
	let mut records = api.jobs.ledger().machines()?;
	let jobs = api.jobs.list();
	let running: HashSet<&str> = jobs
		.iter()
		.filter(|job| job.state == "running")
		.filter_map(|job| job.vm.as_deref())
		.collect();
	let waiting = api.jobs.waiting();
	let mut held: HashMap<String, usize> = HashMap::new();
	for root in api.jobs.executor().roots().unwrap_or_default() {
		if root.copy_for.is_none() {
			*held.entry(root.lineage.request.to_string()).or_default() += 1;
		}
	}
	let expected = api.jobs.expected();
	let now_ms = now_ms();
	let names: BTreeSet<String> = shelved.keys().chain(records.keys()).cloned().collect();
	let view = |name: String| {
		let record = records.remove(&name).unwrap_or_default();
		let state = match name.as_str() {
			name if running.contains(name) => "running",
			name if waiting.contains(name) => "waiting",
			_ => "idle",
		};
		let held = of_request(&record).and_then(|request| held.get(&request).copied());
		let expected = record.request().and_then(|request| expected.get(request));
		MachineView {
			is_in_inventory: shelved.contains_key(&name),
			fault: shelved.get(&name).cloned().flatten(),
			state,
			age: record.age(expected, now_ms),
			is_wanted: expected.map(|expected| expected.cadence.is_some()),
			cadence: expected.and_then(|expected| expected.cadence),
			confirmed: expected.and_then(|expected| expected.confirmed.clone()),
			last: record.last_taken.as_ref().map(AttemptView::from),
			failure: record.standing_failure().map(AttemptView::from),
			usual_interval_ms: record.usual_interval_ms(),
			next_at_ms: record.next_at_ms(expected),
			held: held.unwrap_or(0),
			name,
		}
	};
	Ok(names.into_iter().map(view).collect())
}

fn of_request(record: &MachineRecord) -> Option<String> {
	record.request().map(ToString::to_string)
}

/// Which attempts are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
	/// Those behind this number.
	after: Option<u64>,
	/// The newest so many of them.
	limit: Option<usize>,
}

/// What `GET /v1/history` answers.
#[derive(Debug, Serialize)]
pub(super) struct HistoryView {
	/// The number of the last attempt, to go on behind.
	last: u64,
	/// The oldest first.
	attempts: Vec<AttemptView>,
}

/// The handler of `GET /v1/history`.
pub(super) async fn history(
	State(api): State<Api>,
	Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryView>, StatusCode> {
	let behind = query.after.unwrap_or(0);
	let count = query.limit.unwrap_or(ATTEMPTS_DEFAULT).min(ATTEMPTS_MAX);
	read(move || {
		let attempts = api.jobs.ledger().attempts(behind, count)?;
		let last = attempts.last().map_or(behind, |(number, _)| *number);
		let attempts = attempts.iter().map(|(_, attempt)| attempt.into()).collect();
		Ok(HistoryView { last, attempts })
	})
	.await
}

/// The handler of `GET /v1/jobs/{id}/log`: the last lines of a job, none if none are kept.
pub(super) async fn log(
	State(api): State<Api>,
	Path(id): Path<String>,
) -> Json<Vec<crate::job_log::Line>> {
	Json(api.job_log.lines(&id).unwrap_or_default())
}

async fn read<T: Send + 'static>(
	view: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<Json<T>, StatusCode> {
	let view = tokio::task::spawn_blocking(view).await;
	let view = view.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
	view.map(Json).map_err(|error| {
		tracing::warn!(%error, "a view cannot be shown");
		StatusCode::SERVICE_UNAVAILABLE
	})
}
