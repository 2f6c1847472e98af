//! Each machine of the inventory.

use super::{Case, Finding, side_by_side::Trial};
use crate::sources::{Inventory, Leftovers, OpenOptions, Outcome, Point, SourceError, Vm};
use std::{sync::Arc, time::Duration};

/// A trial for each machine, or a word why there is none.
pub(super) fn trials(case: &Arc<Case>, time_max: Duration) -> Vec<Trial> {
	let alone = |finding: Finding| vec![Trial::new("inventory", time_max, || vec![finding])];
	let folder = case.config.vms_dir.display();
	let machines = match Inventory::at(&case.config.vms_dir).list() {
		Ok(machines) if machines.is_empty() => {
			return alone(Finding::warning(
				"inventory",
				format!("no machine is described in {folder}"),
				"backup-agent add-vm finds those of this host",
			));
		}
		Ok(machines) => machines,
		Err(error) => {
			let found = format!("read {folder}: {error}");
			return alone(Finding::failed("inventory", found, "backup-agent init makes it"));
		}
	};
	let trial = |(name, found): (String, Result<Vm, SourceError>)| {
		let case = case.clone();
		let called = name.clone();
		let work = move || match found {
			Err(error) => vec![explain("file", error)],
			Ok(vm) => examine(&case, &called, &vm),
		};
		Trial::new("machine", time_max, work).of(&name)
	};
	machines.into_iter().map(trial).collect()
}

fn examine(case: &Case, name: &str, vm: &Vm) -> Vec<Finding> {
	// QEMU talks to one client at a time, and that one is the agent.
	if case.running.as_ref().is_some_and(|running| running.busy.contains(name)) {
		return vec![Finding::ok("machine", "not tried: the agent works on it now")];
	}
	let options = OpenOptions {
		scratch_dir: case.config.scratch_dir.clone(),
		scratch_bytes_max: case.config.scratch_cap_bytes,
		freeze_time_max: Duration::ZERO,
		leftovers: Leftovers::default(),
	};
	vm.try_out(&options, &case.holds).into_iter().map(tell).collect()
}

fn tell(Point { name, outcome }: Point) -> Finding {
	match outcome {
		Outcome::Good(found) => Finding::ok(name, found),
		Outcome::Doubtful(found, mend) => Finding::warning(name, found, mend),
		Outcome::Bad(error) => explain(name, error),
	}
}

fn explain(check: &'static str, error: SourceError) -> Finding {
	let mend = match &error {
		SourceError::Refused { description, .. } if description.contains("Permission denied") => {
			"let QEMU's user reach scratch_dir, or run the agent as that user"
		}
		SourceError::Refused { .. } => {
			"see whether another program uses QEMU's NBD server, and whether QEMU is 7.1 or newer"
		}
		SourceError::DiskNotFound { .. } => "correct the disk's image in the machine's file",
		SourceError::ImageUnreadable { .. } => {
			"correct the image in the machine's file, or let the agent's user read it"
		}
		SourceError::ImageInUse { .. } => {
			"start the machine with the QMP socket that its file names, or correct it there"
		}
		SourceError::ImageNotServed { .. } => "correct the image's format in the machine's file",
		SourceError::Inventory { .. } => "correct that file",
		SourceError::NotTakenAway(_) => {
			"start the agent, or restart it: it takes away what was left"
		}
		SourceError::FileUnreadable { .. } => "correct the [[file]] in the machine's file",
		SourceError::ScratchTooSmall { .. } => {
			"make room there, or set scratch_dir to a larger file system"
		}
		_ => "docs/operations.md says what a backup needs",
	};
	Finding::error(check, &anyhow::Error::new(error), mend)
}
