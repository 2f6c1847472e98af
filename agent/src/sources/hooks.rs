//! Programs that the operator has run around a snapshot.
//!
//! What the one before has stopped, the one after lets go on. So the second is run whatever becomes
//! of the first and of the snapshot, and by the next agent if this one is killed in between: a note
//! in the scratch folder says that it is owed.

use super::{PREFIX, SourceError, Vm, vm::Hooks};
use crate::stage::{self, Stage};
use std::{
	fs::{self, File},
	io::{self, Read, Seek, SeekFrom},
	os::unix::process::CommandExt,
	path::{Path, PathBuf},
	process::{Child, Command, Stdio},
	thread,
	time::{Duration, Instant},
};

/// How often it is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(10);

/// How much of a program's last words is told.
const WORDS_BYTES_MAX: u64 = 2048;

/// Hooks of a machine, of which the one after is owed until it was run.
pub(super) struct Around<'v> {
	hooks: &'v Hooks,
	note: PathBuf,
}

impl<'v> Around<'v> {
	/// The hooks of a machine, if it has any.
	pub(super) fn of(vm: &'v Vm, scratch_dir: &Path) -> Option<Self> {
		vm.hooks.as_ref().map(|hooks| Self { hooks, note: note(vm, scratch_dir) })
	}

	/// Run the one before.
	pub(super) fn before(&self) -> Result<(), SourceError> {
		let _hooks = stage::enter(Stage::Hooks);
		File::create(&self.note)?;
		run(&self.hooks.before, self.hooks.seconds).map_err(|reason| SourceError::Hook {
			program: self.hooks.before.first().cloned().unwrap_or_default(),
			reason,
		})
	}

	/// Run the one after. The snapshot is what it is by then.
	pub(super) fn after(&self) {
		let _hooks = stage::enter(Stage::Hooks);
		if let Err(reason) = run(&self.hooks.after, self.hooks.seconds) {
			let program = self.hooks.after.first();
			tracing::error!(program, reason, "the hook after the snapshot failed");
		}
		if let Err(error) = fs::remove_file(&self.note) {
			tracing::warn!(%error, path = %self.note.display(), "failed to remove a note");
		}
	}

	/// Run the one after if an agent that was killed owes it.
	pub(super) fn settle(&self) {
		if self.note.exists() {
			self.after();
		}
	}
}

/// The file that says that the one after is owed.
pub(super) fn note(vm: &Vm, scratch_dir: &Path) -> PathBuf {
	scratch_dir.join(format!("{PREFIX}{}.hook", vm.uuid))
}

/// Run a program to its end, or to the end of its time. No program at all does well.
fn run(command: &[String], seconds: u64) -> Result<(), String> {
	let Some((program, arguments)) = command.split_first() else { return Ok(()) };
	let output = tempfile::tempfile().map_err(|error| error.to_string())?;
	let mut child = start(program, arguments, &output).map_err(|error| error.to_string())?;
	let deadline = Instant::now() + Duration::from_secs(seconds);
	let status = loop {
		match child.try_wait() {
			Ok(Some(status)) => break status,
			Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
			Ok(None) => {
				kill(&mut child);
				return Err(format!("it did not end within {seconds} s"));
			}
			Err(error) => {
				kill(&mut child);
				return Err(error.to_string());
			}
		}
	};
	match status.success() {
		true => Ok(()),
		false => Err(format!("it ended with {status}: {}", last_words(output))),
	}
}

fn start(program: &str, arguments: &[String], output: &File) -> io::Result<Child> {
	Command::new(program)
		.args(arguments)
		.stdin(Stdio::null())
		.stdout(output.try_clone()?)
		.stderr(output.try_clone()?)
		// Killed with all that it has started.
		.process_group(0)
		.spawn()
}

/// End a program that leads its own process group, with all that it has started.
pub(super) fn kill(child: &mut Child) {
	if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
		// It may have ended by itself by now.
		let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
	}
	let _ = child.wait();
}

fn last_words(mut output: File) -> String {
	let mut words = Vec::new();
	// What cannot be read is not told; the failure stands without it.
	let length = output.seek(SeekFrom::End(0)).unwrap_or(0);
	let _ = output.seek(SeekFrom::Start(length.saturating_sub(WORDS_BYTES_MAX)));
	let _ = output.take(WORDS_BYTES_MAX).read_to_end(&mut words);
	String::from_utf8_lossy(&words).trim().to_owned()
}

#[cfg(test)]
mod tests {
	use super::*;

	fn shell(script: &str) -> Vec<String> {
		["/bin/sh", "-c", script].map(str::to_owned).into()
	}

	#[test]
	fn a_program_that_does_well_and_none_at_all_are_fine() {
		assert_eq!(run(&shell("exit 0"), 5), Ok(()));
		assert_eq!(run(&[], 5), Ok(()));
	}

	#[test]
	fn a_failure_carries_the_last_words() {
		let error = run(&shell("echo not now >&2; exit 3"), 5).unwrap_err();
		assert!(error.contains("3") && error.contains("not now"), "{error}");
		assert!(run(&["/nowhere/program".into()], 5).is_err());
	}

	#[test]
	fn a_program_that_hangs_is_ended_with_all_that_it_started() {
		let folder = tempfile::tempdir().unwrap();
		let pid = folder.path().join("pid");
		let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
		let error = run(&shell(&script), 1).unwrap_err();
		assert!(error.contains("within 1 s"), "{error}");
		let child = fs::read_to_string(pid).unwrap();
		let lives = || {
			let state = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
			// Dead, and not yet taken notice of by whom it was left to.
			state.is_ok_and(|state| !state.contains(") Z ") && !state.contains(") X "))
		};
		// The kill is certain, and done a moment later.
		let deadline = Instant::now() + Duration::from_secs(20);
		while lives() {
			assert!(Instant::now() < deadline, "its child lives");
			thread::sleep(POLL);
		}
	}
}
