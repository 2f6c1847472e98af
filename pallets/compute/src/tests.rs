//! Tests of the compute pallet.

use crate::{Error, Event, NodeOfAuthority, Nodes, RequestState, Requests, mock::*};
use backup_primitives::Recipient;
use frame_support::{assert_noop, assert_ok};
use pallet_backup::Compute as _;

/// A request of [`OWNER`] that runs on [`NODE`] as machine `name`.
fn fulfilled(name: &str) -> u64 {
	assert_ok!(Compute::create_request(signed(OWNER), 1_000));
	let request = crate::NextRequestId::<Test>::get() - 1;
	assert_ok!(Compute::assign_request(signed(OPERATOR), request, NODE));
	assert_ok!(Compute::fulfil_request(signed(OPERATOR), request, vm(name)));
	request
}

#[test]
fn a_node_is_registered_with_a_proof_of_its_key() {
	story(|| {
		assert_ok!(register());
		let node = Compute::node(&NODE).unwrap();
		assert_eq!(
			(node.authority.clone(), node.recipient),
			(authority("node"), Recipient([3; 32]))
		);
		assert_eq!(Compute::node_of(&node.authority), Some(NODE));
		System::assert_last_event(
			Event::NodeRegistered { node_id: NODE, operator: OPERATOR }.into(),
		);
	});
}

#[test]
fn fails_to_register_a_taken_id_or_key() {
	story(|| {
		assert_ok!(register());
		assert_noop!(register(), Error::<Test>::NodeIdTaken);
		let key = authority("node");
		let proof = proof(&key, 11, OPERATOR);
		assert_noop!(
			Compute::register_node(
				signed(OPERATOR),
				11,
				key,
				Recipient([3; 32]),
				Default::default(),
				proof
			),
			Error::<Test>::AuthorityTaken
		);
	});
}

#[test]
fn a_proof_for_another_node_or_operator_is_none() {
	story(|| {
		let key = authority("node");
		for wrong in [proof(&key, 11, OPERATOR), proof(&key, NODE, OWNER)] {
			assert_noop!(
				Compute::register_node(
					signed(OPERATOR),
					NODE,
					key.clone(),
					Recipient([3; 32]),
					Default::default(),
					wrong
				),
				Error::<Test>::BadProof
			);
		}
		assert_eq!(NodeOfAuthority::<Test>::iter_keys().count(), 0);
	});
}

#[test]
fn a_request_goes_from_open_to_running_to_ended() {
	story(|| {
		assert_ok!(register());
		let request = fulfilled("vm-1");
		let info = <Compute as pallet_backup::Compute<_, _, _, _>>::request(&request).unwrap();
		assert_eq!((info.owner, info.node, info.running), (OWNER, Some(NODE), true));
		assert_eq!((&info.vm[..], info.capacity_bytes), (&b"vm-1"[..], 1_000));
		assert_eq!(Some(info.vm_tag), Compute::vm_tag(request));
		assert_ok!(Compute::end_request(signed(OWNER), request));
		assert_eq!(Requests::<Test>::get(request).unwrap().state, RequestState::Ended);
		let info = <Compute as pallet_backup::Compute<_, _, _, _>>::request(&request).unwrap();
		assert_eq!((info.node, info.running), (None, false));
	});
}

#[test]
fn each_request_has_its_own_tag() {
	story(|| {
		assert_ok!(Compute::create_request(signed(OWNER), 1));
		assert_ok!(Compute::create_request(signed(OWNER), 1));
		assert_ok!(Compute::create_request(signed(OPERATOR), 1));
		let tags: std::collections::HashSet<_> = (0..3).map(Compute::vm_tag).collect();
		assert_eq!(tags.len(), 3);
		assert_eq!(Compute::vm_tag(3), None);
	});
}

#[test]
fn a_machine_serves_one_request_until_it_ends() {
	story(|| {
		assert_ok!(register());
		let first = fulfilled("vm-1");
		assert_ok!(Compute::create_request(signed(OWNER), 1_000));
		assert_ok!(Compute::assign_request(signed(OPERATOR), 1, NODE));
		assert_noop!(
			Compute::fulfil_request(signed(OPERATOR), 1, vm("vm-1")),
			Error::<Test>::VmNameTaken
		);
		assert_ok!(Compute::end_request(signed(OWNER), first));
		assert_ok!(Compute::fulfil_request(signed(OPERATOR), 1, vm("vm-1")));
	});
}

#[test]
fn only_the_nodes_operator_takes_and_fulfils() {
	story(|| {
		assert_ok!(register());
		assert_ok!(Compute::create_request(signed(OWNER), 1_000));
		assert_noop!(Compute::assign_request(signed(OWNER), 0, NODE), Error::<Test>::NotAuthorized);
		assert_noop!(Compute::assign_request(signed(OPERATOR), 0, 99), Error::<Test>::NodeNotFound);
		assert_ok!(Compute::assign_request(signed(OPERATOR), 0, NODE));
		assert_noop!(
			Compute::fulfil_request(signed(OWNER), 0, vm("neighbour")),
			Error::<Test>::NotAuthorized
		);
	});
}

#[test]
fn a_request_is_only_taken_when_open_and_fulfilled_when_assigned() {
	story(|| {
		assert_ok!(register());
		assert_noop!(
			Compute::assign_request(signed(OPERATOR), 0, NODE),
			Error::<Test>::RequestNotFound
		);
		assert_ok!(Compute::create_request(signed(OWNER), 1_000));
		assert_noop!(
			Compute::fulfil_request(signed(OPERATOR), 0, vm("vm-1")),
			Error::<Test>::WrongState
		);
		assert_ok!(Compute::assign_request(signed(OPERATOR), 0, NODE));
		assert_noop!(Compute::assign_request(signed(OPERATOR), 0, NODE), Error::<Test>::WrongState);
	});
}

#[test]
fn names_that_are_no_file_names_are_refused() {
	story(|| {
		assert_ok!(register());
		assert_ok!(Compute::create_request(signed(OWNER), 1_000));
		assert_ok!(Compute::assign_request(signed(OPERATOR), 0, NODE));
		for name in ["", ".", "../etc", "a/b", "a b", "ä", ".hidden"] {
			assert_noop!(
				Compute::fulfil_request(signed(OPERATOR), 0, vm(name)),
				Error::<Test>::VmNameMalformed
			);
		}
	});
}

#[test]
fn only_the_owner_ends_a_request_and_only_once() {
	story(|| {
		assert_ok!(Compute::create_request(signed(OWNER), 1));
		assert_noop!(Compute::end_request(signed(OPERATOR), 0), Error::<Test>::NotAuthorized);
		assert_ok!(Compute::end_request(signed(OWNER), 0));
		assert_noop!(Compute::end_request(signed(OWNER), 0), Error::<Test>::WrongState);
		assert_noop!(Compute::end_request(signed(OWNER), 1), Error::<Test>::RequestNotFound);
	});
}

#[test]
fn boundary_disks_have_one_byte_to_the_maximum() {
	story(|| {
		for (bytes, is_fine) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
			let result = Compute::create_request(signed(OWNER), bytes);
			assert_eq!(result.is_ok(), is_fine, "{bytes} bytes");
		}
	});
}

fn rotate(who: u64, key: &str) -> sp_runtime::DispatchResult {
	let key = authority(key);
	let proof = proof(&key, NODE, OPERATOR);
	Compute::rotate_keys(signed(who), NODE, key, Recipient([4; 32]), proof)
}

#[test]
fn an_operator_gives_its_node_other_keys() {
	story(|| {
		assert_ok!(register());
		assert_ok!(rotate(OPERATOR, "new"));
		let node = Compute::node(&NODE).unwrap();
		assert_eq!(
			(node.authority.clone(), node.recipient),
			(authority("new"), Recipient([4; 32]))
		);
		assert_eq!(Compute::node_of(&authority("new")), Some(NODE));
		assert_eq!(Compute::node_of(&authority("node")), None);
		System::assert_last_event(Event::NodeKeysRotated { node_id: NODE }.into());
	});
}

#[test]
fn fails_to_rotate_to_a_key_in_use_without_proof_or_as_another() {
	story(|| {
		assert_ok!(register());
		assert_noop!(rotate(OPERATOR, "node"), Error::<Test>::AuthorityTaken);
		assert_noop!(rotate(OWNER, "new"), Error::<Test>::NotAuthorized);
		let key = authority("new");
		let others = proof(&key, 11, OPERATOR);
		assert_noop!(
			Compute::rotate_keys(signed(OPERATOR), NODE, key, Recipient([4; 32]), others),
			Error::<Test>::BadProof
		);
	});
}

#[test]
fn a_node_that_was_taken_off_leaves_its_id_for_ever() {
	story(|| {
		assert_ok!(register());
		assert_noop!(Compute::deregister_node(signed(OWNER), NODE), Error::<Test>::NotAuthorized);
		assert_ok!(Compute::deregister_node(signed(OPERATOR), NODE));
		assert_eq!(Compute::node(&NODE), None);
		assert_eq!(Compute::node_of(&authority("node")), None);
		assert_noop!(register(), Error::<Test>::NodeIdTaken);
		assert_noop!(
			Compute::deregister_node(RuntimeOrigin::root(), NODE),
			Error::<Test>::NodeNotFound
		);
	});
}

#[test]
fn governance_takes_a_node_off() {
	story(|| {
		assert_ok!(register());
		assert_ok!(Compute::deregister_node(RuntimeOrigin::root(), NODE));
		System::assert_last_event(Event::NodeDeregistered { node_id: NODE }.into());
	});
}

#[test]
fn an_owner_takes_its_machine_from_a_node_and_another_runs_it() {
	story(|| {
		assert_ok!(register());
		let request = fulfilled("web");
		assert_noop!(
			Compute::release_request(signed(OPERATOR), request),
			Error::<Test>::NotAuthorized
		);
		assert_ok!(Compute::release_request(signed(OWNER), request));
		assert_eq!(Requests::<Test>::get(request).unwrap().state, RequestState::Open);
		assert_noop!(Compute::release_request(signed(OWNER), request), Error::<Test>::WrongState);
		let tag = Compute::vm_tag(request);
		assert_ok!(Compute::assign_request(signed(OPERATOR), request, NODE));
		// The name is free again.
		assert_ok!(Compute::fulfil_request(signed(OPERATOR), request, vm("web")));
		assert_eq!(Compute::vm_tag(request), tag, "it is the same machine");
	});
}

/// All that pages give, and how many there were.
fn pages<Item, Cursor>(
	read: impl Fn(Option<Cursor>) -> (Vec<Item>, Option<Cursor>),
) -> (Vec<Item>, usize) {
	let (mut items, mut after, mut reads) = (Vec::new(), None, 0);
	loop {
		let (page, next) = read(after);
		items.extend(page);
		reads += 1;
		match next {
			None => return (items, reads),
			Some(_) => after = next,
		}
	}
}

#[test]
fn an_owners_requests_are_found_among_those_of_many_and_no_read_looks_at_all() {
	story(|| {
		let requests_of = |owner| {
			let (requests, reads) = pages(|after| Compute::requests_of(owner, after));
			assert!(requests.iter().all(|(_, request)| request.owner == owner));
			let mut ids: Vec<_> = requests.into_iter().map(|(id, _)| id).collect();
			ids.sort_unstable();
			(ids, reads)
		};
		assert_eq!(requests_of(OWNER), (vec![], 1));
		for number in 0..9_000 {
			let owner = if number % 3_000 == 7 { OWNER } else { 77 };
			assert_ok!(Compute::create_request(signed(owner), 1));
		}
		assert_eq!(requests_of(OWNER), (vec![7, 3_007, 6_007], 3));
		let (others, reads) = requests_of(77);
		assert_eq!((others.len(), reads), (8_997, 3));
		assert!(others.windows(2).all(|pair| pair[0] < pair[1]), "none is there twice");
		assert_eq!(requests_of(78), (vec![], 3));
	});
}

#[test]
fn nodes_are_listed_page_by_page() {
	story(|| {
		assert_ok!(register());
		let model = Nodes::<Test>::get(NODE).unwrap();
		for id in 1_000..1_600 {
			Nodes::<Test>::insert(id, model.clone());
		}
		let (nodes, reads) = pages(Compute::nodes);
		let mut ids: Vec<_> = nodes.into_iter().map(|(id, _)| id).collect();
		ids.sort_unstable();
		let expected: Vec<_> = std::iter::once(NODE).chain(1_000..1_600).collect();
		assert_eq!((ids, reads), (expected, 3));
	});
}
