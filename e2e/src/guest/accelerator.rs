//! Finds out whether this machine can run guests with KVM.
//!
//! That `/dev/kvm` is there, and even that it opens, does not say that a guest gets anywhere:
//! under some hypervisors it never executes its kernel. So a ROM of a few instructions is run
//! that ends QEMU, with the processor that the guest will get.

use std::{
	env, fs,
	process::{Child, Stdio},
	sync::OnceLock,
	thread,
	time::{Duration, Instant},
};

use crate::guest::program;

/// Set to `kvm` or `tcg`, it decides instead of the probe.
const OVERRIDE: &str = "GUEST_ACCEL";
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const ROM_BYTES: usize = 64 * 1024;
/// Processors start 16 bytes before the end of the ROM.
const RESET_VECTOR: usize = ROM_BYTES - 16;
/// `mov al, 1; out 0xf4, al; hlt`
const END_QEMU: [u8; 5] = [0xb0, 0x01, 0xe6, 0xf4, 0xf4];
/// The exit device makes `2 * value + 1` of what is written to it.
const ENDED_BY_ROM: i32 = 3;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accelerator {
	/// The processor, through the kernel.
	Kvm,
	/// QEMU itself; five to fifty times slower.
	Tcg,
}

impl Accelerator {
	/// The best that works here. It is found out once, in a fraction of a second, and
	/// the environment variable `GUEST_ACCEL` (`kvm` or `tcg`) overrides it.
	#[must_use]
	pub fn detect() -> Self {
		static DETECTED: OnceLock<Accelerator> = OnceLock::new();
		*DETECTED.get_or_init(|| match env::var(OVERRIDE).as_deref() {
			Ok("kvm") => Self::Kvm,
			Ok("tcg") => Self::Tcg,
			Ok(_) | Err(_) if kvm_executes() => Self::Kvm,
			Ok(_) | Err(_) => Self::Tcg,
		})
	}

	/// The arguments that make QEMU use it.
	pub(crate) fn arguments(self) -> &'static [&'static str] {
		match self {
			Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
			Self::Tcg => &["-accel", "tcg"],
		}
	}
}

fn kvm_executes() -> bool {
	if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
		return false;
	}
	let Ok(dir) = tempfile::tempdir() else { return false };
	let path = dir.path().join("rom");
	let mut rom = vec![0xf4; ROM_BYTES];
	rom[RESET_VECTOR..RESET_VECTOR + END_QEMU.len()].copy_from_slice(&END_QEMU);
	if fs::write(&path, rom).is_err() {
		return false;
	}
	let spawned = program::command("qemu-system-x86_64")
		.args(["-machine", "q35", "-m", "32", "-nodefaults", "-display", "none", "-no-reboot"])
		.args(Accelerator::Kvm.arguments())
		.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-bios"])
		.arg(&path)
		.stdout(Stdio::null())
		.stderr(Stdio::null())
		.spawn();
	spawned.is_ok_and(ended_by_rom)
}

fn ended_by_rom(mut child: Child) -> bool {
	let deadline = Instant::now() + PROBE_TIMEOUT;
	while Instant::now() < deadline {
		match child.try_wait() {
			Ok(Some(status)) => return status.code() == Some(ENDED_BY_ROM),
			Ok(None) => thread::sleep(Duration::from_millis(5)),
			Err(_) => break,
		}
	}
	// Nothing depends on whether this works: the process ends with its dead guest or not.
	let _ = child.kill();
	let _ = child.wait();
	false
}
