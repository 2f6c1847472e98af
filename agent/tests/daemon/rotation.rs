//! A node that gets a new identity: what was sealed before, and what is sealed afterwards.

use crate::{
	orders::restore_of,
	world::{World, noise, until},
};
use age::x25519::Identity;
use backup_agent::format::{RepositoryKey, RootBlock, envelope::seal_read_key};
use backup_primitives::{
	Cid, FailureReason, OpaqueId, Recipient,
	job::{RestoreOrder, SnapshotOrder},
};
use std::{fs, path::Path};

const MIB: usize = 1 << 20;

impl World {
	/// Put a new identity on top of the file, as its operator does.
	fn rotate(&self) {
		let before = self.recipient();
		let output = self.run("rotate-identity");
		assert!(output.status.success(), "{output:?}");
		let words = String::from_utf8(output.stdout).unwrap();
		assert_ne!(self.recipient(), before);
		assert!(words.contains(&self.recipient().to_string()), "{words}");
		assert!(words.contains("Restart the agent") && words.contains("rotate_keys"), "{words}");
		assert!(!words.contains("SECRET"), "{words}");
	}

	fn restart(&mut self) {
		assert_eq!(self.terminate().code(), Some(0));
		self.start_agent();
	}

	fn rotate_and_restart(&mut self) {
		self.rotate();
		self.restart();
	}

	/// Take all identities out of the file but the newest.
	fn forget_the_older(&mut self) {
		let path = self.path("state/identity");
		let text = fs::read_to_string(&path).unwrap();
		let newest: Vec<_> = text.lines().take(2).collect();
		fs::write(path, newest.join("\n")).unwrap();
		self.restart();
	}

	fn restored_bytes(&self, order: &SnapshotOrder, cid: Cid, id: u64) -> Vec<u8> {
		let folder = self.restore(&restore_of(order, cid, id)).unwrap();
		fs::read(folder.join("vda.raw")).unwrap()
	}

	fn restore_fails(&self, order: &SnapshotOrder, cid: Cid, id: u64) -> FailureReason {
		self.restore(&restore_of(order, cid, id)).unwrap_err()
	}

	/// The identities of the file, the newest first.
	fn identities(&self) -> Vec<Identity> {
		let text = fs::read_to_string(self.path("state/identity")).unwrap();
		let keys = text.lines().filter(|line| !line.starts_with('#'));
		keys.map(|key| key.parse().unwrap()).collect()
	}
}

/// The snapshot that follows on another, with another byte on the disk.
fn next(world: &World, order: &SnapshotOrder, parent: Cid, disk: &mut [u8]) -> SnapshotOrder {
	disk[0] ^= 1;
	fs::write(world.image(7), disk).unwrap();
	let (sequence, node_recipient) = (order.sequence + 1, world.recipient());
	SnapshotOrder { sequence, parent: Some(parent), node_recipient, ..order.clone() }
}

/// An agent had one identity. When its node rotated its key, nothing that was sealed before could
/// be restored there, and no owner's repository key opened.
#[test]
fn what_was_sealed_before_a_rotation_is_restored_after_it() {
	let mut world = World::start();
	let disk = noise(1, MIB);
	let order = world.machine(7, &disk);
	let taken = world.take(&order).unwrap();
	world.rotate_and_restart();
	assert!(world.restored_bytes(&order, taken.cid, 1) == disk, "the disks differ");
}

#[test]
fn the_repository_key_outlives_the_identity_that_it_was_sealed_to() {
	let mut world = World::start();
	let mut disk = noise(1, 4 * MIB);
	let first = world.machine(7, &disk);
	let one = world.take(&first).unwrap();
	world.rotate_and_restart();
	let second = next(&world, &first, one.cid, &mut disk);
	let two = world.take(&second).unwrap();
	assert!(two.new_bytes < MIB as u64, "the key is the one before: {two:?}");
	world.forget_the_older();
	let third = next(&world, &second, two.cid, &mut disk);
	let three = world.take(&third).unwrap();
	assert!(three.new_bytes < MIB as u64, "and needs the newest identity alone: {three:?}");
	assert!(world.restored_bytes(&third, three.cid, 3) == disk, "the disks differ");
}

#[test]
fn a_root_that_no_identity_opens_is_named_with_what_would_open_it() {
	let mut world = World::start();
	let disk = noise(1, MIB);
	let order = world.machine(7, &disk);
	let taken = world.take(&order).unwrap();
	let all = world.path("copy");
	world.rotate();
	fs::copy(world.path("state/identity"), &all).unwrap();
	world.forget_the_older();
	assert_eq!(world.restore_fails(&order, taken.cid, 1), FailureReason::KeyRejected);
	let words = format!("none of the 1 identities of this agent opens the root {}", taken.cid);
	assert!(world.log().contains(&words), "{}", world.log());
	assert!(world.log().contains("back into the identity file, below the newest"));
	fs::copy(all, world.path("state/identity")).unwrap();
	world.restart();
	assert!(world.restored_bytes(&order, taken.cid, 2) == disk, "the disks differ");
}

/// A snapshot that was sealed to a node which is gone: its owner seals the root's key to the one
/// that is to restore it.
#[test]
fn an_envelope_of_the_owner_opens_a_root_that_is_not_sealed_to_the_node() {
	let mut world = World::start();
	let disk = noise(1, MIB);
	let order = world.machine(7, &disk);
	let taken = world.take(&order).unwrap();
	let other = world.take(&next(&world, &order, taken.cid, &mut disk.clone())).unwrap();
	let before = world.identities();
	world.rotate();
	world.forget_the_older();
	assert_eq!(world.restore_fails(&order, taken.cid, 1), FailureReason::KeyRejected);
	let envelope_for = |cid: &Cid, recipient| {
		let root = RootBlock::decode(&world.block(cid).body).unwrap();
		let sealed = seal_read_key(&root.read_key(&before).unwrap(), &[recipient]).unwrap();
		Some(sealed.try_into().expect("one recipient's envelope fits an order"))
	};
	let restore = |id, envelope| {
		let asked = RestoreOrder { envelope, ..restore_of(&order, taken.cid, id) };
		world.restore(&asked).map(|folder| fs::read(folder.join("vda.raw")).unwrap())
	};
	let own = envelope_for(&taken.cid, world.recipient());
	assert!(restore(2, own) == Ok(disk), "the disks differ");
	let stranger = Identity::generate().to_public().to_string().parse().unwrap();
	for (id, useless) in [
		(3, envelope_for(&taken.cid, stranger)),
		(4, envelope_for(&other.cid, world.recipient())),
		(5, Some(b"no age file".to_vec().try_into().unwrap())),
	] {
		assert_eq!(restore(id, useless), Err(FailureReason::KeyRejected));
	}
	assert!(world.log().contains("the envelope for the root"), "{}", world.log());
}

/// The agent is restarted before the chain is told, so orders name the older key for a while.
#[test]
fn between_restart_and_chain_snapshots_are_taken_that_the_newest_opens_as_well() {
	let mut world = World::start();
	let mut disk = noise(1, MIB);
	let before = world.machine(7, &disk);
	let one = world.take(&before).unwrap();
	world.rotate_and_restart();
	let node_recipient = before.node_recipient;
	let order = SnapshotOrder { node_recipient, ..next(&world, &before, one.cid, &mut disk) };
	let two = world.take(&order).unwrap();
	let words = format!("the chain has {node_recipient} as this node's key, an older one");
	assert!(world.log().contains(&words), "{}", world.log());
	world.forget_the_older();
	assert!(world.restored_bytes(&order, two.cid, 2) == disk, "the disks differ");
	assert_eq!(world.restore_fails(&before, one.cid, 1), FailureReason::KeyRejected);
}

#[test]
fn an_order_to_seal_to_a_key_that_the_agent_does_not_have_is_refused() {
	let world = World::start();
	let good = world.machine(7, &noise(1, MIB));
	let other: Recipient = Identity::generate().to_public().to_string().parse().unwrap();
	let order = SnapshotOrder { node_recipient: other, ..good.clone() };
	assert_eq!(world.take(&order), Err(FailureReason::KeyRejected));
	let log = world.log();
	assert!(log.contains(&format!("the chain has {other}")), "{log}");
	assert!(log.contains(&format!("register the newest, {}", good.node_recipient)), "{log}");
	assert_eq!(world.roots(), [""; 0]);
	world.take(&SnapshotOrder { slot: 1, ..good }).unwrap();
}

/// Keys are sealed anew at the start. Wherever that is cut, each key opens with what the identity
/// file holds, and a later start brings it to its end.
#[test]
fn keys_that_are_being_sealed_anew_survive_kills() {
	const CUTS: usize = 4;
	let mut world = World::prepare();
	let folder = world.path("state/keys");
	for owner in 0..400u32 {
		let sealed = RepositoryKey::generate().seal_to(&[world.recipient()]).unwrap();
		let owner = OpaqueId::of(&owner).unwrap().to_hex();
		fs::write(folder.join(format!("{owner}.node.age")), sealed).unwrap();
	}
	let first = sealed_keys(&folder);
	let secrets = opened(&first, &world.identities());
	assert!(secrets.iter().all(Option::is_some));
	world.rotate();
	let mut before = first.clone();
	for cut in 1..=CUTS {
		world.spawn_agent();
		until("a key to be sealed anew", || (sealed_keys(&folder) != before).then_some(()));
		world.kill();
		before = sealed_keys(&folder);
		assert!(opened(&before, &world.identities()) == secrets, "cut {cut} lost a key");
	}
	let newest = &world.identities()[..1];
	assert!(opened(&before, newest).contains(&None), "the last cut was none: all was done");
	world.start_agent();
	assert!(opened(&sealed_keys(&folder), newest) == secrets, "the newest does not open all");
	let left = fs::read_dir(&folder).unwrap().count();
	assert_eq!(left, secrets.len(), "what kills left is removed");
}

/// The sealed keys of a folder, in the order of their names.
fn sealed_keys(folder: &Path) -> Vec<Vec<u8>> {
	let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
	let mut keys: Vec<_> =
		paths.filter(|path| path.extension().is_some_and(|end| end == "age")).collect();
	keys.sort();
	keys.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What is in each, for those that one of the identities opens.
fn opened(keys: &[Vec<u8>], identities: &[Identity]) -> Vec<Option<Vec<u8>>> {
	let open = |sealed: &Vec<u8>| identities.iter().find_map(|one| age::decrypt(one, sealed).ok());
	keys.iter().map(open).collect()
}
