//! The agent's HTTP interface, on loopback.
//!
//! The worker speaks `POST /v1/reconcile` with an HMAC, and the operator's own program likewise
//! `POST /v1/verify`, `/v1/live-restores` and `/v1/store-trial`; people and their tools read `GET /v1/status`,
//! `/v1/jobs`, `/v1/machines`, `/v1/history`, `/v1/snapshots`, `/v1/copies`, `/v1/replicas`,
//! `/v1/verifications` and `/v1/live-restores`, or the page at `/` that shows it all; supervisors read `GET /health` and
//! `/ready`; Prometheus reads `GET /metrics`; IPFS clients fetch blocks from `GET /ipfs/{cid}`. Only what is
//! posted does anything. Web pages can read none of the views: a request for one must name a
//! loopback host. Beyond this machine only blocks are served, at an address of their own and to
//! those whom the chain knows.

mod gateway;
mod live_restores;
mod local;
mod machines;
mod metrics;
mod page;
mod readiness;
mod reconcile;
mod trial;
mod verify;

pub(crate) use gateway::connections::{self, Limits};
pub use gateway::{access::Access, car::Cars};
pub use live_restores::{END_LIVE_RESTORE_PATH, EndOrder, LIVE_RESTORES_PATH};
pub use readiness::NodeProbe;
pub use reconcile::Gatekeeper;
pub use trial::STORE_TRIAL_PATH;
pub use verify::{VERIFY_PATH, VerificationsView, VerifyOrder};

use crate::{
	copies::{Copies, CopyView},
	job_log::JobLog,
	jobs::Jobs,
	node::live_restores::LiveRestores,
	replicas::{ReplicaView, Replicas},
	repositories::{EmbeddedStore, Obstacles},
	sources::Inventory,
	verification::Verifier,
};
use axum::{
	Json, Router,
	extract::{DefaultBodyLimit, Query, State},
	http::StatusCode,
	middleware,
	routing::{get, post},
};
use backup_primitives::job::{BODY_BYTES_MAX, RECONCILE_PATH};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Api {
	/// The jobs.
	pub jobs: Arc<Jobs>,
	/// Knows who may speak.
	pub gatekeeper: Arc<Gatekeeper>,
	/// Where blocks are read from; nothing in tests of the protocol alone.
	pub store: Option<EmbeddedStore>,
	/// Verifies snapshots; nothing in tests of the protocol alone.
	pub verifier: Option<Verifier>,
	/// Machines whose disks fill in; nothing in tests of the protocol alone.
	pub live_restores: Option<Arc<LiveRestores>>,
	/// Copies of other nodes' snapshots; nothing in tests of the protocol alone.
	pub copies: Option<Arc<Copies>>,
	/// Replicas of the store; nothing in tests of the protocol alone.
	pub replicas: Option<Arc<Replicas>>,
	/// Where machines are described; nothing in tests of the protocol alone.
	pub inventory: Option<Arc<Inventory>>,
	/// Asks the node whether it is there; nothing in tests of the protocol alone.
	pub node: Option<NodeProbe>,
	/// The last lines of the last jobs.
	pub job_log: JobLog,
	/// The streams of blocks that run.
	pub cars: Cars,
	/// The node's own public key, as text.
	pub recipient: String,
}

impl Api {
	/// The routes.
	pub fn router(self) -> Router {
		let views = Router::new()
			.route("/v1/status", get(status))
			.route("/v1/jobs", get(jobs))
			.route("/v1/jobs/{id}/log", get(machines::log))
			.route("/v1/machines", get(machines::machines))
			.route("/v1/history", get(machines::history))
			.route("/v1/snapshots", get(snapshots))
			.route("/v1/copies", get(copies))
			.route("/v1/replicas", get(replicas))
			.route("/v1/verifications", get(verify::verifications))
			.route(LIVE_RESTORES_PATH, get(live_restores::list))
			.route("/metrics", get(metrics::metrics))
			.route("/v1/readiness", get(readiness::readiness))
			.route("/ready", get(readiness::ready))
			.merge(page::routes())
			.layer(middleware::from_fn(local::require_local_host))
			.layer(middleware::from_fn(page::restrain));
		let orders = Router::new()
			.route(LIVE_RESTORES_PATH, post(live_restores::begin))
			.route(END_LIVE_RESTORE_PATH, post(live_restores::end))
			.route(STORE_TRIAL_PATH, post(trial::begin))
			.layer(middleware::from_fn(live_restores::within_time));
		Router::new()
			.route(RECONCILE_PATH, post(reconcile::reconcile))
			.route(VERIFY_PATH, post(verify::begin))
			.layer(middleware::from_fn(reconcile::within_time))
			.merge(orders)
			.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
			.merge(views)
			.route("/health", get(|| async { "ok\n" }))
			.route("/healthz", get(|| async { "ok\n" }))
			.route("/ipfs/{cid}", get(gateway::block))
			.with_state(self)
	}

	/// What is served beyond this machine: blocks, to those whom the chain knows, or to all if there
	/// is no `access`.
	pub fn gateway(self, access: Option<Arc<Access>>) -> Router {
		let blocks = Router::new()
			.route("/ipfs/{cid}", get(gateway::block))
			.layer(middleware::from_fn(connections::keep_seat));
		let blocks = match access {
			Some(access) => {
				blocks.layer(middleware::from_fn_with_state(access, gateway::access::require_pass))
			}
			None => blocks,
		};
		blocks.with_state(self)
	}
}

/// What `GET /v1/status` answers.
#[derive(Debug, Serialize)]
struct Status {
	version: &'static str,
	recipient: String,
	genesis: Option<String>,
	running_jobs: usize,
	blocks: Option<u64>,
	stored_bytes: Option<u64>,
	available_bytes: Option<u64>,
	/// What keeps blocks from being freed.
	obstacles: Option<Obstacles>,
}

async fn status(State(api): State<Api>) -> Json<Status> {
	use crate::repositories::Repository;
	let usage = api.store.as_ref().and_then(|store| store.usage().ok());
	Json(Status {
		version: env!("CARGO_PKG_VERSION"),
		recipient: api.recipient.clone(),
		genesis: api.gatekeeper.genesis().map(|genesis| format!("0x{}", hex::encode(genesis))),
		running_jobs: api.jobs.list().iter().filter(|job| job.state == "running").count(),
		blocks: usage.map(|usage| usage.blocks),
		stored_bytes: usage.map(|usage| usage.bytes),
		available_bytes: usage.map(|usage| usage.available_bytes),
		obstacles: api.store.as_ref().map(EmbeddedStore::obstacles),
	})
}

/// Which jobs are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsQuery {
	/// So many at most, the running ones first, then those that ended last.
	limit: Option<usize>,
}

async fn jobs(
	State(api): State<Api>,
	Query(query): Query<JobsQuery>,
) -> Json<Vec<crate::jobs::JobView>> {
	let mut jobs = api.jobs.list();
	jobs.truncate(query.limit.unwrap_or(usize::MAX));
	Json(jobs)
}

async fn copies(State(api): State<Api>) -> Json<Vec<CopyView>> {
	Json(api.copies.map(|copies| copies.list()).unwrap_or_default())
}

/// What `GET /v1/replicas` answers.
#[derive(Debug, Serialize)]
struct ReplicasView {
	/// How many must hold a snapshot until the chain is told of it, the store included.
	quorum: usize,
	/// Snapshots of the store that fewer hold.
	below_quorum: usize,
	replicas: Vec<ReplicaView>,
}

async fn replicas(State(api): State<Api>) -> Result<Json<ReplicasView>, StatusCode> {
	let Some(replicas) = api.replicas else { return Err(StatusCode::SERVICE_UNAVAILABLE) };
	let below_quorum = replicas.below_quorum().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
	let (quorum, replicas) = (replicas.quorum(), replicas.list());
	Ok(Json(ReplicasView { quorum, below_quorum, replicas }))
}

/// A pinned root, as `GET /v1/snapshots` shows it.
#[derive(Debug, Serialize)]
struct SnapshotView {
	cid: String,
	request: String,
	sequence: u64,
	pinned_at_ms: u64,
}

async fn snapshots(State(api): State<Api>) -> Result<Json<Vec<SnapshotView>>, StatusCode> {
	let executor = api.jobs.executor().clone();
	let roots = tokio::task::spawn_blocking(move || executor.roots())
		.await
		.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
		.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
	let views = roots.into_iter().map(|root| SnapshotView {
		cid: root.cid.to_string(),
		request: root.lineage.request.to_string(),
		sequence: root.sequence,
		pinned_at_ms: root.pinned_at_ms,
	});
	Ok(Json(views.collect()))
}
