//! Finding the machines of this host: QEMU's processes, and the domains of libvirt.
//!
//! Each is described as a file of the inventory would describe it, from what QEMU or libvirt says of
//! it. What cannot be backed up so is told with what to do, and nothing is guessed. Nothing is
//! changed: machines are asked, that is all.

mod processes;
mod qemu;
pub(super) mod tpm;

use super::{SourceError, Vm, libvirt};
use processes::Process;
use std::{io, thread};

/// How UEFI's variables are called in snapshots.
pub(super) const UEFI_VARIABLES: &str = "uefi-vars.fd";

/// Machines that are asked at once.
const AT_ONCE: usize = 16;

/// A machine of this host.
#[derive(Debug)]
pub(crate) struct Found {
	/// Who runs it.
	pub(crate) origin: Origin,
	/// What it is called there.
	pub(crate) name: Option<String>,
	/// Its own UUID, if it has one.
	pub(crate) uuid: Option<String>,
	/// What a file of the inventory says of it, unless there are problems.
	pub(crate) vm: Option<Vm>,
	/// What keeps it from being backed up.
	pub(crate) problems: Vec<Problem>,
	/// What else its operator should know.
	pub(crate) notes: Vec<String>,
}

/// Who runs a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
	/// A process of QEMU's, by itself.
	Process(u32),
	/// libvirt, reached here.
	Libvirt(String),
}

/// What keeps a machine from being backed up, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Problem {
	pub(crate) found: String,
	pub(crate) mend: String,
}

impl Found {
	pub(super) fn new(origin: Origin, name: Option<String>, uuid: Option<String>) -> Self {
		Self { origin, name, uuid, vm: None, problems: Vec::new(), notes: Vec::new() }
	}

	pub(super) fn problem(&mut self, found: impl Into<String>, mend: impl Into<String>) {
		self.problems.push(Problem { found: found.into(), mend: mend.into() });
	}

	/// Take a description, if a file of the inventory may say that.
	pub(super) fn describe(&mut self, vm: Vm) {
		match Vm::parse(&vm.describe()) {
			Ok(vm) => self.vm = Some(vm).filter(|_| self.problems.is_empty()),
			Err(reason) => self.problem(reason, "describe it by hand, see docs/operations.md"),
		}
	}
}

/// All machines, those of libvirt last, and why libvirt was not asked if it was not.
pub(crate) fn discover(libvirt_uri: &str) -> io::Result<(Vec<Found>, Option<SourceError>)> {
	let (domains, refused) = match libvirt::list(libvirt_uri) {
		Ok(domains) => (domains, None),
		Err(error) => (Vec::new(), Some(error)),
	};
	let is_domain = |process: &Process| {
		process.uuid.as_ref().is_some_and(|uuid| domains.iter().any(|d| d.uuid() == uuid))
	};
	let processes: Vec<_> =
		processes::list()?.into_iter().filter(|process| !is_domain(process)).collect();
	let mut found = each(&processes, qemu::describe);
	found.extend(each(&domains, libvirt::describe));
	Ok((found, refused))
}

/// Do something with each, several at once, and keep the order.
fn each<T: Sync>(all: &[T], describe: impl Fn(&T) -> Found + Sync) -> Vec<Found> {
	let mut found = Vec::with_capacity(all.len());
	for some in all.chunks(AT_ONCE) {
		thread::scope(|scope| {
			let threads: Vec<_> = some.iter().map(|one| scope.spawn(|| describe(one))).collect();
			found.extend(threads.into_iter().filter_map(|thread| thread.join().ok()));
		});
	}
	found
}
