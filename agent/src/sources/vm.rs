//! The operator's inventory: a folder with one file per machine, `<name>.toml`.
//!
//! ```toml
//! uuid = "c0ffee00-0000-8000-8000-000000000001"  # the tag of a machine that is off
//! qmp = "/run/machines/web/backup.sock"          # a QMP socket for backups alone
//! guest_agent = "/run/machines/web/agent.sock"   # optional: the QEMU guest agent
//!
//! [[disk]]
//! name = "vda"
//! image = "/var/lib/machines/web.qcow2"
//! format = "qcow2"                               # or "raw"
//!
//! [[disk]]
//! name = "swap"
//! image = "/var/lib/machines/web-swap.raw"
//! format = "raw"
//! skip = true                                    # not in backups
//!
//! [[file]]                                       # what else the machine is: UEFI variables,
//! name = "uefi-vars.fd"                          # TPM state, its definition
//! path = "/var/lib/machines/web_VARS.fd"
//!
//! [hooks]                                        # programs of the operator's
//! before = ["/usr/local/bin/quiesce", "web"]     # before the disks stand still
//! after = ["/usr/local/bin/resume", "web"]       # as soon as they do, whatever happened
//! seconds = 30                                   # how long each may take
//! ```
//!
//! A running machine is believed only what QEMU says of its UUID; `uuid` counts when it is off.
//!
//! A machine that libvirt runs has `libvirt = "web"`, its domain's name, in place of the sockets.
//! The names of its disks are then the domain's targets.

use super::SourceError;
use crate::disk;
use backup_primitives::VmTag;
use serde::{Deserialize, Serialize};
use std::{
	collections::{BTreeMap, HashSet},
	fs,
	io::{self, Read},
	path::{Path, PathBuf},
};

/// Most bytes of one file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Most disks of one machine.
pub const DISKS_MAX: usize = 16;

/// Most files of one machine beside its disks.
pub(crate) const FILES_MAX: usize = 16;

/// Most bytes of each of those.
pub(crate) const MACHINE_FILE_BYTES_MAX: u64 = 16 << 20;

/// Longest time that a hook may be given, in seconds.
const HOOK_SECONDS_MAX: u64 = 3600;

/// What snapshots keep of a machine by themselves: its description.
pub const DESCRIPTION_FILE: &str = "machine.toml";

/// What snapshots keep of a machine that libvirt runs by themselves: the domain's definition.
pub const DOMAIN_FILE: &str = "domain.xml";

/// Where libvirt is reached if nothing else is said.
pub const LIBVIRT_URI: &str = "qemu:///system";

/// Most bytes of a domain's name, and of the place where libvirt is reached.
const LIBVIRT_BYTES_MAX: usize = 1024;

/// Most machines of one node.
const VMS_MAX: usize = 4096;

/// The inventory's folder.
#[derive(Clone, Debug)]
pub struct Inventory {
	folder: PathBuf,
}

/// A machine, as the operator describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
	/// Its tag when it is off.
	pub uuid: VmTag,
	/// QEMU's control socket.
	pub qmp: Option<PathBuf>,
	/// The guest agent's socket.
	pub guest_agent: Option<PathBuf>,
	/// The domain's name, if the machine is libvirt's.
	pub libvirt: Option<String>,
	/// Where libvirt is reached, if not at [`LIBVIRT_URI`].
	pub libvirt_uri: Option<String>,
	/// Its disks.
	#[serde(rename = "disk")]
	pub disks: Vec<Disk>,
	/// What else belongs to it and is small.
	#[serde(rename = "file", default, skip_serializing_if = "Vec::is_empty")]
	pub files: Vec<MachineFile>,
	/// What is run around a snapshot.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub hooks: Option<Hooks>,
}

/// A file that travels with a machine's disks: UEFI variables, TPM state, a definition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MachineFile {
	/// Its name in backups.
	pub name: String,
	/// Where it is.
	pub path: PathBuf,
}

/// Programs that the operator has run around a snapshot, with their arguments.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
	/// Before the disks stand still. If it fails there is no snapshot.
	#[serde(default)]
	pub before: Vec<String>,
	/// As soon as the disks stand still, also where they could not be made to.
	#[serde(default)]
	pub after: Vec<String>,
	/// How long each may take, in seconds.
	#[serde(default = "hook_seconds")]
	pub seconds: u64,
}

fn hook_seconds() -> u64 {
	30
}

impl Vm {
	/// The description as TOML. It is kept in each snapshot, so that a machine can be set up
	/// again where its node is gone.
	pub fn describe(&self) -> String {
		toml::to_string(self).expect("strings, paths and lists always serialize")
	}

	/// The machine that a description is of, checked; what is wrong with it otherwise.
	pub fn parse(text: &str) -> Result<Self, String> {
		let vm: Self = toml::from_str(text).map_err(|error| error.to_string())?;
		check(&vm).map(|()| vm)
	}

	/// The one way in which the running machine is reached, for telling machines apart.
	pub(super) fn control(&self) -> Option<String> {
		match (&self.qmp, &self.libvirt) {
			(Some(socket), _) => Some(socket.display().to_string()),
			(None, Some(name)) => Some(format!("{} {name}", self.libvirt_uri())),
			(None, None) => None,
		}
	}

	/// Whether another description has the same way to a running machine.
	pub(crate) fn is_reached_as(&self, other: &Self) -> bool {
		self.control().is_some_and(|control| other.control() == Some(control))
	}

	/// Where libvirt is reached.
	pub(super) fn libvirt_uri(&self) -> &str {
		self.libvirt_uri.as_deref().unwrap_or(LIBVIRT_URI)
	}

	/// The disks that are in backups.
	pub fn included(&self) -> impl Iterator<Item = &Disk> {
		self.disks.iter().filter(|disk| !disk.skip)
	}

	/// The files beside the disks, as they are now.
	pub(super) fn read_files(&self) -> Result<Vec<(String, Vec<u8>)>, SourceError> {
		self.files.iter().map(|file| Ok((file.name.clone(), file.read()?))).collect()
	}
}

impl MachineFile {
	fn read(&self) -> Result<Vec<u8>, SourceError> {
		let unreadable = |source| SourceError::FileUnreadable { path: self.path.clone(), source };
		let file = fs::File::open(&self.path).map_err(unreadable)?;
		let mut bytes = Vec::new();
		file.take(MACHINE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
		match bytes.len() as u64 > MACHINE_FILE_BYTES_MAX {
			true => Err(unreadable(io::Error::other(format!(
				"it has more than {MACHINE_FILE_BYTES_MAX} bytes; what is large is a disk"
			)))),
			false => Ok(bytes),
		}
	}
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
	/// Its name in backups, as `vda`.
	pub name: String,
	/// Its image.
	pub image: PathBuf,
	/// How the image is laid out.
	pub format: ImageFormat,
	/// Whether it is left out of backups.
	#[serde(default, skip_serializing_if = "is_false")]
	pub skip: bool,
}

fn is_false(value: &bool) -> bool {
	!value
}

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
	/// QEMU's copy-on-write format.
	Qcow2,
	/// The disk's bytes, one after the other.
	Raw,
}

impl ImageFormat {
	/// QEMU's name of the format.
	pub fn driver(self) -> &'static str {
		match self {
			Self::Qcow2 => "qcow2",
			Self::Raw => "raw",
		}
	}
}

impl Inventory {
	/// The inventory in this folder. It need not exist yet.
	pub fn at(folder: impl Into<PathBuf>) -> Self {
		Self { folder: folder.into() }
	}

	/// The machine with this name.
	pub fn find(&self, name: &[u8]) -> Result<Vm, SourceError> {
		let shown = String::from_utf8_lossy(name).into_owned();
		let path = self.folder.join(format!("{shown}.toml"));
		if !is_name(name) {
			let reason = "a machine's name has letters, digits, '-', '_' and '.' only".into();
			return Err(SourceError::Inventory { path, reason });
		}
		read(&path)?.ok_or(SourceError::VmNotFound { name: shown, path })
	}

	/// The file that a machine of this name has or would have, if it may be called so.
	pub fn file_of(&self, name: &str) -> Option<PathBuf> {
		is_name(name.as_bytes()).then(|| self.folder.join(format!("{name}.toml")))
	}

	/// Write a machine's file, durably. Says whether it was written: one that is there is never
	/// touched.
	pub(crate) fn add(&self, name: &str, vm: &Vm) -> io::Result<bool> {
		let file = self.file_of(name).ok_or(io::ErrorKind::InvalidFilename)?;
		disk::write_new(&file, vm.describe().as_bytes())
	}

	/// All machines that can be read, for cleaning up. Faulty files are left out and logged.
	pub fn all(&self) -> io::Result<Vec<(String, Vm)>> {
		let readable = |(name, found): (String, Result<Vm, SourceError>)| match found {
			Ok(vm) => Some((name, vm)),
			Err(error) => {
				tracing::warn!(%error, "failed to read a machine's file");
				None
			}
		};
		Ok(self.list()?.into_iter().filter_map(readable).collect())
	}

	/// All machines by name, each with what is wrong with its file if it cannot be read.
	pub fn list(&self) -> io::Result<BTreeMap<String, Result<Vm, SourceError>>> {
		let mut machines = BTreeMap::new();
		let entries = match fs::read_dir(&self.folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(machines),
			entries => entries?,
		};
		for entry in entries.take(VMS_MAX) {
			let path = entry?.path();
			let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
			if path.extension().is_none_or(|ending| ending != "toml") {
				continue;
			}
			match self.find(name.as_bytes()) {
				// It went meanwhile.
				Err(SourceError::VmNotFound { .. }) => (),
				found => drop(machines.insert(name.to_owned(), found)),
			}
		}
		Ok(machines)
	}
}

/// Whether a disk may be called so.
pub(super) fn is_disk_name(name: &str) -> bool {
	is_name(name.as_bytes()) && name.len() <= 32
}

fn is_name(name: &[u8]) -> bool {
	let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
	(1..=64).contains(&name.len()) && name[0] != b'.' && name.iter().all(is_plain)
}

/// The machine in a file, nothing if the file is not there.
fn read(path: &Path) -> Result<Option<Vm>, SourceError> {
	let wrong = |reason: String| SourceError::Inventory { path: path.to_owned(), reason };
	let length = match fs::metadata(path) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
		Err(error) => return Err(wrong(error.to_string())),
		Ok(metadata) => metadata.len(),
	};
	if length > FILE_BYTES_MAX {
		return Err(wrong(format!("it has {length} bytes, {FILE_BYTES_MAX} at most")));
	}
	let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
	Vm::parse(&text).map(Some).map_err(wrong)
}

fn check(vm: &Vm) -> Result<(), String> {
	if !(1..=DISKS_MAX).contains(&vm.disks.len()) {
		return Err(format!("a machine has 1 to {DISKS_MAX} disks, this has {}", vm.disks.len()));
	}
	let mut names = HashSet::new();
	for disk in &vm.disks {
		if !is_disk_name(&disk.name) {
			return Err(format!("{:?} is no name of a disk; write one as 'vda'", disk.name));
		}
		if !names.insert(&disk.name) {
			return Err(format!("two disks are called {:?}", disk.name));
		}
		if !disk.image.is_absolute() {
			return Err(format!("{} is no absolute path", disk.image.display()));
		}
	}
	if vm.included().next().is_none() {
		return Err("all disks are skipped; a backup has one at least".into());
	}
	check_libvirt(vm)?;
	check_files(vm)?;
	vm.hooks.as_ref().map_or(Ok(()), check_hooks)
}

/// A machine is reached in one way, and on this host: scratch and sockets are files.
fn check_libvirt(vm: &Vm) -> Result<(), String> {
	let is_bad = |text: &str| {
		!(1..=LIBVIRT_BYTES_MAX).contains(&text.len()) || text.contains(char::is_control)
	};
	match (&vm.libvirt, &vm.libvirt_uri) {
		(None, None) => return Ok(()),
		(None, Some(_)) => return Err("libvirt_uri is of no use without libvirt".into()),
		(Some(name), _) if is_bad(name) => return Err(format!("{name:?} is no name of a domain")),
		(Some(_), Some(uri)) if is_bad(uri) || !is_local(uri) => {
			return Err(format!(
				"{uri:?} is no libvirt on this host; write one as {LIBVIRT_URI:?}"
			));
		}
		(Some(_), _) => (),
	}
	if vm.qmp.is_some() {
		return Err("qmp and libvirt exclude each other: libvirt talks to its QEMU alone".into());
	}
	match vm.guest_agent.is_some() {
		true => {
			Err("guest_agent and libvirt exclude each other: libvirt talks to the guest agent \
			itself"
				.into())
		}
		false => Ok(()),
	}
}

fn is_local(uri: &str) -> bool {
	["qemu:///", "qemu+unix:///"].iter().any(|start| uri.starts_with(start))
}

fn check_files(vm: &Vm) -> Result<(), String> {
	let Vm { files, disks, .. } = vm;
	if files.len() > FILES_MAX {
		return Err(format!("a machine has {FILES_MAX} files at most, this has {}", files.len()));
	}
	// What lies in one folder after a restore.
	let images =
		disks.iter().flat_map(|disk| ["qcow2", "raw"].map(|e| format!("{}.{e}", disk.name)));
	let own = [DESCRIPTION_FILE].into_iter().chain(vm.libvirt.as_ref().map(|_| DOMAIN_FILE));
	let mut names: HashSet<String> = images.chain(own.map(str::to_owned)).collect();
	for file in files {
		if !is_name(file.name.as_bytes()) {
			return Err(format!("{:?} is no name of a file", file.name));
		}
		if !names.insert(file.name.clone()) {
			return Err(format!("two files are called {:?}", file.name));
		}
		if !file.path.is_absolute() {
			return Err(format!("{} is no absolute path", file.path.display()));
		}
	}
	Ok(())
}

fn check_hooks(hooks: &Hooks) -> Result<(), String> {
	for command in [&hooks.before, &hooks.after] {
		if command.first().is_some_and(|program| !Path::new(program).is_absolute()) {
			return Err(format!("the hook {:?} is no absolute path", command[0]));
		}
	}
	match (1..=HOOK_SECONDS_MAX).contains(&hooks.seconds) {
		true => Ok(()),
		false => Err(format!("a hook may take 1 to {HOOK_SECONDS_MAX} seconds")),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const GOOD: &str = r#"
		uuid = "c0ffee00-0000-8000-8000-000000000001"
		qmp = "/run/web.sock"
		[[disk]]
		name = "vda"
		image = "/var/web.qcow2"
		format = "qcow2"
	"#;

	fn inventory(text: &str) -> (tempfile::TempDir, Inventory) {
		let folder = tempfile::tempdir().unwrap();
		fs::write(folder.path().join("web.toml"), text).unwrap();
		let inventory = Inventory::at(folder.path());
		(folder, inventory)
	}

	fn fault(text: &str) -> String {
		inventory(text).1.find(b"web").unwrap_err().to_string()
	}

	#[test]
	fn a_machine_is_found_by_its_name() {
		let (_folder, inventory) = inventory(GOOD);
		let vm = inventory.find(b"web").unwrap();
		assert_eq!(vm.disks[0].format, ImageFormat::Qcow2);
		assert_eq!(inventory.all().unwrap(), [("web".to_owned(), vm)]);
	}

	#[test]
	fn an_unknown_machine_is_named_with_the_file_that_was_looked_for() {
		let (_folder, inventory) = inventory(GOOD);
		let error = inventory.find(b"mail").unwrap_err();
		assert!(matches!(error, SourceError::VmNotFound { .. }));
		assert!(error.to_string().contains("mail.toml"));
	}

	#[test]
	fn names_that_leave_the_folder_are_refused() {
		let (_folder, inventory) = inventory(GOOD);
		for name in [&b"../web"[..], b"", b".", b"a/b", b"a b", &[0xff], &[b'a'; 65]] {
			let error = inventory.find(name).unwrap_err();
			assert!(matches!(error, SourceError::Inventory { .. }), "{name:?}: {error}");
		}
	}

	#[test]
	fn faults_in_a_file_are_told() {
		assert!(fault("uuid = 1").contains("line 1"));
		assert!(fault(&GOOD.replace("qmp", "qnp")).contains("unknown field"));
		assert!(fault(&GOOD.replace("qcow2\"\n\t", "vmdk\"\n\t")).contains("vmdk"));
		assert!(fault(&GOOD.replace("/var/web", "var/web")).contains("absolute"));
		assert!(
			fault(&format!("{GOOD}{}", &GOOD[GOOD.find("[[").unwrap()..])).contains("two disks")
		);
		assert!(fault(&GOOD.replace("\"vda\"", "\"a/b\"")).contains("no name"));
		assert!(fault(&"#".repeat(70_000)).contains("at most"));
	}

	#[test]
	fn what_else_a_machine_has_is_read_and_told_again() {
		let more = r#"
		[[disk]]
		name = "swap"
		image = "/var/swap.raw"
		format = "raw"
		skip = true
		[[file]]
		name = "uefi-vars.fd"
		path = "/var/web_VARS.fd"
		[hooks]
		before = ["/bin/true", "web"]
		"#;
		let (_folder, inventory) = inventory(&format!("{GOOD}{more}"));
		let vm = inventory.find(b"web").unwrap();
		let included: Vec<_> = vm.included().map(|disk| disk.name.as_str()).collect();
		assert_eq!((included, vm.files.len()), (vec!["vda"], 1));
		assert_eq!(vm.hooks.as_ref().unwrap().seconds, 30);
		assert_eq!(toml::from_str::<Vm>(&vm.describe()).unwrap(), vm);
	}

	#[test]
	fn faults_in_files_and_hooks_are_told() {
		let file = |name: &str, path: &str| {
			format!("{GOOD}\n[[file]]\nname = \"{name}\"\npath = \"{path}\"\n")
		};
		assert!(fault(&file("a/b", "/x")).contains("no name"));
		assert!(fault(&file("machine.toml", "/x")).contains("two files"));
		assert!(fault(&file("vars", "x")).contains("absolute"));
		assert!(fault(&format!("{GOOD}\n[hooks]\nbefore = [\"x\"]")).contains("absolute"));
		assert!(fault(&format!("{GOOD}\n[hooks]\nseconds = 0")).contains("1 to 3600"));
		assert!(fault(&GOOD.replace("format", "skip = true\nformat")).contains("skipped"));
	}

	#[test]
	fn a_machine_of_libvirt_is_reached_through_libvirt_alone() {
		let good = GOOD.replace("qmp = \"/run/web.sock\"", "libvirt = \"web\"");
		let (_folder, found) = inventory(&good);
		let vm = found.find(b"web").unwrap();
		assert_eq!((vm.libvirt.as_deref(), vm.libvirt_uri()), (Some("web"), LIBVIRT_URI));
		assert_eq!(toml::from_str::<Vm>(&vm.describe()).unwrap(), vm);
		let with = |line: &str| good.replace("libvirt =", &format!("{line}\n\t\tlibvirt ="));
		assert!(fault(&with("qmp = \"/run/web.sock\"")).contains("qmp and libvirt"));
		assert!(fault(&with("guest_agent = \"/run/a.sock\"")).contains("guest_agent and libvirt"));
		assert!(fault(&with("libvirt_uri = \"qemu+ssh://host/system\"")).contains("this host"));
		assert!(fault(&good.replace("\"web\"", "\"\"")).contains("no name of a domain"));
		assert!(fault(&GOOD.replace("qmp", "libvirt_uri")).contains("without libvirt"));
		let file = "[[file]]\nname = \"domain.xml\"\npath = \"/x\"";
		assert!(fault(&format!("{good}\n{file}")).contains("two files"));
		let (_folder, found) = inventory(&format!("{GOOD}\n{file}"));
		assert!(found.find(b"web").is_ok());
	}

	#[test]
	fn a_machine_is_written_once_and_never_over_another() {
		let (folder, inventory) = inventory(GOOD);
		let vm = inventory.find(b"web").unwrap();
		assert!(inventory.add("mail", &vm).unwrap());
		assert_eq!(inventory.find(b"mail").unwrap(), vm);
		let other = Vm { qmp: None, ..vm };
		assert!(!inventory.add("web", &other).unwrap() && !inventory.add("mail", &other).unwrap());
		assert!(inventory.add("../web", &other).is_err());
		assert_eq!(fs::read_to_string(folder.path().join("web.toml")).unwrap(), GOOD);
		assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "and nothing else is left");
	}

	#[test]
	fn a_missing_folder_holds_no_machines() {
		assert!(Inventory::at("/nowhere").all().unwrap().is_empty());
	}
}
