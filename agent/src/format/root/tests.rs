use super::*;
use crate::format::links;
use proptest::prelude::*;

fn repository_key() -> RepositoryKey {
	RepositoryKey::from_parts([1; 32], [2; 32])
}

fn recipient(identity: &Identity) -> Recipient {
	identity.to_public().to_string().parse().unwrap()
}

fn child(cid: Cid) -> ChildRef {
	ChildRef { cid, key: ReadKey::from_bytes([8; 32]), id: PlaintextId([9; 16]) }
}

fn root() -> Root {
	let object =
		|name: &str, logical_bytes, tree| Object { name: name.to_owned(), logical_bytes, tree };
	Root {
		genesis: [3; 32],
		node: OpaqueId::of(&4u32).unwrap(),
		request: OpaqueId::of(&5u64).unwrap(),
		sequence: 6,
		geometry: Geometry::V1,
		taken_at_ms: 1_790_000_000_000,
		consistency: Consistency::Crash,
		disks: vec![
			object("vda", 10 << 30, Some(child(Cid::dag_cbor([1; 32])))),
			object("vdb", 1 << 30, None),
		],
		blobs: vec![object("definition.xml", 3000, Some(child(Cid::raw([2; 32]))))],
	}
}

#[test]
fn a_root_opens_for_owner_and_node() {
	let (owner, node) = (Identity::generate(), Identity::generate());
	let recipients = [recipient(&owner), recipient(&node)];
	let sealed = root().seal(&repository_key(), &recipients).unwrap();
	let block = RootBlock::decode(&sealed.block).unwrap();
	assert_eq!(block.encode(), sealed.block);
	assert_eq!(block.open_with_identity(&owner), Ok(root()));
	assert_eq!(block.open_with_identity(&node), Ok(root()));
	assert_eq!(block.open_with_read_key(&sealed.read_key), Ok(root()));
}

#[test]
fn any_of_several_identities_opens_a_root_whatever_their_order() {
	let [older, newer] = [Identity::generate(), Identity::generate()];
	for sealed_to in [&older, &newer] {
		let sealed = root().seal(&repository_key(), &[recipient(sealed_to)]).unwrap();
		let block = RootBlock::decode(&sealed.block).unwrap();
		for identities in [[newer.clone(), older.clone()], [older.clone(), newer.clone()]] {
			assert_eq!(block.open_with_identities(&identities), Ok(root()));
		}
		let others = [Identity::generate(), Identity::generate()];
		for identities in [&others[..], &[]] {
			let refused = Err(RootError::Envelope(EnvelopeError::WrongIdentity));
			assert_eq!(block.open_with_identities(identities), refused);
		}
	}
}

#[test]
fn all_links_stand_in_clear() {
	let sealed = root().seal(&repository_key(), &[recipient(&Identity::generate())]).unwrap();
	assert_eq!(links(&sealed.block), Ok(vec![Cid::raw([2; 32]), Cid::dag_cbor([1; 32])]));
}

#[test]
fn strangers_get_a_clear_answer() {
	let sealed = root().seal(&repository_key(), &[recipient(&Identity::generate())]).unwrap();
	let block = RootBlock::decode(&sealed.block).unwrap();
	assert_eq!(
		block.open_with_identity(&Identity::generate()),
		Err(RootError::Envelope(EnvelopeError::WrongIdentity))
	);
	assert_eq!(
		block.open_with_read_key(&ReadKey::from_bytes([0; 32])),
		Err(RootError::Open(OpenError::WrongKey))
	);
}

#[test]
fn a_later_envelope_opens_the_same_root() {
	let successor = Identity::generate();
	let sealed = root().seal(&repository_key(), &[recipient(&Identity::generate())]).unwrap();
	let later = envelope::seal_read_key(&sealed.read_key, &[recipient(&successor)]).unwrap();
	let key = envelope::open_read_key(&later, &[successor]).unwrap();
	assert_eq!(RootBlock::decode(&sealed.block).unwrap().open_with_read_key(&key), Ok(root()));
}

#[test]
fn no_envelope_fits_another_root() {
	let owner = Identity::generate();
	let seal = || {
		let sealed = root().seal(&repository_key(), &[recipient(&owner)]).unwrap();
		RootBlock::decode(&sealed.block).unwrap()
	};
	let (mut first, second) = (seal(), seal());
	first.envelope = second.envelope;
	assert_eq!(first.open_with_identity(&owner), Err(RootError::Open(OpenError::WrongKey)));
}

#[test]
fn every_clear_field_is_authenticated() {
	let sealed = root().seal(&repository_key(), &[recipient(&Identity::generate())]).unwrap();
	let changes: [fn(&mut Clear); 9] = [
		|clear| clear.genesis[0] ^= 1,
		|clear| clear.node = OpaqueId::of(&5u32).unwrap(),
		|clear| clear.request = OpaqueId::of(&6u64).unwrap(),
		|clear| clear.sequence += 1,
		|clear| clear.geometry = Geometry::new(256 * 1024, 32).unwrap(),
		|clear| clear.salt[31] ^= 1,
		|clear| clear.disks[0].tree = Some(Cid::dag_cbor([7; 32])),
		|clear| clear.disks[1].logical_bytes += 1,
		|clear| clear.blobs[0].tree = None,
	];
	for (number, change) in changes.into_iter().enumerate() {
		let mut block = RootBlock::decode(&sealed.block).unwrap();
		change(&mut block.clear);
		let block = RootBlock::decode(&block.encode()).unwrap();
		let opened = block.open_with_read_key(&sealed.read_key);
		assert_eq!(opened, Err(RootError::Open(OpenError::WrongKey)), "change {number}");
	}
}

#[test]
fn other_blocks_are_told_apart() {
	let sealed = root().seal(&repository_key(), &[recipient(&Identity::generate())]).unwrap();
	assert_eq!(RootBlock::decode(b""), Err(RootError::NotARoot));
	assert_eq!(RootBlock::decode(&[0xa0]), Err(RootError::NotARoot));
	let (node, _) =
		crate::format::node::tests::sparse_node().seal(&mut Sealer::new(&repository_key()));
	assert_eq!(RootBlock::decode(&node), Err(RootError::NotARoot));
	let mut newer = sealed.block.clone();
	// {"v": 1 …: head of the map, head of the key, key, number.
	newer[3] = 2;
	assert_eq!(RootBlock::decode(&newer), Err(RootError::NewerVersion { found: 2 }));
	newer[3] = 0;
	assert!(matches!(RootBlock::decode(&newer), Err(RootError::Malformed(_))));
	let mut longer = sealed.block;
	longer.push(0);
	assert!(matches!(
		RootBlock::decode(&longer),
		Err(RootError::Malformed(CborError::Trailing { .. }))
	));
}

#[test]
fn names_must_be_plain_and_unique() {
	let with_name = |name: &str| {
		let mut root = root();
		root.disks[0].name = name.to_owned();
		root.seal(&repository_key(), &[recipient(&Identity::generate())]).map(drop)
	};
	assert_eq!(with_name("drive-virtio0"), Ok(()));
	for name in ["", ".", "..", "a/b", "a\0", "vdb", &"x".repeat(NAME_BYTES_MAX + 1)] {
		assert_eq!(with_name(name), Err(RootError::Name { name: name.to_owned() }));
	}
}

#[test]
fn boundary_the_largest_root_fits() {
	let mut root = root();
	let name = |index: usize| format!("{index:0>NAME_BYTES_MAX$}");
	root.disks = (0..OBJECTS_MAX)
		.map(|index| Object {
			name: name(index),
			logical_bytes: u64::MAX,
			tree: Some(child(Cid::dag_cbor([1; 32]))),
		})
		.collect();
	root.blobs = root.disks.clone();
	let recipients = [recipient(&Identity::generate()); envelope::RECIPIENTS_MAX];
	let sealed = root.seal(&repository_key(), &recipients).unwrap();
	let block = RootBlock::decode(&sealed.block).unwrap();
	assert_eq!(block.open_with_read_key(&sealed.read_key), Ok(root.clone()));
	root.disks.push(root.disks[0].clone());
	assert_eq!(
		root.seal(&repository_key(), &recipients).map(drop),
		Err(RootError::TooManyObjects { found: OBJECTS_MAX + 1 })
	);
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(512))]

	#[test]
	fn decoding_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
		let _ = RootBlock::decode(&bytes);
	}

	#[test]
	fn what_decodes_after_a_change_encodes_to_the_same_bytes(at: prop::sample::Index, byte: u8) {
		let envelope = |_: &ReadKey| Ok(vec![1; 100]);
		let sealed = root().seal_with(&repository_key(), [7; 32], envelope).unwrap();
		let mut block = sealed.block;
		let at = at.index(block.len());
		block[at] = byte;
		if let Ok(decoded) = RootBlock::decode(&block) {
			prop_assert_eq!(decoded.encode(), block);
			let _ = decoded.open_with_read_key(&sealed.read_key);
		}
	}

	#[test]
	fn opening_any_header_never_panics(header: Vec<u8>) {
		let clear = root().clear([7; 32]);
		let mut sealer = Sealer::new(&repository_key());
		let sealed = sealer.seal(Domain::Root, &clear.additional_data(), &header);
		let block = RootBlock { clear, sealed: sealed.bytes.to_vec(), envelope: Vec::new() };
		prop_assert!(block.open_with_read_key(&sealed.key).is_err());
	}
}
