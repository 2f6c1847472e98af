//! What a backup does to a running machine, done to a disk that is nobody's.
//!
//! QEMU makes a disk of zeros, the agent a scratch image for it; filter, view and export are put up
//! as for a backup, and the disk is read over NBD. So the versions of both programs, the scratch
//! folder as QEMU's user sees it, and the way back to the agent have been tried, and no disk of the
//! guest's was touched. What is put up is called as in a backup: an agent that starts after a kill
//! takes it away.
//!
//! QEMU talks to one client at a time. A backup that meets us there waits for its greeting, and we have
//! let go before it gives up: what QEMU has not done by then has failed, and is taken away.

use super::{
	NbdDisk, PREFIX, SourceError, Vm, find_drives,
	nodes::{self, clean},
	refuse_threads, tag, version,
};
use crate::{
	pipeline::source::DiskReader,
	sources::{
		OpenOptions,
		guest_agent::Agent,
		nbd::AfterRead,
		qmp::{GREETING_TIME_MAX, Monitor},
		scratch::{self, remove_file},
		trial::{Holds, Point, disks},
	},
};
use backup_primitives::VmTag;
use indicatif::HumanBytes;
use serde_json::json;
use std::{
	fs,
	path::{Path, PathBuf},
	sync::mpsc,
	thread,
	time::Duration,
};

/// What the disk of zeros is called, and its size.
const DISK: &str = "doctor";
const DISK_BYTES: u64 = 1 << 20;

/// Most bytes of its scratch image, of which the tables take most.
const SCRATCH_BYTES: u64 = 8 << 20;

/// The oldest QEMU that has what a backup needs: what the filter does when it cannot copy.
const VERSION_MIN: [u64; 2] = [7, 1];

/// How long QEMU may be kept from its other clients, and how long it may take then to take everything
/// away.
const HOLD_TIME_MAX: Duration = Duration::from_secs(6);
const CLEAN_TIME_MAX: Duration = Duration::from_secs(6);
const _: () = assert!(
	HOLD_TIME_MAX.as_secs() + CLEAN_TIME_MAX.as_secs() < GREETING_TIME_MAX.as_secs(),
	"a backup beside a trial would not be greeted in time"
);

/// How long the disk of zeros may take to be read.
const READ_TIME_MAX: Duration = Duration::from_secs(2);

/// How long the guest's agent may take to answer.
const AGENT_TIME_MAX: Duration = Duration::from_secs(5);

/// Try everything on a machine that runs.
pub(in crate::sources) fn try_out(
	vm: &Vm,
	mut monitor: Monitor,
	options: &OpenOptions,
	holds: &Holds,
) -> Vec<Point> {
	let mut points = Vec::new();
	monitor.hold_for(HOLD_TIME_MAX - READ_TIME_MAX);
	match identify(vm, &mut monitor) {
		Ok((point, may_go_on)) => {
			points.push(point);
			if !may_go_on {
				return points;
			}
		}
		Err(error) => return vec![Point::of("qmp", Err(error))],
	}
	match look_at_disks(vm, &mut monitor, options) {
		Ok(found) => points.extend(found),
		Err(error) => points.push(Point::of("disks", Err(error))),
	}
	points.extend(vm.unreadable_image());
	let (served, cleaned) = serve(vm.uuid, &mut monitor, options, holds);
	drop(monitor);
	points.extend(tell(served, cleaned));
	points.push(guest_agent(vm));
	points
}

/// Who the machine is, and whether it may be touched.
fn identify(vm: &Vm, monitor: &mut Monitor) -> Result<(Point, bool), SourceError> {
	let [major, minor, micro] = version(monitor)?;
	let found = tag(monitor)?;
	let qemu = format!("QEMU {major}.{minor}.{micro}");
	if [major, minor] < VERSION_MIN {
		let description = format!("it is {qemu}; start the machine under QEMU 7.1 or newer");
		return Err(SourceError::Refused { command: "backups".into(), description });
	}
	if nodes::has_ours(monitor)? {
		let point = Point::doubtful(
			"qmp",
			"a backup or a live restore is in the machine: nothing was tried",
			"nothing if one is under way; if not, start the agent, which takes away what was left",
		);
		return Ok((point, false));
	}
	let point = if found == VmTag([0; 16]) {
		let expected = vm.uuid;
		Point::of("qmp", Err(SourceError::TagMismatch { expected, found }))
	} else if found != vm.uuid {
		Point::doubtful(
			"qmp",
			format!("{qemu}; it runs as {found}, and its file says {}", vm.uuid),
			"put the tag of its request into both: what QEMU says counts while it runs, and what the file says when it is off",
		)
	} else {
		Point::good("qmp", format!("{qemu}, it runs as {found}"))
	};
	Ok((point, true))
}

fn look_at_disks(
	vm: &Vm,
	monitor: &mut Monitor,
	options: &OpenOptions,
) -> Result<[Point; 2], SourceError> {
	let drives = find_drives(monitor, vm)?;
	refuse_threads(monitor, &drives)?;
	let total = drives.iter().map(|drive| drive.size_bytes).sum();
	let overwritten: Vec<_> = drives.iter().map(super::Drive::overwritten).collect();
	let room = scratch::room_for(&options.scratch_dir, &overwritten, options.scratch_bytes_max);
	let room = room.map(|bytes| format!("{} for each disk", HumanBytes(bytes)));
	let found = format!("QEMU has {}", disks(drives.len(), total));
	Ok([Point::good("disks", found), Point::of("scratch", room)])
}

/// Serve and read a disk of zeros, and take all of it away again: how either went.
fn serve(
	tag: VmTag,
	monitor: &mut Monitor,
	options: &OpenOptions,
	holds: &Holds,
) -> (Result<(), SourceError>, Result<(), SourceError>) {
	// The last to go.
	let _hold = match holds.begin() {
		Ok(hold) => hold,
		Err(error) => return (Err(error), Ok(())),
	};
	let files = match Files::new(tag, &options.scratch_dir) {
		Ok(files) => files,
		Err(error) => return (Err(error), Ok(())),
	};
	let served = put_up(monitor, &files).and_then(|()| read(&files.socket));
	monitor.hold_for(CLEAN_TIME_MAX);
	(served, clean(monitor, None))
}

/// What failed first, and what failed when it was taken away: one may be the cause of the other, but
/// each wants something else to be done.
fn tell(served: Result<(), SourceError>, cleaned: Result<(), SourceError>) -> Vec<Point> {
	const NAME: &str = "nbd";
	let left = cleaned.err().map(|error| Err(SourceError::NotTakenAway(Box::new(error))));
	let served = match served {
		Ok(()) if left.is_some() => None,
		served => Some(served.map(|()| "a disk was served and read".to_owned())),
	};
	served.into_iter().chain(left).map(|outcome| Point::of(NAME, outcome)).collect()
}

fn put_up(monitor: &mut Monitor, files: &Files) -> Result<(), SourceError> {
	// Called like scratch, so that it is taken away behind the filter that stands on it.
	let zeros = nodes::scratch_node("doctor-disk");
	let disk = json!({
		"driver": "null-co", "node-name": zeros, "size": DISK_BYTES, "read-zeroes": true,
	});
	nodes::start_server(monitor, &files.socket)?;
	monitor.run("blockdev-add", disk)?;
	nodes::add_scratch(monitor, DISK, &files.image, SCRATCH_BYTES)?;
	nodes::add_filter(monitor, DISK, &zeros)?;
	nodes::add_view(monitor, DISK)?;
	nodes::export_view(monitor, DISK)
}

/// Read the disk on a thread that is left behind when its time is over, and ends with the export.
fn read(socket: &Path) -> Result<(), SourceError> {
	let (tell, told) = mpsc::channel();
	let socket = socket.to_owned();
	thread::Builder::new().name("trial".to_owned()).spawn(move || {
		// Nobody listens any more when it is late.
		let _ = tell.send(read_zeros(&socket));
	})?;
	let late = || SourceError::Nbd(format!("a disk was not read within {READ_TIME_MAX:?}"));
	told.recv_timeout(READ_TIME_MAX).unwrap_or_else(|_| Err(late()))
}

fn read_zeros(socket: &Path) -> Result<(), SourceError> {
	let mut disk = NbdDisk::connect(socket, DISK, AfterRead::Trim)?;
	let mut bytes = vec![1; DISK_BYTES as usize];
	disk.read_at(0, &mut bytes)?;
	match bytes.iter().all(|byte| *byte == 0) {
		true => Ok(()),
		false => Err(SourceError::Nbd("a disk of zeros was read as something else".into())),
	}
}

/// What the trial makes in the scratch folder. Dropping it removes it.
struct Files {
	image: PathBuf,
	socket: PathBuf,
}

impl Files {
	fn new(tag: VmTag, scratch_dir: &Path) -> Result<Self, SourceError> {
		let folder = fs::canonicalize(scratch_dir)?;
		let files = Self {
			image: folder.join(format!("{PREFIX}{tag}-{DISK}.trial")),
			socket: folder.join(format!("{PREFIX}{tag}-{DISK}.nbd")),
		};
		scratch::make_image(&files.image, DISK_BYTES)?.set_len(SCRATCH_BYTES)?;
		Ok(files)
	}
}

impl Drop for Files {
	fn drop(&mut self) {
		remove_file(&self.image);
		remove_file(&self.socket);
	}
}

fn guest_agent(vm: &Vm) -> Point {
	const NAME: &str = "guest-agent";
	let Some(socket) = &vm.guest_agent else {
		return Point::good(NAME, "none: snapshots are crash-consistent");
	};
	let asked = Agent::connect(socket, AGENT_TIME_MAX).and_then(|mut agent| agent.is_frozen());
	match asked {
		Ok(false) => Point::good(NAME, "it answers"),
		Ok(true) => Point::doubtful(
			NAME,
			"the guest's file systems are frozen, and not by the agent",
			"find out by whom: snapshots are crash-consistent until they thaw",
		),
		Err(error) => Point::doubtful(
			NAME,
			format!("it does not answer at {}: {error}", socket.display()),
			"start qemu-guest-agent in the guest: snapshots are crash-consistent without",
		),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::Outcome;

	fn refused(command: &str) -> Result<(), SourceError> {
		Err(SourceError::Refused { command: command.into(), description: "no".into() })
	}

	fn told(served: Result<(), SourceError>, cleaned: Result<(), SourceError>) -> Vec<String> {
		let words = |point: Point| match point.outcome {
			Outcome::Good(words) => words,
			Outcome::Doubtful(..) => unreachable!("it went well or not"),
			Outcome::Bad(error) => format!("{:#}", anyhow::Error::new(error)),
		};
		tell(served, cleaned).into_iter().map(words).collect()
	}

	#[test]
	fn what_fails_when_all_is_taken_away_is_told_beside_what_failed_before() {
		let left = "take away what was put up for the trial: have QEMU do blockdev-del: no";
		assert_eq!(told(Ok(()), Ok(())), ["a disk was served and read"]);
		assert_eq!(
			told(refused("nbd-server-start"), Ok(())),
			["have QEMU do nbd-server-start: no"]
		);
		assert_eq!(told(Ok(()), refused("blockdev-del")), [left]);
		assert_eq!(
			told(refused("nbd-server-start"), refused("blockdev-del")),
			["have QEMU do nbd-server-start: no", left]
		);
	}
}
