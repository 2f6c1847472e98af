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

mod checkpoints;
mod definition;
#[cfg(test)]
mod fake;
mod guest;
mod job;
mod orders;
mod reader;
mod virsh;
mod watch;

use super::{
	Checkpoint, DOMAIN_FILE, Disk, Hold, ImageFormat, Leftovers, OpenDisk, OpenOptions, OpenVm,
	PREFIX, SourceError, Vm, image,
	live::{
		THREAD_SAFE_MAJOR,
		bitmaps::{Bitmap, recorded_as},
		is_same_file,
	},
	nbd::{self, AfterRead, NbdDisk},
	scratch::{Overwritten, Room, Scratch},
};
use backup_primitives::{Consistency, VmTag};
use definition::{Definition, Target};
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
	time::{Duration, Instant},
};
use tempfile::NamedTempFile;
use virsh::{ANSWER_TIME_MAX, CHANGE_TIME_MAX, Virsh};
use watch::Watch;

/// How long a guest's file systems may stand still until they are told to go on: freezing them and
/// beginning the backup together.
const STILL_TIME_MAX: Duration = Duration::from_secs(30);

/// A domain of libvirt's.
#[derive(Clone, Debug)]
pub(super) struct Domain {
	virsh: Virsh,
	/// Its name, for people.
	name: String,
	/// Its UUID, for libvirt: a name may be taken for the number of another domain.
	uuid: String,
}

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

/// A disk that is backed up.
#[derive(Debug)]
struct Drive<'v> {
	disk: &'v Disk,
	target: Target,
	size_bytes: u64,
	/// Whether the base has recorded what was written to it.
	is_recorded: bool,
}

/// A disk that a checkpoint records, and the file that it had then.
type RecordedFile = (String, Option<PathBuf>);

/// The domain of a machine, if libvirt runs it.
pub(super) fn find(vm: &Vm) -> Result<Option<Domain>, SourceError> {
	let Some(name) = &vm.libvirt else { return Ok(None) };
	Domain::find(Virsh::at(vm.libvirt_uri()), name).map(Some)
}

impl Domain {
	fn find(virsh: Virsh, name: &str) -> Result<Self, SourceError> {
		let uuid = match virsh.run("domuuid", &[&format!("--domain={name}")], ANSWER_TIME_MAX) {
			Err(SourceError::LibvirtRefused { words, .. })
				if words.contains("failed to get domain") =>
			{
				let (domain, uri) = (name.to_owned(), virsh.uri().to_owned());
				return Err(SourceError::DomainNotFound { domain, uri });
			}
			uuid => uuid?.trim().to_owned(),
		};
		Ok(Self { virsh, name: name.to_owned(), uuid })
	}

	/// Ask something.
	fn run(&self, command: &str, arguments: &[&str]) -> Result<String, SourceError> {
		self.run_within(command, arguments, ANSWER_TIME_MAX)
	}

	/// Have something changed.
	fn change(&self, command: &str, arguments: &[&str]) -> Result<String, SourceError> {
		self.run_within(command, arguments, CHANGE_TIME_MAX)
	}

	/// Have something done of which it says how much it was.
	fn run_aloud(&self, command: &str, time_max: Duration) -> Result<String, SourceError> {
		self.virsh.run_aloud(command, &[&format!("--domain={}", self.uuid)], time_max)
	}

	fn run_within(
		&self,
		command: &str,
		arguments: &[&str],
		time_max: Duration,
	) -> Result<String, SourceError> {
		let domain = format!("--domain={}", self.uuid);
		let arguments: Vec<&str> =
			[domain.as_str()].into_iter().chain(arguments.iter().copied()).collect();
		self.virsh.run(command, &arguments, time_max)
	}

	fn not_understood(&self, what: &str, reason: String) -> SourceError {
		SourceError::NotLibvirt { what: format!("{what} ({})", self.name), reason }
	}

	fn check_tag(&self, expected: VmTag) -> Result<(), SourceError> {
		let found = self.uuid.parse().unwrap_or(VmTag([0; 16]));
		match found == expected {
			true => Ok(()),
			false => Err(SourceError::TagMismatch { expected, found }),
		}
	}

	/// Whether there is a QEMU. What is paused or in an unknown state has one.
	pub(super) fn is_running(&self) -> Result<bool, SourceError> {
		let state = self.run("domstate", &[])?;
		Ok(!matches!(state.trim(), "shut off" | "crashed"))
	}

	/// Whether the guest itself can answer.
	fn is_awake(&self) -> Result<bool, SourceError> {
		Ok(self.run("domstate", &[])?.trim() == "running")
	}

	fn definition(&self) -> Result<Definition, SourceError> {
		let xml = self.run("dumpxml", &[])?;
		Definition::parse(&xml).map_err(|reason| self.not_understood("a domain", reason))
	}

	fn size_bytes(&self, target: &str) -> Result<u64, SourceError> {
		let info = self.run("domblkinfo", &[&format!("--device={target}")])?;
		let capacity = info.lines().find_map(|line| line.trim().strip_prefix("Capacity:"));
		capacity
			.and_then(|bytes| bytes.trim().parse().ok())
			.ok_or_else(|| self.not_understood("a disk", format!("{info:?}")))
	}

	/// The major version of the QEMU that runs the domain, which need not be the one that libvirt
	/// would start now. Nothing if it does not say.
	///
	/// libvirt knows and does not tell, so its QEMU is asked. libvirt notes that somebody talked to
	/// it, so only those are asked of which it must be known.
	fn qemu_major(&self) -> Result<Option<u64>, SourceError> {
		let question = r#"--cmd={"execute":"query-version"}"#;
		let answer = match self.run("qemu-monitor-command", &[question]) {
			Err(SourceError::LibvirtRefused { words, .. }) => {
				tracing::warn!(domain = self.name, words, "its QEMU does not tell its version");
				return Ok(None);
			}
			answer => answer?,
		};
		let answer: Option<serde_json::Value> = serde_json::from_str(&answer).ok();
		Ok(answer.and_then(|answer| answer["return"]["qemu"]["major"].as_u64()))
	}
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

/// Find the domain's disk for each of the inventory, by its name, and see that both mean the same
/// image: it is read from there when the domain is off.
fn find_drives<'v>(
	vm: &'v Vm,
	domain: &Domain,
	definition: &Definition,
) -> Result<Vec<Drive<'v>>, SourceError> {
	let drive = |disk: &'v Disk| {
		let target = find_target(disk, definition)?.clone();
		let size_bytes = domain.size_bytes(&target.name)?;
		Ok(Drive { disk, target, size_bytes, is_recorded: false })
	};
	vm.included().map(drive).collect()
}

/// The domain's disk of this name, if it has this image or none that is a file.
fn find_target<'d>(disk: &Disk, definition: &'d Definition) -> Result<&'d Target, SourceError> {
	let is_meant = |target: &&Target| {
		target.source.as_ref().is_none_or(|source| is_same_file(source, &disk.image))
	};
	let found = definition.target(&disk.name).filter(is_meant);
	found.ok_or_else(|| SourceError::DiskNotFound {
		name: disk.name.clone(),
		image: disk.image.clone(),
	})
}

/// Whoever reads an image by itself must know what it is: the container's bytes are not the disk.
fn ensure_same_format(disk: &Disk, target: &Target) -> Result<(), SourceError> {
	if target.is_qcow2 == (disk.format == ImageFormat::Qcow2) && target.source.is_some() {
		return Ok(());
	}
	Err(SourceError::ImageNotServed {
		path: disk.image.clone(),
		reason: format!(
			"the machine's file says that it is {}, which the domain's definition does not",
			disk.format.driver()
		),
	})
}

/// A QEMU before 9.0 ends, and its guest with it, when the client of an export on an I/O thread
/// hangs up, and libvirt exports a disk on the disk's own thread.
fn refuse_threads(domain: &Domain, drives: &[Drive<'_>]) -> Result<(), SourceError> {
	let Some(drive) = drives.iter().find(|drive| drive.target.is_on_thread) else {
		return Ok(());
	};
	match domain.qemu_major()? >= Some(THREAD_SAFE_MAJOR) {
		true => Ok(()),
		false => Err(SourceError::IoThread { disk: drive.disk.name.clone() }),
	}
}

/// See which disks the base has recorded: those that had the same image then. Returns nothing if
/// none was. A checkpoint that cannot be read costs a full reading.
fn find_recorded(
	domain: &Domain,
	base: Option<Checkpoint>,
	drives: &mut [Drive<'_>],
) -> Result<Option<Checkpoint>, SourceError> {
	let Some(base) = base else { return Ok(None) };
	let recorded = recorded_files(domain, base)?;
	for drive in drives.iter_mut() {
		drive.is_recorded = is_recorded(&drive.target, &recorded);
	}
	Ok(drives.iter().any(|drive| drive.is_recorded).then_some(base))
}

/// The disks that a checkpoint records, and the file that each had when it began: none if it cannot
/// be read.
fn recorded_files(domain: &Domain, base: Checkpoint) -> Result<Vec<RecordedFile>, SourceError> {
	match checkpoints::recorded(domain, base) {
		Err(error @ (SourceError::LibvirtRefused { .. } | SourceError::NotLibvirt { .. })) => {
			tracing::warn!(domain = domain.name, %error, "the domain is read in full");
			Ok(Vec::new())
		}
		recorded => recorded,
	}
}

/// Whether a disk is among them, with the file that it has now.
fn is_recorded(target: &Target, recorded: &[RecordedFile]) -> bool {
	let is_same = |(name, source): &RecordedFile| *name == target.name && *source == target.source;
	target.is_recordable && recorded.iter().any(is_same)
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

/// One way to order a backup, in files for `virsh`.
#[derive(Debug)]
struct Order {
	base: Option<Checkpoint>,
	checkpoint: Option<Checkpoint>,
	backup: NamedTempFile,
	begins: Option<NamedTempFile>,
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

/// Begin the backup in the first way that libvirt does not refuse. All ways together have so much
/// time, since the guest may stand still.
fn begin(
	domain: &Domain,
	orders: &[Order],
	time_max: Duration,
) -> Result<(Option<Checkpoint>, Option<Checkpoint>), SourceError> {
	let deadline = Instant::now() + time_max;
	let mut refused = None;
	for order in orders {
		let mut arguments = vec![format!("--backupxml={}", order.backup.path().display())];
		if let Some(begins) = &order.begins {
			arguments.push(format!("--checkpointxml={}", begins.path().display()));
		}
		arguments.push("--reuse-external".to_owned());
		let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
		let time_left = deadline.saturating_duration_since(Instant::now());
		match domain.run_within("backup-begin", &arguments, time_left) {
			Ok(_) => return Ok((order.base, order.checkpoint)),
			Err(error @ SourceError::LibvirtRefused { .. }) => {
				tracing::warn!(
					domain = domain.name,
					%error,
					is_recorded = order.base.is_some(),
					records = order.checkpoint.is_some(),
					"libvirt refuses a backup"
				);
				refused = Some(error);
			}
			Err(error) => return Err(error),
		}
	}
	Err(refused.map_or_else(|| io::Error::other("nothing was ordered").into(), explain_refusal))
}

/// The usual reason of a refusal is not the guest's but the host's.
fn explain_refusal(error: SourceError) -> SourceError {
	match error {
		SourceError::LibvirtRefused { command, words } if words.contains("Permission denied") => {
			let words =
				format!("{words}; let QEMU's user pass the scratch folder and those above it");
			SourceError::LibvirtRefused { command, words }
		}
		error => error,
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

	fn drive(disk: &Disk, is_on_thread: bool) -> Drive<'_> {
		let target = Target {
			name: disk.name.clone(),
			source: None,
			is_qcow2: true,
			is_recordable: true,
			is_on_thread,
		};
		Drive { disk, target, size_bytes: 0, is_recorded: false }
	}

	fn disk() -> Disk {
		Disk {
			name: "vda".into(),
			image: "/nowhere".into(),
			format: ImageFormat::Qcow2,
			skip: false,
		}
	}

	/// QEMU was updated, and a domain runs on under the old one, or one has an emulator of its own.
	#[test]
	fn the_qemu_that_runs_a_domain_is_asked_whether_it_bears_io_threads() {
		let its = |major: u64| format!(r#"{{"return":{{"qemu":{{"major":{major},"minor":2}}}}}}"#);
		let disk = disk();
		let check = |host_version: &str, answer: &str| {
			let host = format!("Running hypervisor: QEMU {host_version}\n");
			let answers = [("version", host.as_str()), ("qemu-monitor-command", answer)];
			refuse_threads(&fake::domain(&answers).domain, &[drive(&disk, true)])
		};
		check("7.2.0", &its(9)).unwrap();
		for answer in [&*its(7), "error: operation failed", "{}", "?"] {
			let error = check("9.1.0", answer).unwrap_err();
			assert!(matches!(error, SourceError::IoThread { .. }), "{answer}: {error}");
		}
	}

	#[test]
	fn a_domain_without_io_threads_is_not_asked() {
		let fake = fake::domain(&[]);
		refuse_threads(&fake.domain, &[drive(&disk(), false)]).unwrap();
		assert!(fake.calls().is_empty());
	}

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

	fn order() -> Order {
		let backup = NamedTempFile::new().unwrap();
		Order { base: None, checkpoint: None, backup, begins: None }
	}

	/// The guest stands still meanwhile.
	#[test]
	fn all_ways_to_begin_a_backup_share_one_limit() {
		let fake = fake::domain(&[("backup-begin", fake::HANG)]);
		let begun = begin(&fake.domain, &[order(), order()], Duration::from_millis(200));
		assert!(matches!(begun, Err(SourceError::Virsh { .. })), "{begun:?}");
		assert_eq!(fake.calls(), ["backup-begin"]);
		// Each refusal takes a part of it.
		let fake = fake::domain(&[("backup-begin", "slow: error: not that way")]);
		let orders: Vec<_> = std::iter::repeat_with(order).take(64).collect();
		let begun = begin(&fake.domain, &orders, Duration::from_millis(500));
		assert!(matches!(begun, Err(SourceError::Virsh { .. })), "{begun:?}");
		assert!(fake.calls().len() < orders.len());
	}
}
