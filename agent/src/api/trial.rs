//! Trying the store out while the agent has it.

use super::Api;
use crate::{jobs::now_ms, repositories};
use axum::{
	Json,
	body::Bytes,
	extract::State,
	http::{HeaderMap, StatusCode},
	response::{IntoResponse, Response},
};

/// Where a trial of the store is asked for.
pub const STORE_TRIAL_PATH: &str = "/v1/store-trial";

/// The handler of `POST /v1/store-trial`: answered with `true` when the store did all that it
/// should, and with what went wrong otherwise.
pub(super) async fn begin(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
	if let Err(refusal) = api.gatekeeper.authenticate(&headers, &body, now_ms()) {
		api.gatekeeper.warn(&refusal);
		return refusal.status().into_response();
	}
	let Some(store) = api.store else { return StatusCode::NOT_FOUND.into_response() };
	match tokio::task::spawn_blocking(move || repositories::try_out(&store)).await {
		Ok(Ok(())) => Json(true).into_response(),
		Ok(Err(error)) => (StatusCode::CONFLICT, error.to_string()).into_response(),
		Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
	}
}
