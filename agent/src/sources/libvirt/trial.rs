//! What a backup asks of libvirt, asked without beginning one.
//!
//! libvirt exports disks in a backup job only, and such a job is not begun here: its first step is
//! the checkpoint that the next backup would count from.

use super::{
	Definition, Domain,
	drives::{ensure_same_format, find_drives, find_target, refuse_threads},
	job::{self, Job},
};
use crate::sources::{
	OpenOptions, SourceError, Vm,
	scratch::{self, Overwritten},
	trial::{Holds, Point, disks},
};
use indicatif::HumanBytes;
use std::{
	fs, io,
	os::unix::fs::{MetadataExt, PermissionsExt},
	path::{Path, PathBuf},
};

/// Try everything on a domain.
pub(in crate::sources) fn try_out(
	vm: &Vm,
	domain: &Domain,
	options: &OpenOptions,
	holds: &Holds,
) -> Vec<Point> {
	look(vm, domain, options, holds).unwrap_or_else(|error| vec![Point::of("libvirt", Err(error))])
}

fn look(
	vm: &Vm,
	domain: &Domain,
	options: &OpenOptions,
	holds: &Holds,
) -> Result<Vec<Point>, SourceError> {
	let is_running = domain.is_running()?;
	let mut points = vec![identify(vm, domain, is_running)];
	let definition = domain.definition()?;
	if !is_running {
		let read = are_meant(vm, &definition).and_then(|()| vm.read_images(options, holds));
		points.push(Point::of("disks", read));
		return Ok(points);
	}
	match job::find(domain)? {
		Job::None => (),
		Job::Ours => points.push(Point::doubtful(
			"libvirt",
			"a backup is under way",
			"nothing if the agent runs; if not, start it, and it ends what was left",
		)),
		Job::Foreign(job) => {
			let domain = domain.name.clone();
			points.push(Point::of("libvirt", Err(SourceError::Busy { domain, job })));
		}
	}
	match look_at_disks(vm, domain, &definition, options) {
		Ok(found) => points.extend(found),
		Err(error) => points.push(Point::of("disks", Err(error))),
	}
	points.extend(vm.unreadable_image());
	points.extend(impassable(&options.scratch_dir, definition.owner)?);
	let agent = match definition.has_agent {
		true => "libvirt is connected to it",
		false => "none is connected: snapshots are crash-consistent",
	};
	points.push(Point::good("guest-agent", agent));
	Ok(points)
}

fn identify(vm: &Vm, domain: &Domain, is_running: bool) -> Point {
	let state = if is_running { "runs" } else { "is off" };
	let Domain { name, uuid, .. } = domain;
	match domain.check_tag(vm.uuid) {
		Ok(()) => Point::good("libvirt", format!("it knows {name:?}, which {state}")),
		Err(_) => Point::doubtful(
			"libvirt",
			format!("{name:?} has the UUID {uuid}, and its file says {}", vm.uuid),
			"put the tag of its request into both: libvirt's counts, and the file's when it is off",
		),
	}
}

fn are_meant(vm: &Vm, definition: &Definition) -> Result<(), SourceError> {
	vm.included().try_for_each(|disk| ensure_same_format(disk, find_target(disk, definition)?))
}

fn look_at_disks(
	vm: &Vm,
	domain: &Domain,
	definition: &Definition,
	options: &OpenOptions,
) -> Result<[Point; 2], SourceError> {
	let drives = find_drives(vm, domain, definition)?;
	refuse_threads(domain, &drives)?;
	let total = drives.iter().map(|drive| drive.size_bytes).sum();
	let overwritten: Vec<_> = drives
		.iter()
		.map(|drive| Overwritten { name: &drive.disk.name, size_bytes: drive.size_bytes })
		.collect();
	let room = scratch::room_for(&options.scratch_dir, &overwritten, options.scratch_bytes_max);
	let room = room.map(|bytes| format!("{} for each disk", HumanBytes(bytes)));
	let found = format!("libvirt has {}", disks(drives.len(), total));
	Ok([Point::good("disks", found), Point::of("scratch", room)])
}

/// The folder on the way to scratch that QEMU's user may not pass, if there is one.
fn impassable(scratch: &Path, owner: Option<(u32, u32)>) -> io::Result<Option<Point>> {
	let Some((user, group)) = owner.filter(|(user, _)| *user != 0) else { return Ok(None) };
	let scratch = fs::canonicalize(scratch)?;
	for folder in scratch.ancestors() {
		let metadata = fs::metadata(folder)?;
		let mode = metadata.permissions().mode();
		let may_pass = match () {
			() if metadata.uid() == user => mode & 0o100,
			() if metadata.gid() == group => mode & 0o010,
			() => mode & 0o001,
		};
		if may_pass == 0 {
			return Ok(Some(refused(folder)));
		}
	}
	Ok(None)
}

fn refused(folder: &Path) -> Point {
	let path = PathBuf::from(folder);
	let source = io::Error::other(
		"QEMU's user may not pass it; set scratch_dir to a folder that everybody can pass (mode 711)",
	);
	Point::of("scratch", Err(SourceError::ImageUnreadable { path, source }))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::{Leftovers, libvirt::fake, trial::Outcome};
	use std::time::Duration;

	const NOBODY: Option<(u32, u32)> = Some((65_534, 65_534));

	#[test]
	fn a_folder_that_qemu_may_not_pass_is_named() {
		let folder = tempfile::tempdir().unwrap();
		let scratch = folder.path().join("scratch");
		fs::create_dir(&scratch).unwrap();
		let open = |path: &Path, mode| {
			fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
		};
		open(folder.path(), 0o711);
		open(&scratch, 0o711);
		assert!(impassable(&scratch, NOBODY).unwrap().is_none());
		open(folder.path(), 0o700);
		let point = impassable(&scratch, NOBODY).unwrap().unwrap();
		let Outcome::Bad(error) = point.outcome else { panic!("{point:?}") };
		assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
		assert!(impassable(&scratch, Some((0, 0))).unwrap().is_none(), "root passes everywhere");
		assert!(impassable(&scratch, None).unwrap().is_none());
	}

	#[test]
	fn a_domain_that_libvirt_is_busy_with_or_whose_disk_is_another_is_told() {
		let folder = tempfile::tempdir().unwrap();
		let options = OpenOptions {
			scratch_dir: folder.path().to_owned(),
			scratch_bytes_max: 64 << 20,
			freeze_time_max: Duration::from_secs(1),
			leftovers: Leftovers::default(),
		};
		let vm = format!(
			"uuid = \"{}\"\nlibvirt = \"web\"\n[[disk]]\nname = \"vda\"\nimage = \"/nowhere/a\"\n\
			format = \"qcow2\"\n",
			fake::UUID
		);
		let vm = Vm::parse(&vm).unwrap();
		let xml = "<domain><devices><disk type='file' device='disk'><driver type='qcow2'/>\
			<source file='/nowhere/b'/><target dev='vda'/></disk></devices></domain>";
		let job = "Job type: Unbounded\nOperation: Outgoing migration\n";
		let fake = fake::domain(&[("domjobinfo", job), ("dumpxml", xml)]);
		let points = try_out(&vm, &fake.domain, &options, &Holds::default());
		let is_bad = |name: &str, words: &str| {
			points.iter().any(|point| match &point.outcome {
				Outcome::Bad(error) => point.name == name && error.to_string().contains(words),
				Outcome::Good(_) | Outcome::Doubtful(..) => false,
			})
		};
		assert!(is_bad("libvirt", "busy with a job of somebody else's"), "{points:?}");
		assert!(is_bad("disks", "no drive on /nowhere/a"), "{points:?}");
		let calls = fake.calls();
		assert!(!calls.iter().any(|call| call.contains("begin")), "nothing was begun: {calls:?}");
	}
}
