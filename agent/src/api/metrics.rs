//! The agent's metrics.

use super::Api;
use crate::{
	jobs::{Expected, LedgerError, history::MachineRecord},
	metrics::{CONTENT_TYPE, Now},
	repositories::{EmbeddedStore, Repository},
};
use axum::{
	extract::State,
	http::{StatusCode, header::CONTENT_TYPE as HEADER},
	response::{IntoResponse, Response},
};

/// The handler of `GET /metrics`.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
	match tokio::task::spawn_blocking(move || render(&api)).await {
		Ok(Some(words)) => ([(HEADER, CONTENT_TYPE)], words).into_response(),
		Ok(None) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
	}
}

/// What the chain expects of machines, by their names.
fn expected(api: &Api) -> Result<Vec<(String, Expected)>, LedgerError> {
	let expected = api.jobs.expected();
	if expected.is_empty() {
		return Ok(Vec::new());
	}
	let machines = api.jobs.ledger().machines()?.into_iter();
	let of = |(vm, record): (String, MachineRecord)| {
		record.request().and_then(|request| expected.get(request)).map(|known| (vm, known.clone()))
	};
	Ok(machines.filter_map(of).collect())
}

/// What cannot be found out is left as it was told the last time.
fn render(api: &Api) -> Option<String> {
	let jobs = api.jobs.list();
	let verifications = api.verifier.as_ref().and_then(|verifier| verifier.results().ok());
	let copies = api.copies.as_ref().map(|copies| copies.list()).unwrap_or_default();
	let replicas = api.replicas.as_ref().map(|replicas| replicas.list()).unwrap_or_default();
	let below_quorum = api.replicas.as_ref().and_then(|replicas| replicas.below_quorum().ok());
	let expected = expected(api).unwrap_or_default();
	let obstacles = api.store.as_ref().map(EmbeddedStore::obstacles);
	let now = Now {
		jobs: &jobs,
		expected: &expected,
		usage: api.store.as_ref().and_then(|store| store.usage().ok()),
		unreadable_nodes: obstacles.as_ref().map(|obstacles| obstacles.count),
		unread_packs: obstacles.as_ref().map(|obstacles| obstacles.unread_packs.len() as u64),
		pinned_roots: api.jobs.executor().roots().ok().map(|roots| roots.len()),
		verifications: verifications.as_deref().unwrap_or_default(),
		copies: &copies,
		replicas: &replicas,
		below_quorum,
	};
	api.jobs.metrics().render(&now).ok()
}
