//! Whether a machine could be backed up now: everything a backup does, tried on the machine itself,
//! but on none of its disks. The guest notices nothing of it: it is neither stopped nor frozen.

use super::{Disk, OpenOptions, SourceError, Vm, image, libvirt, live};
use indicatif::HumanBytes;
use std::{
	fs::File,
	sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
	time::Duration,
};

/// One thing that a backup of a machine needs.
#[derive(Debug)]
pub(crate) struct Point {
	/// `qmp`, `libvirt`, `nbd`, `disks`, `scratch`, `guest-agent` or `files`.
	pub(crate) name: &'static str,
	/// How it went.
	pub(crate) outcome: Outcome,
}

/// What trials have put up just now, in machines and files. Whoever ends the program waits until all of
/// it is taken away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Holding>);

#[derive(Debug, Default)]
struct Holding {
	state: Mutex<State>,
	changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
	held: usize,
	is_over: bool,
}

/// One of them. Dropped, it is taken away.
pub(crate) struct Hold(Holds);

impl Holds {
	/// About to put something up. Fails once it is over.
	pub(crate) fn begin(&self) -> Result<Hold, SourceError> {
		let mut state = self.state();
		if state.is_over {
			return Err(SourceError::Io(std::io::ErrorKind::Interrupted.into()));
		}
		state.held += 1;
		Ok(Hold(self.clone()))
	}

	/// Let nothing be put up any more, and wait until all is taken away, or so long.
	pub(crate) fn end(&self, time_max: Duration) {
		let mut state = self.state();
		state.is_over = true;
		let wait = self.0.changed.wait_timeout_while(state, time_max, |state| state.held > 0);
		drop(wait);
	}

	fn state(&self) -> MutexGuard<'_, State> {
		self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

impl Drop for Hold {
	fn drop(&mut self) {
		self.0.state().held -= 1;
		self.0.0.changed.notify_all();
	}
}

/// How a trial went.
#[derive(Debug)]
pub(crate) enum Outcome {
	/// As it should.
	Good(String),
	/// A backup goes well, and less well than it could; with what to do.
	Doubtful(String, String),
	/// A backup would fail.
	Bad(SourceError),
}

impl Point {
	pub(super) fn good(name: &'static str, found: impl Into<String>) -> Self {
		Self { name, outcome: Outcome::Good(found.into()) }
	}

	pub(super) fn doubtful(name: &'static str, found: impl Into<String>, mend: &str) -> Self {
		Self { name, outcome: Outcome::Doubtful(found.into(), mend.to_owned()) }
	}

	pub(super) fn of(name: &'static str, outcome: Result<String, SourceError>) -> Self {
		let outcome = outcome.map_or_else(Outcome::Bad, Outcome::Good);
		Self { name, outcome }
	}
}

impl Vm {
	/// Try what a backup needs, and leave nothing behind.
	pub(crate) fn try_out(&self, options: &OpenOptions, holds: &Holds) -> Vec<Point> {
		let mut points = match libvirt::find(self) {
			Err(error) => return vec![Point::of("libvirt", Err(error))],
			Ok(Some(domain)) => libvirt::try_out(self, &domain, options, holds),
			Ok(None) => match live::connect(self) {
				Err(error) => return vec![Point::of("qmp", Err(error))],
				Ok(Some(monitor)) => live::try_out(self, monitor, options, holds),
				Ok(None) => self.try_out_stopped(options, holds),
			},
		};
		if !self.files.is_empty() {
			let read = self.read_files().map(|files| format!("{} can be read", files.len()));
			points.push(Point::of("files", read));
		}
		points
	}

	/// A machine that is off is read from its images, under QEMU's locks. One that runs all the same
	/// shows by these.
	pub(super) fn try_out_stopped(&self, options: &OpenOptions, holds: &Holds) -> Vec<Point> {
		let control = match &self.qmp {
			Some(socket) => format!("nobody listens at {}: it is off", socket.display()),
			None => "its file names no QMP socket, so it is taken to be off".to_owned(),
		};
		let read = self.read_images(options, holds);
		let qmp = match &read {
			// It runs, and was not to be found.
			Err(SourceError::ImageInUse { .. }) => None,
			_ => Some(Point::good("qmp", control)),
		};
		qmp.into_iter().chain([Point::of("disks", read)]).collect()
	}

	/// Read the beginning of each image of a machine that is off.
	pub(super) fn read_images(
		&self,
		options: &OpenOptions,
		holds: &Holds,
	) -> Result<String, SourceError> {
		let mut total = 0;
		for disk in self.included() {
			let _hold = holds.begin()?;
			total += image::try_out(disk, &options.scratch_dir)?;
		}
		Ok(disks(self.included().count(), total))
	}

	/// What is to be said of images that can be read through QEMU only.
	pub(super) fn unreadable_image(&self) -> Option<Point> {
		let unreadable = |disk: &&Disk| File::open(&disk.image).is_err();
		let disk = self.included().find(unreadable)?;
		Some(Point::doubtful(
			"images",
			format!("{} cannot be opened here", disk.image.display()),
			"let the agent's user read it: it is read from there when the machine is off",
		))
	}
}

/// What is said of disks that can be read.
pub(super) fn disks(count: usize, total_bytes: u64) -> String {
	format!("{count} can be read, {} in all", HumanBytes(total_bytes))
}
