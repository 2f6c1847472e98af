//! What `backup-agent doctor` finds, each fault made for real.

use crate::{
	fake_node::{BACKUP_API, COMPUTE_API},
	gate::Gate,
	machine::Machine,
	orders::nothing,
	small_disk::SmallDisk,
	world::{World, noise, now_ms, until},
};
use backup_agent::{
	repositories::{EmbeddedStore, StoreOptions},
	sources::{ImageFormat, Vm},
};
use backup_primitives::FailureReason;
use serde_json::{Value as Json, json};
use std::{
	fs,
	io::{BufRead, BufReader},
	net::TcpListener,
	os::unix::{fs::PermissionsExt, net::UnixListener},
	path::Path,
	process::Command,
	time::{Duration, Instant, SystemTime},
};

/// What was found, and whether the exit code fits.
pub(crate) struct Found(Json);

impl Found {
	pub(crate) fn on(world: &World) -> Self {
		Self::with(world, &[])
	}

	fn with(world: &World, flags: &[&str]) -> Self {
		let output = world.run_with("doctor", &[&["--json"], flags].concat());
		let report: Json = serde_json::from_slice(&output.stdout)
			.unwrap_or_else(|_| panic!("no report: {output:?}"));
		assert_eq!(report["version"], 1);
		let expected = if report["verdict"] == "failed" { 1 } else { 0 };
		assert_eq!(output.status.code(), Some(expected), "{report:#}");
		for check in report["checks"].as_array().unwrap() {
			assert_eq!(check["verdict"] == "ok", check["mend"].is_null(), "{check:#}");
		}
		Self(report)
	}

	/// A check of the host's, or of a machine as `vm-7: qmp`.
	pub(crate) fn check(&self, label: &str) -> &Json {
		let (machine, check) = match label.split_once(": ") {
			Some((machine, check)) => (Json::from(machine), check),
			None => (Json::Null, label),
		};
		let is_meant = |found: &&Json| found["machine"] == machine && found["check"] == check;
		let mut found = self.0["checks"].as_array().unwrap().iter().filter(is_meant);
		found.next().unwrap_or_else(|| panic!("no {label} in {:#}", self.0))
	}

	fn verdict(&self, label: &str) -> &str {
		self.check(label)["verdict"].as_str().unwrap()
	}

	/// Check that something failed with these words, and is mended with those.
	fn assert_failed(&self, label: &str, found: &str, mend: &str) {
		let check = self.check(label);
		let text = |key: &str| check[key].as_str().unwrap();
		assert_eq!(text("verdict"), "failed", "{check:#}");
		assert!(text("found").contains(found), "{found:?} in {check:#}");
		assert!(text("mend").contains(mend), "{mend:?} in {check:#}");
	}

	/// Labels of all that failed.
	fn failed(&self) -> Vec<String> {
		let checks = self.0["checks"].as_array().unwrap().iter();
		let failed = checks.filter(|check| check["verdict"] == "failed");
		failed.map(|check| check["check"].as_str().unwrap().to_owned()).collect()
	}
}

/// Put a machine's description into the inventory.
fn describe(world: &World, name: &str, vm: &Vm) {
	fs::write(world.path(&format!("state/vms/{name}.toml")), vm.describe()).unwrap();
}

#[test]
fn a_node_with_all_that_it_needs_is_well_while_the_agent_runs() {
	let world = World::start();
	world.node.state().time_ms = Some(now_ms());
	world.machine(7, &noise(1, 1 << 20));
	world.reconcile(&nothing());
	let found = Found::on(&world);
	assert_eq!(found.0["verdict"], "ok", "{:#}", found.0);
	for check in ["config", "agent", "tools", "secret", "identity", "store", "pins", "chain"] {
		assert_eq!(found.verdict(check), "ok", "{check}");
	}
	for check in ["worker", "clock", "scratch", "room", "vm-7: qmp", "vm-7: disks"] {
		assert_eq!(found.verdict(check), "ok", "{check}");
	}
	assert!(found.check("store")["found"].as_str().unwrap().contains("by the agent"));
	assert!(world.roots().is_empty());
	let text = String::from_utf8(world.run("doctor").stdout).unwrap();
	assert!(text.lines().any(|line| line.starts_with("ok       vm-7: disks")), "{text}");
	assert!(text.ends_with(" 0 to look at, 0 failed\n"), "{text}");
}

#[test]
fn a_store_that_nobody_has_is_tried_and_nothing_is_left_in_it() {
	let world = World::prepare();
	let found = Found::on(&world);
	assert_eq!((found.verdict("store"), found.verdict("agent")), ("ok", "warning"));
	assert_eq!(found.verdict("inventory"), "warning");
	assert!(found.failed().is_empty(), "{:#}", found.0);
	use backup_agent::repositories::Repository;
	let store = EmbeddedStore::open(&world.path("state/blocks"), StoreOptions::V1).unwrap();
	assert!(store.pins().unwrap().is_empty());
	store.collect().unwrap();
	assert_eq!(store.usage().unwrap().blocks, 0);
	assert!(fs::read_dir(world.path("state/scratch")).unwrap().next().is_none());
	// What begins with a trial goes on: the agent opens the same store.
	drop(store);
	let mut world = world;
	world.start_agent();
	assert!(world.terminate().success());
}

#[test]
fn a_store_that_another_process_has_is_told() {
	let world = World::prepare();
	let _held = EmbeddedStore::open(&world.path("state/blocks"), StoreOptions::V1).unwrap();
	Found::on(&world).assert_failed("store", "in use by another process", "end that process");
}

#[test]
fn a_store_that_is_not_there_is_told_and_not_made() {
	let world = World::prepare();
	fs::remove_dir_all(world.path("state/blocks")).unwrap();
	Found::on(&world).assert_failed("store", "there is no block store", "--state-dir");
	assert!(!world.path("state/blocks").exists());
}

#[test]
fn a_replica_that_is_away_is_a_warning_and_a_failure_where_the_quorum_needs_it() {
	let world = World::prepare();
	let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
	let configure = |quorum: u32| {
		world.configure(&format!(
			"node_rpc = \"{}\"\nquorum = {quorum}\n[[kubo]]\nname = \"rack-2\"\nurl = \"http://{away}\"\n",
			world.node.url()
		));
	};
	configure(1);
	let found = Found::on(&world);
	assert_eq!(found.verdict("replica"), "warning");
	assert!(found.check("replica")["found"].as_str().unwrap().starts_with("rack-2 at http://"));
	configure(2);
	Found::on(&world).assert_failed("replica", "cannot be reached", "start that daemon");
}

#[test]
fn a_full_store_fails_its_trial_while_the_agent_has_it() {
	let mut world = World::prepare();
	// Less than what the store keeps in reserve.
	let Some(_disk) = SmallDisk::over(&world.path("state/blocks"), 32).unwrap() else { return };
	world.start_agent();
	let found = Found::on(&world);
	found.assert_failed("store", "the block store is full", "");
	found.assert_failed("room", "0 B left", "make room");
	world.kill();
}

#[test]
fn secrets_that_others_can_read_or_that_are_missing_fail() {
	let world = World::prepare();
	let mode = |name: &str, mode| {
		fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
	};
	mode("state/secret", 0o644);
	fs::remove_file(world.path("state/identity")).unwrap();
	mode("state", 0o755);
	let found = Found::on(&world);
	found.assert_failed("secret", "mode is 644", "chmod 600");
	found.assert_failed("identity", "no such file", "backup-agent init");
	assert_eq!(found.verdict("user"), "warning");
	assert!(!found.0.to_string().contains(&hex::encode(world.secret())));
}

#[test]
fn a_configuration_with_a_token_that_everybody_reads_is_a_warning() {
	let world = World::prepare();
	world.configure("webhook_url = \"https://hooks.example/s3cret\"\n");
	fs::set_permissions(world.path("agent.toml"), fs::Permissions::from_mode(0o644)).unwrap();
	let found = Found::on(&world);
	assert_eq!(found.verdict("config"), "warning");
	assert!(!found.0.to_string().contains("s3cret"));
	world.configure("jobs_max = 0\n");
	Found::on(&world).assert_failed("config", "jobs_max = 0", "correct");
}

#[test]
fn a_scratch_folder_that_is_full_read_only_or_too_small_fails() {
	let world = World::prepare();
	let scratch = world.path("state/scratch");
	{
		let Some(_disk) = SmallDisk::over(&scratch, 16).unwrap() else { return };
		Found::on(&world).assert_failed("scratch", "16.00 MiB free", "make room");
		fs::write(scratch.join("filler"), vec![1; 17 << 20]).unwrap_err();
		Found::on(&world).assert_failed("scratch", "No space left", "make room");
	}
	let Some(_disk) = SmallDisk::over(&scratch, 512).unwrap() else { return };
	let options = ["-o", "remount,ro"];
	assert!(Command::new("mount").args(options).arg(&scratch).status().unwrap().success());
	Found::on(&world).assert_failed("scratch", "Read-only file system", "mount its file system");
}

#[test]
fn a_clock_that_is_wrong_is_told_from_a_chain_that_stands_still() {
	let world = World::prepare();
	world.node.state().time_ms = Some(now_ms() + 600_000);
	Found::on(&world).assert_failed("clock", "behind the chain", "set the host's clock");
	world.node.state().time_ms = Some(now_ms() - 600_000);
	assert_eq!(Found::on(&world).verdict("clock"), "warning");
	// What was written in the future tells of a clock that went back, also without a chain.
	let secret = fs::File::options().append(true).open(world.path("state/secret")).unwrap();
	secret.set_modified(SystemTime::now() + Duration::from_secs(7200)).unwrap();
	Found::on(&world).assert_failed("clock", "state/secret was written in 7", "touch that file");
}

#[test]
fn a_node_that_is_away_of_another_chain_or_without_the_pallet_is_told() {
	let mut world = World::start();
	world.reconcile(&nothing());
	assert_eq!(Found::on(&world).verdict("chain"), "ok");
	// The agent remembers its chain, also when it does not run.
	for is_running in [true, false] {
		world.node.state().genesis = [1; 32];
		if !is_running {
			world.terminate();
		}
		Found::on(&world).assert_failed("chain", "this agent serves", "each chain an agent");
	}
	world.node.state().genesis = crate::orders::GENESIS;
	world.node.state().apis = Vec::new();
	Found::on(&world).assert_failed("chain", "no backup pallet", "node_rpc");
	world.node.stop();
	Found::on(&world).assert_failed("chain", "ask the node at ws://", "start the node");
}

#[test]
fn whether_the_node_is_registered_and_has_its_key_is_asked_of_it() {
	const KEY: [u8; 32] = [7; 32];
	let mut world = World::prepare();
	let ours = world.recipient();
	world.node.state().apis = vec![BACKUP_API, COMPUTE_API];
	let other = backup_primitives::Recipient([3; 32]);
	world.node.state().registered = vec![(1, [6; 32], other), (4, [8; 32], other)];
	let found = Found::on(&world);
	found.assert_failed("authority", "no node with the recipient age1", "backup node register");

	world.node.state().registered.insert(1, (2, KEY, ours));
	let found = Found::on(&world);
	found.assert_failed("authority", "is not in the node's keystore", "key insert --key-type bkup");
	assert!(
		found.check("authority")["found"].as_str().unwrap().starts_with("node 2 is registered")
	);

	world.node.state().keystore = Some(vec![[5; 32], KEY]);
	let found = Found::on(&world);
	assert_eq!(found.verdict("authority"), "ok");
	assert!(found.check("authority")["found"].as_str().unwrap().contains(&hex::encode(KEY)));

	// It tells nobody: then only a worker does.
	world.node.state().keystore = None;
	assert_eq!(Found::on(&world).verdict("authority"), "warning");
	world.start_agent();
	world.reconcile(&nothing());
	assert_eq!(Found::on(&world).verdict("authority"), "ok");
	// A node without the key cannot be the one whose worker speaks.
	world.node.state().keystore = Some(Vec::new());
	let found = Found::on(&world);
	assert_eq!(found.verdict("authority"), "warning");
	assert!(found.check("authority")["mend"].as_str().unwrap().contains("node_rpc"));
}

#[test]
fn nodes_that_a_chain_does_not_list_are_left_to_the_worker() {
	let world = World::prepare();
	let found = Found::on(&world);
	assert_eq!(found.verdict("authority"), "ok");
	assert!(found.check("authority")["found"].as_str().unwrap().contains("not asked"));
	world.node.state().apis = vec![BACKUP_API, COMPUTE_API];
	// Ids of nodes are words on this one: its list is not what is known here.
	world.node.state().is_listed_otherwise = true;
	assert_eq!(Found::on(&world).verdict("authority"), "ok");
}

#[test]
fn a_program_at_the_agent_s_address_that_is_none_is_told() {
	let world = World::prepare();
	let other = TcpListener::bind(("127.0.0.1", world.port())).unwrap();
	let deaf = std::thread::spawn(move || {
		// Hangs up on whoever asks.
		for _ in 0..2 {
			drop(other.accept());
		}
	});
	Found::on(&world).assert_failed("agent", "ask the agent", "which program has the port");
	drop(deaf);
}

#[test]
fn a_tool_that_is_missing_is_told_with_its_package() {
	let world = World::prepare();
	let empty = world.path("empty");
	fs::create_dir(&empty).unwrap();
	let mut command = Command::new(env!("CARGO_BIN_EXE_backup-agent"));
	command.args(["doctor", "--json", "--config"]).arg(world.path("agent.toml"));
	let output = command.env("PATH", &empty).output().unwrap();
	let found = Found(serde_json::from_slice(&output.stdout).unwrap());
	found.assert_failed("tools", "qemu-img cannot be run", "qemu-utils");
	assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_machine_that_runs_is_tried_through_its_qemu_and_left_as_it_was() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	describe(&world, "web", &machine.vm());
	let found = Found::on(&world);
	for check in ["web: qmp", "web: disks", "web: scratch", "web: nbd", "web: guest-agent"] {
		assert_eq!(found.verdict(check), "ok", "{:#}", found.0);
	}
	assert!(found.check("web: qmp")["found"].as_str().unwrap().starts_with("QEMU "));
	assert!(machine.is_running() && machine.leftovers().is_empty());
	assert!(fs::read_dir(world.path("state/scratch")).unwrap().next().is_none());
	// A backup finds everything as if nobody had been there.
	let order = world.running_machine(7, &machine.vm());
	world.take(&order).unwrap();
}

#[test]
fn what_is_wrong_with_a_machine_that_runs_is_told_point_by_point() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let vm = machine.vm();
	describe(&world, "other-uuid", &Vm { uuid: backup_primitives::VmTag([9; 16]), ..vm.clone() });
	let mut disk = vm.disks[0].clone();
	disk.image = "/nowhere/disk.raw".into();
	describe(&world, "other-disk", &Vm { disks: vec![disk], ..vm.clone() });
	let agent = Some(world.path("agent.sock"));
	describe(&world, "no-agent", &Vm { guest_agent: agent, ..vm.clone() });
	// It runs, and its file does not say how it is reached.
	describe(&world, "no-socket", &Vm { qmp: None, ..vm.clone() });
	fs::write(world.path("state/vms/broken.toml"), "uuid = 1\n").unwrap();
	let found = Found::on(&world);
	assert_eq!(found.verdict("other-uuid: qmp"), "warning");
	found.assert_failed("other-disk: disks", "no drive on /nowhere/disk.raw", "correct the disk");
	assert_eq!(found.verdict("no-agent: guest-agent"), "warning");
	found.assert_failed("no-socket: disks", "another program uses it", "");
	found.assert_failed("broken: file", "broken.toml", "correct that file");

	// Somebody else uses QEMU's only NBD server.
	let address = json!({ "addr": { "type": "unix", "data": { "path": world.path("theirs") } } });
	machine.monitor().run("nbd-server-start", address).unwrap();
	fs::remove_file(world.path("state/vms/broken.toml")).unwrap();
	describe(&world, "other-uuid", &vm);
	let found = Found::on(&world);
	found.assert_failed("other-uuid: nbd", "nbd-server-start", "another program uses");
	let exports = machine.monitor().run("query-block-exports", json!({})).unwrap();
	assert_eq!(exports, json!([]), "their server runs on, and nothing of ours is on it");
	machine.monitor().run("nbd-server-stop", json!({})).unwrap();
	assert!(machine.leftovers().is_empty());
}

#[test]
fn a_backup_that_is_under_way_is_not_disturbed() {
	let mut world = World::prepare();
	world.configure(&format!(
		"node_rpc = \"{}\"\nread_bytes_per_second = 8388608\nthreads = 1\n",
		world.node.url()
	));
	world.start_agent();
	let machine = Machine::start(ImageFormat::Raw);
	let order = world.running_machine(7, &machine.vm());
	world.reconcile(&crate::orders::snapshots([order.clone()]));
	world.wait_for_progress();
	let found = Found::on(&world);
	let busy = found.check("vm-7: machine")["found"].as_str().unwrap().to_owned();
	assert!(busy.contains("works on it now"), "{busy}");
	assert!(world.running_job().is_some(), "the backup is still under way");
	world.take(&order).unwrap();
}

#[test]
fn what_a_killed_agent_left_in_a_machine_is_told_and_left_to_the_agent() {
	let mut world = World::prepare();
	world.configure("read_bytes_per_second = 8388608\nthreads = 1\n");
	world.start_agent();
	let machine = Machine::start(ImageFormat::Raw);
	let order = world.running_machine(7, &machine.vm());
	world.reconcile(&crate::orders::snapshots([order]));
	world.wait_for_progress();
	world.kill();
	let before = machine.leftovers();
	assert!(!before.is_empty());
	let found = Found::on(&world);
	assert_eq!(found.verdict("vm-7: qmp"), "warning");
	assert!(found.check("vm-7: qmp")["mend"].as_str().unwrap().contains("start the agent"));
	assert_eq!(machine.leftovers(), before);
}

/// A machine before whose socket stands a gate, which shuts when the trial's disk is about to be served.
fn machine_behind_a_gate(world: &World) -> (Machine, Gate) {
	let machine = Machine::start(ImageFormat::Raw);
	let vm = machine.vm();
	let gate = Gate::before(vm.qmp.as_deref().unwrap(), "block-export-add");
	describe(world, "web", &Vm { qmp: Some(gate.socket.clone()), ..vm });
	(machine, gate)
}

fn assert_untouched(world: &World, machine: &Machine) {
	assert!(machine.is_running());
	assert_eq!(machine.leftovers(), [""; 0]);
	assert!(fs::read_dir(world.path("state/scratch")).unwrap().next().is_none());
}

#[test]
fn one_that_is_told_to_end_takes_away_what_it_has_put_into_a_machine() {
	for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
		let world = World::prepare();
		let (machine, gate) = machine_behind_a_gate(&world);
		let mut doctor = world.spawn("doctor");
		let mut words = BufReader::new(doctor.stderr.take().unwrap()).lines();
		until("it to be in the middle", || gate.is_shut().then_some(()));
		assert!(!machine.leftovers().is_empty());
		let id = doctor.id().to_string();
		assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
		assert!(words.any(|line| line.unwrap().contains("doctor ends")), "{signal}");
		gate.open();
		let status = until("it to end", || doctor.try_wait().unwrap());
		assert_eq!(status.code(), Some(code), "{signal}");
		assert_untouched(&world, &machine);
	}
}

/// A backup that meets it at the machine waits a quarter of a minute for its turn.
#[test]
fn a_machine_that_does_not_answer_is_let_go_of_with_nothing_left_in_it() {
	let world = World::prepare();
	let (machine, gate) = machine_behind_a_gate(&world);
	let found = Found::on(&world);
	assert!(gate.is_shut());
	found.assert_failed("web: nbd", "block-export-add", "");
	assert_untouched(&world, &machine);
}

/// Each of them takes a quarter of a minute until it is given up.
#[test]
fn machines_whose_sockets_hang_fail_side_by_side() {
	let world = World::prepare();
	let sockets: Vec<_> = (0..8)
		.map(|number| {
			let socket = world.path(&format!("{number}.qmp"));
			let uuid = format!("c0ffee00-0000-8000-8000-00000000000{number}");
			let file = format!(
				"uuid = \"{uuid}\"\nqmp = {socket:?}\n\
				[[disk]]\nname = \"vda\"\nimage = \"/nowhere/{number}\"\nformat = \"raw\"\n"
			);
			fs::write(world.path(&format!("state/vms/vm-{number}.toml")), file).unwrap();
			UnixListener::bind(socket).unwrap()
		})
		.collect();
	let began = Instant::now();
	let found = Found::on(&world);
	assert!(began.elapsed() < Duration::from_secs(15 * 4), "one after the other");
	for number in 0..sockets.len() {
		found.assert_failed(&format!("vm-{number}: qmp"), "did not greet", "socket of their own");
	}
}

#[test]
fn an_image_of_a_machine_that_is_off_must_be_there_and_what_its_file_says() {
	let world = World::start();
	world.machine(7, &noise(1, 1 << 20));
	world.machine(8, &noise(2, 1 << 20));
	fs::remove_file(world.image(7)).unwrap();
	let file = world.path("state/vms/vm-8.toml");
	let text = fs::read_to_string(&file).unwrap().replace("\"raw\"", "\"qcow2\"");
	fs::write(&file, text).unwrap();
	let found = Found::on(&world);
	found.assert_failed("vm-7: disks", "No such file", "correct the image");
	found.assert_failed("vm-8: disks", "not in qcow2 format", "correct the image's format");
}

#[test]
fn a_backup_that_failed_is_told_until_one_goes_well() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 1 << 20));
	rename(&world.image(7), &world.path("away"));
	assert_eq!(world.take(&order), Err(FailureReason::ImageUnreadable));
	until("the history to have it", || {
		let found = Found::on(&world);
		let is_told = found.0["checks"].as_array().unwrap().iter().any(|check| {
			check["check"] == "backups"
				&& check["machine"] == "vm-7"
				&& check["verdict"] == "warning"
		});
		is_told.then_some(())
	});
}

fn rename(from: &Path, to: &Path) {
	fs::rename(from, to).unwrap();
}
