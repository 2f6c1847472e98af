//! Where the worker runs: a node whose agent and pool are in the hands of the test.

use crate::{Call, mock::*, worker::Speaker};
use backup_primitives::{
	auth::{
		AgentEndpoint, ENDPOINT_STORAGE_KEY, Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER,
		answer_mac, request_mac,
	},
	job::{Achieved, Desired, encode_body},
};
use codec::{Decode, Encode};
use frame_support::traits::Hooks;
use sp_core::{
	bytes::to_hex,
	offchain::{
		OffchainDbExt, OffchainWorkerExt, StorageKind, TransactionPoolExt,
		testing::{
			OffchainState, PendingRequest, PoolState, TestOffchainExt, TestTransactionPoolExt,
		},
	},
};
use std::sync::Arc;

const SECRET: [u8; 32] = [7; 32];
const URL: &str = "http://127.0.0.1:9955";

/// A node with a worker whose agent and pool are in the hands of the test.
pub(super) struct Desk {
	offchain: Arc<parking_lot::RwLock<OffchainState>>,
	pool: Arc<parking_lot::RwLock<PoolState>>,
}

impl Desk {
	/// Set a desk beside a chain.
	pub(super) fn beside(ext: &mut sp_io::TestExternalities) -> Self {
		let (offchain, state) = TestOffchainExt::new();
		let (pool, pool_state) = TestTransactionPoolExt::new();
		ext.register_extension(OffchainDbExt::new(offchain.clone()));
		ext.register_extension(OffchainWorkerExt::new(offchain));
		ext.register_extension(TransactionPoolExt::new(pool));
		Self { offchain: state, pool: pool_state }
	}

	/// Tell the worker where its agent is.
	pub(super) fn open(&self) {
		let endpoint = AgentEndpoint { url: URL.into(), secret: SECRET };
		sp_io::offchain::local_storage_set(
			StorageKind::PERSISTENT,
			ENDPOINT_STORAGE_KEY,
			&endpoint.encode(),
		);
	}

	/// Run the worker once. The agent answers with `answer`; what the worker asked for is
	/// returned.
	pub(super) fn run(&self, answer: impl FnOnce(&Desired) -> Achieved) -> Desired {
		let desired = self.peek();
		let body = encode_body(&answer(&desired));
		self.run_with(&desired, 200, &body, true);
		desired
	}

	/// Run the worker once, for all nodes whose keys it has. Their agent answers each with
	/// `answer`.
	pub(super) fn run_for_all(&self, mut answer: impl FnMut(&Desired) -> Achieved) {
		know_this_block();
		for speaker in Speaker::all() {
			let desired = Backup::desired(&speaker);
			let body = encode_body(&answer(&desired));
			self.expect(&desired, 200, &body, true);
		}
		start_worker();
	}

	/// What the worker would ask for now.
	pub(super) fn peek(&self) -> Desired {
		know_this_block();
		let speaker = Speaker::of(World::authority(NODE)).expect("a registered node");
		Backup::desired(&speaker)
	}

	pub(super) fn run_with(&self, desired: &Desired, status: u16, answer: &[u8], is_signed: bool) {
		self.expect(desired, status, answer, is_signed);
		start_worker();
	}

	/// Have an answer ready for what the worker is going to ask.
	fn expect(&self, desired: &Desired, status: u16, answer: &[u8], is_signed: bool) {
		let body = encode_body(desired);
		let (seed, time_ms) = {
			let state = self.offchain.read();
			(state.seed, state.timestamp.unix_millis())
		};
		let mut nonce = [0; 16];
		nonce.copy_from_slice(&seed[..16]);
		let mac = request_mac(&SECRET, &Freshness { nonce, time_ms }, &body);
		let secret = if is_signed { SECRET } else { [8; 32] };
		let stated = bare(&answer_mac(&secret, &mac, answer));
		self.offchain.write().expect_request(PendingRequest {
			method: "POST".into(),
			uri: format!("{URL}/v1/reconcile"),
			headers: vec![
				("content-type".into(), "application/octet-stream".into()),
				("content-length".into(), body.len().to_string()),
				(NONCE_HEADER.into(), bare(&nonce)),
				(TIME_HEADER.into(), time_ms.to_string()),
				(MAC_HEADER.into(), bare(&mac)),
			],
			body,
			sent: true,
			response: Some(answer.to_vec()),
			response_headers: vec![
				(MAC_HEADER.into(), stated),
				("x-status".into(), status.to_string()),
			],
			..Default::default()
		});
	}

	/// The calls that the worker submitted since the last look.
	pub(super) fn submitted(&self) -> Vec<Call<Test>> {
		self.pool
			.write()
			.transactions
			.drain(..)
			.map(|bytes| match Extrinsic::decode(&mut &bytes[..]).unwrap().function {
				RuntimeCall::Backup(call) => call,
				RuntimeCall::System(_) => unreachable!("the worker submits our calls only"),
			})
			.collect()
	}
}

/// Workers run after their block is made, so the system tells them its hash.
fn know_this_block() {
	let number = System::block_number();
	frame_system::BlockHash::<Test>::insert(number, hash_of(number));
}

fn start_worker() {
	know_this_block();
	Backup::offchain_worker(System::block_number());
}

fn bare(bytes: &[u8]) -> String {
	to_hex(bytes, false).split_off(2)
}

/// The answer of an agent that has nothing to tell.
pub(super) fn nothing(_: &Desired) -> Achieved {
	Achieved {
		snapshots: Default::default(),
		restores: Default::default(),
		deletions: Default::default(),
		copies: Default::default(),
	}
}
