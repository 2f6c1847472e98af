//! Reading a machine that libvirt runs, through libvirt alone.
//!
//! 1. Ask for the domain's UUID, and refuse a wrong one before anything is touched.
//! 2. Take away what a killed agent left. A domain that is off is read from its images then.
//! 3. Make scratch images; freeze the guest's file systems where its agent can.
//! 4. Begin a backup job in pull mode and a checkpoint with it, at one instant for all disks. Let
//!    the file systems go on.
//! 5. Read the disks over NBD as they were at that instant, and before that which parts were
//!    written to since the last backup's checkpoint.
//! 6. End the job.
//!
//! All of it goes through the program `virsh`: libvirt knows of everything that happens to its
//! QEMU, and the agent needs no library of libvirt's. While disks are read, a thread looks how much
//! the guest has overwritten, and ends the backup in time ([`watch`]).

mod begin;
mod checkpoints;
mod definition;
mod discovery;
mod domain;
mod drives;
#[cfg(test)]
mod fake;
mod guest;
mod job;
mod orders;
mod reader;
mod trial;
mod virsh;
mod watch;

use super::{
	Checkpoint, DOMAIN_FILE, Disk, Hold, Leftovers, OpenDisk, OpenOptions, OpenVm, PREFIX,
	SourceError, Vm, image,
	live::bitmaps::{Bitmap, recorded_as},
	nbd::{self, AfterRead, NbdDisk},
	scratch::{Overwritten, Room, Scratch},
};
use crate::stage::{self, Stage};
use backup_primitives::{Consistency, VmTag};
use begin::{Order, begin};
use definition::Definition;
pub(super) use discovery::{describe, list};
pub(super) use domain::Domain;
use drives::{
	Drive, ensure_same_format, find_drives, find_recorded, find_target, is_recorded,
	recorded_files, refuse_threads,
};
use guest::Frozen;
use job::Job;
use orders::Ordered;
use reader::LibvirtDisk;
use std::{
	fs,
	io::{self, Write},
	ops::Range,
	os::unix::fs::{DirBuilderExt, chown},
	path::{Path, PathBuf},
	time::Duration,
};
use tempfile::NamedTempFile;
pub(super) use trial::try_out;
use virsh::{CHANGE_TIME_MAX, Virsh};
use watch::Watch;

/// How long a guest's file systems may stand still until they are told to go on: freezing them and
/// beginning the backup together.
const STILL_TIME_MAX: Duration = Duration::from_secs(30);

/// A domain with a backup job. Dropping it ends the job.
#[derive(Debug)]
pub(super) struct LibvirtVm {
	domain: Domain,
	vm: Vm,
	leftovers: Leftovers,
	/// Ends before the scratch that it looks at goes.
	watch: Option<Watch>,
	scratch: Scratch,
	/// The folder of the socket. Dropping it removes it.
	folder: SocketFolder,
	is_closed: bool,
}

/// The domain of a machine, if libvirt runs it.
pub(super) fn find(vm: &Vm) -> Result<Option<Domain>, SourceError> {
	let Some(name) = &vm.libvirt else { return Ok(None) };
	Domain::find(Virsh::at(vm.libvirt_uri()), name).map(Some)
}

/// Freeze the disks of a machine that libvirt knows.
pub(super) fn open(
	vm: &Vm,
	domain: Domain,
	tag: VmTag,
	known: &[Checkpoint],
	options: &OpenOptions,
) -> Result<OpenVm, SourceError> {
	domain.check_tag(tag)?;
	// What makes the domain again. Passwords stay on this host: the snapshot's owner is a tenant.
	let xml = domain.run("dumpxml", &["--inactive"])?;
	let mut open = match domain.is_running()? {
		true => open_running(vm, domain, tag, known, options)?,
		false => {
			let definition = Definition::parse(&xml)
				.map_err(|reason| domain.not_understood("a domain", reason))?;
			open_stopped(vm, &domain, tag, known, &definition, options)?
		}
	};
	open.files.push((DOMAIN_FILE.to_owned(), xml.into_bytes()));
	Ok(open)
}

/// Read a domain that is off from its images. What its guest has written is recorded there, under
/// the checkpoint's name, and libvirt knows which disks had which files then.
fn open_stopped(
	vm: &Vm,
	domain: &Domain,
	tag: VmTag,
	known: &[Checkpoint],
	definition: &Definition,
	options: &OpenOptions,
) -> Result<OpenVm, SourceError> {
	// The images are read as the inventory has them, so that must be what the domain has.
	let mut targets = Vec::new();
	for disk in vm.included() {
		let target = find_target(disk, definition)?;
		ensure_same_format(disk, target)?;
		targets.push(target);
	}
	let base = checkpoints::find(domain, known)?;
	let recorded = base.map(|base| recorded_files(domain, base)).transpose()?.unwrap_or_default();
	let judge = |disk: &Disk, bitmaps: &[Bitmap]| {
		let target = targets.iter().find(|target| target.name == disk.name)?;
		let checkpoint = base.filter(|_| is_recorded(target, &recorded))?;
		recorded_as(bitmaps, &checkpoints::name(checkpoint), checkpoint)
	};
	image::open_judging(vm, tag, base.as_slice(), options, judge)
}

fn open_running(
	vm: &Vm,
	domain: Domain,
	tag: VmTag,
	known: &[Checkpoint],
	options: &OpenOptions,
) -> Result<OpenVm, SourceError> {
	let hangs = match clean(&domain) {
		// What the disks hold can be read all the same.
		Err(error @ SourceError::NotThawed { .. }) => {
			tracing::warn!(%tag, %error, "the guest hangs");
			options.leftovers.add(vm);
			true
		}
		result => result.map(|()| false)?,
	};
	if let Job::Foreign(job) = job::find(&domain)? {
		return Err(SourceError::Busy { domain: domain.name, job });
	}
	let mut definition = domain.definition()?;
	// An agent that does not thaw is not asked to freeze: it would fail each backup.
	definition.has_agent &= !hangs;
	let mut drives = find_drives(vm, &domain, &definition)?;
	refuse_threads(&domain, &drives)?;
	let base = checkpoints::settle(&domain, known)?;
	let base = find_recorded(&domain, base, &mut drives)?;
	let mut machine = LibvirtVm::prepare(vm, domain, tag, &drives, &definition, options)?;
	let begun = machine.freeze(&drives, &definition, base, options.freeze_time_max)?;
	tracing::info!(%tag, pause = ?begun.pause, consistency = ?begun.consistency, "the machine's disks stand still");
	let files = vm.read_files()?;
	let disks = machine.connect(&drives, begun.base)?;
	Ok(OpenVm {
		disks,
		files,
		consistency: begun.consistency,
		pause: begun.pause,
		base: begun.base,
		checkpoint: begun.checkpoint,
		hold: Hold::Libvirt(Box::new(machine)),
	})
}

/// End the backup job of ours, if there is one, and let the guest's file systems go on if we had
/// frozen them. Jobs of others are left alone.
///
/// # Errors
/// [`SourceError::NotThawed`] when all but the guest's file systems is as it was.
pub(super) fn clean(domain: &Domain) -> Result<(), SourceError> {
	if !domain.is_running()? {
		return Ok(());
	}
	let thawed = guest::settle(domain);
	job::end(domain)?;
	match thawed {
		// The guest needs no thawing if it is gone.
		Err(_) if !domain.is_running()? => Ok(()),
		thawed => thawed,
	}
}

/// Settle since when libvirt records what is written to the domain's disks. Only a QEMU can do that.
pub(super) fn settle(domain: &Domain, known: &[Checkpoint]) -> Result<(), SourceError> {
	match domain.is_running()? {
		true => checkpoints::settle(domain, known).map(drop),
		false => Ok(()),
	}
}

/// A backup job that has begun.
#[derive(Debug)]
struct Begun {
	consistency: Consistency,
	pause: Duration,
	base: Option<Checkpoint>,
	checkpoint: Option<Checkpoint>,
}

impl LibvirtVm {
	fn prepare(
		vm: &Vm,
		domain: Domain,
		tag: VmTag,
		drives: &[Drive<'_>],
		definition: &Definition,
		options: &OpenOptions,
	) -> Result<Self, SourceError> {
		let disks: Vec<_> = drives
			.iter()
			.map(|drive| Overwritten { name: &drive.disk.name, size_bytes: drive.size_bytes })
			.collect();
		let scratch = Scratch::make(tag, &disks, Room::Reserved, options)?;
		if !scratch.is_reserved {
			tracing::warn!(
				folder = %options.scratch_dir.display(),
				"the file system sets no room aside for scratch; if it is filled, the guest's writes fail"
			);
		}
		let folder = fs::canonicalize(&options.scratch_dir)?;
		let folder = SocketFolder::make(&job::socket_folder(&folder, &domain.uuid))?;
		if let Some((user, group)) = definition.owner {
			give(&folder.path, user, group)?;
			scratch.images.iter().try_for_each(|image| give(image, user, group))?;
		}
		let (vm, leftovers) = (vm.clone(), options.leftovers.clone());
		Ok(Self { domain, vm, leftovers, watch: None, scratch, folder, is_closed: false })
	}

	/// Begin the job, with the guest's file systems still where its agent can.
	fn freeze(
		&mut self,
		drives: &[Drive<'_>],
		definition: &Definition,
		base: Option<Checkpoint>,
		time_max: Duration,
	) -> Result<Begun, SourceError> {
		let _freeze = stage::enter(Stage::Freeze);
		let orders = self.orders(drives, definition, base)?;
		// A guest that is paused cannot answer.
		let frozen = match self.domain.is_awake()? {
			true => guest::freeze(&self.domain, definition, time_max)?,
			false => None,
		};
		let time_max = frozen
			.as_ref()
			.map_or(CHANGE_TIME_MAX, |frozen| STILL_TIME_MAX.saturating_sub(frozen.lasted()));
		let begun = begin(&self.domain, &orders, time_max);
		if begun.is_ok() {
			// Before the guest writes again.
			self.watch = Some(Watch::begin(self.domain.clone(), &self.scratch));
		}
		// Whatever comes of it, the file systems go on before anything else is done.
		let thawed = frozen.map_or(Ok(None), Frozen::thaw);
		let (base, checkpoint) = begun?;
		// A guest that does not thaw is worth more than its backup: letting go of it has it tried
		// again until it does.
		let (consistency, pause) = match thawed? {
			Some(lasted) => (Consistency::Application, lasted),
			None => (Consistency::Crash, Duration::ZERO),
		};
		Ok(Begun { consistency, pause, base, checkpoint })
	}

	/// Ways to order the backup, the best first: by what was recorded since the base; in full; in
	/// full and without recording what comes. What the last one cannot do nothing can.
	fn orders(
		&self,
		drives: &[Drive<'_>],
		definition: &Definition,
		base: Option<Checkpoint>,
	) -> Result<Vec<Order>, SourceError> {
		let new = drives.iter().any(|drive| drive.target.is_recordable).then(Checkpoint::new);
		let mut ways = vec![(base, new), (None, new), (None, None)];
		ways.dedup();
		ways.into_iter().map(|(base, new)| self.order(drives, definition, base, new)).collect()
	}

	fn order(
		&self,
		drives: &[Drive<'_>],
		definition: &Definition,
		base: Option<Checkpoint>,
		checkpoint: Option<Checkpoint>,
	) -> Result<Order, SourceError> {
		let disks: Vec<_> = drives
			.iter()
			.zip(&self.scratch.images)
			.map(|(drive, scratch)| Ordered {
				name: &drive.disk.name,
				scratch,
				is_recorded: drive.is_recorded,
				is_recordable: drive.target.is_recordable,
			})
			.collect();
		let all = &definition.targets;
		let file = |xml: String| -> io::Result<NamedTempFile> {
			let mut file =
				tempfile::Builder::new().prefix(PREFIX).tempfile_in(self.scratch_dir())?;
			file.write_all(xml.as_bytes())?;
			Ok(file)
		};
		let backup = file(orders::backup(&self.folder.socket(), &disks, all, base))?;
		let begins =
			checkpoint.map(|new| file(orders::checkpoint(new, &disks, all))).transpose()?;
		Ok(Order { base, checkpoint, backup, begins })
	}

	fn scratch_dir(&self) -> &Path {
		self.folder.path.parent().unwrap_or(&self.folder.path)
	}

	/// Open a reader on each disk.
	fn connect(
		&self,
		drives: &[Drive<'_>],
		base: Option<Checkpoint>,
	) -> Result<Vec<OpenDisk>, SourceError> {
		let socket = self.folder.socket();
		let open = |drive: &Drive<'_>| {
			let name = drive.disk.name.clone();
			let is_recorded = base.is_some() && drive.is_recorded;
			let written = if is_recorded { self.written(&socket, &name)? } else { None };
			// What was read cannot be given up: libvirt's exports are not to be written to.
			let disk = NbdDisk::connect(&socket, &name, AfterRead::Keep)?;
			let is_full = self.watch.as_ref().map(Watch::is_full).unwrap_or_default();
			let reader = Box::new(LibvirtDisk::new(disk, self.domain.clone(), is_full));
			Ok(OpenDisk { name, reader, written })
		};
		drives.iter().map(open).collect()
	}

	/// What was written to a disk since the base. A record that libvirt does not hand out must not
	/// keep a machine from being backed up.
	fn written(&self, socket: &Path, disk: &str) -> Result<Option<Vec<Range<u64>>>, SourceError> {
		match nbd::written(socket, disk, orders::RECORD) {
			Ok(written) => Ok(Some(written)),
			Err(error @ SourceError::Nbd(_)) => {
				tracing::warn!(disk, %error, "the disk is read in full");
				Ok(None)
			}
			Err(error) => Err(error),
		}
	}

	/// End the job.
	pub(super) fn close(mut self) -> Result<(), SourceError> {
		self.take_away()
	}

	fn take_away(&mut self) -> Result<(), SourceError> {
		self.is_closed = true;
		// Scratch is watched until the job is gone.
		let cleaned = clean(&self.domain);
		self.watch = None;
		cleaned.inspect_err(|_| self.leftovers.add(&self.vm))
	}
}

impl Drop for LibvirtVm {
	fn drop(&mut self) {
		if self.is_closed {
			return;
		}
		if let Err(error) = self.take_away() {
			tracing::error!(%error, "failed to clean up the domain; it is tried again");
		}
	}
}

/// Hand a file or folder to QEMU's user, who is to open it. Who may not do that is that user, or is
/// told by libvirt's refusal.
fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
	match chown(path, Some(user), Some(group)) {
		Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
		result => result,
	}
}

/// Where QEMU makes the socket of a backup. Nothing else is in there, since QEMU may write to it.
#[derive(Debug)]
struct SocketFolder {
	path: PathBuf,
}

impl SocketFolder {
	fn make(path: &Path) -> io::Result<Self> {
		let folder = Self { path: path.to_owned() };
		// A killed agent may have left it.
		folder.remove()?;
		fs::DirBuilder::new().mode(0o700).create(path)?;
		Ok(folder)
	}

	fn socket(&self) -> PathBuf {
		self.path.join("socket")
	}

	fn remove(&self) -> io::Result<()> {
		match fs::remove_dir_all(&self.path) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
			result => result,
		}
	}
}

impl Drop for SocketFolder {
	fn drop(&mut self) {
		if let Err(error) = self.remove() {
			tracing::warn!(%error, path = %self.path.display(), "failed to remove a folder");
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_guest_that_hangs_is_backed_up_as_it_is() {
		let folder = tempfile::tempdir().unwrap();
		let image = folder.path().join("vda.qcow2");
		fs::write(&image, "").unwrap();
		let xml = format!(
			"<domain><devices><disk type='file' device='disk'><driver type='qcow2'/>\
			<source file='{}'/><target dev='vda' bus='virtio'/></disk><channel type='unix'>\
			<target name='org.qemu.guest_agent.0' state='connected'/></channel></devices></domain>",
			image.display()
		);
		let answers = [
			("metadata", "<frozen/>"),
			("domjobinfo", "Job type: None\n"),
			("dumpxml", &xml),
			("domblkinfo", "Capacity: 1048576\n"),
			("checkpoint-list", ""),
			("domfsfreeze", "Froze 1 filesystem(s)\n"),
			("backup-begin", ""),
		];
		let fake = fake::domain(&answers);
		let vm = Vm::parse(&format!(
			"uuid = \"{}\"\nlibvirt = \"web\"\n[[disk]]\nname = \"vda\"\nimage = {image:?}\n\
			format = \"qcow2\"\n",
			fake::UUID
		));
		let vm = vm.unwrap();
		let options = OpenOptions {
			scratch_dir: folder.path().to_owned(),
			scratch_bytes_max: 64 << 20,
			freeze_time_max: Duration::from_secs(10),
			leftovers: Leftovers::default(),
		};
		// Nobody serves its disks.
		let opened = open_running(&vm, fake.domain.clone(), vm.uuid, &[], &options);
		assert!(opened.is_err());
		let calls = fake.calls();
		let has = |command: &str| calls.iter().any(|call| call == command);
		assert!(has("domfsthaw") && has("backup-begin") && !has("domfsfreeze"), "{calls:?}");
	}
}
