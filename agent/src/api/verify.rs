//! Verifications: what they came to, and asking for one.

use super::Api;
use crate::{
	jobs::now_ms,
	verification::{Depth, Running, Verification, VerificationError},
};
use axum::{
	Json,
	body::Bytes,
	extract::State,
	http::{HeaderMap, StatusCode},
	response::{IntoResponse, Response},
};
use backup_primitives::Cid;
use serde::{Deserialize, Serialize};

/// Where a verification is asked for.
pub const VERIFY_PATH: &str = "/v1/verify";

/// What is to be verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyOrder {
	/// How closely.
	pub depth: Depth,
	/// The roots; all that are pinned if there are none.
	pub roots: Vec<Cid>,
}

/// What `GET /v1/verifications` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct VerificationsView {
	/// Whether some are under way.
	pub is_busy: bool,
	/// The one that runs now.
	pub running: Option<Running>,
	/// The last of each root and depth, the newest first.
	pub results: Vec<Verification>,
}

pub(super) async fn verifications(
	State(api): State<Api>,
) -> Result<Json<VerificationsView>, StatusCode> {
	let verifier = api.verifier.ok_or(StatusCode::NOT_FOUND)?;
	let view = move || {
		// Asked first: when nothing is under way any more, all results are there.
		let (is_busy, running) = (verifier.is_busy(), verifier.running());
		verifier.results().map(|results| VerificationsView { is_busy, running, results })
	};
	let view = tokio::task::spawn_blocking(view).await;
	let view = view.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
	view.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// The handler of `POST /v1/verify`: answered with the roots as soon as the verification runs.
pub(super) async fn begin(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
	if let Err(refusal) = api.gatekeeper.authenticate(&headers, &body, now_ms()) {
		api.gatekeeper.warn(&refusal);
		return refusal.status().into_response();
	}
	let Some(verifier) = api.verifier else { return StatusCode::NOT_FOUND.into_response() };
	let order: VerifyOrder = match serde_json::from_slice(&body) {
		Ok(order) => order,
		Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
	};
	let turn = match verifier.begin(&order.roots, order.depth) {
		Ok(turn) => turn,
		Err(error) => {
			let status = match &error {
				VerificationError::Busy => StatusCode::CONFLICT,
				VerificationError::UnknownRoot { .. } => StatusCode::NOT_FOUND,
				_ => StatusCode::INTERNAL_SERVER_ERROR,
			};
			return (status, error.to_string()).into_response();
		}
	};
	let roots = turn.roots().to_vec();
	std::thread::spawn(move || {
		if let Err(error) = turn.run(&mut |_| ()) {
			tracing::error!(%error, "a verification could not be written down");
		}
	});
	(StatusCode::ACCEPTED, Json(roots)).into_response()
}
