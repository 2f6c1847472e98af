//! `backup-agent add-vm`: real QEMU processes, and what is written of them.

use crate::{
	machine::{Attached, Machine, TAG, text},
	orders::restore_of,
	world::{World, until},
};
use backup_agent::sources::{ImageFormat, Inventory, qmp::Monitor};
use serde_json::{Value as Json, json};
use std::{
	fs::{self, File},
	io::{BufRead, BufReader, Write},
	os::unix::{net::UnixListener, process::CommandExt},
	path::Path,
	process::{Child, Command, Output, Stdio},
	thread,
};

/// The UUIDs of machines that are started here. Others may run beside them.
const OWN_TAG: &str = "c0ffee00-0000-8000-8000-0000000000aa";
const OTHER_TAG: &str = "c0ffee00-0000-8000-8000-0000000000bb";

/// What is found of one machine, and how the command ended.
fn add(world: &World, arguments: &[&str]) -> (Json, Output) {
	let output = world.run_with("add-vm", &[&["--json"], arguments].concat());
	let report: Json =
		serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"));
	assert_eq!(report["version"], 1);
	let machines = report["machines"].as_array().unwrap();
	assert_eq!(machines.len(), 1, "{report:#}");
	(machines[0].clone(), output)
}

/// All that stands in the inventory.
fn files(world: &World) -> Vec<String> {
	let entries = fs::read_dir(world.path("state/vms")).unwrap();
	let mut names: Vec<_> =
		entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
	names.sort();
	names
}

/// A QEMU with these arguments, and nothing else. It ends when it is dropped.
struct Qemu(Child);

impl Qemu {
	/// Waits until it answers on this socket, or, if there is none, until it has begun.
	fn start(arguments: &[&str], socket: Option<&Path>) -> Self {
		Self::start_in(Path::new("/"), arguments, socket)
	}

	/// The same, from a folder.
	fn start_in(folder: &Path, arguments: &[&str], socket: Option<&Path>) -> Self {
		let mut child = Command::new("qemu-system-x86_64")
			.args([
				"-machine",
				"q35",
				"-accel",
				"tcg",
				"-m",
				"16",
				"-nodefaults",
				"-display",
				"none",
			])
			.args(arguments)
			.current_dir(folder)
			.stdin(Stdio::null())
			.spawn()
			.unwrap();
		until("QEMU to begin", || {
			assert!(child.try_wait().unwrap().is_none(), "QEMU ended");
			match socket {
				Some(socket) => Monitor::connect(socket).is_ok_and(|m| m.is_some()).then_some(()),
				None => {
					let line = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
					line.starts_with(b"qemu-system").then_some(())
				}
			}
		});
		Self(child)
	}

	fn pid(&self) -> String {
		self.0.id().to_string()
	}
}

impl Drop for Qemu {
	fn drop(&mut self) {
		let _ = self.0.kill();
		let _ = self.0.wait();
	}
}

#[test]
fn a_machine_that_runs_is_described_so_that_it_can_be_backed_up() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let pid = machine.process().to_string();
	let (found, output) = add(&world, &[&pid, "--as", "vm-7", "--yes"]);
	assert!(output.status.success(), "{output:?}");
	assert_eq!((&found["state"], &found["uuid"]), (&"added".into(), &TAG.into()));
	let written = Inventory::at(world.path("state/vms")).find(b"vm-7").unwrap();
	let expected = machine.vm();
	// Of its two sockets it is the one that is called so.
	assert_eq!((&written.uuid, &written.qmp), (&expected.uuid, &expected.qmp));
	assert_eq!(written.disks, expected.disks);
	let order = world.running_machine(7, &written);
	world.take(&order).unwrap();
	assert!(machine.is_running());
	let doctor = world.run_with("doctor", &[]);
	let words = String::from_utf8(doctor.stdout).unwrap();
	assert!(words.contains("ok       vm-7: nbd"), "{words}");
}

#[test]
fn disks_that_were_given_in_one_option_are_called_as_qemu_calls_them() {
	let world = World::prepare();
	let machine = Machine::start_with(ImageFormat::Qcow2, Attached::Drive, 2);
	let pid = machine.process().to_string();
	add(&world, &[&pid, "--as", "web", "--yes"]);
	let written = Inventory::at(world.path("state/vms")).find(b"web").unwrap();
	let disks: Vec<_> = written.disks.iter().map(|disk| (&*disk.name, disk.format)).collect();
	assert_eq!(disks, [("virtio0", ImageFormat::Qcow2), ("virtio1", ImageFormat::Qcow2)]);
}

/// What a TPM remembers opens disks that a guest has encrypted.
#[test]
fn what_a_tpm_remembers_is_taken_along() {
	let world = World::start();
	let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
	fs::create_dir(path("tpm")).unwrap();
	File::create(path("disk.img")).unwrap().set_len(16 << 20).unwrap();
	let mut swtpm = Command::new("swtpm")
		.args(["socket", "--tpm2", "--terminate", "--tpmstate", &format!("dir={}", path("tpm"))])
		.args(["--ctrl", &format!("type=unixio,path={}", path("tpm.sock"))])
		.stdin(Stdio::null())
		.spawn()
		.unwrap();
	until("the TPM to listen", || fs::exists(path("tpm.sock")).unwrap().then_some(()));
	let socket = world.path("backup.sock");
	let qemu = Qemu::start(
		&[
			"-uuid",
			OWN_TAG,
			"-qmp",
			&format!("unix:{},server=on,wait=off", socket.display()),
			"-drive",
			&format!("file={},format=raw,if=virtio", path("disk.img")),
			"-chardev",
			&format!("socket,id=tpm,path={}", path("tpm.sock")),
			"-tpmdev",
			"emulator,id=tpm0,chardev=tpm",
			"-device",
			"tpm-tis,tpmdev=tpm0",
		],
		Some(&socket),
	);
	let (found, _) = add(&world, &[&qemu.pid(), "--as", "vm-7", "--yes"]);
	assert_eq!(found["state"], "added", "{found:#}");
	let written = Inventory::at(world.path("state/vms")).find(b"vm-7").unwrap();
	assert_eq!(written.files[0].path, world.path("tpm/tpm2-00.permall"));

	let order = world.running_machine(7, &written);
	let taken = world.take(&order).unwrap();
	let state = fs::read(world.path("tpm/tpm2-00.permall")).unwrap();
	let restored = world.restore(&restore_of(&order, taken.cid, 3)).unwrap();
	assert!(!state.is_empty() && fs::read(restored.join("tpm2-00.permall")).unwrap() == state);
	drop(qemu);
	// It ends with its machine.
	until("the TPM to end", || swtpm.try_wait().unwrap());
}

#[test]
fn nothing_is_written_without_a_yes_and_nothing_over_what_is_there() {
	let world = World::prepare();
	let machine = Machine::start(ImageFormat::Raw);
	let pid = machine.process().to_string();
	let (found, output) = add(&world, &[&pid, "--as", "web"]);
	assert!(output.status.success());
	assert_eq!(found["state"], "new");
	assert!(found["description"].as_str().unwrap().contains(TAG));
	assert!(files(&world).is_empty());
	// Nobody is at a terminal to be asked.
	let output = world.run_with("add-vm", &[&pid, "--as", "web"]);
	let words = String::from_utf8(output.stdout).unwrap();
	assert!(words.contains("Nothing was written") && words.contains(TAG), "{words}");
	assert!(files(&world).is_empty());

	// Another machine's file.
	let theirs = format!(
		"uuid = \"{TAG}\"\n[[disk]]\nname = \"vda\"\nimage = \"/nowhere\"\nformat = \"raw\"\n"
	)
	.replace(TAG, "c0ffee00-0000-8000-8000-0000000000ff");
	fs::write(world.path("state/vms/web.toml"), &theirs).unwrap();
	let (found, output) = add(&world, &[&pid, "--as", "web", "--yes"]);
	assert_eq!((&found["state"], output.status.code()), (&"refused".into(), Some(1)));
	assert!(found["problems"][0]["found"].as_str().unwrap().contains("another machine's"));
	assert_eq!(fs::read_to_string(world.path("state/vms/web.toml")).unwrap(), theirs);

	// A machine that is there under another name is not added twice.
	add(&world, &[&pid, "--as", "mail", "--yes"]);
	let before = fs::read(world.path("state/vms/mail.toml")).unwrap();
	let (found, output) = add(&world, &[&pid, "--as", "mail2", "--yes"]);
	assert_eq!((&found["state"], &found["name"]), (&"known".into(), &"mail".into()));
	assert!(output.status.success());
	assert_eq!(files(&world), ["mail.toml", "web.toml"]);
	assert_eq!(fs::read(world.path("state/vms/mail.toml")).unwrap(), before);
}

#[test]
fn a_machine_that_cannot_be_backed_up_is_told_with_what_to_do() {
	let world = World::prepare();
	let refused = |qemu: &Qemu, found: &str, mend: &str| {
		let (machine, output) = add(&world, &[&qemu.pid(), "--as", "odd", "--yes"]);
		assert_eq!((&machine["state"], output.status.code()), (&"refused".into(), Some(1)));
		let is_told = machine["problems"].as_array().unwrap().iter().any(|problem| {
			let words = |key: &str| problem[key].as_str().unwrap();
			words("found").contains(found) && words("mend").contains(mend)
		});
		assert!(is_told, "{found:?}, {mend:?} in {machine:#}");
		assert!(files(&world).is_empty());
	};
	let blind = Qemu::start(&["-uuid", OWN_TAG, "-S"], None);
	refused(&blind, "no QMP socket", "-qmp unix:");
	drop(blind);

	let socket = world.path("backup.qmp");
	let qmp = format!("unix:{},server=on,wait=off", text(&socket));
	let image = world.path("disk.vmdk");
	let create = ["create", "-q", "-f", "vmdk", text(&image), "16M"];
	assert!(Command::new("qemu-img").args(create).status().unwrap().success());
	let drive = format!("file={},format=vmdk,if=virtio", text(&image));
	let odd = Qemu::start(&["-S", "-qmp", &qmp, "-drive", &drive], Some(&socket));
	refused(&odd, "it has no UUID", "-uuid");
	refused(&odd, "the format vmdk", "qemu-img convert");
	drop(odd);
	let empty = Qemu::start(&["-S", "-uuid", OWN_TAG, "-qmp", &qmp], Some(&socket));
	refused(&empty, "no disk", "nothing to do");
}

/// Sockets may be given relative to the folder that QEMU was started in, and its name may be one
/// that no file can have.
#[test]
fn a_name_that_no_file_can_have_is_told_and_another_one_taken() {
	let world = World::prepare();
	let (socket, image) = (world.path("x.qmp"), world.path("disk.raw"));
	fs::write(&image, vec![0; 1 << 20]).unwrap();
	let qmp = format!("unix:{},server=on,wait=off", text(&socket));
	let drive = format!("file={},format=raw,if=virtio", text(&image));
	let name = format!("my machine {}", std::process::id());
	let arguments = ["-S", "-name", &name, "-uuid", OWN_TAG, "-qmp", &qmp, "-drive", &drive];
	let qemu = Qemu::start(&arguments, Some(&socket));
	let (found, output) = add(&world, &[&qemu.pid(), "--yes"]);
	assert_eq!((&found["state"], output.status.code()), (&"refused".into(), Some(1)));
	assert!(found["problems"][0]["mend"].as_str().unwrap().contains("--as"), "{found:#}");
	let (found, _) = add(&world, &[&name, "--as", "mine", "--yes"]);
	assert_eq!(found["state"], "added");
	assert!(found["notes"][0].as_str().unwrap().contains("one QMP socket"), "{found:#}");
	assert_eq!(files(&world), ["mine.toml"]);
}

#[test]
fn a_machine_that_is_not_there_is_told_and_all_that_are_can_be_listed() {
	let world = World::prepare();
	let output = world.run_with("add-vm", &["no-such-machine"]);
	let words = String::from_utf8(output.stderr).unwrap();
	assert_eq!(output.status.code(), Some(1));
	assert!(words.contains("no-such-machine") && words.contains("shows all"), "{words}");
	let machine = Machine::start(ImageFormat::Raw);
	let output = world.run_with("add-vm", &["--json"]);
	let report: Json = serde_json::from_slice(&output.stdout).unwrap();
	let is_listed = |found: &Json| found["pid"] == machine.process();
	assert!(report["machines"].as_array().unwrap().iter().any(is_listed), "{report:#}");
	assert!(output.status.success() && files(&world).is_empty());
}

/// What the operator's terminal would obey is a name that anybody may give a machine.
#[test]
fn a_name_is_shown_and_not_obeyed() {
	let world = World::prepare();
	let qemu = Qemu::start(&["-S", "-name", "web\u{1b}[2J\u{202e}gone"], None);
	let output = world.run_with("add-vm", &[&qemu.pid()]);
	let words = String::from_utf8(output.stdout).unwrap();
	assert!(words.contains("web\\u{1b}[2J\\u{202e}gone"), "{words:?}");
	assert!(!words.contains(['\u{1b}', '\u{202e}']), "{words:?}");
}

/// It may lie in another folder than where its process was started, and two would read as one.
#[test]
fn an_image_without_a_whole_path_is_told() {
	let world = World::prepare();
	fs::write(world.path("disk.raw"), vec![0; 1 << 20]).unwrap();
	let socket = world.path("backup.qmp");
	let qmp = format!("unix:{},server=on,wait=off", text(&socket));
	let drive = "file=disk.raw,format=raw,if=virtio";
	let arguments = ["-S", "-uuid", OWN_TAG, "-qmp", &qmp, "-drive", drive];
	let qemu = Qemu::start_in(&world.path(""), &arguments, Some(&socket));
	let (found, output) = add(&world, &[&qemu.pid(), "--as", "web", "--yes"]);
	assert_eq!((&found["state"], output.status.code()), (&"refused".into(), Some(1)));
	let problem = &found["problems"][0];
	assert!(problem["found"].as_str().unwrap().contains("\"disk.raw\" has no whole path"));
	assert!(problem["mend"].as_str().unwrap().contains("with the whole path"), "{found:#}");
	assert!(files(&world).is_empty());
}

#[test]
fn of_two_machines_with_one_name_or_one_uuid_the_second_is_refused() {
	let name = format!("twin-{}", std::process::id());
	let (other, third) = (format!("{name}-2"), format!("{name}-3"));
	for (names, tags) in [([&name, &name], [OWN_TAG, OTHER_TAG]), ([&other, &third], [OWN_TAG; 2])]
	{
		let world = World::prepare();
		let twins = [0, 1].map(|index| {
			let (socket, image) =
				(world.path(&format!("backup-{index}.qmp")), world.path(&format!("{index}.raw")));
			fs::write(&image, vec![0; 1 << 20]).unwrap();
			let qmp = format!("unix:{},server=on,wait=off", text(&socket));
			let drive = format!("file={},format=raw,if=virtio", text(&image));
			let arguments =
				["-S", "-name", names[index], "-uuid", tags[index], "-qmp", &qmp, "-drive", &drive];
			Qemu::start(&arguments, Some(&socket))
		});
		let output = world.run_with("add-vm", &["--json", "--yes"]);
		let report: Json = serde_json::from_slice(&output.stdout).unwrap();
		let machines = report["machines"].as_array().unwrap();
		let found =
			|qemu: &Qemu| machines.iter().find(|found| found["pid"] == qemu.0.id()).unwrap();
		let mut states = twins.each_ref().map(|qemu| found(qemu)["state"].as_str().unwrap());
		states.sort();
		assert_eq!(states, ["added", "refused"], "{report:#}");
		let refused = twins.iter().map(found).find(|found| found["state"] == "refused").unwrap();
		let words = refused["problems"][0]["found"].as_str().unwrap();
		assert!(words.contains("which was just added, has its name or its UUID"), "{words}");
	}
}

/// A program of a stranger's that is called as QEMU is, with a socket at which it says that this is its
/// disk, and whatever it has as its standard input.
fn impostor(world: &World, disk: &Path, stdin: Stdio) -> Qemu {
	let socket = world.path("impostor-backup.qmp");
	let _ = fs::remove_file(&socket);
	let listener = UnixListener::bind(&socket).unwrap();
	let image = json!({ "filename": disk, "format": "raw", "virtual-size": 1 << 20 });
	let inserted = json!({
		"image": image, "drv": "raw", "file": disk, "node-name": "disk", "ro": false,
	});
	let blocks = json!([{ "device": "vda", "qdev": "/machine/vda", "inserted": inserted }]);
	thread::spawn(move || {
		for mut client in listener.incoming().flatten() {
			let lines = BufReader::new(client.try_clone().unwrap()).lines();
			client.write_all(b"{\"QMP\":{}}\n").unwrap();
			for line in lines.map_while(Result::ok) {
				let order: Json = serde_json::from_str(&line).unwrap();
				let answer = match order["execute"].as_str().unwrap() {
					"query-named-block-nodes" => json!([]),
					"query-name" => json!({ "name": "web" }),
					"query-uuid" => json!({ "UUID": OWN_TAG }),
					"query-block" => blocks.clone(),
					_ => json!({}),
				};
				let answer = json!({ "return": answer, "id": order["id"] });
				// It may have heard enough.
				let _ = writeln!(client, "{answer}");
			}
		}
	});
	// It stands still until it is ended.
	let qmp = format!("unix:{}", text(&socket));
	let child = Command::new("bash")
		.arg0("kvm")
		.args(["-c", "kill -STOP $$", "kvm", "-qmp", &qmp])
		.stdin(stdin)
		.spawn()
		.unwrap();
	Qemu(child)
}

/// It would get backups of files that only root may read.
#[test]
fn a_process_that_is_merely_called_as_qemu_cannot_name_any_file_as_its_disk() {
	let world = World::prepare();
	let secret = world.path("of-somebody-else");
	fs::write(&secret, vec![0; 1 << 20]).unwrap();
	let stranger = impostor(&world, &secret, Stdio::null());
	let (found, output) = add(&world, &[&stranger.pid(), "--as", "web", "--yes"]);
	assert_eq!((&found["state"], output.status.code()), (&"refused".into(), Some(1)));
	let words = found["problems"][0]["found"].as_str().unwrap();
	assert!(words.contains("not seen to have") && words.contains("of-somebody-else"), "{words}");
	assert!(files(&world).is_empty());
	drop(stranger);
	// It is that which makes the difference.
	let owner = impostor(&world, &secret, File::open(&secret).unwrap().into());
	let (found, _) = add(&world, &[&owner.pid(), "--as", "web"]);
	assert_eq!(found["state"], "new", "{found:#}");
}
