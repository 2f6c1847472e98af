//! What an agent makes, and where it cannot start.

use crate::world::World;
use backup_agent::{
	format::digest,
	repositories::{EmbeddedStore, Repository, StoreOptions},
};
use backup_primitives::Cid;
use std::{
	fs,
	os::unix::{fs::PermissionsExt, net::UnixListener},
};

#[test]
fn init_makes_private_files_and_says_what_to_do_next() {
	let world = World::prepare();
	let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
	assert_eq!([mode("state"), mode("state/vms"), mode("state/restored")], [0o700; 3]);
	assert_eq!([mode("state/secret"), mode("state/identity")], [0o600; 2]);
	let text = |verb| String::from_utf8(world.run(verb).stdout).unwrap();
	let recipient = text("recipient");
	assert!(recipient.starts_with("age1"));
	let words = text("init");
	assert!(words.contains(recipient.trim()) && words.contains("--backup-agent-secret-file"));
	let secret = fs::read_to_string(world.path("state/secret")).unwrap();
	assert!(!words.contains(secret.trim()));
}

#[test]
fn the_pin_of_a_trial_that_was_killed_goes_at_the_next_start() {
	let mut world = World::prepare();
	let open = || EmbeddedStore::open(&world.path("state/blocks"), StoreOptions::V1).unwrap();
	let store = open();
	let session = store.open_session().unwrap();
	for label in ["doctor", "an operator's own"] {
		let root = Cid::raw(digest(label.as_bytes()));
		session.put(&root, label.as_bytes()).unwrap();
		session.flush().unwrap();
		session.pin(&root, label.as_bytes()).unwrap();
	}
	drop((session, store));
	world.start_agent();
	assert!(world.terminate().success());
	let open = || EmbeddedStore::open(&world.path("state/blocks"), StoreOptions::V1).unwrap();
	let left: Vec<_> = open().pins().unwrap().into_iter().map(|pin| pin.label).collect();
	assert_eq!(left, [b"an operator's own"]);
}

#[test]
fn a_block_store_that_cannot_be_reached_is_named() {
	let world = World::prepare();
	fs::remove_dir_all(world.path("state/blocks")).unwrap();
	fs::write(world.path("state/blocks"), "").unwrap();
	let words = world.refused_start();
	assert!(words.contains("failed to open the block store"), "{words}");
	assert!(words.contains("state/blocks"), "{words}");
}

#[test]
fn a_node_rpc_that_is_no_websocket_is_named() {
	let world = World::prepare();
	world.configure("node_rpc = \"http://127.0.0.1:9944\"\n");
	let words = world.refused_start();
	assert!(words.contains("ws://127.0.0.1:9944"), "{words}");
}

/// Each of them takes a quarter of a minute until it is given up.
#[test]
fn machines_that_do_not_answer_are_given_up_side_by_side() {
	let mut world = World::prepare();
	let sockets: Vec<_> = (0..10)
		.map(|number| {
			let socket = world.path(&format!("{number}.qmp"));
			let file = format!(
				"uuid = \"c0ffee00-0000-8000-8000-00000000000{number}\"\nqmp = {socket:?}\n\
				[[disk]]\nname = \"vda\"\nimage = \"/nowhere/{number}\"\nformat = \"raw\"\n"
			);
			fs::write(world.path(&format!("state/vms/vm-{number}.toml")), file).unwrap();
			UnixListener::bind(socket).unwrap()
		})
		.collect();
	// Fails if it waits for one after the other.
	world.start_agent();
	assert!(world.log().matches("another client may be connected").count() >= sockets.len());
}
