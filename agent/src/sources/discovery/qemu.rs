//! A process of QEMU's, described by what QEMU says over one of its QMP sockets.

use super::{Found, Origin, UEFI_VARIABLES, processes::Process, tpm};
use crate::sources::{
	Disk, ImageFormat, MachineFile, SourceError, Vm, live, qmp::Monitor, vm::is_disk_name,
};
use backup_primitives::VmTag;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const OWN_SOCKET: &str = "start the machine with one more, for backups alone: -qmp unix:/run/machines/NAME/backup.sock,server=on,wait=off";

/// Ask a machine what it is.
pub(super) fn describe(process: &Process) -> Found {
	let origin = Origin::Process(process.pid);
	let mut found = Found::new(origin, process.name.clone(), process.uuid.clone());
	if process.is_libvirt {
		found.problem(
			"libvirt runs it, and does not know it where it was asked",
			"give --libvirt-uri, and have libvirt-clients installed",
		);
		return found;
	}
	let Some((socket, mut monitor)) = choose(process, &mut found) else { return found };
	if let Err(error) = ask(process, socket, &mut monitor, &mut found) {
		found.problem(error.to_string(), "try again, or describe it by hand");
	}
	found
}

/// The socket for backups: one that is called so, or else the first that answers.
fn choose(process: &Process, found: &mut Found) -> Option<(PathBuf, Monitor)> {
	if process.qmp.is_empty() {
		found.problem("it has no QMP socket in the file system", OWN_SOCKET);
		return None;
	}
	let mut sockets: Vec<&PathBuf> = process.qmp.iter().collect();
	let is_for_backups = |path: &Path| path.to_string_lossy().contains("backup");
	sockets.sort_by_key(|path| !is_for_backups(path));
	let mut refusals = Vec::new();
	for socket in sockets {
		match Monitor::connect(socket) {
			Ok(Some(monitor)) => {
				if process.qmp.len() == 1 && !is_for_backups(socket) {
					found.notes.push(
						"it has one QMP socket: whoever else uses it is in the way of backups"
							.into(),
					);
				}
				return Some((socket.clone(), monitor));
			}
			Ok(None) => refusals.push(format!(
				"nobody listens at {}: QEMU may see other folders than this host, as in a container",
				socket.display()
			)),
			Err(error) => refusals.push(error.to_string()),
		}
	}
	found.problem(refusals.join("; "), OWN_SOCKET);
	None
}

fn ask(
	process: &Process,
	socket: PathBuf,
	monitor: &mut Monitor,
	found: &mut Found,
) -> Result<(), SourceError> {
	if live::has_ours(monitor)? {
		found.problem("a backup is under way in it", "wait until it is over");
		return Ok(());
	}
	let name = monitor.run("query-name", json!({}))?;
	found.name = name["name"].as_str().map(str::to_owned).or(found.name.take());
	let uuid = live::tag(monitor)?;
	if uuid == VmTag([0; 16]) {
		found.problem("it has no UUID", "start it with -uuid and the tag of its request");
	}
	found.uuid = Some(uuid.to_string());
	let blocks = monitor.run("query-block", json!({}))?;
	let (mut disks, mut files) = (Vec::new(), Vec::new());
	for block in live::list(&blocks) {
		match Drive::read(block) {
			Drive::None => (),
			Drive::Disk { name, image, format } => {
				let name = unique(name, &disks);
				disks.push(Disk { name, image, format, skip: false });
			}
			Drive::Firmware(path) => {
				files.push(MachineFile { name: UEFI_VARIABLES.to_owned(), path });
			}
			Drive::ReadOnly(image) => {
				found.notes.push(format!("{image} is read-only, so it is left out"));
			}
			Drive::Unfit { what, mend } => found.problem(what, mend),
		}
	}
	let paths = disks.iter().map(|disk| &disk.image).chain(files.iter().map(|file| &file.path));
	for path in paths.filter(|path| !process.has_open(path)) {
		// Whoever listens at the socket could name any file of this host.
		found.problem(
			format!("its process is not seen to have {} open", path.display()),
			"run this as root; or describe it by hand, if that is its disk",
		);
	}
	if let Some(socket) = &process.tpm {
		match tpm::state_behind(socket, process.pid) {
			Some(state) => files.push(state),
			None => found.notes.push(tpm::NOT_FOUND.into()),
		}
	}
	if disks.is_empty() {
		found.problem("it has no disk that can be backed up", "there is nothing to do");
		return Ok(());
	}
	found.describe(Vm {
		uuid,
		qmp: Some(socket),
		guest_agent: process.guest_agent.clone(),
		libvirt: None,
		libvirt_uri: None,
		disks,
		files,
		hooks: None,
	});
	Ok(())
}

/// What a block device is for backups.
#[derive(Debug, PartialEq, Eq)]
enum Drive {
	/// Nothing: an empty drive, a CD, a floppy disk, the firmware itself.
	None,
	Disk {
		name: Option<String>,
		image: PathBuf,
		format: ImageFormat,
	},
	/// UEFI's variables.
	Firmware(PathBuf),
	/// Nobody writes to it through this machine.
	ReadOnly(String),
	Unfit {
		what: String,
		mend: &'static str,
	},
}

impl Drive {
	fn read(block: &Value) -> Self {
		let inserted = &block["inserted"];
		let (device, qdev) = (text(&block["device"]), text(&block["qdev"]));
		let shown = text(&inserted["image"]["filename"]);
		if inserted.is_null() || block["removable"] == true {
			return Self::None;
		}
		let is_firmware = device.contains("flash") || qdev.contains("flash");
		if inserted["ro"] == true {
			return if is_firmware { Self::None } else { Self::ReadOnly(shown.to_owned()) };
		}
		// What has a scheme is on another host, or pieced together.
		let has_scheme = !shown.starts_with('/') && shown.contains(':');
		if shown.is_empty() || has_scheme {
			return Self::Unfit {
				what: format!("its disk {shown:?} is no file and no block device of this host"),
				mend: "describe it by hand without that disk, if it need not be backed up",
			};
		}
		let image = PathBuf::from(shown);
		if image.is_relative() {
			return Self::Unfit {
				what: format!("its disk {shown:?} has no whole path"),
				mend: "start it with the whole path of its image",
			};
		}
		if is_firmware {
			return Self::Firmware(image);
		}
		let format = match text(&inserted["image"]["format"]) {
			"qcow2" => ImageFormat::Qcow2,
			"raw" | "host_device" | "file" => ImageFormat::Raw,
			other => {
				return Self::Unfit {
					what: format!("its disk {shown} has the format {other}"),
					mend: "convert it to qcow2 or raw (qemu-img convert), which backups can read",
				};
			}
		};
		if block["inserted"]["encrypted"] == true {
			return Self::Unfit {
				what: format!("its disk {shown} is encrypted by QEMU"),
				mend: "encrypt in the guest instead: snapshots are encrypted anyway",
			};
		}
		Self::Disk { name: name(device, qdev), image, format }
	}
}

/// What a drive is called on the command line.
fn name(device: &str, qdev: &str) -> Option<String> {
	let given = qdev.strip_prefix("/machine/peripheral/").and_then(|rest| rest.split('/').next());
	let names = [given.unwrap_or_default(), device];
	names.into_iter().find(|name| is_disk_name(name)).map(str::to_owned)
}

/// A name that no disk has yet.
fn unique(name: Option<String>, disks: &[Disk]) -> String {
	let is_free = |name: &String| disks.iter().all(|disk| disk.name != *name);
	let counted = (disks.len()..).map(|number| format!("disk{number}"));
	name.into_iter().chain(counted).find(is_free).unwrap_or_default()
}

fn text(value: &Value) -> &str {
	value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
	use super::*;

	fn drive(block: Value) -> Drive {
		Drive::read(&block)
	}

	fn inserted(filename: &str, format: &str) -> Value {
		json!({ "ro": false, "image": { "filename": filename, "format": format } })
	}

	#[test]
	fn disks_are_told_from_what_is_none() {
		let disk = json!({
			"device": "", "qdev": "/machine/peripheral/root/virtio-backend", "removable": false,
			"inserted": inserted("/srv/web.img", "raw"),
		});
		let expected = Drive::Disk {
			name: Some("root".into()),
			image: "/srv/web.img".into(),
			format: ImageFormat::Raw,
		};
		assert_eq!(drive(disk), expected);
		let cd = json!({ "removable": true, "inserted": inserted("/a.iso", "raw") });
		assert_eq!(drive(cd), Drive::None);
		assert_eq!(drive(json!({ "device": "floppy0", "removable": false })), Drive::None);
		let code = json!({
			"device": "pflash0", "inserted": { "ro": true, "image": { "filename": "/c.fd" } },
		});
		assert_eq!(drive(code), Drive::None);
		let variables = json!({ "device": "pflash1", "inserted": inserted("/v.fd", "raw") });
		assert_eq!(drive(variables), Drive::Firmware("/v.fd".into()));
	}

	#[test]
	fn what_cannot_be_read_is_told_with_what_to_do() {
		for (filename, format) in [
			("/a.vmdk", "vmdk"),
			("nbd://host/x", "raw"),
			("nbd:localhost:10809", "raw"),
			("json:{\"driver\":\"rbd\"}", "raw"),
			("", "raw"),
			("web.img", "raw"),
		] {
			let found = drive(json!({ "inserted": inserted(filename, format) }));
			assert!(matches!(found, Drive::Unfit { .. }), "{filename}: {found:?}");
		}
		let mut luks = inserted("/a.qcow2", "qcow2");
		luks["encrypted"] = true.into();
		assert!(matches!(drive(json!({ "inserted": luks })), Drive::Unfit { .. }));
	}

	#[test]
	fn disks_have_names_that_are_allowed_and_differ() {
		assert_eq!(name("virtio0", ""), Some("virtio0".into()));
		assert_eq!(name("", "/machine/peripheral-anon/device[0]/virtio-backend"), None);
		assert_eq!(name("a b", "/machine/peripheral/c d/x"), None);
		let disk = |name: &str| Disk {
			name: name.into(),
			image: "/x".into(),
			format: ImageFormat::Raw,
			skip: false,
		};
		assert_eq!(unique(None, &[]), "disk0");
		assert_eq!(unique(Some("a".into()), &[disk("a")]), "disk1");
		assert_eq!(unique(None, &[disk("disk1")]), "disk2");
	}
}
