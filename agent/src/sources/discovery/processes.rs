//! QEMU's processes, by what stands on their command lines.

use crate::sources::guest_agent::CHANNEL;
use std::{
	collections::HashMap,
	fs,
	io::{self, Read},
	os::unix::fs::MetadataExt,
	path::{Path, PathBuf},
};

/// Most bytes of a command line.
const COMMAND_BYTES_MAX: u64 = 1 << 20;

/// Most machines of a host.
const PROCESSES_MAX: usize = 4096;

/// What libvirt calls the monitor of its machines.
const LIBVIRT_MONITOR: &str = "charmonitor";

/// A process of QEMU's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process {
	pub(super) pid: u32,
	pub(super) name: Option<String>,
	pub(super) uuid: Option<String>,
	/// Its QMP sockets in the file system.
	pub(super) qmp: Vec<PathBuf>,
	pub(super) guest_agent: Option<PathBuf>,
	/// The socket of its TPM, which is a program of its own.
	pub(super) tpm: Option<PathBuf>,
	/// Whether libvirt started it.
	pub(super) is_libvirt: bool,
	/// Where its relative paths begin.
	pub(super) folder: PathBuf,
}

impl Process {
	/// Whether it has this file or device open. Only its own user and root may know.
	pub(super) fn has_open(&self, path: &Path) -> bool {
		let identity =
			|path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
		let Some(wanted) = identity(path) else { return false };
		let open = fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten();
		open.flatten().any(|entry| identity(&entry.path()) == Some(wanted))
	}
}

/// All of them, by process id. One that ends meanwhile is none.
pub(super) fn list() -> io::Result<Vec<Process>> {
	Ok(pids()?.into_iter().filter_map(read).take(PROCESSES_MAX).collect())
}

/// All processes of this host, in order.
pub(super) fn pids() -> io::Result<Vec<u32>> {
	let pid = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
	let mut pids: Vec<u32> = fs::read_dir("/proc")?.filter_map(pid).collect();
	pids.sort_unstable();
	Ok(pids)
}

/// The words that a process was started with, if it still runs.
pub(super) fn command_line(pid: u32) -> Option<Vec<String>> {
	let mut bytes = Vec::new();
	let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
	file.take(COMMAND_BYTES_MAX).read_to_end(&mut bytes).ok()?;
	let words = bytes.split(|byte| *byte == 0);
	Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// Where the relative paths of a process begin. Only its own user and root may know.
pub(super) fn folder(pid: u32) -> PathBuf {
	fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| "/".into())
}

fn read(pid: u32) -> Option<Process> {
	let words = command_line(pid)?;
	is_qemu(words.first()?).then(|| parse(pid, &words, folder(pid)))
}

fn is_qemu(program: &str) -> bool {
	let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
	name.starts_with("qemu-system-") || ["qemu-kvm", "kvm"].contains(&name)
}

fn parse(pid: u32, words: &[String], folder: PathBuf) -> Process {
	let mut process = Process {
		pid,
		name: None,
		uuid: None,
		qmp: Vec::new(),
		guest_agent: None,
		tpm: None,
		is_libvirt: false,
		folder,
	};
	let mut sockets: HashMap<String, PathBuf> = HashMap::new();
	let (mut monitors, mut agents, mut tpms) = (Vec::new(), Vec::new(), Vec::new());
	for pair in words.windows(2) {
		let Some(option) = pair[0].strip_prefix('-') else { continue };
		let (first, properties) = properties(&pair[1]);
		let get = |key: &str| properties.get(key).cloned();
		match option.trim_start_matches('-') {
			"name" => process.name = get("guest").or(first),
			"uuid" => process.uuid = first.map(|uuid| uuid.to_ascii_lowercase()),
			"qmp" | "qmp-pretty" => {
				let path = first.and_then(|kind| kind.strip_prefix("unix:").map(PathBuf::from));
				process.qmp.extend(path);
			}
			"chardev" if first.as_deref() == Some("socket") => {
				if let (Some(id), Some(path)) = (get("id"), get("path")) {
					sockets.insert(id, path.into());
				}
			}
			"mon" if get("mode").as_deref() == Some("control") => {
				monitors.extend(get("chardev").or(first));
			}
			"device" if get("name").as_deref() == Some(CHANNEL) => {
				agents.extend(get("chardev"));
			}
			"tpmdev" if first.as_deref() == Some("emulator") => tpms.extend(get("chardev")),
			_ => (),
		}
	}
	process.is_libvirt = monitors.iter().any(|monitor| monitor == LIBVIRT_MONITOR);
	let socket = |id: &String| sockets.get(id).cloned();
	process.qmp.extend(monitors.iter().filter_map(socket));
	process.guest_agent = agents.iter().find_map(socket);
	process.tpm = tpms.iter().find_map(socket);
	let folder = process.folder.clone();
	let Process { qmp, guest_agent, tpm, .. } = &mut process;
	for path in qmp.iter_mut().chain(guest_agent).chain(tpm) {
		*path = folder.join(&*path);
	}
	process
}

/// The word that an option's value begins with, and what follows as `key=value`. A comma in a value
/// is written twice.
pub(super) fn properties(value: &str) -> (Option<String>, HashMap<String, String>) {
	const COMMA: char = '\0';
	let value = value.replace(",,", "\0");
	let mut first = None;
	let mut properties = HashMap::new();
	for (place, part) in value.split(',').enumerate() {
		let part = part.replace(COMMA, ",");
		match part.split_once('=') {
			Some((key, value)) => drop(properties.insert(key.to_owned(), value.to_owned())),
			None if place == 0 => first = Some(part),
			None => (),
		}
	}
	(first, properties)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn process(line: &str) -> Process {
		let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
		assert!(is_qemu(&words[0]), "{line}");
		parse(7, &words, "/srv".into())
	}

	#[test]
	fn the_options_of_people_are_read() {
		let found = process(
			"/usr/bin/qemu-system-x86_64 -m 64 -name web -uuid C0FFEE00-0000-8000-8000-000000000001 \
			 -qmp unix:/run/web.qmp,server=on,wait=off --qmp unix:backup.sock,server -qmp tcp::4444",
		);
		assert_eq!(found.name.as_deref(), Some("web"));
		assert_eq!(found.uuid.as_deref(), Some("c0ffee00-0000-8000-8000-000000000001"));
		assert_eq!(found.qmp, [Path::new("/run/web.qmp"), Path::new("/srv/backup.sock")]);
		assert!(found.guest_agent.is_none() && !found.is_libvirt);
	}

	#[test]
	fn the_options_of_programs_are_read() {
		let found = process(
			"qemu-kvm -name guest=a,,b,debug-threads=on -chardev socket,id=m,path=/run/m,server=on \
			 -mon chardev=m,mode=control -chardev socket,path=/run/qga,,1,id=ga -device \
			 virtserialport,chardev=ga,name=org.qemu.guest_agent.0 -chardev socket,id=x,path=/run/x \
			 -mon x,mode=readline -mon chardev=gone,mode=control -chardev socket,id=t,path=swtpm.sock \
			 -tpmdev emulator,id=tpm0,chardev=t -tpmdev passthrough,id=tpm1",
		);
		assert_eq!(found.tpm.as_deref(), Some(Path::new("/srv/swtpm.sock")));
		assert_eq!(found.name.as_deref(), Some("a,b"));
		assert_eq!(found.qmp, [Path::new("/run/m")]);
		assert_eq!(found.guest_agent.as_deref(), Some(Path::new("/run/qga,1")));
	}

	#[test]
	fn a_machine_that_libvirt_started_is_known_by_its_monitor() {
		let found = process(
			"/usr/bin/qemu-system-x86_64 -name guest=web -chardev socket,id=charmonitor,fd=25 \
			 -mon chardev=charmonitor,id=monitor,mode=control",
		);
		assert!(found.is_libvirt && found.qmp.is_empty());
	}

	#[test]
	fn other_programs_are_none() {
		for program in ["/usr/bin/qemu-img", "qemu-nbd", "bash", "", "/usr/bin/python3"] {
			assert!(!is_qemu(program), "{program}");
		}
		assert!(list().unwrap().iter().all(|process| process.pid != std::process::id()));
	}

	#[test]
	fn a_line_that_ends_early_or_makes_no_sense_is_read_as_far_as_it_goes() {
		for line in ["kvm -name", "kvm -qmp", "kvm -uuid , -mon ,,,=", "kvm -chardev socket,id= -"]
		{
			let found = process(line);
			assert!(found.qmp.is_empty() && found.guest_agent.is_none(), "{line}");
		}
	}
}
