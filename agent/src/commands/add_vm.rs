//! `backup-agent add-vm`: the machines of this host, and their files in the inventory.

use super::{Context, answer::Versioned};
use crate::{
	config::Settings,
	foreign::one_line,
	sources::{
		Inventory, LIBVIRT_URI, Vm,
		discovery::{Found, Origin, Problem, discover},
	},
};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
	collections::BTreeMap,
	io::{self, BufRead, IsTerminal},
	path::PathBuf,
	process::ExitCode,
};

#[derive(Debug, clap::Args)]
pub(super) struct AddVm {
	/// One machine: its name, its UUID, the name of its domain, or the process id of its QEMU. All
	/// that are found if not given.
	machine: Option<String>,
	/// What it is called in the inventory, and so on chain, if not as it is called here.
	#[arg(long = "as", value_name = "NAME", requires = "machine")]
	name: Option<String>,
	/// Write without asking.
	#[arg(long)]
	yes: bool,
	/// Print one JSON object. Nothing is written without --yes.
	#[arg(long)]
	json: bool,
	/// Where libvirt is asked for its domains.
	#[arg(long, value_name = "URI", default_value = LIBVIRT_URI)]
	libvirt_uri: String,
	#[command(flatten)]
	settings: Settings,
}

/// A machine, and what is to be done about it.
struct Candidate {
	found: Found,
	/// What it is or would be called in the inventory.
	name: String,
	state: State,
}

enum State {
	/// It can be added, in this file.
	New { file: PathBuf, vm: Box<Vm> },
	/// The inventory has it.
	Known,
	/// It cannot be added.
	Refused,
	/// It was added, in this file.
	Added { file: PathBuf },
}

pub(super) fn run(context: &Context, arguments: AddVm) -> Result<ExitCode> {
	let AddVm { machine, name, yes, json, libvirt_uri, settings } = arguments;
	let config = context.load(settings)?;
	let inventory = Inventory::at(&config.vms_dir);
	let known: BTreeMap<String, Vm> = inventory.all()?.into_iter().collect();
	let (mut found, refused) = discover(&libvirt_uri).context("failed to look for machines")?;
	if let Some(wanted) = &machine {
		found.retain(|found| is_meant(found, wanted));
	}
	let mut candidates: Vec<_> =
		found.into_iter().map(|found| judge(found, name.as_deref(), &known, &inventory)).collect();
	if let Some(error) = refused.filter(|_| !json) {
		eprintln!("libvirt was not asked: {}", one_line(&error.to_string()));
	}
	if candidates.is_empty() {
		match machine {
			Some(wanted) => bail!(
				"found no machine {wanted:?} on this host; `backup-agent add-vm` shows all that there are"
			),
			None if !json => println!("no machine runs on this host"),
			None => (),
		}
	}
	let ask: fn(&Candidate) -> Result<bool> = match () {
		() if yes => |_: &Candidate| Ok(true),
		() if !json && io::stdin().is_terminal() => ask,
		() => |_: &Candidate| Ok(false),
	};
	let mut added = Vec::new();
	for candidate in &mut candidates {
		candidate.compare(&added);
		if !json {
			print!("{}", candidate.to_text());
		}
		if candidate.is_new() && ask(candidate)? {
			added.extend(candidate.add(&inventory));
			match &candidate.state {
				_ if json => (),
				State::Added { file } => println!("  added {}", file.display()),
				_ => print!("{}", candidate.to_text()),
			}
		}
	}
	if json {
		let machines: Vec<Value> = candidates.iter().map(Candidate::to_json).collect();
		println!("{}", Versioned::new(json!({ "machines": machines })).line()?);
	} else {
		say_what_is_next(&candidates, yes);
	}
	let is_refused = candidates.iter().any(|one| matches!(one.state, State::Refused));
	Ok(match machine.is_some() && is_refused {
		true => ExitCode::FAILURE,
		false => ExitCode::SUCCESS,
	})
}

fn say_what_is_next(candidates: &[Candidate], yes: bool) {
	let is_added = candidates.iter().any(|one| matches!(one.state, State::Added { .. }));
	if is_added {
		println!("\nEach request is fulfilled with the machine's name here, and its tag is the");
		println!("machine's UUID. `backup-agent doctor` tries what was added.");
	} else if !yes && candidates.iter().any(Candidate::is_new) {
		println!("\nNothing was written. --yes writes what can be added.");
	}
}

/// Whether a machine is the one that was asked for.
fn is_meant(found: &Found, wanted: &str) -> bool {
	let is_process = matches!(found.origin, Origin::Process(pid) if pid.to_string() == wanted);
	let is_called = found.name.as_deref() == Some(wanted);
	is_process || is_called || found.uuid.as_deref() == Some(&*wanted.to_ascii_lowercase())
}

fn judge(
	mut found: Found,
	name: Option<&str>,
	known: &BTreeMap<String, Vm>,
	inventory: &Inventory,
) -> Candidate {
	let is_same = |vm: &Vm| {
		let has_its_uuid = found.uuid.as_ref().is_some_and(|uuid| *uuid == vm.uuid.to_string());
		has_its_uuid || found.vm.as_ref().is_some_and(|new| new.is_reached_as(vm))
	};
	if let Some((name, _)) = known.iter().find(|(_, vm)| is_same(vm)) {
		return Candidate { found, name: name.clone(), state: State::Known };
	}
	let name = name.map(str::to_owned).or_else(|| found.name.clone()).unwrap_or_default();
	let mut refuse = |what: String| {
		let mend = "give a name of letters, digits, '-', '_' and '.' with --as".to_owned();
		found.problems.push(Problem { found: what, mend });
	};
	let file = inventory.file_of(&name);
	match &file {
		None if name.is_empty() => refuse("it has no name".to_owned()),
		None => refuse(format!("the inventory can have no machine {name:?}")),
		Some(file) if file.exists() => {
			refuse(format!("{} is another machine's", file.display()));
		}
		Some(_) => (),
	}
	let state = match (file, found.vm.clone()) {
		(Some(file), Some(vm)) if found.problems.is_empty() => {
			State::New { file, vm: Box::new(vm) }
		}
		_ => State::Refused,
	};
	Candidate { found, name, state }
}

/// Ask the operator, who is at a terminal.
fn ask(candidate: &Candidate) -> Result<bool> {
	eprint!("  add {}? [y/N] ", one_line(&candidate.name));
	let mut line = String::new();
	io::stdin().lock().read_line(&mut line)?;
	Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

impl Candidate {
	fn is_new(&self) -> bool {
		matches!(self.state, State::New { .. })
	}

	/// Refuse it if it has the name or the UUID of one that was just added.
	fn compare(&mut self, added: &[(String, Vm)]) {
		let State::New { vm, .. } = &self.state else { return };
		let twin = added.iter().find(|(name, other)| *name == self.name || other.uuid == vm.uuid);
		if let Some((name, _)) = twin {
			self.refuse(
				format!("{name}, which was just added, has its name or its UUID"),
				"give it another one",
			);
		}
	}

	/// Write its file, and give what stands there; or say why not.
	fn add(&mut self, inventory: &Inventory) -> Option<(String, Vm)> {
		let State::New { file, vm } = &self.state else { return None };
		let (file, vm) = (file.clone(), (**vm).clone());
		match inventory.add(&self.name, &vm) {
			Ok(true) => {
				self.state = State::Added { file };
				Some((self.name.clone(), vm))
			}
			Ok(false) => {
				self.refuse(format!("{} is there meanwhile", file.display()), "look at it");
				None
			}
			Err(error) => {
				self.refuse(
					format!("failed to write {}: {error}", file.display()),
					"`backup-agent init` makes its folder",
				);
				None
			}
		}
	}

	fn refuse(&mut self, found: String, mend: &str) {
		self.found.problems.push(Problem { found, mend: mend.to_owned() });
		self.state = State::Refused;
	}

	fn to_text(&self) -> String {
		let Self { found, name, state } = self;
		let origin = match &found.origin {
			Origin::Process(pid) => format!("process {pid}"),
			Origin::Libvirt(uri) => format!("libvirt at {uri}"),
		};
		let called = found.name.as_deref().unwrap_or("(no name)");
		let what = match state {
			State::New { file, .. } | State::Added { file } => format!("new: {}", file.display()),
			State::Known => format!("known as {name}"),
			State::Refused => "cannot be added".to_owned(),
		};
		let mut lines = vec![format!("{called}, {origin}, {what}")];
		if let State::New { vm, .. } = state {
			lines.push(format!("  uuid   {}", vm.uuid));
			lines.extend(vm.disks.iter().map(|disk| {
				format!("  {:6} {} ({})", disk.name, disk.image.display(), disk.format.driver())
			}));
			lines.extend(vm.files.iter().map(|file| format!("  file   {}", file.path.display())));
		}
		if !matches!(state, State::Known) {
			lines.extend(found.notes.iter().map(|note| format!("  note   {note}")));
			for Problem { found, mend } in &found.problems {
				lines.extend([format!("  {found}"), format!("  → {mend}")]);
			}
		}
		let lines: Vec<String> = lines.iter().map(|line| one_line(line)).collect();
		lines.join("\n") + "\n"
	}

	fn to_json(&self) -> Value {
		let Self { found, name, state } = self;
		let (pid, libvirt) = match &found.origin {
			Origin::Process(pid) => (Some(*pid), None),
			Origin::Libvirt(uri) => (None, Some(uri)),
		};
		let (state, file) = match state {
			State::New { file, .. } => ("new", Some(file)),
			State::Known => ("known", None),
			State::Refused => ("refused", None),
			State::Added { file } => ("added", Some(file)),
		};
		json!({
			"name": name,
			"pid": pid,
			"libvirt": libvirt,
			"uuid": found.uuid,
			"state": state,
			"file": file,
			"description": found.vm.as_ref().map(Vm::describe),
			"problems": found.problems,
			"notes": found.notes,
		})
	}
}
