//! What goes first, and what keeps nothing else.

use super::*;
use crate::format::cbor::Encoder;

#[test]
fn a_snapshot_that_is_taken_while_an_old_one_is_sent_goes_first() {
	let mut bench = Bench::new(40 * 16);
	let old = bench.take();
	bench.bytes = noise(2, 3 * CHUNK);
	let new = bench.prepare();
	let (root, replicas) = (new.root, bench.replicas.clone());
	bench.daemon.state().meanwhile = Some(Box::new(move || {
		new.pin();
		replicas.wake();
	}));
	bench.pass().unwrap();
	let place = |of: &Cid| {
		let hold = bench.replicas.names.holds(of).next().unwrap().cid();
		let state = bench.daemon.state();
		state.order.iter().position(|(_, cid)| *cid == hold).unwrap()
	};
	assert!(place(&root) < place(&old));
	// One batch of the old one went before it, and was not sent again.
	let sent = bench.daemon.state().imported_bytes;
	assert!(sent < 42 << 20, "{sent}");
	bench.assert_whole(&[old, root]);
}

#[test]
fn a_new_snapshot_does_not_wait_for_lost_ones_to_come_back() {
	let mut bench = Bench::new(200);
	let old = bench.take();
	bench.pass().unwrap();
	bench.lose_store();
	bench.bytes = noise(2, 3 * CHUNK);
	let new = bench.prepare();
	let (root, replicas) = (new.root, bench.replicas.clone());
	bench.daemon.state().at_get = Some((
		100,
		Box::new(move || {
			new.pin();
			replicas.wake();
		}),
	));
	bench.daemon.state().order.clear();
	bench.pass().unwrap();
	let order = bench.daemon.state().order.clone();
	let hold = bench.replicas.names.holds(&root).next().unwrap().cid();
	let pinned = order.iter().position(|(_, cid)| *cid == hold).unwrap();
	let read_after = order[pinned..].iter().filter(|(verb, _)| verb == "block/get").count();
	assert!(read_after > 80, "{read_after} of about 215 blocks came back after it was pinned");
	bench.assert_whole(&[old, root]);
}

#[test]
fn what_was_given_up_while_another_is_sent_does_not_go_there() {
	let mut bench = Bench::new(4);
	let (old, new) = (bench.take(), bench.take());
	let replicas = bench.replicas.clone();
	bench.daemon.state().meanwhile = Some(Box::new(move || replicas.give_up(&own(&old)).unwrap()));
	bench.pass().unwrap();
	assert!(!bench.is_pinned(&old));
	bench.assert_whole(&[new]);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_told_of_and_passed_over() {
	let mut bench = Bench::new(20);
	let lost = bench.take();
	bench.pass().unwrap();
	bench.lose_store();
	let old = bench.take();
	let known = bench.chunks();
	bench.bytes[5 * CHUNK] ^= 1;
	let bad = bench.take();
	let of_bad: Vec<[u8; 32]> = bench.chunks().difference(&known).copied().collect();
	bench.bytes[5 * CHUNK] ^= 1;
	bench.bytes[7 * CHUNK] ^= 1;
	let new = bench.take();
	bench.damage(&of_bad);
	for _ in 0..2 {
		let error = bench.pass().unwrap_err();
		assert!(error.contains(&format!("snapshot {bad} is not sent")), "{error}");
		assert!(bench.is_pinned(&old) && bench.is_pinned(&new) && !bench.is_pinned(&bad));
		assert!(bench.world.store.is_pinned(&lost), "it comes back all the same");
	}
	assert_eq!((bench.view().behind, bench.view().state), (1, "waiting"));
	bench.replicas.give_up(&own(&bad)).unwrap();
	bench.pass().unwrap();
	bench.assert_whole(&[lost, old, new]);
}

#[test]
fn batches_go_as_soon_as_their_snapshot_is_pinned() {
	let mut bench = Bench::new(20 * 16);
	let old = bench.take();
	bench.bytes = noise(2, 20 * 16 * CHUNK);
	let new = bench.take();
	bench.pass().unwrap();
	let most = bench.daemon.state().most_pins;
	// Two batches each, and the other snapshot.
	assert!(most <= 2 + 2, "{most} pins at once");
	bench.assert_whole(&[old, new]);
}

#[test]
fn a_batch_that_went_bad_there_is_sent_again() {
	let mut bench = Bench::new(40 * 16);
	let root = bench.take();
	bench.daemon.state().imports_left = Some(2);
	bench.pass().unwrap_err();
	{
		let mut daemon = bench.daemon.state();
		(daemon.is_down, daemon.imports_left) = (false, None);
		let batches: HashSet<[u8; 32]> = daemon.pins.keys().map(Cid::digest).collect();
		assert_eq!(batches.len(), 2);
		daemon.damage(&batches);
	}
	bench.start_again();
	bench.pass().unwrap();
	bench.assert_whole(&[root]);
}

#[test]
fn what_lost_blocks_does_not_count_before_it_was_gone_through() {
	let mut bench = Bench::new(40);
	let root = bench.take();
	bench.pass().unwrap();
	assert!(bench.replicas.has_quorum(&root));
	let lost: HashSet<_> = bench.chunks();
	bench.daemon.state().lose_chunks(&lost);
	bench.pass().unwrap_err();
	assert!(!bench.replicas.has_quorum(&root));
	bench.daemon.state().imports_left = Some(0);
	bench.pass().unwrap_err();
	assert!(!bench.replicas.has_quorum(&root), "its pin is there, its blocks are not");
	{
		let mut daemon = bench.daemon.state();
		(daemon.is_down, daemon.imports_left) = (false, None);
	}
	bench.pass().unwrap();
	assert!(bench.replicas.has_quorum(&root));
	bench.assert_whole(&[root]);
}

#[test]
fn a_tree_with_more_ways_through_it_than_can_be_counted_is_sent_once() {
	let mut bench = Bench::new(4);
	let root = bench.take();
	let session = bench.world.store.open_session().unwrap();
	let mut child = Cid::raw(crate::format::digest(b"the chunk below"));
	session.put(&child, b"the chunk below").unwrap();
	for _ in 0..60 {
		let mut node = Encoder::with_capacity(100);
		node.array(2);
		(0..2).for_each(|_| node.link(&child));
		let node = node.finish();
		child = Cid::dag_cbor(crate::format::digest(&node));
		session.put(&child, &node).unwrap();
	}
	session.flush().unwrap();
	session.pin(&child, &PinLabel::of_found(lineage(), 7, None)).unwrap();
	bench.pass().unwrap();
	assert!(bench.is_pinned(&root) && bench.is_pinned(&child));
}

#[test]
fn snapshots_that_a_daemon_refuses_keep_no_other_for_long() {
	let mut bench = Bench::new(8);
	let lost = bench.take();
	bench.pass().unwrap();
	bench.lose_store();
	let good = bench.take();
	let bad: Vec<Cid> = (0..3).map(|_| bench.take()).collect();
	let hold = |root: &Cid| bench.replicas.names.holds(root).next().unwrap().cid();
	bench.daemon.state().refused = bad.iter().map(hold).collect();
	// Three in a row are enough for one look, and what is lost comes back all the same.
	let error = bench.pass().unwrap_err();
	assert!(error.contains("it does not want to"), "{error}");
	assert!(!bench.is_pinned(&good) && bench.world.store.is_pinned(&lost));
	let error = bench.pass().unwrap_err();
	assert!(error.contains("it does not want to"), "{error}");
	assert!(bench.is_pinned(&good));
	assert_eq!((bench.view().behind, bench.view().state), (3, "waiting"));
	bench.daemon.state().refused.clear();
	bench.pass().unwrap();
	let all: Vec<Cid> = bad.into_iter().chain([good, lost]).collect();
	bench.assert_whole(&all);
}
