//! Why a machine cannot be read, and what its operator can do about it.

use backup_primitives::{FailureReason, VmTag};
use std::{io, path::PathBuf, time::Duration};

/// Why a machine cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
	/// The inventory has no machine of that name.
	#[error("find machine {name:?} in {}: no such file; write it, or fulfil the request with a name that is there", path.display())]
	VmNotFound {
		/// The machine's name.
		name: String,
		/// The file that was looked for.
		path: PathBuf,
	},
	/// The inventory's file is wrong.
	#[error("read {}: {reason}", path.display())]
	Inventory {
		/// The file.
		path: PathBuf,
		/// What is wrong.
		reason: String,
	},
	/// The machine is another request's.
	#[error(
		"open the machine: it carries the tag {found}, the request's is {expected}; start it with '-uuid {expected}', or fulfil the request with the right machine"
	)]
	TagMismatch {
		/// The request's tag.
		expected: VmTag,
		/// The machine's tag.
		found: VmTag,
	},
	/// Somebody listens on the control socket, who does not speak QMP or is busy.
	#[error("talk to QEMU at {}: {reason}; give backups a QMP socket of their own", path.display())]
	NotQmp {
		/// The socket.
		path: PathBuf,
		/// What happened.
		reason: String,
	},
	/// The control socket is there and cannot be used.
	#[error("connect to QEMU at {}: {source}; let the agent's user read and write that socket", path.display())]
	QmpUnreachable {
		/// The socket.
		path: PathBuf,
		/// Why.
		source: io::Error,
	},
	/// QEMU did not answer in time.
	#[error(
		"have QEMU do {command}: no answer within {} s; is its storage stuck?",
		time_max.as_secs()
	)]
	Timeout {
		/// The command.
		command: String,
		/// How long was waited.
		time_max: Duration,
	},
	/// QEMU refused a command.
	#[error("have QEMU do {command}: {description}")]
	Refused {
		/// The command.
		command: String,
		/// QEMU's words.
		description: String,
	},
	/// libvirt's program could not be run, or was not done in time.
	#[error("run virsh {command}: {reason}")]
	Virsh {
		/// The command.
		command: String,
		/// What happened.
		reason: String,
	},
	/// libvirt refused a command.
	#[error("have libvirt do {command}: {words}")]
	LibvirtRefused {
		/// The command.
		command: String,
		/// Its words.
		words: String,
	},
	/// libvirt has no domain of that name.
	#[error(
		"find domain {domain:?} at {uri}: libvirt does not know it; define it, or correct the machine's file"
	)]
	DomainNotFound {
		/// Its name in the machine's file.
		domain: String,
		/// Where libvirt was reached.
		uri: String,
	},
	/// libvirt does something else with the machine.
	#[error(
		"back up domain {domain:?}: libvirt is busy with a job of somebody else's ({job}); the next cadence tries again"
	)]
	Busy {
		/// The domain's name.
		domain: String,
		/// What libvirt says of the job.
		job: String,
	},
	/// What libvirt said was not to be understood.
	#[error("understand what libvirt says of {what}: {reason}")]
	NotLibvirt {
		/// What was asked for.
		what: String,
		/// What is wrong with it.
		reason: String,
	},
	/// The backup was ended while it was read, and not by its reader.
	#[error("read domain {domain:?}: libvirt's backup job ended meanwhile; did somebody end it?")]
	BackupEnded {
		/// The domain's name.
		domain: String,
	},
	/// A disk of the inventory is not one of the machine's.
	#[error("find disk {name:?}: the machine has no drive on {}", image.display())]
	DiskNotFound {
		/// Its name in the inventory.
		name: String,
		/// Its image.
		image: PathBuf,
	},
	/// The disk is on an I/O thread of a QEMU that does not survive its reader's end.
	#[error(
		"read disk {disk:?} of a running machine: it has an iothread, and a QEMU before 9.0 crashes when a reader of such a disk leaves; start the machine without, or under a newer QEMU"
	)]
	IoThread {
		/// Its name in the inventory.
		disk: String,
	},
	/// The machine ended while it was read.
	#[error("read the machine: it ended meanwhile; the next cadence tries again")]
	Vanished,
	/// The machine runs, and was to be off.
	#[error("replace the machine's disks: it runs; shut it down, and restore once more")]
	Running,
	/// A file of the machine is missing or too large.
	#[error("read {}, which belongs to the machine: {source}", path.display())]
	FileUnreadable {
		/// The file.
		path: PathBuf,
		/// Why.
		source: io::Error,
	},
	/// A program of the operator's did not do what it should before a snapshot.
	#[error("run {program} before the snapshot: {reason}")]
	Hook {
		/// The program.
		program: String,
		/// What happened.
		reason: String,
	},
	/// The guest's file systems may still be frozen.
	#[error("thaw the guest's file systems: {source}; is the guest agent running?")]
	NotThawed {
		/// Why.
		source: io::Error,
	},
	/// What a trial put into the machine may still be there.
	#[error("take away what was put up for the trial")]
	NotTakenAway(#[source] Box<SourceError>),
	/// Guest writes filled the scratch space, or QEMU could not keep them.
	#[error(
		"keep the guest's writes: the scratch space ran out or failed; allow more, or back up when the guest writes less"
	)]
	ScratchFull,
	/// There is too little room to begin.
	#[error("prepare scratch space in {}: {free_bytes} bytes are free, {needed_bytes} are needed", path.display())]
	ScratchTooSmall {
		/// The folder.
		path: PathBuf,
		/// What is free there.
		free_bytes: u64,
		/// What must be.
		needed_bytes: u64,
	},
	/// The image is missing.
	#[error("open {}: {source}", path.display())]
	ImageUnreadable {
		/// The image.
		path: PathBuf,
		/// Why.
		source: io::Error,
	},
	/// Another program holds the image.
	#[error("lock {}: another program uses it; is the machine running without its QMP socket?", path.display())]
	ImageInUse {
		/// The image.
		path: PathBuf,
	},
	/// QEMU's tools cannot serve the image.
	#[error("serve {}: {reason}", path.display())]
	ImageNotServed {
		/// The image.
		path: PathBuf,
		/// The tool's words.
		reason: String,
	},
	/// The other side did not keep to the protocol.
	#[error("speak NBD: {0}")]
	Nbd(String),
	/// Reading or writing failed.
	#[error("exchange data with QEMU")]
	Io(#[from] io::Error),
}

impl SourceError {
	/// What the owner sees of it on chain.
	pub fn reason(&self) -> FailureReason {
		match self {
			Self::VmNotFound { .. }
			| Self::Inventory { .. }
			| Self::DomainNotFound { .. }
			| Self::DiskNotFound { .. } => FailureReason::VmNotFound,
			Self::TagMismatch { .. } => FailureReason::VmTagMismatch,
			Self::NotQmp { .. }
			| Self::QmpUnreachable { .. }
			| Self::Timeout { .. }
			| Self::Refused { .. }
			| Self::Virsh { .. }
			| Self::LibvirtRefused { .. }
			| Self::NotLibvirt { .. }
			| Self::Busy { .. }
			| Self::BackupEnded { .. }
			| Self::NotThawed { .. }
			| Self::NotTakenAway(_)
			| Self::IoThread { .. }
			| Self::Nbd(_)
			| Self::Io(_) => FailureReason::VmUnreachable,
			Self::Vanished => FailureReason::VmVanished,
			Self::Running => FailureReason::VmRunning,
			Self::ScratchFull | Self::ScratchTooSmall { .. } => FailureReason::ScratchFull,
			Self::ImageUnreadable { .. }
			| Self::ImageNotServed { .. }
			| Self::FileUnreadable { .. } => FailureReason::ImageUnreadable,
			Self::ImageInUse { .. } => FailureReason::ImageInUse,
			Self::Hook { .. } => FailureReason::Internal,
		}
	}

	/// The error inside an [`io::Error`] that a reader returned, if it came from here.
	pub fn of(error: &io::Error) -> Option<&Self> {
		error.get_ref().and_then(|inner| inner.downcast_ref())
	}
}

impl From<SourceError> for io::Error {
	fn from(error: SourceError) -> Self {
		match error {
			SourceError::Io(error) => error,
			error => Self::other(error),
		}
	}
}
