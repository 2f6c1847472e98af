//! A real virtual machine to back up: QEMU, Debian's kernel, and `e2e/guest/init`.
//!
//! 1. [`make_guest`] makes kernel and initramfs, once; [`make_disk`] a disk with an ext4 on it.
//! 2. [`Guest::start`] starts QEMU, [`Guest::wait_ready`] waits for the guest to mount its disk.
//! 3. [`Guest::write`], [`Guest::load`] and their like have the guest do something; the host sees
//!    with [`Guest::is_running`] that it goes on doing so.
//! 4. [`Guest::power_off`] ends it in order, [`Guest::kill`] as a power cut would. One that is
//!    dropped is killed, and never outlives the test.
//!
//! The disk is the device `vda` on the node `disk0`. The harness has a QMP socket of its own;
//! nobody but the agent connects to [`Guest::backup_qmp`].

mod accelerator;
mod error;
mod image;
mod lines;
mod program;
mod qmp;

use std::{
	fs, io,
	path::{Path, PathBuf},
	process::{Child, Command, ExitStatus, Stdio},
	sync::{Mutex, MutexGuard, PoisonError},
	thread,
	time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::process::end_with_us;

pub use crate::guest::{
	accelerator::Accelerator,
	error::GuestError,
	image::{check_disk, make_disk, make_guest, needs_recovery},
};
use crate::guest::{lines::Lines, qmp::Qmp};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const QMP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// What `sun_path` holds, less its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const LOG_CHARS_MAX: usize = 2000;

const BACKUP_SOCKET: &str = "backup.qmp";
const CONTROL_SOCKET: &str = "control.qmp";
const AGENT_SOCKET: &str = "agent";
const SERIAL_SOCKET: &str = "serial";
const SERIAL_LOG: &str = "serial.log";
const CONSOLE_LOG: &str = "console.log";
const QEMU_LOG: &str = "qemu.log";

/// What to start a guest with.
#[derive(Clone, Debug)]
pub struct GuestOptions {
	/// Where its sockets and logs are made; one guest a directory.
	pub dir: PathBuf,
	/// The image of its disk, with an ext4 and no partition table.
	pub disk_image: PathBuf,
	/// The image's format as QEMU calls it: `raw` or `qcow2`.
	pub disk_format: String,
	/// The machine's UUID, by which a backup knows it.
	pub uuid: String,
	/// Its memory; 256 is plenty.
	pub memory_mib: u32,
	/// Whether QEMU's guest agent runs in it, and the host has a channel to it.
	pub has_agent: bool,
	/// Where [`make_guest`] left kernel and initramfs.
	pub guest_cache_dir: PathBuf,
}

/// What a guest found in order on its disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verified {
	/// Files whose checksum is that of the manifest.
	pub files: u64,
	/// Records in the journal, numbered from 1 without a gap.
	pub records: u64,
}

/// How long a write of 4 KiB and its sync took in a guest.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
	/// The median, in microseconds.
	pub median_us: u64,
	/// What 99 of 100 stay below, in microseconds.
	pub p99_us: u64,
	/// The longest, in microseconds.
	pub max_us: u64,
	/// How many there were.
	pub count: u64,
}

/// A running virtual machine.
#[derive(Debug)]
pub struct Guest {
	dir: PathBuf,
	pid: u32,
	child: Mutex<Child>,
	serial: Mutex<Lines>,
	control: Mutex<Qmp>,
}

impl Guest {
	/// Starts QEMU, and returns when its sockets answer; the guest boots meanwhile.
	///
	/// # Errors
	/// Fails when QEMU is missing or ends at once, say because another process locks the image.
	pub fn start(options: &GuestOptions) -> Result<Self, GuestError> {
		Self::start_with(options, Accelerator::detect())
	}

	fn start_with(options: &GuestOptions, accelerator: Accelerator) -> Result<Self, GuestError> {
		let dir = socket_dir(&options.dir)?;
		let mut child = spawn(options, accelerator, &dir)?;
		match connect(&mut child, &dir) {
			Ok((serial, control)) => Ok(Self {
				dir,
				pid: child.id(),
				child: Mutex::new(child),
				serial: Mutex::new(serial),
				control: Mutex::new(control),
			}),
			Err(error) => {
				end(&mut child);
				Err(unanswered(&dir, "QEMU's sockets", CONNECT_TIMEOUT, &error))
			}
		}
	}

	/// Waits until the guest has mounted its disk and takes commands.
	///
	/// # Errors
	/// Fails when that takes longer than `timeout`, the guest cannot mount its disk, or QEMU ends.
	pub fn wait_ready(&self, timeout: Duration) -> Result<(), GuestError> {
		let deadline = Instant::now() + timeout;
		let mut serial = lock(&self.serial);
		loop {
			let line = serial
				.read_line(deadline)
				.map_err(|error| self.unanswered("a booted guest", timeout, &error))?;
			if line == "guest ready" {
				return Ok(());
			}
			if line.starts_with("fail ") {
				return Err(GuestError::Refused { command: "boot".to_owned(), answer: line });
			}
		}
	}

	/// Has the guest obey a line of its protocol (see `e2e/guest/init`), and returns what stands
	/// behind `ok` and the command's name.
	///
	/// # Errors
	/// Fails when the guest refuses, or has not answered within `timeout`.
	pub fn command(&self, line: &str, timeout: Duration) -> Result<String, GuestError> {
		let deadline = Instant::now() + timeout;
		let verb = line.split_whitespace().next().unwrap_or_default();
		let unanswered =
			|error| self.unanswered(&format!("an answer to {line:?}"), timeout, &error);
		let mut serial = lock(&self.serial);
		serial.write_line(line, deadline).map_err(unanswered)?;
		loop {
			let answer = serial.read_line(deadline).map_err(unanswered)?;
			let mut words = answer.splitn(3, ' ');
			match (words.next(), words.next()) {
				(Some("ok"), Some(of)) if of == verb => {
					return Ok(words.next().unwrap_or_default().to_owned());
				}
				(Some("fail"), Some(of)) if of == verb => {
					return Err(GuestError::Refused { command: line.to_owned(), answer });
				}
				// The late answer to a command that was given up.
				_ => {}
			}
		}
	}

	/// Has the guest write `files` new files of 1 MiB and sync them.
	///
	/// # Errors
	/// As [`command`](Self::command).
	pub fn write(&self, files: u64, timeout: Duration) -> Result<(), GuestError> {
		self.command(&format!("write {files}"), timeout).map(drop)
	}

	/// Has the guest append and fsync records in the background until [`quiet`](Self::quiet).
	///
	/// # Errors
	/// As [`command`](Self::command).
	pub fn load(&self, timeout: Duration) -> Result<(), GuestError> {
		self.command("load", timeout).map(drop)
	}

	/// The number of the last record whose fsync has returned to the load: whatever is backed up
	/// from now on holds it.
	///
	/// # Errors
	/// As [`command`](Self::command).
	pub fn synced(&self, timeout: Duration) -> Result<u64, GuestError> {
		let answer = self.command("synced", timeout)?;
		number(&answer).ok_or_else(|| refused("synced", answer))
	}

	/// Ends the load and syncs. From here on the guest writes nothing by itself.
	///
	/// # Errors
	/// As [`command`](Self::command).
	pub fn quiet(&self, timeout: Duration) -> Result<(), GuestError> {
		self.command("quiet", timeout).map(drop)
	}

	/// Has the guest check every file against its manifest, and its journal for gaps.
	///
	/// # Errors
	/// As [`command`](Self::command), and when anything differs.
	pub fn verify(&self, timeout: Duration) -> Result<Verified, GuestError> {
		let answer = self.command("verify", timeout)?;
		let verified = answer.split_once(' ').and_then(|(files, records)| {
			Some(Verified { files: number(files)?, records: number(records)? })
		});
		verified.ok_or_else(|| refused("verify", answer))
	}

	/// Has the guest write and sync for so many seconds, and say how long each time took.
	///
	/// # Errors
	/// As [`command`](Self::command).
	pub fn latency(&self, seconds: u64, timeout: Duration) -> Result<Latency, GuestError> {
		let answer = self.command(&format!("latency {seconds}"), timeout)?;
		let numbers: Vec<u64> = answer.split_whitespace().filter_map(number).collect();
		match numbers[..] {
			[median_us, p99_us, max_us, count] => Ok(Latency { median_us, p99_us, max_us, count }),
			_ => Err(refused("latency", answer)),
		}
	}

	/// Has the guest unmount its disk and power off, and waits until QEMU has ended.
	///
	/// # Errors
	/// As [`command`](Self::command), and when QEMU still runs after `timeout`.
	pub fn power_off(&self, timeout: Duration) -> Result<ExitStatus, GuestError> {
		let deadline = Instant::now() + timeout;
		self.command("poweroff", timeout)?;
		self.wait_ended(deadline.saturating_duration_since(Instant::now()))
	}

	/// Whether QEMU lives and executes the guest's instructions. Paused, as it is for the few
	/// milliseconds in which a backup fixes its point in time, it does not.
	#[must_use]
	pub fn is_running(&self) -> bool {
		if !matches!(lock(&self.child).try_wait(), Ok(None)) {
			return false;
		}
		self.qmp("query-status", &json!({})).is_ok_and(|status| status["running"] == true)
	}

	/// Executes a QMP command on the harness' own socket, and returns its `return`.
	///
	/// # Errors
	/// Fails when QEMU refuses it, or has ended.
	pub fn qmp(&self, command: &str, arguments: &Value) -> Result<Value, GuestError> {
		let mut answer = lock(&self.control)
			.execute(command, arguments, QMP_TIMEOUT)
			.map_err(|error| self.unanswered(&format!("{command} done"), QMP_TIMEOUT, &error))?;
		match answer.get_mut("return") {
			Some(value) => Ok(value.take()),
			None => Err(GuestError::Qmp {
				command: command.to_owned(),
				answer: answer["error"]["desc"].to_string(),
			}),
		}
	}

	/// The QMP socket that is for backups, and for them alone.
	#[must_use]
	pub fn backup_qmp(&self) -> PathBuf {
		self.dir.join(BACKUP_SOCKET)
	}

	/// The socket of QEMU's guest agent. Nobody listens there unless the guest was started with one.
	#[must_use]
	pub fn agent_socket(&self) -> PathBuf {
		self.dir.join(AGENT_SOCKET)
	}

	/// The process id of QEMU.
	#[must_use]
	pub fn pid(&self) -> u32 {
		self.pid
	}

	/// Ends QEMU in order, with its disk flushed; the guest is not asked.
	///
	/// # Errors
	/// Fails when QEMU still runs after `timeout`.
	pub fn stop(&self, timeout: Duration) -> Result<ExitStatus, GuestError> {
		// It may have ended already, or hang up before its answer is out.
		let _ = self.qmp("quit", &json!({}));
		self.wait_ended(timeout)
	}

	/// Ends QEMU at once, as a power cut or the kernel's memory killer would.
	pub fn kill(&self) {
		end(&mut lock(&self.child));
	}

	/// Waits until QEMU has ended.
	///
	/// # Errors
	/// Fails when it still runs after `timeout`.
	pub fn wait_ended(&self, timeout: Duration) -> Result<ExitStatus, GuestError> {
		let deadline = Instant::now() + timeout;
		loop {
			let ended = lock(&self.child).try_wait();
			match ended {
				Ok(Some(status)) => return Ok(status),
				Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
				Ok(None) => {
					let error = io::ErrorKind::TimedOut.into();
					return Err(self.unanswered("the end of QEMU", timeout, &error));
				}
				Err(source) => return Err(GuestError::File { path: self.dir.clone(), source }),
			}
		}
	}

	fn unanswered(&self, awaited: &str, timeout: Duration, error: &io::Error) -> GuestError {
		unanswered(&self.dir, awaited, timeout, error)
	}
}

impl Drop for Guest {
	fn drop(&mut self) {
		self.kill();
	}
}

/// Unix sockets have short paths; better to say so than to have QEMU say something else.
fn socket_dir(dir: &Path) -> Result<PathBuf, GuestError> {
	fs::create_dir_all(dir)
		.and_then(|()| dir.canonicalize())
		.map_err(|source| GuestError::File { path: dir.to_owned(), source })
		.and_then(|dir| {
			let bytes_max = SOCKET_PATH_BYTES_MAX - CONTROL_SOCKET.len() - 1;
			if dir.as_os_str().len() > bytes_max {
				return Err(GuestError::PathTooLong { dir, bytes_max });
			}
			Ok(dir)
		})
}

fn spawn(
	options: &GuestOptions,
	accelerator: Accelerator,
	dir: &Path,
) -> Result<Child, GuestError> {
	let log = dir.join(QEMU_LOG);
	let stderr =
		fs::File::create(&log).map_err(|source| GuestError::File { path: log.clone(), source })?;
	let mut command = program::command("qemu-system-x86_64");
	machine(&mut command, options, accelerator);
	disk(&mut command, options);
	sockets(&mut command, dir);
	if options.has_agent {
		agent_channel(&mut command, dir);
	}
	end_with_us(&mut command);
	command
		.stdout(Stdio::null())
		.stderr(stderr)
		.spawn()
		.map_err(|source| GuestError::Program { program: "qemu-system-x86_64".to_owned(), source })
}

fn machine(command: &mut Command, options: &GuestOptions, accelerator: Accelerator) {
	command
		.args(["-machine", "q35", "-no-user-config", "-nodefaults", "-display", "none"])
		.args(accelerator.arguments())
		.args(["-no-reboot", "-uuid", &options.uuid, "-m", &options.memory_mib.to_string()])
		.arg("-kernel")
		.arg(options.guest_cache_dir.join("vmlinuz"))
		.arg("-initrd")
		.arg(options.guest_cache_dir.join("initramfs"))
		.args(["-append", "console=ttyS1 panic=-1 mitigations=off nokaslr"]);
}

fn disk(command: &mut Command, options: &GuestOptions) {
	let node = json!({
		"driver": options.disk_format,
		"node-name": "disk0",
		"discard": "unmap",
		"file": { "driver": "file", "filename": options.disk_image },
	});
	// One whose disk fills in waits for what it lacks, and is told of no error.
	command
		.args(["-blockdev", &node.to_string()])
		.args(["-device", "virtio-blk-pci,drive=disk0,id=vda,rerror=stop,werror=stop"]);
}

fn sockets(command: &mut Command, dir: &Path) {
	let path = |name| escaped(&dir.join(name));
	for (id, socket) in [("backup", BACKUP_SOCKET), ("control", CONTROL_SOCKET)] {
		command
			.args(["-chardev", &format!("socket,id={id},server=on,wait=off,path={}", path(socket))])
			.args(["-mon", &format!("chardev={id},mode=control")]);
	}
	let (serial, log) = (path(SERIAL_SOCKET), path(SERIAL_LOG));
	command
		.arg("-chardev")
		.arg(format!("socket,id=serial,server=on,wait=off,path={serial},logfile={log}"))
		.args(["-serial", "chardev:serial", "-chardev"])
		.arg(format!("file,id=console,path={}", path(CONSOLE_LOG)))
		.args(["-serial", "chardev:console"]);
}

fn agent_channel(command: &mut Command, dir: &Path) {
	let path = escaped(&dir.join(AGENT_SOCKET));
	command
		.args(["-chardev", &format!("socket,id=agent,server=on,wait=off,path={path}")])
		.args(["-device", "virtio-serial-pci", "-device"])
		.arg("virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
}

/// A comma ends an option of QEMU's, unless it is doubled.
fn escaped(path: &Path) -> String {
	path.to_string_lossy().replace(',', ",,")
}

fn connect(child: &mut Child, dir: &Path) -> io::Result<(Lines, Qmp)> {
	let deadline = Instant::now() + CONNECT_TIMEOUT;
	let mut alive = || matches!(child.try_wait(), Ok(None));
	// The serial port first: what it says before somebody listens is lost.
	let serial = Lines::connect(&dir.join(SERIAL_SOCKET), deadline, &mut alive)?;
	let control = Qmp::connect(&dir.join(CONTROL_SOCKET), deadline, &mut alive)?;
	Ok((serial, control))
}

/// By its id, and reaped; a process that has ended already is left alone.
fn end(child: &mut Child) {
	let _ = child.kill();
	let _ = child.wait();
}

fn unanswered(dir: &Path, awaited: &str, timeout: Duration, error: &io::Error) -> GuestError {
	let log = last_words(dir);
	if error.kind() == io::ErrorKind::TimedOut {
		return GuestError::TimedOut { awaited: awaited.to_owned(), timeout, log };
	}
	GuestError::Exited { log }
}

fn last_words(dir: &Path) -> String {
	let mut words = String::new();
	for name in [QEMU_LOG, CONSOLE_LOG, SERIAL_LOG] {
		if let Ok(bytes) = fs::read(dir.join(name)) {
			let text = String::from_utf8_lossy(&bytes);
			words.push_str(program::last_chars(text.trim(), LOG_CHARS_MAX));
			words.push('\n');
		}
	}
	words
}

fn number(text: &str) -> Option<u64> {
	text.trim().parse().ok()
}

fn refused(command: &str, answer: String) -> GuestError {
	GuestError::Refused { command: command.to_owned(), answer }
}

/// A test that panicked with the lock held leaves nothing half done that matters to the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
