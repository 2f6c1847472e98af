//! What the host gives: configuration, user, tools, secrets, folders.

use super::{Case, Finding};
use crate::{
	config::{Config, ConfigSource},
	disk::available_bytes,
	secret::{NodeIdentities, SharedSecret},
	sources::Inventory,
};
use indicatif::HumanBytes;
use std::{
	fs,
	io::{self, Write},
	os::unix::fs::{MetadataExt, PermissionsExt},
	path::Path,
	process::{Command, Stdio},
};

/// The oldest version of QEMU's tools and of libvirt's that backups are tested with.
const QEMU_TESTED: [u32; 2] = [7, 2];
const LIBVIRT_TESTED: [u32; 2] = [9, 0];

/// Room that a snapshot of a running machine finds at least; half of what is free is never used.
const SCRATCH_BYTES_MIN: u64 = 128 << 20;

/// How much is written to a folder to find out whether it can be.
const TRIAL_BYTES: usize = 64 * 1024;

/// There is no configuration: nothing else can be tried.
pub(super) fn no_config(source: &ConfigSource, error: &anyhow::Error) -> Finding {
	let named =
		source.file.as_deref().map_or("flags and environment".into(), Path::to_string_lossy);
	Finding::error("config", error, &format!("correct {named}"))
}

/// The configuration can be used. It may hold a token that others must not read.
pub(super) fn config(source: &ConfigSource) -> Finding {
	let Some(file) = &source.file else {
		return Finding::ok("config", "no file: defaults, environment and flags");
	};
	let shown = file.display();
	let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
	let has_token =
		crate::config::Settings::read(file).is_ok_and(|read| read.webhook_url.is_some());
	match has_token && mode & 0o007 != 0 {
		true => Finding::warning(
			"config",
			format!("{shown} holds webhook_url, and everybody can read it"),
			format!("chmod 640 {shown}"),
		),
		false => Finding::ok("config", shown.to_string()),
	}
}

/// Whether the agent's files are another user's.
pub(super) fn is_foreign(config: &Config) -> bool {
	fs::metadata(&config.state_dir).is_ok_and(|state| state.uid() != this_user())
}

fn this_user() -> u32 {
	rustix::process::geteuid().as_raw()
}

/// What is tried as another user than the agent says little of what the agent may do.
pub(super) fn user(case: &Case) -> Vec<Finding> {
	let state = &case.config.state_dir;
	let Ok(metadata) = fs::metadata(state) else { return Vec::new() };
	let (owner, mode) = (metadata.uid(), metadata.permissions().mode() & 0o777);
	let shown = state.display();
	if case.is_foreign {
		let found = format!("{shown} belongs to user {owner}, this is user {}", this_user());
		let mend = format!("run it as the agent's user: setpriv --reuid {owner} --clear-groups …");
		return vec![Finding::warning("user", found, mend)];
	}
	vec![match mode & 0o077 {
		0 => Finding::ok("user", format!("{owner}, whose {shown} is")),
		_ => Finding::warning(
			"user",
			format!("{shown} has mode {mode:03o}: others can look into it"),
			format!(
				"chmod 700 {shown}, and have scratch_dir elsewhere if QEMU's user must pass it"
			),
		),
	}]
}

/// The programs that backups start.
pub(super) fn tools(case: &Case) -> Vec<Finding> {
	let qemu = ["qemu-img", "qemu-nbd"].map(|program| (program, "qemu-utils", QEMU_TESTED));
	let machines = Inventory::at(&case.config.vms_dir).list().unwrap_or_default();
	let is_libvirt = machines.values().flatten().any(|vm| vm.libvirt.is_some());
	let virsh = is_libvirt.then_some(("virsh", "libvirt-clients", LIBVIRT_TESTED));
	let mut found = Vec::new();
	let mut findings = Vec::new();
	let setpriv = ("setpriv", "util-linux", [0, 0]);
	for (program, package, tested) in qemu.into_iter().chain(virsh).chain([setpriv]) {
		match version(program) {
			Ok(version) if numbers(&version) < tested => findings.push(Finding::warning(
				"tools",
				format!("{program} is {version}: nothing older than {} is tested", dotted(tested)),
				format!("update {package}"),
			)),
			Ok(version) => found.push(format!("{program} {version}")),
			Err(error) => findings.push(Finding::failed(
				"tools",
				format!("{program} cannot be run: {error}"),
				format!("install it (Debian: apt install {package})"),
			)),
		}
	}
	if findings.is_empty() {
		findings.push(Finding::ok("tools", found.join(", ")));
	}
	findings
}

/// What a program says of its version, as `7.2.22`.
fn version(program: &str) -> io::Result<String> {
	let output = Command::new(program).arg("--version").stdin(Stdio::null()).output()?;
	let words = String::from_utf8_lossy(&output.stdout).into_owned();
	let number =
		words.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
	match number {
		Some(number) if output.status.success() => Ok(number.to_owned()),
		_ => Err(io::Error::other("it does not tell its version")),
	}
}

fn numbers(version: &str) -> [u32; 2] {
	let mut parts =
		version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
	[parts.next().unwrap_or(0), parts.next().unwrap_or(0)]
}

fn dotted([major, minor]: [u32; 2]) -> String {
	format!("{major}.{minor}")
}

/// What opens and proves: there, whole, and nobody else's.
pub(super) fn secrets(case: &Case) -> Vec<Finding> {
	let Config { secret_file, identity_file, .. } = &case.config;
	let secret = SharedSecret::load(secret_file).map(|_| secret_file.display().to_string());
	let identities = NodeIdentities::load(identity_file).map(|identities| {
		format!(
			"{}, {} of them in {}",
			identities.recipient(),
			identities.count(),
			identity_file.display()
		)
	});
	let mend = "let the agent's user read it";
	let finding = |check, found: Result<String, _>| match found {
		Ok(found) => Finding::ok(check, found),
		Err(error) => Finding::error(check, &anyhow::Error::new(error), mend),
	};
	vec![finding("secret", secret), finding("identity", identities)]
}

/// Folders that are written to, and whether there is room.
pub(super) fn folders(case: &Case) -> Vec<Finding> {
	let Config { state_dir, scratch_dir, restore_dir, vms_dir, .. } = &case.config;
	let writable = [("state", state_dir), ("restores", restore_dir), ("scratch", scratch_dir)];
	let mut findings: Vec<_> =
		writable.into_iter().map(|(check, folder)| folder_of(check, folder)).collect();
	if let Err(error) = fs::read_dir(vms_dir) {
		let found = format!("read {}: {error}", vms_dir.display());
		findings.push(Finding::failed("inventory", found, "backup-agent init makes it"));
	}
	findings
}

fn folder_of(check: &'static str, folder: &Path) -> Finding {
	let shown = folder.display();
	let free = match try_to_write(folder).and_then(|()| available_bytes(folder)) {
		Ok(free) => free,
		Err(error) => {
			let mend = match error.kind() {
				io::ErrorKind::NotFound => "backup-agent init makes it".to_owned(),
				io::ErrorKind::StorageFull => format!("make room on the file system of {shown}"),
				io::ErrorKind::ReadOnlyFilesystem => {
					"mount its file system to be written to".to_owned()
				}
				_ => format!("let the agent's user write to {shown}"),
			};
			return Finding::failed(check, format!("write to {shown}: {error}"), mend);
		}
	};
	let found = format!("{shown}, {} free", HumanBytes(free));
	match check == "scratch" && free < SCRATCH_BYTES_MIN {
		true => Finding::failed(
			check,
			found,
			format!(
				"make room, or set scratch_dir to a larger file system: half of {} is the least for one disk of a running machine",
				HumanBytes(SCRATCH_BYTES_MIN)
			),
		),
		false => Finding::ok(check, found),
	}
}

/// Write durably, and remove it again.
fn try_to_write(folder: &Path) -> io::Result<()> {
	let mut file =
		tempfile::Builder::new().prefix(crate::disk::UNFINISHED_PREFIX).tempfile_in(folder)?;
	file.write_all(&[0x5a; TRIAL_BYTES])?;
	file.as_file().sync_all()
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::doctor::Verdict;

	#[test]
	fn versions_are_compared_by_their_numbers() {
		assert_eq!(numbers("7.2.22"), [7, 2]);
		assert_eq!(numbers("10.0.2-rc1"), [10, 0]);
		assert_eq!(numbers("9"), [9, 0]);
		assert!(numbers("10.0") > QEMU_TESTED && numbers("6.2") < QEMU_TESTED);
	}

	#[test]
	fn a_program_that_is_missing_or_says_nothing_has_no_version() {
		assert!(version("/nowhere/qemu-img").is_err());
		assert!(version("true").is_err() || numbers(&version("true").unwrap()) > [0, 0]);
	}

	#[test]
	fn a_folder_that_is_not_there_or_is_a_file_fails_and_nothing_is_left_in_one_that_is() {
		let folder = tempfile::tempdir().unwrap();
		assert_eq!(folder_of("state", folder.path()).verdict, Verdict::Ok);
		assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
		let missing = folder_of("state", &folder.path().join("none"));
		assert_eq!(missing.mend.as_deref(), Some("backup-agent init makes it"));
		let file = folder.path().join("file");
		fs::write(&file, "").unwrap();
		assert_eq!(folder_of("state", &file).verdict, Verdict::Failed);
	}
}
