//! What an agent makes, and when it refuses to start.

use crate::world::World;
use std::{fs, os::unix::fs::PermissionsExt, process::Output};

fn text(output: &Output) -> String {
	String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn init_makes_private_files_once_and_says_what_to_do_next() {
	let world = World::prepare();
	let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
	assert_eq!([mode("state"), mode("state/vms"), mode("state/restored")], [0o700; 3]);
	assert_eq!([mode("state/secret"), mode("state/identity")], [0o600; 2]);
	let secret = fs::read_to_string(world.path("state/secret")).unwrap();
	assert_eq!(secret.trim().len(), 64);

	let again = world.run("init");
	assert!(again.status.success());
	assert_eq!(fs::read_to_string(world.path("state/secret")).unwrap(), secret);
	let recipient = text(&world.run("recipient"));
	assert!(recipient.starts_with("age1"));
	assert!(text(&again).contains(recipient.trim()));
	assert!(text(&again).contains("--backup-agent-secret-file"));
	assert!(!text(&again).contains(secret.trim()));
}

#[test]
fn fails_to_start_with_words_that_help() {
	let world = World::prepare();
	let check = |expected: &str| {
		let words = world.refused_start();
		assert!(words.contains(expected), "{words}");
	};
	world.configure("jobs_maximum = 3\n");
	check("jobs_maximum");
	world.configure("node_rpc = \"http://127.0.0.1:9944\"\n");
	check("ws://127.0.0.1:9944");
	world.configure("");

	let secret = world.path("state/secret");
	fs::rename(&secret, world.path("away")).unwrap();
	check("`backup-agent init` creates it");
	fs::write(&secret, "too short\n").unwrap();
	fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
	check("64 hexadecimal digits are expected");
	fs::rename(world.path("away"), &secret).unwrap();
	fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
	check("secret");
	fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();

	fs::remove_dir_all(world.path("state/blocks")).unwrap();
	fs::write(world.path("state/blocks"), "").unwrap();
	check("failed to open the block store");
}

#[test]
fn a_second_agent_and_a_taken_port_are_refused() {
	let mut world = World::start();
	assert!(world.refused_start().contains("another agent"));
	world.kill();
	let _other = std::net::TcpListener::bind(("127.0.0.1", world.port())).unwrap();
	assert!(world.refused_start().contains("another program"));
}
