//! Finds out whether this machine can run guests with KVM.
//!
//! That `/dev/kvm` is there, that it opens, and even that it executes a few instructions, does not
//! say that a guest gets anywhere: under some hypervisors its kernel hangs, or meets an
//! instruction there that KVM cannot execute. So a guest is booted with it and writes to its disk.

use std::{env, fs, sync::OnceLock, time::Duration};

use crate::guest::{Guest, GuestError, GuestOptions, make_disk, make_guest};

/// Set to `kvm` or `tcg`, it decides instead of the probe.
const OVERRIDE: &str = "GUEST_ACCEL";
/// Some ten times what it takes where KVM works.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
const PROBE_DISK_MIB: u64 = 32;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accelerator {
	/// The processor, through the kernel.
	Kvm,
	/// QEMU itself; five to fifty times slower.
	Tcg,
}

impl Accelerator {
	/// The best that works here. It is found out once, in a second or two where KVM works, and
	/// the environment variable `GUEST_ACCEL` (`kvm` or `tcg`) overrides it.
	#[must_use]
	pub fn detect() -> Self {
		static DETECTED: OnceLock<Accelerator> = OnceLock::new();
		*DETECTED.get_or_init(|| match env::var(OVERRIDE).as_deref() {
			Ok("kvm") => Self::Kvm,
			Ok("tcg") => Self::Tcg,
			Ok(_) | Err(_) if kvm_opens() && boot_with_kvm().is_ok() => Self::Kvm,
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

fn kvm_opens() -> bool {
	fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

fn boot_with_kvm() -> Result<(), GuestError> {
	let dir =
		tempfile::tempdir().map_err(|source| GuestError::File { path: env::temp_dir(), source })?;
	let options = GuestOptions {
		dir: dir.path().join("vm"),
		disk_image: dir.path().join("disk.raw"),
		disk_format: "raw".to_owned(),
		uuid: "6c1d7c1e-6a0b-4b8e-9a52-0d6b1f0f5a11".to_owned(),
		memory_mib: 256,
		has_agent: false,
		guest_cache_dir: make_guest()?,
	};
	make_disk(&options.disk_image, PROBE_DISK_MIB)?;
	let guest = Guest::start_with(&options, Accelerator::Kvm)?;
	guest.wait_ready(PROBE_TIMEOUT)?;
	guest.write(1, PROBE_TIMEOUT)
}
