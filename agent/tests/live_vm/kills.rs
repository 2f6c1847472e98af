//! Everything that can end in the middle, at every command that the agent gives QEMU: the agent,
//! the connection between them, QEMU itself. Afterwards the guest runs, nothing of the backup is
//! left in it, and the next backup is the whole disk.

use crate::{
	backups::{Backup, GRANULE, MIB, Written, assert_only_bitmap, read_since},
	machine::{Machine, pattern, read, run, tag},
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

/// One machine, the backups of it that are kept, and its disk as it should be.
struct Story<'m> {
	machine: &'m Machine,
	disk: Written<'m>,
	/// The newest last.
	kept: Vec<Backup>,
}

impl<'m> Story<'m> {
	fn begin(machine: &'m Machine) -> Self {
		let mut story = Self { machine, disk: Written::of(machine), kept: Vec::new() };
		story.back_up(&machine.vm(), || true).unwrap();
		story
	}

	fn known(&self) -> Vec<Checkpoint> {
		self.kept.iter().rev().map(|backup| backup.checkpoint).collect()
	}

	/// Back up as the agent does; it keeps what it has sealed if it still lives then.
	fn back_up(&mut self, vm: &Vm, is_alive: impl Fn() -> bool) -> Result<(), SourceError> {
		let known = self.known();
		let result = vm.open(tag(), &known, &self.machine.options()).map(|mut open| {
			let base = self.kept.iter().find(|kept| Some(kept.checkpoint) == open.base);
			let (bytes, written) = read_since(&mut open.disks[0], base);
			let checkpoint = open.checkpoint.expect("writes are recorded from here on");
			// What goes wrong here is tried again; the backup is whole.
			let _ = open.close();
			Backup { checkpoint, bytes, written }
		});
		match result {
			Ok(backup) if is_alive() => {
				let settled = vm.settle(&[backup.checkpoint]);
				self.kept.push(backup);
				settled
			}
			Ok(_) => Ok(()),
			Err(error) => vm.settle(&known).and(Err(error)),
		}
	}

	/// Write here and there, others each time.
	fn write(&mut self, turn: u64) {
		self.disk.write(turn as u8 | 1, turn % 61 * MIB, 4096);
		self.disk.write(turn as u8 | 1, (turn * 7 % 61) * MIB + 12_345, 300_000);
	}

	/// Back up once more, and find all that the disk should hold.
	fn assert_good(&mut self, context: &str) {
		let vm = self.machine.vm();
		assert!(self.machine.is_running(), "{context}: the guest stands still");
		assert_eq!(self.machine.leftovers(), [""; 0], "{context}");
		self.back_up(&vm, || true).unwrap();
		let last = self.kept.pop().unwrap();
		assert!(last.bytes == self.disk.bytes, "{context}: the next backup is wrong");
		assert_only_bitmap(self.machine, last.checkpoint);
		assert!(self.machine.scratch().is_empty(), "{context}");
		self.kept = vec![last];
	}
}

/// Break at each command, until there are no more, and say how many there were.
fn break_at_each(machine: &Machine, kind: Break, format: &str) -> u64 {
	let mut story = Story::begin(machine);
	let socket = machine.vm().qmp.unwrap();
	for at in 0..COMMANDS_MAX {
		let context = format!("{format}, command {at}, broken {kind:?}");
		story.write(at);
		let proxy = Proxy::before(&socket, at, kind);
		let vm = Vm { qmp: Some(proxy.socket.clone()), ..machine.vm() };
		let result = story.back_up(&vm, || !(proxy.is_broken() && kind == Break::ForGood));
		story.write(at + 1000);
		if !proxy.is_broken() {
			result.unwrap_or_else(|error| panic!("{context}: {error}"));
			story.assert_good(&context);
			return at;
		}
		// What the next agent does at its start, or this one a few seconds later.
		machine.vm().recover().unwrap();
		machine.vm().settle(&story.known()).unwrap();
		let incomplete = story.kept.len() == 1;
		story.assert_good(&context);
		let is_recorded = story.kept[0].written.is_some();
		assert!(is_recorded || !incomplete, "{context}: the record of writes is lost");
	}
	panic!("a backup gives more than {COMMANDS_MAX} commands");
}

#[test]
fn an_agent_that_is_killed_at_any_command_costs_nothing() {
	for (format, name) in [(ImageFormat::Raw, "raw"), (ImageFormat::Qcow2, "qcow2")] {
		let machine = Machine::start(format);
		let commands = break_at_each(&machine, Break::ForGood, name);
		println!("{name}: killed at each of {commands} commands");
		assert!(commands > 20, "{commands}");
	}
}

#[test]
fn a_connection_that_breaks_at_any_command_costs_one_backup_at_most() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let commands = break_at_each(&machine, Break::Once, "qcow2");
	assert!(commands > 20, "{commands}");
}

#[test]
fn a_machine_that_dies_at_any_command_is_backed_up_when_it_runs_again() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let socket = machine.vm().qmp.unwrap();
	let mut story = Story::begin(&machine);
	for at in 0..COMMANDS_MAX {
		let context = format!("command {at}, QEMU killed");
		story.write(at);
		let proxy = Proxy::before(&socket, at, Break::Process(machine.process()));
		let vm = Vm { qmp: Some(proxy.socket.clone()), ..machine.vm() };
		let result = story.back_up(&vm, || true);
		if !proxy.is_broken() {
			result.unwrap_or_else(|error| panic!("{context}: {error}"));
			assert!(at > 20, "{at} commands");
			return;
		}
		machine.crash();
		machine.start_again();
		machine.vm().recover().unwrap();
		machine.vm().settle(&story.known()).unwrap();
		story.write(at + 1000);
		story.assert_good(&context);
	}
	panic!("a backup gives more than {COMMANDS_MAX} commands");
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
