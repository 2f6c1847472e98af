//! Runs the vectors of the format: blocks that every later version must read, or refuse, in the
//! same way.

use crate::format::{
	ChildRef, Cid, Geometry, Node, NodeBlock, Object, PlaintextId, ReadKey, RepositoryKey, Root,
	RootBlock, Sealer, digest,
	seal::{Compression, open_chunk},
};
use backup_primitives::{Consistency, cid::BlockCodec};
use std::{
	collections::{BTreeMap, BTreeSet},
	fs,
	path::Path,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/vectors/format-v1");

struct Vector(BTreeMap<String, Vec<String>>);

impl Vector {
	fn read(path: &Path) -> Self {
		let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
		for line in fs::read_to_string(path).unwrap().lines() {
			let (name, value) = line.split_once(": ").unwrap();
			fields.entry(name.to_owned()).or_default().push(value.to_owned());
		}
		Self(fields)
	}

	fn get(&self, name: &str) -> Option<&str> {
		self.0.get(name).map(|values| values[0].as_str())
	}

	fn text(&self, name: &str) -> &str {
		self.get(name).unwrap_or_else(|| panic!("no {name}"))
	}

	fn bytes(&self, name: &str) -> Vec<u8> {
		hex::decode(self.text(name)).unwrap()
	}

	fn key(&self, name: &str) -> [u8; 32] {
		self.bytes(name).try_into().unwrap()
	}

	/// Seals uncompressed: the bytes that zstd gives may change with its version.
	fn sealer(&self) -> Option<Sealer> {
		self.get("k_siv")?;
		let key = RepositoryKey::from_parts(self.key("k_siv"), self.key("k_enc"));
		Some(Sealer::with_compression(&key, Compression::NONE))
	}

	fn read_key(&self) -> ReadKey {
		ReadKey::from_bytes(self.key("read_key"))
	}

	/// Checks the case; an error is the message that the block was refused with.
	fn run(&self) -> Result<(), String> {
		let block = self.bytes("block");
		if let Some(cid) = self.get("cid") {
			let cid: Cid = cid.parse().unwrap();
			assert_eq!(cid.digest(), digest(&block));
			assert_eq!(cid.codec() == BlockCodec::Raw, self.text("kind") == "chunk");
		}
		match self.text("kind") {
			"chunk" => self.chunk(block),
			"node" => self.node(&block),
			"root" => self.root(&block),
			kind => panic!("kind {kind} is unknown"),
		}
	}

	fn chunk(&self, block: Vec<u8>) -> Result<(), String> {
		let mut plaintext = vec![0; self.text("len").parse().unwrap()];
		open_chunk(&self.read_key(), &mut block.clone(), &mut plaintext)
			.map_err(|error| error.to_string())?;
		assert_eq!(plaintext, self.bytes("plaintext"));
		if let Some(mut sealer) = self.sealer() {
			assert_eq!(sealer.chunk_id(&plaintext).0, *self.bytes("id"));
			assert_eq!(sealer.chunk(&plaintext), (&block[..], self.read_key()));
		}
		Ok(())
	}

	fn node(&self, block: &[u8]) -> Result<(), String> {
		let geometry = Geometry::new(4096, self.text("fan_out").parse().unwrap()).unwrap();
		let opened = NodeBlock::decode(block)
			.and_then(|node| node.open(&self.read_key(), geometry))
			.map_err(|error| error.to_string())?;
		let mut expected = Node::empty(geometry);
		for child in self.0.get("child").into_iter().flatten() {
			let (place, child) = parse_child(child);
			expected.children[place] = Some(child);
		}
		assert_eq!(opened, expected);
		if let Some(mut sealer) = self.sealer() {
			let (again, child) = opened.seal(&mut sealer);
			assert_eq!((&again[..], child.key), (block, self.read_key()));
			assert_eq!(child.id.0, *self.bytes("id"));
		}
		Ok(())
	}

	fn root(&self, block: &[u8]) -> Result<(), String> {
		let root = RootBlock::decode(block)
			.and_then(|root| match self.get("identity") {
				Some(identity) => root.open_with_identity(&identity.parse().unwrap()),
				None => root.open_with_read_key(&self.read_key()),
			})
			.map_err(|error| error.to_string())?;
		assert_eq!(describe(&root), self.text("root"));
		Ok(())
	}
}

/// An opened root on one line.
fn describe(root: &Root) -> String {
	let object = |kind: &str, Object { name, logical_bytes, tree }: &Object| match tree {
		None => format!(" {kind}={name},{logical_bytes}"),
		Some(ChildRef { cid, key, id }) => {
			let (key, id) = (hex::encode(key.as_bytes()), hex::encode(id.0));
			format!(" {kind}={name},{logical_bytes},{cid},{key},{id}")
		}
	};
	let mut line = format!(
		"genesis={} node={} request={} sequence={} taken_at_ms={} consistency={} chunk_bytes={} \
		 fan_out={}",
		hex::encode(root.genesis),
		root.node.to_hex(),
		root.request.to_hex(),
		root.sequence,
		root.taken_at_ms,
		match root.consistency {
			Consistency::Application => "application",
			Consistency::Crash => "crash",
			Consistency::Stopped => "stopped",
		},
		root.geometry.chunk_bytes(),
		root.geometry.fan_out(),
	);
	line.extend(root.disks.iter().map(|disk| object("disk", disk)));
	line.extend(root.blobs.iter().map(|blob| object("blob", blob)));
	line
}

/// Place, CID, key and id.
fn parse_child(text: &str) -> (usize, ChildRef) {
	let parts: Vec<&str> = text.split(' ').collect();
	let key = hex::decode(parts[2]).unwrap().try_into().unwrap();
	let id = hex::decode(parts[3]).unwrap().try_into().unwrap();
	let child = ChildRef {
		cid: parts[1].parse().unwrap(),
		key: ReadKey::from_bytes(key),
		id: PlaintextId(id),
	};
	(parts[0].parse().unwrap(), child)
}

#[test]
fn every_vector_has_the_verdict_that_stands_in_it() {
	let mut verdicts = BTreeSet::new();
	let (mut good, mut bad) = (0, 0);
	for entry in fs::read_dir(FOLDER).unwrap() {
		let path = entry.unwrap().path();
		if path.extension().is_none_or(|extension| extension != "txt") {
			continue;
		}
		let vector = Vector::read(&path);
		let verdict = vector.run().err().unwrap_or_else(|| "ok".to_owned());
		assert_eq!(verdict, vector.text("expect"), "{}", path.display());
		match verdict == "ok" {
			true => good += 1,
			false => bad += 1,
		}
		verdicts.insert((vector.text("kind").to_owned(), verdict));
	}
	assert!(good >= 6 && bad > good, "{good} good and {bad} bad vectors");
	assert!(verdicts.len() >= 20, "{verdicts:#?}");
}
