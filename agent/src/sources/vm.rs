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
//! ```
//!
//! A running machine is believed only what QEMU says of its UUID; `uuid` counts when it is off.

use super::SourceError;
use backup_primitives::VmTag;
use serde::Deserialize;
use std::{
	collections::HashSet,
	fs, io,
	path::{Path, PathBuf},
};

/// Most bytes of one file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Most disks of one machine.
pub const DISKS_MAX: usize = 16;

/// Most machines of one node.
const VMS_MAX: usize = 4096;

/// The inventory's folder.
#[derive(Clone, Debug)]
pub struct Inventory {
	folder: PathBuf,
}

/// A machine, as the operator describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
	/// Its tag when it is off.
	pub uuid: VmTag,
	/// QEMU's control socket.
	pub qmp: Option<PathBuf>,
	/// The guest agent's socket.
	pub guest_agent: Option<PathBuf>,
	/// Its disks.
	#[serde(rename = "disk")]
	pub disks: Vec<Disk>,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
	/// Its name in backups, as `vda`.
	pub name: String,
	/// Its image.
	pub image: PathBuf,
	/// How the image is laid out.
	pub format: ImageFormat,
}

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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

	/// All machines that can be read, for cleaning up. Faulty files are left out and logged.
	pub fn all(&self) -> io::Result<Vec<(String, Vm)>> {
		let mut machines = Vec::new();
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
			match read(&path) {
				Ok(Some(vm)) => machines.push((name.to_owned(), vm)),
				Ok(None) => (),
				Err(error) => tracing::warn!(%error, "failed to read a machine's file"),
			}
		}
		Ok(machines)
	}
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
	let vm: Vm = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
	check(&vm).map_err(wrong)?;
	Ok(Some(vm))
}

fn check(vm: &Vm) -> Result<(), String> {
	if !(1..=DISKS_MAX).contains(&vm.disks.len()) {
		return Err(format!("a machine has 1 to {DISKS_MAX} disks, this has {}", vm.disks.len()));
	}
	let mut names = HashSet::new();
	for disk in &vm.disks {
		if !is_name(disk.name.as_bytes()) || disk.name.len() > 32 {
			return Err(format!("{:?} is no name of a disk; write one as 'vda'", disk.name));
		}
		if !names.insert(&disk.name) {
			return Err(format!("two disks are called {:?}", disk.name));
		}
		if !disk.image.is_absolute() {
			return Err(format!("{} is no absolute path", disk.image.display()));
		}
	}
	Ok(())
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
	fn a_missing_folder_holds_no_machines() {
		assert!(Inventory::at("/nowhere").all().unwrap().is_empty());
	}
}
