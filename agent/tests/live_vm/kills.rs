//! Everything that can end in the middle, at every command that the agent gives QEMU and the guest's
//! agent: the agent, the connection between them, QEMU itself. Afterwards the guest runs, nothing of the backup is
//! left in it, and the next backup is the whole disk.

use crate::{
	backups::{Backup, GRANULE, MIB, Written, assert_only_bitmap_of, read_since},
	guest::Guest,
	machine::{Attached, Machine, pattern, read, run, tag},
	proxy::{Break, Proxy},
};
use backup_agent::sources::{Checkpoint, ImageFormat, SourceError, Vm};
use std::{
	fs,
	path::Path,
	thread,
	time::{Duration, Instant},
};

/// More commands than a backup needs.
const COMMANDS_MAX: u64 = 200;

/// How many commands a backup gives of a machine with one disk, which has been backed up before.
const COMMANDS: usize = 44;

/// The same with two disks, and those to the guest's agent.
const COMMANDS_OF_TWO: usize = 73;

/// A machine, the backups of it that are kept, and its disks as they should be.
struct Story<'m> {
	machine: &'m Machine,
	/// What the agent knows of it.
	vm: Vm,
	guest: Option<Guest>,
	disks: Vec<Written<'m>>,
	/// Of each disk. The newest last.
	kept: Vec<Vec<Backup>>,
}

impl<'m> Story<'m> {
	fn begin(machine: &'m Machine) -> Self {
		Self::of(machine, machine.vm(), None)
	}

	/// A machine with two disks, and a guest whose file systems stand still for a backup.
	fn of_two_disks(machine: &'m Machine) -> Self {
		let agent = machine.folder.path().join("agent");
		let guest = Guest::behind(&agent);
		let disks = vec![machine.disk(0), machine.disk(1)];
		let vm = Vm { disks, guest_agent: Some(agent), ..machine.vm() };
		Self::of(machine, vm, Some(guest))
	}

	fn of(machine: &'m Machine, vm: Vm, guest: Option<Guest>) -> Self {
		let disks = (0..vm.disks.len()).map(|disk| Written::of_disk(machine, disk)).collect();
		let mut story = Self { machine, vm, guest, disks, kept: Vec::new() };
		story.back_up(&story.vm.clone(), || true).unwrap();
		story
	}

	/// The machine's sockets, as its agent would be given them behind a proxy that breaks.
	fn behind(&self, at: u64, kind: Break) -> (Proxy, Vm) {
		let sockets = [&self.vm.qmp, &self.vm.guest_agent];
		let behind: Vec<_> = sockets.into_iter().flatten().cloned().collect();
		let proxy = Proxy::before(&behind, at, kind);
		let mut sockets = proxy.sockets.clone().into_iter();
		let qmp = sockets.next();
		(proxy, Vm { qmp, guest_agent: sockets.next(), ..self.vm.clone() })
	}

	fn known(&self) -> Vec<Checkpoint> {
		self.kept.iter().rev().map(|backup| backup[0].checkpoint).collect()
	}

	/// Back up as the agent does; it keeps what it has sealed if it still lives then.
	fn back_up(&mut self, vm: &Vm, is_alive: impl Fn() -> bool) -> Result<(), SourceError> {
		let known = self.known();
		let result = vm.open(tag(), &known, &self.machine.options()).map(|mut open| {
			let base = self.kept.iter().find(|kept| Some(kept[0].checkpoint) == open.base);
			let checkpoint = open.checkpoint.expect("writes are recorded from here on");
			let disks = open.disks.iter_mut().enumerate().map(|(index, disk)| {
				let (bytes, written) = read_since(disk, base.map(|base| &base[index]));
				Backup { checkpoint, bytes, written }
			});
			let disks: Vec<Backup> = disks.collect();
			// What goes wrong here is tried again; the backup is whole.
			let _ = open.close();
			disks
		});
		match result {
			Ok(disks) if is_alive() => {
				let settled = vm.settle(&[disks[0].checkpoint]);
				self.kept.push(disks);
				settled
			}
			Ok(_) => Ok(()),
			Err(error) => vm.settle(&known).and(Err(error)),
		}
	}

	/// Write here and there, others each time.
	fn write(&mut self, turn: u64) {
		for (disk, turn) in self.disks.iter_mut().zip(turn..) {
			disk.write(turn as u8 | 1, turn % 61 * MIB, 4096);
			disk.write(turn as u8 | 1, (turn * 7 % 61) * MIB + 12_345, 300_000);
		}
	}

	/// What the next agent does at its start, or this one a few seconds later.
	fn recover(&self) {
		self.vm.recover().unwrap();
		self.vm.settle(&self.known()).unwrap();
	}

	/// Back up once more, and find all that the disks should hold.
	fn assert_good(&mut self, context: &str) {
		assert!(self.machine.is_running(), "{context}: the guest stands still");
		let is_frozen = self.guest.as_ref().is_some_and(Guest::is_frozen);
		assert!(!is_frozen, "{context}: the guest's file systems stand still");
		assert_eq!(self.machine.leftovers(), [""; 0], "{context}");
		self.back_up(&self.vm.clone(), || true).unwrap();
		let last = self.kept.pop().unwrap();
		for (index, (disk, found)) in self.disks.iter().zip(&last).enumerate() {
			assert!(found.bytes == disk.bytes, "{context}: the next backup of {index} is wrong");
			assert_only_bitmap_of(self.machine, index, found.checkpoint);
		}
		assert!(self.machine.scratch().is_empty(), "{context}");
		self.kept = vec![last];
	}

	/// The commands that a backup gives in which nothing breaks.
	fn steps(&mut self) -> Vec<String> {
		self.write(17);
		let (proxy, vm) = self.behind(COMMANDS_MAX, Break::Once);
		self.back_up(&vm, || true).unwrap();
		assert!(!proxy.is_broken(), "a backup gives more than {COMMANDS_MAX} commands");
		self.kept.remove(0);
		proxy.steps()
	}
}

/// Break at each command, and say how many there were and where it broke.
fn break_at_each(mut story: Story<'_>, kind: Break, name: &str) -> Vec<String> {
	let steps = story.steps();
	let mut cut = Vec::new();
	for at in 0..steps.len() as u64 {
		let context = format!("{name}, command {at} of {}, broken {kind:?}", steps.len());
		story.write(at);
		let (proxy, vm) = story.behind(at, kind);
		let _ = story.back_up(&vm, || !(proxy.is_broken() && kind == Break::ForGood));
		story.write(at + 1000);
		assert!(proxy.is_broken(), "{context}: it was not come to");
		cut.extend(proxy.steps().pop());
		drop(proxy);
		story.recover();
		let incomplete = story.kept.len() == 1;
		story.assert_good(&context);
		let is_recorded = story.kept[0].iter().all(|disk| disk.written.is_some());
		assert!(is_recorded || !incomplete, "{context}: the record of writes is lost");
	}
	assert_eq!(cut, steps, "{name}: each command was cut once");
	println!("{name}: broken {kind:?} at each of {} commands: {}", cut.len(), cut.join(" "));
	cut
}

/// How often each of these commands was cut.
fn count(cut: &[String], command: &str) -> usize {
	cut.iter().filter(|one| *one == command).count()
}

#[test]
fn an_agent_that_is_killed_at_any_command_costs_nothing() {
	for (format, name) in [(ImageFormat::Raw, "raw"), (ImageFormat::Qcow2, "qcow2")] {
		let machine = Machine::start(format);
		let cut = break_at_each(Story::begin(&machine), Break::ForGood, name);
		assert_eq!(cut.len(), COMMANDS, "{cut:?}");
	}
}

/// Each command to the guest's agent is a step, too.
#[test]
fn an_agent_that_is_killed_at_any_command_of_two_disks_and_a_guest_costs_nothing() {
	let machine = Machine::start_with(ImageFormat::Qcow2, Attached::Node, 2);
	let story = Story::of_two_disks(&machine);
	let cut = break_at_each(story, Break::ForGood, "two disks and a guest");
	assert_eq!(cut.len(), COMMANDS_OF_TWO, "{cut:?}");
	for command in ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "stop", "cont"] {
		assert_eq!(count(&cut, command), 1, "{command}");
	}
}

#[test]
fn a_connection_that_breaks_at_any_command_costs_one_backup_at_most() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let cut = break_at_each(Story::begin(&machine), Break::Once, "qcow2");
	assert_eq!(cut.len(), COMMANDS, "{cut:?}");
}

#[test]
fn a_machine_that_dies_at_any_command_is_backed_up_when_it_runs_again() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut story = Story::begin(&machine);
	let steps = story.steps();
	assert_eq!(steps.len(), COMMANDS, "{steps:?}");
	for at in 0..steps.len() as u64 {
		let context = format!("command {at} of {}, QEMU killed", steps.len());
		story.write(at);
		let (proxy, vm) = story.behind(at, Break::Process(machine.process()));
		let _ = story.back_up(&vm, || true);
		assert!(proxy.is_broken(), "{context}: it was not come to");
		machine.crash();
		machine.start_again();
		story.recover();
		story.write(at + 1000);
		story.assert_good(&context);
	}
	println!("QEMU was killed at each of {} commands", steps.len());
}

/// The processes that serve an image.
fn tools(image: &Path) -> Vec<String> {
	let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
		let entry = entry.ok()?;
		let words = fs::read(entry.path().join("cmdline")).ok()?;
		let mut words = words.split(|byte| *byte == 0);
		let is_tool = words.next()? == b"qemu-nbd";
		let is_of_it = words.any(|word| word == image.as_os_str().as_encoded_bytes());
		(is_tool && is_of_it).then(|| entry.file_name().into_string().unwrap())
	});
	processes.collect()
}

#[test]
fn the_tool_that_serves_the_image_of_a_machine_that_is_off_may_end_at_any_read() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		machine.quit();
		let mut vm = machine.vm();
		vm.disks[0].format = format;
		let image = vm.disks[0].image.clone();
		let before = fs::read(&image).unwrap();
		for at in [0, 1, 20] {
			let mut open = vm.open(tag(), &[], &machine.options()).unwrap();
			let reader = open.disks[0].reader.as_mut();
			let mut chunk = vec![0; GRANULE as usize];
			for number in 0..at {
				reader.next_extent(number * GRANULE).unwrap();
				reader.read_at(number * GRANULE, &mut chunk).unwrap();
			}
			let tools = tools(&image);
			assert_eq!(tools.len(), 1, "{tools:?}");
			run("kill", &["-KILL", &tools[0]]);
			read(reader).unwrap_err();
			open.close().unwrap();
			assert!(machine.scratch().is_empty(), "{format:?}, killed at read {at}");
		}
		let mut open = vm.open(tag(), &[], &machine.options()).unwrap();
		assert!(read(open.disks[0].reader.as_mut()).unwrap() == pattern(0));
		open.close().unwrap();
		assert!(tools(&image).is_empty() && fs::read(&image).unwrap() == before);
	}
}

#[test]
fn a_machine_that_is_not_held_any_more_is_noticed() {
	let machine = Machine::start(ImageFormat::Raw);
	machine.quit();
	let vm = machine.vm();
	let mut held = vm.hold(tag(), &machine.options().scratch_dir).unwrap();
	held.ensure_held().unwrap();
	let tools = tools(&vm.disks[0].image);
	run("kill", &["-KILL", &tools[0]]);
	let deadline = Instant::now() + Duration::from_secs(60);
	while held.ensure_held().is_ok() {
		assert!(Instant::now() < deadline, "nobody notices");
		thread::sleep(Duration::from_millis(10));
	}
}
