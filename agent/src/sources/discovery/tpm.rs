//! Where a machine's TPM keeps its state: in a file of the `swtpm` process that QEMU talks to.

use super::processes::{self, properties};
use crate::sources::MachineFile;
use std::{
	fs,
	os::unix::fs::MetadataExt,
	path::{Path, PathBuf},
};

/// What `swtpm` calls its state, of a TPM 2.0 and of a TPM 1.2.
const STATE_FILES: [&str; 2] = ["tpm2-00.permall", "tpm-00.permall"];

/// What is noted of a machine whose TPM keeps its state elsewhere.
pub(in crate::sources) const NOT_FOUND: &str = "it has a TPM, and the file with its state was not found: name \
	it in the machine's file ([[file]]), or what the TPM keeps is not backed up";

/// The state that lies in a folder.
pub(in crate::sources) fn state_in(folder: &Path) -> Option<MachineFile> {
	STATE_FILES.iter().find_map(|name| {
		let path = folder.join(name);
		path.is_file().then(|| MachineFile { name: (*name).to_owned(), path })
	})
}

/// The state of the TPM that listens at a socket, which the QEMU with this process id talks to.
pub(super) fn state_behind(socket: &Path, qemu: u32) -> Option<MachineFile> {
	// Others could name any folder of this host.
	let owner = user(qemu);
	let may_tell = |pid: &u32| user(*pid).is_some_and(|user| user == 0 || Some(user) == owner);
	let is_swtpm = |words: &[String]| {
		words
			.first()
			.is_some_and(|program| Path::new(program).file_name() == Some("swtpm".as_ref()))
	};
	processes::pids().ok()?.into_iter().filter(may_tell).find_map(|pid| {
		let words = processes::command_line(pid).filter(|words| is_swtpm(words))?;
		let (control, folder) = parse(&words)?;
		let begin = processes::folder(pid);
		if begin.join(control) != socket {
			return None;
		}
		state_in(&begin.join(folder))
	})
}

fn user(pid: u32) -> Option<u32> {
	fs::metadata(format!("/proc/{pid}")).ok().map(|process| process.uid())
}

/// The control socket and the folder with the state that a command line of `swtpm` names.
fn parse(words: &[String]) -> Option<(PathBuf, PathBuf)> {
	let value = |option: &str| {
		let behind = words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].as_str());
		behind
			.or_else(|| words.iter().find_map(|word| word.strip_prefix(option)?.strip_prefix('=')))
	};
	let (_, control) = properties(value("--ctrl")?);
	let (_, state) = properties(value("--tpmstate")?);
	Some((control.get("path")?.into(), state.get("dir")?.into()))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn socket_and_folder_are_read_from_both_ways_to_write_them() {
		let read = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
		let expected = Some((PathBuf::from("/run/web.tpm"), PathBuf::from("/var/tpm/web")));
		assert_eq!(
			read(
				"/usr/bin/swtpm socket --ctrl type=unixio,path=/run/web.tpm,mode=0600 \
				 --tpmstate dir=/var/tpm/web,mode=0600 --tpm2 -t"
			),
			expected
		);
		let line = "swtpm socket --tpmstate=dir=/var/tpm/web --ctrl=type=unixio,path=/run/web.tpm";
		assert_eq!(read(line), expected);
	}

	#[test]
	fn what_has_no_socket_or_no_folder_is_passed_over() {
		for line in [
			"swtpm",
			"swtpm socket --ctrl",
			"swtpm socket --ctrl type=tcp,port=1 --tpmstate dir=/a",
			"swtpm socket --ctrl type=unixio,path=/a --tpmstate backend-uri=dir:///b",
		] {
			assert_eq!(
				parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()),
				None,
				"{line}"
			);
		}
	}

	#[test]
	fn the_newer_kind_of_state_comes_first() {
		let folder = tempfile::tempdir().unwrap();
		assert_eq!(state_in(folder.path()), None);
		for name in ["tpm-00.permall", "tpm2-00.permall"] {
			fs::write(folder.path().join(name), "state").unwrap();
			assert_eq!(state_in(folder.path()).unwrap().name, name);
		}
	}
}
