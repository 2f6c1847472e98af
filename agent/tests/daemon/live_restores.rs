//! Machines that start at once, on images that fill in from a snapshot.

use crate::{
	machine::{Machine, pattern, run, text},
	orders::{nothing, restore_of},
	pair::Pair,
	world::{World, until},
};
use backup_agent::sources::{Hooks, ImageFormat, MachineFile, Vm};
use backup_primitives::{FailureReason, job::SnapshotOrder, report::TakenSnapshot};
use serde_json::{Value as Json, json};
use std::{fs, os::unix::fs::symlink, path::PathBuf, slice};

const REQUEST: u64 = 7;

/// A machine of which there is a snapshot, and which is off, with its image gone.
struct Lost {
	world: World,
	machine: Machine,
	order: SnapshotOrder,
	taken: TakenSnapshot,
}

impl Lost {
	fn new() -> Self {
		let world = World::start();
		let machine = Machine::start(ImageFormat::Qcow2);
		let order = world.running_machine(REQUEST, &machine.vm());
		let taken = world.take(&order).unwrap();
		machine.quit();
		fs::remove_file(&machine.disk(0).image).unwrap();
		Self { world, machine, order, taken }
	}

	fn folder(&self) -> PathBuf {
		self.world.path("back")
	}

	fn image(&self) -> PathBuf {
		self.folder().join("disk0.qcow2")
	}

	fn live_restore(&self, arguments: &[&str]) -> Result<Json, String> {
		let config = self.world.path("agent.toml");
		let verb = [arguments, &["--json", "--config", text(&config)]].concat();
		let output = self.world.run_words(&[&["live-restore"], &verb[..]].concat());
		match output.status.success() {
			true => {
				let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
				let answers = answer.as_array().map_or(slice::from_ref(&answer), Vec::as_slice);
				assert!(answers.iter().all(|one| one["version"] == 1), "{answer}");
				Ok(answer)
			}
			false => Err(String::from_utf8(output.stderr).unwrap()),
		}
	}

	fn begin(&self, vm: &str) -> Result<Json, String> {
		let (root, folder) = (self.taken.cid.to_string(), self.folder());
		self.live_restore(&["begin", "--root", &root, "--vm", vm, "--folder", text(&folder)])
	}

	/// Start the machine on what was made for it.
	fn power_on(&self) {
		symlink(self.image(), self.machine.disk(0).image).unwrap();
		self.machine.start_again();
	}

	fn wait_until_complete(&self) {
		until("the disks to be complete", || {
			(self.live_restore(&["list"]).unwrap() == json!([])).then_some(())
		});
	}

	/// The image stands by itself, and holds this.
	fn assert_holds(&self, expected: &[u8]) {
		let raw = self.world.path("expected.raw");
		fs::write(&raw, expected).unwrap();
		run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", text(&self.image()), text(&raw)]);
	}
}

#[test]
fn a_machine_runs_at_once_and_its_disk_fills_in_behind_it() {
	let lost = Lost::new();
	let view = lost.begin("back").unwrap();
	assert_eq!((&view["state"], &view["images"]), (&json!("waiting"), &json!([lost.image()])));
	let file = fs::read_to_string(lost.world.path("state/vms/back.toml")).unwrap();
	assert!(file.contains(text(&lost.image())), "{file}");

	lost.power_on();
	// Above where QEMU copies: what the guest writes stays.
	lost.machine.write(0xab, 33 << 20, 1 << 20);
	lost.wait_until_complete();
	assert!(lost.machine.is_running());
	lost.world.get("/v1/live-restores");
	lost.machine.quit();
	let mut expected = pattern(0);
	expected[33 << 20..34 << 20].fill(0xab);
	lost.assert_holds(&expected);
	// Nothing is served any more.
	assert_eq!(fs::read_dir(lost.folder()).unwrap().count(), 1, "the image alone is left");
	assert_eq!(fs::read_dir(lost.world.path("state/live-restores")).unwrap().count(), 0);
}

#[test]
fn an_agent_that_was_killed_goes_on_where_it_was() {
	let mut lost = Lost::new();
	lost.begin("back").unwrap();
	lost.world.kill();
	lost.world.start_agent();
	lost.power_on();
	lost.world.kill();
	lost.world.start_agent();
	lost.wait_until_complete();
	assert!(lost.machine.is_running());
	lost.machine.quit();
	lost.assert_holds(&pattern(0));
}

#[test]
fn what_the_store_lacks_is_read_from_who_holds_copies() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut pair = Pair::of(|host| host.running_machine(REQUEST, &machine.vm()));
	machine.quit();
	fs::remove_file(&machine.disk(0).image).unwrap();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.empty_host();
	let Pair { host, holder, order, mut taken, .. } = pair;
	let mut lost = Lost { world: host, machine, order, taken: taken.remove(0) };
	let alone = lost.begin("back").unwrap_err();
	assert!(alone.contains("is not here"), "no worker has spoken: {alone}");
	// The agent knows whom it speaks for when its worker has gone round.
	lost.world.reconcile(&nothing());
	lost.world.reconcile(&nothing());
	lost.begin("back").unwrap();
	lost.world.kill();
	lost.world.start_agent();
	lost.power_on();
	lost.wait_until_complete();
	assert!(lost.machine.is_running() && lost.world.roots().is_empty());
	lost.machine.quit();
	lost.assert_holds(&pattern(0));
	drop(holder);
}

#[test]
fn what_a_killed_agent_had_not_set_up_is_given_up() {
	let mut lost = Lost::new();
	lost.begin("back").unwrap();
	lost.world.kill();
	let path = lost.world.path("state/live-restores/back.json");
	let record = fs::read_to_string(&path).unwrap();
	assert!(record.contains("\"is_ready\":true"), "{record}");
	fs::write(&path, record.replace("\"is_ready\":true", "\"is_ready\":false")).unwrap();
	lost.world.start_agent();
	assert!(!lost.image().exists() && !path.exists());
	// The machine's file was written, and says where the image was.
	let root = lost.taken.cid.to_string();
	lost.live_restore(&["begin", "--root", &root, "--vm", "back"]).unwrap();
}

#[test]
fn a_record_that_is_torn_keeps_neither_the_agent_nor_other_machines_from_going_on() {
	let mut lost = Lost::new();
	lost.begin("back").unwrap();
	lost.world.kill();
	let record = |vm: &str| lost.world.path(&format!("state/live-restores/{vm}.json"));
	let torn = record("torn");
	let whole = fs::read_to_string(record("back")).unwrap();
	fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
	lost.world.start_agent();
	assert!(torn.exists(), "what it was may be told by its operator");
	let views = lost.live_restore(&["list"]).unwrap();
	assert_eq!((&views[1]["vm"], &views[1]["state"]), (&json!("torn"), &json!("stuck")));
	assert_eq!(views[1]["root"], json!(lost.taken.cid.to_string()));
	assert!(views[1]["problem"].as_str().unwrap().contains(text(&torn)), "{views}");
	assert!(lost.begin("torn").unwrap_err().contains("under way"));
	lost.power_on();
	until("the disks to be complete", || {
		(lost.live_restore(&["list"]).unwrap().as_array().unwrap().len() == 1).then_some(())
	});
	lost.machine.quit();
	lost.assert_holds(&pattern(0));
	lost.live_restore(&["end", "--vm", "torn"]).unwrap();
	assert!(!torn.exists());
	assert!(lost.live_restore(&["end", "--vm", "torn"]).is_err());
}

#[test]
fn a_machine_has_no_snapshot_while_its_disks_fill_in() {
	let lost = Lost::new();
	lost.begin(&format!("vm-{REQUEST}")).unwrap_err();
	fs::remove_file(lost.world.path(&format!("state/vms/vm-{REQUEST}.toml"))).unwrap();
	lost.begin(&format!("vm-{REQUEST}")).unwrap();
	let later =
		SnapshotOrder { sequence: 1, slot: 1, parent: Some(lost.taken.cid), ..lost.order.clone() };
	assert_eq!(lost.world.take(&later), Err(FailureReason::ImageInUse));
	lost.power_on();
	lost.wait_until_complete();
	let later = SnapshotOrder { slot: 2, ..later };
	let taken = lost.world.take(&later).unwrap();
	let folder = lost.world.restore(&restore_of(&later, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == pattern(0));
}

#[test]
fn what_cannot_be_restored_live_is_refused_and_nothing_is_left() {
	let lost = Lost::new();
	let root = lost.taken.cid.to_string();
	let other = "bafyreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
	let begin = |more: &[&str]| lost.live_restore(&[&["begin"], more].concat()).unwrap_err();
	let vm = format!("vm-{REQUEST}");

	assert!(begin(&["--root", other, "--vm", "back"]).contains("is not here"));
	assert!(begin(&["--root", &root, "--vm", "../back"]).contains("name"));
	assert!(begin(&["--root", &root, "--vm", &vm]).contains("is raw"));
	let refused = begin(&["--root", &root, "--vm", &vm, "--folder", "/tmp"]);
	assert!(refused.contains("leave folder and socket out"), "{refused}");
	assert!(!lost.folder().exists());

	assert!(begin(&["--root", &root, "--vm", "back"]).contains("in which folder"));

	fs::create_dir(lost.folder()).unwrap();
	fs::write(lost.image(), "precious").unwrap();
	assert!(lost.begin("back").unwrap_err().contains("nothing is overwritten"));
	assert_eq!(fs::read_to_string(lost.image()).unwrap(), "precious");
	fs::remove_file(lost.image()).unwrap();
	assert_eq!(fs::read_dir(lost.folder()).unwrap().count(), 0);

	lost.begin("back").unwrap();
	assert!(lost.begin("back").unwrap_err().contains("under way"));
	assert!(lost.live_restore(&["end", "--vm", "other"]).is_err());
	lost.live_restore(&["end", "--vm", "back"]).unwrap();
	assert_eq!(lost.live_restore(&["list"]).unwrap(), json!([]));

	// What was given up holds what the guest wrote, and is not taken away by another attempt.
	assert!(begin(&["--root", &root, "--vm", "back"]).contains("nothing is overwritten"));
	assert!(lost.image().exists());
}

#[test]
fn images_that_are_away_are_waited_for() {
	let mut lost = Lost::new();
	lost.begin("back").unwrap();
	let away = lost.world.path("away");
	lost.world.kill();
	fs::rename(lost.folder(), &away).unwrap();
	lost.world.start_agent();
	let is_stuck = || lost.live_restore(&["list"]).unwrap()[0]["state"] == "stuck";
	until("the agent to miss the images", || is_stuck().then_some(()));
	// Its snapshot is not given up, and it has no other.
	let vm = format!("vm-{REQUEST}");
	assert!(lost.begin("back").unwrap_err().contains("under way"));
	assert!(!lost.live_restore(&["list"]).unwrap()[0]["problem"].is_null(), "{vm}");
	fs::rename(&away, lost.folder()).unwrap();
	until("the images to be found", || (!is_stuck()).then_some(()));
	lost.power_on();
	lost.wait_until_complete();
	lost.machine.quit();
	lost.assert_holds(&pattern(0));
}

#[test]
fn a_machine_is_set_up_with_what_belongs_to_it_and_without_its_programs() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Qcow2);
	let variables = world.path("vars.fd");
	fs::write(&variables, "variables").unwrap();
	let file = MachineFile { name: "vars.fd".into(), path: variables };
	let hooks = Hooks { before: vec!["/bin/true".into()], after: Vec::new(), seconds: 9 };
	let vm = Vm { files: vec![file], hooks: Some(hooks), ..machine.vm() };
	let order = world.running_machine(REQUEST, &vm);
	let taken = world.take(&order).unwrap();
	machine.quit();
	let lost = Lost { world, machine, order, taken };
	let (root, folder, qmp) = (lost.taken.cid.to_string(), lost.folder(), lost.world.path("qmp"));
	let begin = ["begin", "--root", &root, "--vm", "copy", "--folder", text(&folder)];
	lost.live_restore(&[&begin[..], &["--qmp", text(&qmp)]].concat()).unwrap();
	assert_eq!(fs::read_to_string(folder.join("vars.fd")).unwrap(), "variables");
	let copy = fs::read_to_string(lost.world.path("state/vms/copy.toml")).unwrap();
	let copy: Vm = toml::from_str(&copy).unwrap();
	assert_eq!((copy.hooks, copy.qmp), (None, Some(qmp)));
	assert_eq!(copy.disks[0].image, folder.join("disk0.qcow2"));
	assert_eq!(copy.files[0].path, folder.join("vars.fd"));
}
