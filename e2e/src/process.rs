//! Programs that a run starts: their output is a log, and they never outlive the run.

use crate::wait;
use anyhow::{Context, Result, bail};
use std::{
	fs::{self, OpenOptions},
	os::unix::process::CommandExt,
	path::{Path, PathBuf},
	process::{Child, Command, ExitStatus, Stdio},
	time::Duration,
};

/// How long a program may take to end after it was asked to.
const END_TIME_MAX: Duration = Duration::from_secs(15);

/// A program that runs. Dropping it kills it and waits for it.
#[derive(Debug)]
pub struct Process {
	name: String,
	child: Child,
	log: PathBuf,
}

impl Process {
	/// Start a program whose output goes to the end of `log`.
	pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
		let open = || OpenOptions::new().create(true).append(true).open(log);
		let out = open().with_context(|| format!("failed to open {}", log.display()))?;
		let err = open().with_context(|| format!("failed to open {}", log.display()))?;
		end_with_us(&mut command);
		let child = command
			.stdin(Stdio::null())
			.stdout(out)
			.stderr(err)
			.spawn()
			.with_context(|| format!("failed to start {name}"))?;
		Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
	}

	/// Its process id.
	pub fn id(&self) -> u32 {
		self.child.id()
	}

	/// How much memory it has in use, in bytes.
	pub fn memory_bytes(&self) -> Result<u64> {
		let path = format!("/proc/{}/status", self.id());
		let status = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
		let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
		let words = line.and_then(|line| line.trim().strip_suffix(" kB"));
		let kib: u64 = words.with_context(|| format!("{} has ended", self.name))?.parse()?;
		Ok(kib * 1024)
	}

	/// All that it has written.
	pub fn output(&self) -> String {
		String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
	}

	/// Fails, with the end of its log, if it has ended.
	pub fn ensure_runs(&mut self) -> Result<()> {
		match self.child.try_wait()? {
			None => Ok(()),
			Some(status) => {
				let log = self.output();
				let lines: Vec<_> = log.lines().rev().take(20).collect();
				let tail: Vec<_> = lines.into_iter().rev().collect();
				bail!("{} ended with {status}:\n{}", self.name, tail.join("\n"))
			}
		}
	}

	/// Wait until it ends by itself.
	pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
		let what = format!("the end of {}", self.name);
		let child = &mut self.child;
		wait::until(&what, deadline, || Ok(child.try_wait()?))
	}

	/// End it at once, as a power cut would, and wait for it.
	pub fn kill(&mut self) -> Result<()> {
		self.child.kill()?;
		self.child.wait()?;
		Ok(())
	}

	/// Ask it to end, and wait until it has.
	pub fn terminate(&mut self) -> Result<ExitStatus> {
		self.signal(libc::SIGTERM)?;
		self.wait(END_TIME_MAX)
	}

	#[expect(unsafe_code, reason = "the standard library sends no other signal than SIGKILL")]
	fn signal(&self, signal: libc::c_int) -> Result<()> {
		let id = libc::pid_t::try_from(self.child.id())?;
		// SAFETY: a system call without pointers, on a child that was not waited for yet, so
		// that its id cannot belong to another process.
		match unsafe { libc::kill(id, signal) } {
			0 => Ok(()),
			_ => Err(std::io::Error::last_os_error()).context("failed to send a signal"),
		}
	}
}

impl Drop for Process {
	fn drop(&mut self) {
		// It may have ended already, which is what is wanted.
		let _ = self.child.kill();
		let _ = self.child.wait();
	}
}

/// Have a program end when the thread that starts it ends, however that comes about: so it does
/// not outlive even a run that was killed. To be started from a thread that lives as long.
///
/// It gets a group of its own, so that Ctrl-C reaches only us and the order of ending is ours.
#[expect(unsafe_code, reason = "the standard library has no such setting")]
pub fn end_with_us(command: &mut Command) {
	command.process_group(0);
	let set = || {
		// SAFETY: a system call without pointers, which may be made between fork and exec.
		match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
			0 => Ok(()),
			_ => Err(std::io::Error::last_os_error()),
		}
	};
	// SAFETY: what runs between fork and exec makes one system call and touches no memory.
	unsafe { command.pre_exec(set) };
}

/// A program of this workspace, where cargo puts it.
///
/// Tests and the demonstration run from the same target folder as the programs they start.
pub fn built(name: &str) -> Result<PathBuf> {
	let here = std::env::current_exe().context("the path of this program is unknown")?;
	let folders = here.ancestors().skip(1).take(2);
	for folder in folders {
		let path = folder.join(name);
		if path.is_file() {
			return Ok(path);
		}
	}
	bail!("{name} is not built; run: make build (looked beside {})", here.display())
}

/// Whether a process with this id exists and has not ended.
pub fn is_alive(id: u32) -> bool {
	let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
	let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
	state.is_some_and(|state| state != "Z")
}
