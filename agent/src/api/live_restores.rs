//! Live restores: which are under way, and asking for one or for its end.

use super::Api;
use crate::{
	jobs::{JobError, now_ms},
	node::live_restores::{LiveRestoreOrder, LiveRestoreView, LiveRestores},
};
use axum::{
	Json,
	body::Bytes,
	extract::{Request, State},
	http::{HeaderMap, StatusCode},
	middleware::Next,
	response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

/// Where live restores are seen and asked for.
pub const LIVE_RESTORES_PATH: &str = "/v1/live-restores";

/// Where the end of one is asked for.
pub const END_LIVE_RESTORE_PATH: &str = "/v1/live-restores/end";

/// How long a call may take, which waits for QEMU.
const CALL_TIME_MAX: Duration = Duration::from_secs(170);

/// Which live restore is to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndOrder {
	/// Name of the machine.
	pub vm: String,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<LiveRestoreView>>, StatusCode> {
	let live_restores = api.live_restores.ok_or(StatusCode::NOT_FOUND)?;
	Ok(Json(live_restores.list()))
}

/// The handler of `POST /v1/live-restores`: answered when the machine can be started.
pub(super) async fn begin(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
	let nodes = api.jobs.nodes().unwrap_or_default();
	obey(api, &headers, &body, move |live_restores, order: LiveRestoreOrder| {
		live_restores.begin(&order, &nodes)
	})
	.await
}

/// The handler of `POST /v1/live-restores/end`: answered with whether there was one.
pub(super) async fn end(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
	obey(api, &headers, &body, |live_restores, order: EndOrder| live_restores.end(&order.vm)).await
}

/// Ends calls that take too long. What was begun is done to its end all the same.
pub(super) async fn within_time(call: Request, next: Next) -> Response {
	let answer = tokio::time::timeout(CALL_TIME_MAX, next.run(call)).await;
	answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// Carry an order out, once its sender has shown the secret.
async fn obey<O: DeserializeOwned + Send + 'static, T: Serialize + Send + 'static>(
	api: Api,
	headers: &HeaderMap,
	body: &Bytes,
	run: impl FnOnce(&LiveRestores, O) -> Result<T, JobError> + Send + 'static,
) -> Response {
	if let Err(refusal) = api.gatekeeper.authenticate(headers, body, now_ms()) {
		api.gatekeeper.warn(&refusal);
		return refusal.status().into_response();
	}
	let Some(live_restores) = api.live_restores else {
		return StatusCode::NOT_FOUND.into_response();
	};
	let order: O = match serde_json::from_slice(body) {
		Ok(order) => order,
		Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
	};
	match tokio::task::spawn_blocking(move || run(&live_restores, order)).await {
		Ok(Ok(answer)) => Json(answer).into_response(),
		Ok(Err(error)) => (StatusCode::CONFLICT, error.to_string()).into_response(),
		Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
	}
}
