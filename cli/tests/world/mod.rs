//! A folder with a store and its owner's identity, and the command run in it.

#[path = "../../../e2e/src/shapes.rs"]
#[expect(unreachable_pub, reason = "the end-to-end tests compare answers, too")]
mod shapes;

use age::x25519::Identity;
use backup_agent::{
	format::{Compression, Geometry, RepositoryKey},
	pipeline::{Backup, Cancel, Disk, DiskReader},
	repositories::{EmbeddedStore, Repository, StoreOptions},
};
use backup_primitives::{Cid, Consistency, OpaqueId};
use serde_json::Value;
use std::{
	fs, io,
	num::NonZero,
	ops::Range,
	path::PathBuf,
	process::{Command, Output},
};
use tempfile::TempDir;

struct MemoryDisk(Vec<u8>);

impl DiskReader for MemoryDisk {
	fn logical_bytes(&self) -> u64 {
		self.0.len() as u64
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		let end = self.logical_bytes();
		Ok((from < end).then_some(from..end))
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let offset = offset as usize;
		buffer.copy_from_slice(&self.0[offset..offset + buffer.len()]);
		Ok(())
	}
}

/// Bytes of which no two chunks are alike.
#[allow(dead_code, reason = "not every test's disk is large")]
pub(crate) fn noise(bytes: u32) -> Vec<u8> {
	(0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A folder with the store `blocks` and the identity `owner.key`.
pub(crate) struct World {
	pub(crate) folder: TempDir,
	identity: Identity,
	key: RepositoryKey,
}

impl World {
	pub(crate) fn new() -> Self {
		let folder = tempfile::tempdir().unwrap();
		let identity = Identity::generate();
		let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
		fs::write(folder.path().join("owner.key"), secret).unwrap();
		Self { folder, identity, key: RepositoryKey::generate() }
	}

	/// Take a snapshot of disks, named and with their bytes.
	pub(crate) fn snapshot(&self, disks: &[(&str, &[u8])]) -> Cid {
		let store = EmbeddedStore::open(&self.path("blocks"), StoreOptions::V1).unwrap();
		let session = store.open_session().unwrap();
		let recipients = [self.identity.to_public().to_string().parse().unwrap()];
		let backup = Backup {
			genesis: [1; 32],
			node: OpaqueId::of(&2u32).unwrap(),
			request: OpaqueId::of(&3u64).unwrap(),
			sequence: 4,
			taken_at_ms: 5,
			consistency: Consistency::Stopped,
			base: None,
			geometry: Geometry::V1,
			compression: Compression::DEFAULT,
			samples: 0,
			key: &self.key,
			recipients: &recipients,
			session: &*session,
			repository: &store,
			threads: NonZero::new(2).unwrap(),
			on_progress: &|_| {},
			cancel: &Cancel::new(),
		};
		let disk = |(name, bytes): &(&str, &[u8])| Disk {
			name: (*name).into(),
			reader: Box::new(MemoryDisk(bytes.to_vec())),
			changed: None,
		};
		let root = backup.run(disks.iter().map(disk).collect(), vec![]).unwrap().root;
		session.pin(&root, b"").unwrap();
		root
	}

	pub(crate) fn path(&self, name: &str) -> PathBuf {
		self.folder.path().join(name)
	}

	pub(crate) fn backup(&self, arguments: &str) -> Output {
		Command::new(env!("CARGO_BIN_EXE_backup"))
			.args(arguments.split_whitespace())
			.current_dir(self.folder.path())
			.env_clear()
			.output()
			.unwrap()
	}

	/// The JSON of a call that succeeds, with the fields that the book tells of.
	pub(crate) fn answer(&self, arguments: &str) -> Value {
		let output = self.backup(&format!("{arguments} --json"));
		let errors = String::from_utf8_lossy(&output.stderr);
		assert_eq!(output.status.code(), Some(0), "{arguments}: {errors}");
		let answer = serde_json::from_slice(&output.stdout).unwrap();
		let call: Vec<_> = arguments.split_whitespace().collect();
		shapes::compare(&call, &answer).unwrap();
		answer
	}

	/// The exit code and the words of a call that fails.
	pub(crate) fn failure(&self, arguments: &str) -> (i32, String) {
		let output = self.backup(arguments);
		(output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
	}
}
