//! `backup export` and `backup import` with real stores and files.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod world;

use age::x25519::Identity;
use backup_agent::repositories::{EmbeddedStore, Repository, StoreOptions};
use backup_primitives::Cid;
use serde_json::Value;
use std::{fs, ops::Deref, process::Command};
use world::World;

/// A world whose store holds one snapshot.
struct Kept {
	world: World,
	root: Cid,
	image: Vec<u8>,
}

impl Deref for Kept {
	type Target = World;

	fn deref(&self) -> &World {
		&self.world
	}
}

impl Kept {
	fn new() -> Self {
		let world = World::new();
		// Some megabytes, of which some are zero and some are alike.
		let image: Vec<u8> = (0..5_000_000u32)
			.map(|at| match at >> 20 {
				1 => 0,
				2 => 7,
				_ => (at.wrapping_mul(2_654_435_761) >> 13) as u8,
			})
			.collect();
		let root = world.snapshot(&[("vda", &image)]);
		Self { world, root, image }
	}

	fn export(&self) -> Value {
		self.answer(&format!("export --root {} --store blocks --output snapshot.car", self.root))
	}

	fn assert_restores_from(&self, place: &str) {
		let restore =
			format!("restore --root {} --identity owner.key {place} --output image", self.root);
		self.answer(&restore);
		assert!(fs::read(self.path("image")).unwrap() == self.image, "other bytes came back");
		fs::remove_file(self.path("image")).unwrap();
	}
}

#[test]
fn a_snapshot_is_restored_from_the_file_it_was_exported_to() {
	let world = Kept::new();
	let answer = world.export();
	assert_eq!(answer["root"], world.root.to_string());
	assert_eq!(answer["file_bytes"], fs::metadata(world.path("snapshot.car")).unwrap().len());
	world.assert_restores_from("--car snapshot.car");
}

#[test]
#[ignore = "needs the Python of the second reader: `make reader` runs it"]
fn the_second_reader_restores_what_the_agent_wrote() {
	let world = Kept::new();
	world.export();
	let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/reader/backup_reader.py");
	let python = std::env::var_os("READER_PYTHON").expect("READER_PYTHON names a Python");
	let root = world.root.to_string();
	let output = Command::new(python)
		.args([reader, "restore", "snapshot.car", "--root", &root, "--identity", "owner.key"])
		.args(["--output", "image"])
		.current_dir(world.folder.path())
		.output()
		.unwrap();
	assert!(output.status.success(), "{output:?}");
	assert!(fs::read(world.path("image")).unwrap() == world.image, "other bytes came back");
}

#[test]
fn a_snapshot_is_restored_from_the_store_it_was_imported_into() {
	let world = Kept::new();
	let exported = world.export();
	let answer = world.answer("import snapshot.car --store other");
	assert_eq!(answer["roots"], serde_json::json!([world.root.to_string()]));
	assert_eq!(answer["new_blocks"], exported["blocks"]);
	world.assert_restores_from("--store other");
	// What is there is not stored again.
	assert_eq!(world.answer("import snapshot.car --store other")["new_blocks"], 0);
	// A collection takes nothing of what was imported.
	let store = EmbeddedStore::open(&world.path("other"), StoreOptions::V1).unwrap();
	store.confirm_pins().unwrap();
	store.collect().unwrap();
	drop(store);
	world.assert_restores_from("--store other");
}

#[test]
fn an_import_leaves_pins_as_they_are() {
	let world = Kept::new();
	world.export();
	let pins = || {
		let store = EmbeddedStore::open(&world.path("blocks"), StoreOptions::V1).unwrap();
		store.pins().unwrap()
	};
	let before = pins();
	world.answer("import snapshot.car --store blocks");
	assert_eq!(pins(), before);
}

#[test]
fn an_export_from_a_file_gives_the_same_file() {
	let world = Kept::new();
	world.export();
	world.answer(&format!("export --root {} --car snapshot.car --output again.car", world.root));
	let read = |name| fs::read(world.path(name)).unwrap();
	assert!(read("snapshot.car") == read("again.car"));
}

#[test]
fn a_later_envelope_opens_its_snapshot_to_others() {
	let world = Kept::new();
	let friend = Identity::generate();
	let secret = age::secrecy::ExposeSecret::expose_secret(&friend.to_string()).to_owned();
	fs::write(world.path("friend.key"), secret).unwrap();
	let root = world.root;
	let restore =
		format!("restore --root {root} --identity friend.key --store blocks --output image");
	let (code, words) = world.failure(&restore);
	assert_eq!(code, 6, "{words}");
	let to = friend.to_public();
	world.answer(&format!(
		"envelope --root {root} --identity owner.key --store blocks --to {to} --output envelope"
	));
	world.answer(&format!("{restore} --envelope envelope"));
	assert!(fs::read(world.path("image")).unwrap() == world.image);
	// It is for the friend only, and for nothing but an age file.
	let as_owner = format!("{restore}2 --envelope envelope").replace("friend.key", "owner.key");
	assert_eq!(world.failure(&as_owner).0, 6);
	let (code, words) = world.failure(&format!("{restore}2 --envelope owner.key"));
	assert_eq!(code, 6, "{words}");
}

#[test]
fn an_export_leaves_nothing_where_it_fails() {
	let world = Kept::new();
	let unknown = Cid::dag_cbor([9; 32]);
	let export = format!("export --root {unknown} --store blocks --output other.car");
	let (code, words) = world.failure(&export);
	assert_eq!(code, 7, "{words}");
	assert!(words.contains(&unknown.to_string()) && words.contains("'backup snapshots'"));
	let names: Vec<_> = fs::read_dir(world.folder.path())
		.unwrap()
		.map(|entry| entry.unwrap().file_name().into_string().unwrap())
		.filter(|name| name.contains("other"))
		.collect();
	assert_eq!(names, Vec::<String>::new());
}

#[test]
fn an_incomplete_or_damaged_file_is_not_imported() {
	let world = Kept::new();
	world.export();
	let bytes = fs::read(world.path("snapshot.car")).unwrap();
	let import = |bytes: &[u8], words: &str| {
		fs::write(world.path("bad.car"), bytes).unwrap();
		let (code, found) = world.failure("import bad.car --store other");
		assert_eq!(code, 7, "{found}");
		assert!(found.contains(words), "{found}");
	};
	import(&bytes[..bytes.len() / 2], "part of it is missing");
	let mut damaged = bytes.clone();
	*damaged.last_mut().unwrap() ^= 1;
	import(&damaged, "is damaged");
	import(b"PK\x03\x04 some archive", "no CAR file");
	let store = EmbeddedStore::open(&world.path("other"), StoreOptions::V1).unwrap();
	assert_eq!(store.pins().unwrap(), []);
}
