//! The worker's call over real HTTP, with jobs that the test ends itself.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "fixtures/orders.rs"]
#[expect(dead_code, reason = "the interface is the same for restores and deletions")]
mod orders;

use backup_agent::{
	api::{Api, Gatekeeper},
	jobs::{Executor, Freed, HeldRoot, JobContext, JobError, Jobs, Ledger},
	secret::SharedSecret,
};
use backup_primitives::{
	Cid, Consistency, FailureReason, LineageId, OpaqueId, RecordedRoot,
	auth::{Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER, answer_mac_is_right, request_mac},
	job::{
		Achieved, BODY_BYTES_MAX, Desired, RestoreOrder, SnapshotOrder, decode_body, encode_body,
	},
	report::TakenSnapshot,
};
use orders::{snapshot, snapshots};
use std::{
	path::PathBuf,
	sync::{Arc, Mutex, mpsc},
	time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const SECRET: [u8; 32] = [7; 32];

/// Ends jobs when the test says so, and how.
struct Played {
	ends: Mutex<mpsc::Receiver<Result<u8, FailureReason>>>,
}

impl Executor for Played {
	fn snapshot(
		&self,
		_: &[u8; 32],
		_: &OpaqueId,
		order: &SnapshotOrder,
		context: &JobContext,
	) -> Result<TakenSnapshot, JobError> {
		let end = self.ends.lock().unwrap().recv().unwrap();
		let failed = |reason| JobError { reason, detail: "as the test says".into() };
		Ok(TakenSnapshot {
			cid: Cid::dag_cbor([end.map_err(failed)?; 32]),
			taken_at: context.clock(),
			logical_bytes: 1,
			new_bytes: 1,
			consistency: Consistency::Crash,
			owner_key_version: order.owner_key_version,
		})
	}

	fn restore(&self, _: &OpaqueId, _: &RestoreOrder, _: &JobContext) -> Result<PathBuf, JobError> {
		Ok("/image".into())
	}

	fn roots(&self) -> Result<Vec<HeldRoot>, JobError> {
		Ok(Vec::new())
	}

	fn holds(&self, _: &Cid) -> bool {
		true
	}

	fn has_quorum(&self, _: &Cid) -> bool {
		true
	}

	fn pins_unconfirmed(&self) -> bool {
		false
	}

	fn confirm_pins(&self, _: Vec<RecordedRoot>) -> Result<Vec<RecordedRoot>, JobError> {
		Ok(Vec::new())
	}

	fn has_unfinished_copies(&self) -> bool {
		false
	}

	fn roots_elsewhere(&self) -> Vec<HeldRoot> {
		Vec::new()
	}

	fn is_unsettled(&self, _: &LineageId) -> bool {
		false
	}

	fn has_garbage(&self) -> bool {
		false
	}

	fn unpin(&self, _: &HeldRoot) -> Result<(), JobError> {
		Ok(())
	}

	fn collect(&self) -> Result<Freed, JobError> {
		Ok(Freed::default())
	}

	fn recover(&self) -> Result<(), JobError> {
		Ok(())
	}
}

/// An agent that listens, and the test's side of its jobs.
struct Agent {
	url: String,
	end: mpsc::Sender<Result<u8, FailureReason>>,
	_folder: tempfile::TempDir,
}

impl Agent {
	async fn start() -> Self {
		let folder = tempfile::tempdir().unwrap();
		let ledger = Ledger::open(&folder.path().join("jobs.redb")).unwrap();
		let gatekeeper = Arc::new(Gatekeeper::new(SharedSecret::from(SECRET), &ledger).unwrap());
		let (end, ends) = mpsc::channel();
		let executor = Arc::new(Played { ends: Mutex::new(ends) });
		let jobs = Jobs::open(executor, ledger, 2).unwrap();
		let recipient = "age1".into();
		let api = Api {
			jobs,
			gatekeeper,
			store: None,
			verifier: None,
			live_restores: None,
			copies: None,
			replicas: None,
			inventory: None,
			node: None,
			job_log: Default::default(),
			cars: Default::default(),
			recipient,
		};
		let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
		let url = format!("http://{}", listener.local_addr().unwrap());
		tokio::spawn(async move { axum::serve(listener, api.router()).await });
		Self { url, end, _folder: folder }
	}

	async fn post(&self, call: &Call) -> reqwest::Response {
		let mac = request_mac(&call.secret, &call.freshness, &call.body);
		reqwest::Client::new()
			.post(format!("{}/v1/reconcile", self.url))
			.header(NONCE_HEADER, hex::encode(call.freshness.nonce))
			.header(TIME_HEADER, call.freshness.time_ms)
			.header(MAC_HEADER, hex::encode(mac))
			.body(call.body.clone())
			.send()
			.await
			.unwrap()
	}

	/// Call as the worker does, and check the answer as it does.
	async fn reconcile(&self, desired: &Desired) -> Achieved {
		let call = Call::of(encode_body(desired));
		let response = self.post(&call).await;
		assert_eq!(response.status(), 200);
		let stated = response.headers()[MAC_HEADER].to_str().unwrap().to_owned();
		let body = response.bytes().await.unwrap();
		let mac = request_mac(&SECRET, &call.freshness, &call.body);
		let stated = hex::decode(stated).unwrap().try_into().unwrap();
		assert!(answer_mac_is_right(&SECRET, &mac, &body, &stated));
		decode_body(&body).unwrap()
	}

	/// Call until something has ended.
	async fn until_ended(&self, desired: &Desired) -> Achieved {
		let deadline = Instant::now() + Duration::from_secs(10);
		loop {
			let achieved = self.reconcile(desired).await;
			if !achieved.snapshots.is_empty() {
				return achieved;
			}
			assert!(Instant::now() < deadline, "the job did not end");
		}
	}
}

/// A call of a worker, right unless a test changes it.
#[derive(Clone)]
struct Call {
	secret: [u8; 32],
	freshness: Freshness,
	body: Vec<u8>,
}

impl Call {
	fn of(body: Vec<u8>) -> Self {
		let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
		let time_ms = u64::try_from(since.as_millis()).unwrap();
		Self { secret: SECRET, freshness: Freshness { nonce: rand::random(), time_ms }, body }
	}
}

fn desired(genesis: u8, orders: Vec<SnapshotOrder>) -> Desired {
	Desired { genesis: [genesis; 32], ..snapshots(orders) }
}

fn order(slot: u64) -> SnapshotOrder {
	snapshot(7, 0, slot)
}

#[tokio::test]
async fn an_order_is_carried_out_once_and_answered_until_it_is_not_asked_for() {
	let agent = Agent::start().await;
	let wanted = desired(1, vec![order(0)]);
	assert!(agent.reconcile(&wanted).await.snapshots.is_empty(), "the job has begun");
	assert!(agent.reconcile(&wanted).await.snapshots.is_empty(), "and it is one job");
	agent.end.send(Ok(9)).unwrap();
	let first = agent.until_ended(&wanted).await;
	let snapshot = first.snapshots[0].outcome.clone().unwrap();
	assert_eq!((snapshot.cid, snapshot.taken_at), (Cid::dag_cbor([9; 32]), 100));
	assert_eq!(first.snapshots[0].handed_out, 0);
	let again = agent.reconcile(&desired(1, vec![order(5)])).await;
	assert_eq!(again.snapshots[0].handed_out, 1);
	assert_eq!(again.snapshots[0].outcome.clone().unwrap().cid, snapshot.cid);
	assert!(agent.reconcile(&desired(1, vec![])).await.snapshots.is_empty());
}

#[tokio::test]
async fn a_failure_is_tried_again_in_the_next_slot() {
	let agent = Agent::start().await;
	agent.end.send(Err(FailureReason::ImageInUse)).unwrap();
	let failed = agent.until_ended(&desired(1, vec![order(0)])).await;
	assert_eq!(failed.snapshots[0].outcome, Err(FailureReason::ImageInUse));
	agent.end.send(Ok(3)).unwrap();
	let done = agent.until_ended(&desired(1, vec![order(1)])).await;
	assert!(done.snapshots[0].outcome.is_ok());
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
	let agent = Agent::start().await;
	let body = encode_body(&desired(1, vec![]));
	let response = agent.post(&Call { secret: [8; 32], ..Call::of(body) }).await;
	assert_eq!(response.status(), 401);
	assert!(response.bytes().await.unwrap().is_empty(), "strangers learn nothing");
}

#[tokio::test]
async fn a_replayed_call_is_refused() {
	let agent = Agent::start().await;
	let call = Call::of(encode_body(&desired(1, vec![])));
	assert_eq!(agent.post(&call).await.status(), 200);
	assert_eq!(agent.post(&call).await.status(), 401);
}

#[tokio::test]
async fn a_call_from_another_time_is_refused() {
	let agent = Agent::start().await;
	for shift in [-120_000i64, 120_000] {
		let mut call = Call::of(encode_body(&desired(1, vec![])));
		call.freshness.time_ms = call.freshness.time_ms.saturating_add_signed(shift);
		assert_eq!(agent.post(&call).await.status(), 401);
	}
}

#[tokio::test]
async fn another_chain_is_refused_once_one_is_served() {
	let agent = Agent::start().await;
	agent.reconcile(&desired(1, vec![])).await;
	let other = Call::of(encode_body(&desired(2, vec![])));
	assert_eq!(agent.post(&other).await.status(), 409);
	agent.reconcile(&desired(1, vec![])).await;
}

#[tokio::test]
async fn another_version_and_garbage_are_refused() {
	let agent = Agent::start().await;
	let mut newer = encode_body(&desired(1, vec![]));
	newer[0] = 2;
	for body in [newer, vec![], vec![1], b"hello".to_vec()] {
		assert_eq!(agent.post(&Call::of(body)).await.status(), 400);
	}
}

#[tokio::test]
async fn a_body_past_the_bound_is_not_read() {
	let agent = Agent::start().await;
	let response = agent.post(&Call::of(vec![1; BODY_BYTES_MAX + 1])).await;
	assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn a_call_without_headers_is_refused() {
	let agent = Agent::start().await;
	let url = format!("{}/v1/reconcile", agent.url);
	let response = reqwest::Client::new().post(url).body("hello").send().await.unwrap();
	assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn people_can_look_and_gateways_answer_the_probe() {
	let agent = Agent::start().await;
	let get = |path: &str| reqwest::get(format!("{}{path}", agent.url));
	for path in ["/healthz", "/v1/status", "/v1/jobs", "/v1/snapshots"] {
		assert_eq!(get(path).await.unwrap().status(), 200, "{path}");
	}
	assert_eq!(get("/ipfs/bafkqaaa?format=raw").await.unwrap().status(), 200);
	assert_eq!(get("/ipfs/bafkqaaa").await.unwrap().status(), 400);
	let absent = Cid::raw([3; 32]);
	assert_eq!(get(&format!("/ipfs/{absent}?format=raw")).await.unwrap().status(), 404);
	assert_eq!(get("/ipfs/Qmnothing?format=raw").await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_refused_call_does_not_bind_the_agent_to_its_chain() {
	let agent = Agent::start().await;
	let body = encode_body(&desired(1, Vec::new()));
	let stranger = Call { secret: [8; 32], ..Call::of(body) };
	assert_eq!(agent.post(&stranger).await.status(), 401);
	assert_eq!(agent.reconcile(&desired(2, Vec::new())).await.snapshots.len(), 0);
}

#[tokio::test]
async fn a_call_that_was_changed_on_its_way_is_refused() {
	let agent = Agent::start().await;
	let call = Call::of(encode_body(&desired(1, vec![order(0)])));
	let mac = request_mac(&SECRET, &call.freshness, &call.body);
	let other = Call::of(encode_body(&desired(1, Vec::new())));
	let response = reqwest::Client::new()
		.post(format!("{}/v1/reconcile", agent.url))
		.header(NONCE_HEADER, hex::encode(call.freshness.nonce))
		.header(TIME_HEADER, call.freshness.time_ms)
		.header(MAC_HEADER, hex::encode(mac))
		.body(other.body);
	assert_eq!(response.send().await.unwrap().status(), 401);
}

/// A browser that was led here under a foreign name names that host.
#[tokio::test]
async fn web_pages_of_other_hosts_see_no_views() {
	let agent = Agent::start().await;
	for path in ["/v1/status", "/v1/jobs", "/v1/snapshots"] {
		let request = reqwest::Client::new().get(format!("{}{path}", agent.url));
		let response = request.header("host", "pages.example").send().await.unwrap();
		assert_eq!(response.status(), 403, "{path}");
	}
}
