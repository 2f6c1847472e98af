//! What can go wrong with a guest.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why a guest could not be made, started or spoken to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
	/// A program this needs could not be run at all.
	#[error("run {program}: is it installed? scripts/setup.sh does it")]
	Program {
		/// The program.
		program: String,
		/// Why it did not start.
		#[source]
		source: io::Error,
	},
	/// A program ended with an error.
	#[error("{program} ended with {status}: {stderr}")]
	Failed {
		/// The program.
		program: String,
		/// How it ended.
		status: ExitStatus,
		/// The end of what it said.
		stderr: String,
	},
	/// A file or socket could not be used.
	#[error("use {path}")]
	File {
		/// The file or socket.
		path: PathBuf,
		/// Why not.
		#[source]
		source: io::Error,
	},
	/// A socket's path is longer than the kernel takes.
	#[error("place sockets in {dir}: the path has more than {bytes_max} bytes")]
	PathTooLong {
		/// The directory asked for.
		dir: PathBuf,
		/// The longest path it may have.
		bytes_max: usize,
	},
	/// QEMU is gone; `log` is the end of what it and the guest said.
	#[error("talk to the guest, QEMU has ended: {log}")]
	Exited {
		/// The end of QEMU's messages and of the guest's console.
		log: String,
	},
	/// Nothing came in time.
	#[error("get {awaited} within {timeout:?}; the guest's last words: {log}")]
	TimedOut {
		/// What was waited for.
		awaited: String,
		/// For how long.
		timeout: Duration,
		/// The end of QEMU's messages and of the guest's console.
		log: String,
	},
	/// The guest refused a command, or answered something that makes no sense.
	#[error("have {command:?} obeyed, the guest says {answer:?}")]
	Refused {
		/// The command.
		command: String,
		/// The guest's answer.
		answer: String,
	},
	/// QEMU refused a QMP command.
	#[error("execute {command} over QMP: {answer}")]
	Qmp {
		/// The command.
		command: String,
		/// QEMU's answer.
		answer: String,
	},
}
