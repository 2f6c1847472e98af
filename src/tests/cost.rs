//! What recording a snapshot costs as the state grows. The figures stand in `docs/performance.md`.

use crate::{ChainSettings, mock::*, worker::Speaker};
use backup_primitives::{Cid, Consistency, report::TakenSnapshot};
use codec::Encode;
use frame_support::assert_ok;
use std::{println, time::Instant};

/// Snapshots of each machine, and machines of each owner.
const SNAPSHOTS: u64 = 30;
const MACHINES: u64 = 3;

/// The requests of others begin here.
const FIRST_REQUEST: RequestId = 1_000;

/// What judging and recording one report took.
#[derive(Debug)]
struct Cost {
	/// Bytes of the proof of all that it read.
	proof_bytes: usize,
	/// The shortest of some runs, in microseconds.
	micros: u128,
}

/// A chain on which other machines have so many snapshots, and Alice's two, the third being due.
fn chain_with(snapshots: u64) -> sp_io::TestExternalities {
	let mut ext = new_test_ext();
	ext.execute_with(|| {
		let settings = ChainSettings { keep_last: 40, frequency: 1_000, ..Backup::settings() };
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		begin(REQUEST, ALICE);
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), FREQUENCY));
	});
	for machine in 0..snapshots.div_ceil(SNAPSHOTS) {
		ext.execute_with(|| fill(machine, SNAPSHOTS.min(snapshots - machine * SNAPSHOTS)));
		if machine % 1_000 == 0 {
			ext.commit_all().expect("no transaction is open");
		}
	}
	ext.execute_with(|| {
		for tag in [1, 2] {
			pass();
			assert_ok!(snapshot(REQUEST, tag).submit());
		}
		pass();
	});
	ext.commit_all().expect("no transaction is open");
	ext
}

/// Let a cadence go by, and with it the window of the node's quota. The invariants are not checked
/// at each block as elsewhere: that would read all of the state.
fn pass() {
	for _ in 0..FREQUENCY {
		start_block(System::block_number() + 1);
	}
}

/// Let another machine have so many snapshots.
fn fill(machine: u64, snapshots: u64) {
	let (request, owner) = (FIRST_REQUEST + machine, FIRST_REQUEST + machine / MACHINES);
	begin(request, owner);
	for sequence in 0..snapshots {
		let mut digest = [0; 32];
		digest[..8].copy_from_slice(&request.to_le_bytes());
		digest[8..16].copy_from_slice(&sequence.to_le_bytes());
		let taken = TakenSnapshot {
			cid: Cid::dag_cbor(digest),
			taken_at: System::block_number(),
			logical_bytes: DISK_BYTES,
			new_bytes: 1,
			consistency: Consistency::Crash,
			owner_key_version: 1,
		};
		Backup::record_snapshot(NODE, owner, request, None, taken);
	}
	System::reset_events();
}

fn cost_of_a_report(snapshots: u64) -> Cost {
	let mut ext = chain_with(snapshots);
	let report = ext.execute_with(|| snapshot(REQUEST, 3).call());
	let mut once = || {
		let began = Instant::now();
		ext.execute_with(|| {
			sp_io::storage::start_transaction();
			assert_ok!(submit(report.clone()));
			sp_io::storage::rollback_transaction();
		});
		began.elapsed().as_micros()
	};
	let micros = (0..50).map(|_| once()).min().unwrap_or_default();
	let (_, proof) = ext.execute_and_prove(|| submit(report.clone()).expect("it is right"));
	let cost = Cost { proof_bytes: proof.encoded_size(), micros };
	println!("{snapshots:>9} snapshots: {} bytes, {} µs", cost.proof_bytes, cost.micros);
	cost
}

#[test]
fn a_hundred_times_the_snapshots_make_the_proof_of_a_report_a_little_longer() {
	let (few, many) = (cost_of_a_report(10), cost_of_a_report(1_000));
	// Each level of the trie adds its branches to every path.
	assert!(many.proof_bytes < 3 * few.proof_bytes, "{few:?}, {many:?}");
}

#[test]
#[ignore = "takes minutes and gigabytes: `make cost` runs it"]
fn a_million_snapshots_make_it_longer_by_the_depth_of_the_trie() {
	let (few, many) = (cost_of_a_report(1_000), cost_of_a_report(1_000_000));
	assert!(many.proof_bytes < 4 * few.proof_bytes, "{few:?}, {many:?}");
}

#[test]
#[ignore = "measures: `make cost` runs it"]
fn a_page_of_ten_thousand_machines_is_as_long_as_one_of_a_thousand() {
	let pages = [1_000, 10_000].map(|machines| {
		let mut ext = chain_with(machines * SNAPSHOTS);
		let page = ext.execute_with(|| {
			// The worker runs after its block is made.
			let number = System::block_number();
			frame_system::BlockHash::<Test>::insert(number, hash_of(number));
			let speaker = Speaker::of(World::authority(NODE)).expect("a registered node");
			let mut page = 0;
			let mut once = || {
				let began = Instant::now();
				let desired = Backup::desired(&speaker);
				let micros = began.elapsed().as_micros();
				assert!(desired.snapshots.len() <= 1, "only Alice's is due");
				page = desired.lineages.len();
				micros
			};
			let micros: Vec<_> = (0..20).map(|_| once()).collect();
			println!("{machines} machines: a page of {page}, {:?} µs", micros.iter().min());
			page
		});
		assert!(page <= 256);
		page
	});
	assert!(pages.iter().all(|page| *page > 64), "{pages:?}");
}
