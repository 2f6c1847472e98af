//! Blocks between nodes: where they are fetched, and by whom.

use crate::{OwnerKeys, RestoresOfNode, Snapshots, mock::*};
use backup_primitives::{
	Reader, Recipient,
	job::{Source, Sources},
};
use frame_support::assert_ok;

const HOLDERS: [NodeId; 2] = [21, 22];

fn admit(node: NodeId) {
	World::add_node(node);
	assert_ok!(Backup::admit_storage_node(RuntimeOrigin::root(), node));
}

/// Tell a story of Alice's machine, whose copies two nodes hold.
fn held_story(tell: impl FnOnce()) {
	story(|| {
		HOLDERS.into_iter().for_each(admit);
		begin(REQUEST, ALICE);
		tell();
	});
}

fn is_reader(node: NodeId) -> bool {
	Backup::is_reader(Reader::Node(node), source(node).recipient)
}

/// The nodes that these sources are of.
fn nodes(sources: &Sources) -> Vec<NodeId> {
	let node = |found: &Source| (0..100).find(|node| source(*node) == *found).unwrap();
	sources.iter().map(node).collect()
}

#[test]
fn a_holder_fetches_from_the_host_first_and_then_from_other_holders() {
	held_story(|| {
		assert_eq!(nodes(&Backup::sources_of_request(21, REQUEST)), [NODE, 22]);
		let other = nodes(&Backup::sources_of_request(99, REQUEST));
		assert_eq!((other[0], other.len()), (NODE, 3));
		assert!(Backup::sources_of_request(21, OTHER_REQUEST).is_empty());
	});
}

#[test]
fn the_host_fetches_from_its_holders() {
	held_story(|| {
		let mut found = nodes(&Backup::sources_of_request(NODE, REQUEST));
		found.sort_unstable();
		assert_eq!(found, HOLDERS);
	});
}

#[test]
fn the_first_gateway_of_each_node_comes_before_the_second_of_any() {
	held_story(|| {
		World::add_second_gateway(NODE);
		let found = Backup::sources_of_request(21, REQUEST);
		assert_eq!(found.to_vec(), [source(NODE), source(22), second_gateway(NODE)]);
	});
}

#[test]
fn the_roots_of_a_request_come_in_their_order_with_their_places() {
	held_story(|| {
		for number in 1..=3 {
			record(REQUEST, number);
		}
		let salt = crate::Lineages::<Test>::get(REQUEST).unwrap().salt;
		let roots = Backup::roots_of_request(REQUEST, salt);
		assert_eq!(roots.len(), 3);
		for (place, root) in (0..).zip(&roots) {
			assert_eq!(root.sequence, place);
			let record = Snapshots::<Test>::get(REQUEST, place).unwrap();
			assert_eq!((record.cid, record.logical_bytes), (root.cid, root.logical_bytes));
		}
		assert!(Backup::roots_of_request(REQUEST, [9; 32]).is_empty(), "of another lineage");
	});
}

#[test]
fn holder_and_host_keep_copies_and_nobody_else() {
	held_story(|| {
		assert!(Backup::keeps_copies(21, REQUEST) && Backup::keeps_copies(NODE, REQUEST));
		assert!(!Backup::keeps_copies(OTHER_NODE, REQUEST));
		assert!(!Backup::keeps_copies(21, OTHER_REQUEST));
	});
}

#[test]
fn who_was_struck_off_keeps_its_copies_until_a_holder_has_all() {
	held_story(|| {
		record(REQUEST, 1);
		record(REQUEST, 2);
		Backup::drop_holder(&REQUEST, 21);
		let hold = |from, to| submit(held_report(22, &[(REQUEST, from, to)])).unwrap();
		assert!(Backup::keeps_copies(21, REQUEST), "nobody has said to have anything");
		hold(1, 2);
		assert!(Backup::keeps_copies(21, REQUEST), "nobody has the first");
		run_for(Backup::settings().holder_period);
		hold(0, 2);
		assert!(!Backup::keeps_copies(21, REQUEST));
	});
}

#[test]
fn a_node_reads_with_its_own_key_if_it_has_something_to_fetch() {
	held_story(|| {
		assert!(is_reader(21));
		assert!(!Backup::is_reader(Reader::Node(21), source(22).recipient), "with another's key");
		assert!(!is_reader(99), "a node that is not registered");
		World::add_node(OTHER_NODE);
		assert!(!is_reader(OTHER_NODE), "a node that has nothing to do with copies");
		admit(OTHER_NODE);
		assert!(is_reader(OTHER_NODE));
	});
}

#[test]
fn a_host_reads_what_others_hold_of_its_machines() {
	held_story(|| assert!(is_reader(NODE)));
	story(|| {
		World::add_node(NODE);
		assert!(!is_reader(NODE), "it hosts nothing");
	});
}

#[test]
fn a_node_reads_what_it_has_to_restore() {
	held_story(|| {
		World::add_node(OTHER_NODE);
		RestoresOfNode::<Test>::insert(OTHER_NODE, 0, ());
		assert!(is_reader(OTHER_NODE));
		RestoresOfNode::<Test>::remove(OTHER_NODE, 0);
	});
}

#[test]
fn an_owner_reads_with_any_of_its_keys() {
	held_story(|| {
		let key = OwnerKeys::<Test>::get(ALICE, 1).unwrap().recipient;
		assert!(Backup::is_reader(Reader::Owner(ALICE), key));
		assert!(!Backup::is_reader(Reader::Owner(ALICE), Recipient([9; 32])));
		assert!(!Backup::is_reader(Reader::Owner(BOB), key));
	});
}

#[test]
fn whom_an_owner_lets_in_reads_with_the_key_that_it_named() {
	held_story(|| {
		let key = Recipient([7; 32]);
		let reads = |request, key| Backup::is_reader(Reader::Grantee(request), key);
		assert!(!reads(REQUEST, key));
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, BOB, Some(10), Some(key)));
		assert!(reads(REQUEST, key));
		assert!(!reads(REQUEST, Recipient([9; 32])), "another key");
		assert!(!reads(OTHER_REQUEST, key), "another request");
		assert!(!Backup::is_reader(Reader::Owner(BOB), key), "it owns nothing");
		run_to(10);
		assert!(!reads(REQUEST, key), "it has expired");
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, BOB, None, Some(key)));
		assert!(reads(REQUEST, key));
		assert_ok!(Backup::revoke_access(signed(ALICE), REQUEST, BOB));
		assert!(!reads(REQUEST, key));
	});
}

#[test]
fn who_was_let_in_without_a_key_reads_nothing() {
	held_story(|| {
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, BOB, None, None));
		assert!(!Backup::is_reader(Reader::Grantee(REQUEST), Recipient([0; 32])));
	});
}
