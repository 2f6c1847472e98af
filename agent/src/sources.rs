//! Where disks are read from: running and stopped QEMU machines.
//!
//! A [`Vm`] is what the operator says of a machine in the node's inventory. [`Vm::open`] checks
//! the machine's own tag, freezes all its disks at one instant, and gives a reader for each. A
//! machine whose control socket answers is read while it runs ([`live`]); one whose socket is
//! gone is read from its images, under QEMU's own locks ([`image`]). One that libvirt runs is read
//! through libvirt, and nothing is done behind its back. Whatever happens here, a
//! guest that ran goes on running.

mod checkpoint;
pub(crate) mod discovery;
pub mod error;
pub(crate) mod filling;
mod guest_agent;
mod hooks;
pub mod image;
mod leftovers;
mod libvirt;
pub mod live;
pub mod nbd;
pub mod qmp;
mod scratch;
mod socket;
mod trial;
pub mod vm;

pub use checkpoint::Checkpoint;
pub use error::SourceError;
pub use filling::Filling;
pub use leftovers::Leftovers;
pub(crate) use trial::{Holds, Outcome, Point};
pub use vm::{
	DESCRIPTION_FILE, DOMAIN_FILE, Disk, Hooks, ImageFormat, Inventory, LIBVIRT_URI, MachineFile,
	Vm,
};
pub(crate) use vm::{FILES_MAX, MACHINE_FILE_BYTES_MAX};

use crate::{
	pipeline::source::DiskReader,
	stage::{self, Stage},
};
use backup_primitives::{Consistency, VmTag};
use std::{
	ops::Range,
	path::{Path, PathBuf},
	time::Duration,
};

/// What everything of ours begins with: nodes and exports in QEMU, and files in the scratch
/// folder. Whoever comes after a kill knows by it what to take away.
pub(crate) const PREFIX: &str = "pbk-";

/// How machines are opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
	/// Where guests' writes are kept while a machine is read, and sockets.
	pub scratch_dir: PathBuf,
	/// Most bytes that the writes of one disk may take there. Past it the backup ends, never
	/// the guest.
	pub scratch_bytes_max: u64,
	/// How long the guest's own agent may take to freeze its file systems.
	pub freeze_time_max: Duration,
	/// Where a machine is noted down that does not let go.
	pub leftovers: Leftovers,
}

/// A machine whose disks stand still, as readers see them.
pub struct OpenVm {
	/// The disks, in the order of the inventory.
	pub disks: Vec<OpenDisk>,
	/// How well they fit together.
	pub consistency: Consistency,
	/// What belongs to the machine beside its disks, by name, as of the same instant.
	pub files: Vec<(String, Vec<u8>)>,
	/// How long the machine stood still for it: nothing for one that was off.
	pub pause: Duration,
	/// The backup that [`OpenDisk::written`] counts from, if any disk knows.
	pub base: Option<Checkpoint>,
	/// This instant, if writes from here on are recorded.
	pub checkpoint: Option<Checkpoint>,
	hold: Hold,
}

/// A machine that is off and cannot start.
#[derive(Debug)]
pub struct HeldVm {
	vm: Vm,
	images: Vec<image::HeldImage>,
}

impl HeldVm {
	/// Fails if the machine is not held any more.
	pub fn ensure_held(&mut self) -> Result<(), SourceError> {
		let lost = self.images.iter_mut().any(|image| !image.is_held());
		match lost || self.vm.is_running()? {
			true => Err(SourceError::Running),
			false => Ok(()),
		}
	}
}

/// Keep images from being used, until what is returned is dropped. One that is not there cannot be
/// held, and needs not be.
pub(crate) fn hold_images(
	disks: &[Disk],
	scratch_dir: &Path,
) -> Result<impl Sized + use<>, SourceError> {
	image::hold(disks, scratch_dir)
}

/// One disk of an [`OpenVm`].
pub struct OpenDisk {
	/// Its name in the inventory.
	pub name: String,
	/// Reads it as it was at the instant of opening.
	pub reader: Box<dyn DiskReader>,
	/// What was written to it since the base, sorted and apart from each other, if that was
	/// recorded.
	pub written: Option<Vec<Range<u64>>>,
}

/// What keeps the disks still. Dropping it lets go, in the right order.
enum Hold {
	Live(Box<live::LiveVm>),
	Libvirt(Box<libvirt::LibvirtVm>),
	Stopped(Vec<image::ServedImage>),
}

impl Vm {
	/// Freeze the machine's disks at this instant.
	///
	/// `known` are the checkpoints of its backups that are there, the newest first: what was
	/// written since one of them is told if that was recorded. Afterwards
	/// [`settle`](Self::settle) decides from which one it is recorded further.
	///
	/// Fails before anything is touched if the machine does not carry `tag`.
	pub fn open(
		&self,
		tag: VmTag,
		known: &[Checkpoint],
		options: &OpenOptions,
	) -> Result<OpenVm, SourceError> {
		let is_left_over = options.leftovers.take_over(self);
		let hooks = hooks::Around::of(self, &options.scratch_dir);
		let _open = stage::enter(Stage::Open);
		let ready = hooks.as_ref().map_or(Ok(()), hooks::Around::before);
		let opened = ready.and_then(|()| self.open_now(tag, known, options));
		if let Some(hooks) = hooks {
			hooks.after();
		}
		if is_left_over && opened.is_err() {
			options.leftovers.add(self);
		}
		opened
	}

	fn open_now(
		&self,
		tag: VmTag,
		known: &[Checkpoint],
		options: &OpenOptions,
	) -> Result<OpenVm, SourceError> {
		if let Some(domain) = libvirt::find(self)? {
			return libvirt::open(self, domain, tag, known, options);
		}
		match live::connect(self)? {
			Some(monitor) => live::open(self, monitor, tag, known, options),
			None => image::open(self, tag, known, options),
		}
	}

	/// Whether it runs.
	pub fn is_running(&self) -> Result<bool, SourceError> {
		match libvirt::find(self)? {
			Some(domain) => domain.is_running(),
			None => Ok(live::connect(self)?.is_some()),
		}
	}

	/// Go on recording what is written to a running machine's disks since the newest of these
	/// checkpoints, and forget all others.
	pub fn settle(&self, known: &[Checkpoint]) -> Result<(), SourceError> {
		if let Some(domain) = libvirt::find(self)? {
			return libvirt::settle(&domain, known);
		}
		match live::connect(self)? {
			Some(mut monitor) => live::settle(self, &mut monitor, known),
			None => Ok(()),
		}
	}

	/// Keep a machine that is off from starting, until what is returned is dropped. An image that
	/// is not there cannot be held, and needs not be.
	pub fn hold(&self, tag: VmTag, scratch_dir: &Path) -> Result<HeldVm, SourceError> {
		if self.uuid != tag {
			return Err(SourceError::TagMismatch { expected: tag, found: self.uuid });
		}
		match self.is_running()? {
			true => Err(SourceError::Running),
			false => {
				let images = image::hold(&self.disks, scratch_dir)?;
				Ok(HeldVm { vm: self.clone(), images })
			}
		}
	}

	/// Have the machine, if it runs, copy what these images of it lack from the server on a socket,
	/// and say how far that is.
	pub fn fill(&self, images: &[PathBuf], socket: &Path) -> Result<Filling, SourceError> {
		filling::fill(self, images, socket)
	}

	/// Run the hook that an agent which was killed owes the machine.
	pub fn settle_hooks(&self, scratch_dir: &Path) {
		if let Some(hooks) = hooks::Around::of(self, scratch_dir) {
			hooks.settle();
		}
	}

	/// The file that says that a hook is owed to the machine.
	pub(crate) fn hook_note(&self, scratch_dir: &Path) -> PathBuf {
		hooks::note(self, scratch_dir)
	}

	/// Take away what a backup left in the running machine, if it runs, and let it go on if that
	/// backup had stopped or frozen it.
	///
	/// # Errors
	/// [`SourceError::NotThawed`] when all but the guest's file systems is as it was.
	pub fn recover(&self) -> Result<(), SourceError> {
		if let Some(domain) = libvirt::find(self)? {
			return libvirt::clean(&domain);
		}
		match live::connect(self)? {
			Some(mut monitor) => live::clean(&mut monitor, self.guest_agent.as_deref()),
			None => Ok(()),
		}
	}
}

impl OpenVm {
	/// Let go of the machine, and say if that did not go as it should. Dropping does the same
	/// and logs it.
	pub fn close(self) -> Result<(), SourceError> {
		let Self { disks, hold, .. } = self;
		// The readers' connections go first: an export in use cannot be removed softly.
		drop(disks);
		match hold {
			Hold::Live(machine) => machine.close(),
			Hold::Libvirt(machine) => machine.close(),
			Hold::Stopped(images) => {
				drop(images);
				Ok(())
			}
		}
	}
}

impl std::fmt::Debug for OpenVm {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		let names: Vec<_> = self.disks.iter().map(|disk| &disk.name).collect();
		f.debug_struct("OpenVm").field("disks", &names).finish_non_exhaustive()
	}
}

impl std::fmt::Debug for OpenDisk {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("OpenDisk").field("name", &self.name).finish_non_exhaustive()
	}
}
