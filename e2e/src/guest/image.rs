//! Makes what a guest is started from: its kernel and initramfs, and its disk.

use std::{
	env,
	fs::File,
	path::{Path, PathBuf},
};

use crate::guest::{error::GuestError, program};

/// Makes the guest's kernel and initramfs with `scripts/guest.sh` unless they are there already,
/// and says where: in `target/guest` of the project or in `$GUEST_CACHE`.
///
/// # Errors
/// Fails when a program is missing or, the first time, the kernel package cannot be fetched.
pub fn make_guest() -> Result<PathBuf, GuestError> {
	let project = Path::new(env!("CARGO_MANIFEST_DIR"))
		.parent()
		.expect("the manifest of a member lies below the workspace's");
	let cache = env::var_os("GUEST_CACHE")
		.map_or_else(|| project.join("target/guest"), |cache| project.join(cache));
	let script = project.join("scripts/guest.sh");
	program::run(program::command(&script.to_string_lossy()).env("GUEST_CACHE", &cache))?;
	Ok(cache)
}

/// Makes a sparse raw image of `mib` MiB with an empty ext4 on it, without partitions.
///
/// All tables are written now: ext4 would otherwise go on writing them in the running guest.
///
/// # Errors
/// Fails when `path` exists or cannot be written, or mke2fs fails.
pub fn make_disk(path: &Path, mib: u64) -> Result<(), GuestError> {
	let file_error = |source| GuestError::File { path: path.to_owned(), source };
	let image = File::create_new(path).map_err(file_error)?;
	image.set_len(mib << 20).map_err(file_error)?;
	program::run(
		program::command("mke2fs")
			.args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
			.arg(path),
	)
	.map(drop)
}

/// Checks the file system on a raw image: replays its journal as a mount would, then looks at
/// everything. The image is changed by the replay.
///
/// # Errors
/// Fails when e2fsck finds anything wrong after the replay.
pub fn check_disk(path: &Path) -> Result<(), GuestError> {
	program::run(program::command("e2fsck").args(["-E", "journal_only", "-p"]).arg(path))?;
	program::run(program::command("e2fsck").args(["-f", "-n"]).arg(path)).map(drop)
}

/// Whether the ext4 on a raw image has a journal to replay, as it has while it is mounted and after a
/// power cut; not so one that was frozen or unmounted.
///
/// # Errors
/// Fails when `path` cannot be read or holds no ext4.
pub fn needs_recovery(path: &Path) -> Result<bool, GuestError> {
	let header = program::run(program::command("dumpe2fs").arg("-h").arg(path))?;
	Ok(header.contains("needs_recovery"))
}
