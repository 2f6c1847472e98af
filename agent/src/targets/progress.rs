//! How far a restore has come, in a file of its own.
//!
//! It is written after the data that it speaks of is durable, and as a whole. One that is torn, of
//! another content or of another format says nothing, and the restore begins at the beginning.

use crate::disk::remove_if_there;
use codec::{Decode, DecodeAll, Encode};
use rustix::process::geteuid;
use std::{
	fs::{self, DirBuilder, File, OpenOptions},
	io::{self, Read, Write},
	os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
	path::{Path, PathBuf},
};

/// Most bytes beside those of tables.
const REST_BYTES_MAX: u64 = 1024;

/// What a table covers of the content, and takes here at most.
const TABLE_SPAN: u64 = 512 << 20;
const TABLE_BYTES_MAX: u64 = (32 << 10) + 64;

const VERSION: u8 = 2;

const DIGEST_BYTES: usize = 32;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Progress {
	version: u8,
	/// Digest of the block on top of the content's tree.
	content: [u8; 32],
	logical_bytes: u64,
	/// Everything before is written.
	pub(super) done_bytes: u64,
	pub(super) needs: Needs,
}

/// What a target needs to go on, beside how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Needs {
	/// Nothing.
	Nothing,
	/// Where clusters lie: tables by their places.
	Clusters(Vec<(u64, Vec<u32>)>),
	/// Digests of what was written, by which it is found again; see [`super::digests`].
	Digests(Vec<[u8; 32]>),
}

impl Progress {
	pub(super) fn new(
		content: [u8; 32],
		logical_bytes: u64,
		done_bytes: u64,
		needs: Needs,
	) -> Self {
		Self { version: VERSION, content, logical_bytes, done_bytes, needs }
	}

	/// What is kept of this content, if anything is.
	pub(super) fn load(path: &Path, content: [u8; 32], logical_bytes: u64) -> Option<Self> {
		let bytes_max = REST_BYTES_MAX + logical_bytes.div_ceil(TABLE_SPAN) * TABLE_BYTES_MAX;
		let mut bytes = Vec::new();
		open_own(path)?.take(bytes_max).read_to_end(&mut bytes).ok()?;
		let (digest, body) = bytes.split_first_chunk::<DIGEST_BYTES>()?;
		if blake3::hash(body) != *digest {
			return None;
		}
		let progress = Self::decode_all(&mut &*body).ok()?;
		let is_of_it = progress.version == VERSION
			&& (progress.content, progress.logical_bytes) == (content, logical_bytes)
			&& progress.done_bytes <= logical_bytes;
		is_of_it.then_some(progress)
	}

	pub(super) fn save(&self, path: &Path) -> io::Result<()> {
		let mut bytes = vec![0; DIGEST_BYTES];
		self.encode_to(&mut bytes);
		let (digest, body) = bytes.split_at_mut(DIGEST_BYTES);
		digest.copy_from_slice(blake3::hash(body).as_bytes());
		let next = next(path);
		remove_if_there(&next)?;
		let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
		file.write_all(&bytes)?;
		// Not synced: one that is lost in a power cut costs time and nothing else.
		fs::rename(next, path)
	}
}

/// Makes a folder of this user's, unless it is there or its place is in another user's: root works with
/// other users' homes.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
	let user = geteuid().as_raw();
	let ensure_of =
		|folder: &Path, users: &[u32]| match users.contains(&fs::metadata(folder)?.uid()) {
			true => Ok(()),
			false => {
				let why = format!("{} is another user's", folder.display());
				Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
			}
		};
	if let Some(above) = folder.ancestors().find(|above| above.exists()) {
		ensure_of(above, &[user, 0])?;
	}
	DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
	ensure_of(folder, &[user])
}

/// Forgets what is kept, and says whether there was anything.
pub(super) fn forget(path: &Path) -> io::Result<bool> {
	Ok(remove_if_there(path)? | remove_if_there(&next(path))?)
}

/// Where the next state is written before it takes its place.
fn next(path: &Path) -> PathBuf {
	let mut next = path.as_os_str().to_owned();
	next.push(".next");
	next.into()
}

/// A plain file of this user's. Anybody else's may say anything.
fn open_own(path: &Path) -> Option<File> {
	let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
	let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
	let found = file.metadata().ok()?;
	(found.is_file() && found.uid() == geteuid().as_raw()).then_some(file)
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::os::unix::fs::chown;

	/// Cause: root, with the home of another user, made that user's `~/.local/state`. Effect: the user's
	/// own programs could not write there.
	#[test]
	fn no_folder_is_made_in_one_of_another_user() {
		let home = tempfile::tempdir().unwrap();
		let folder = home.path().join("state/restores");
		if !geteuid().is_root() {
			return println!("SKIPPED: only root can give a folder away");
		}
		chown(home.path(), Some(1000), None).unwrap();
		let refused = make_folder(&folder).unwrap_err();
		assert!(refused.to_string().contains("another user's"), "{refused}");
		assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
		chown(home.path(), Some(0), None).unwrap();
		make_folder(&folder).unwrap();
		make_folder(&folder).unwrap();
		assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
	}

	#[test]
	fn what_is_kept_is_found_again_and_what_is_broken_is_not() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("progress");
		let progress = Progress::new([1; 32], 1000, 512, Needs::Clusters(vec![(3, vec![1, 0, 2])]));
		assert_eq!(Progress::load(&path, [1; 32], 1000), None);
		progress.save(&path).unwrap();
		assert_eq!(Progress::load(&path, [1; 32], 1000), Some(progress));
		assert_eq!(Progress::load(&path, [2; 32], 1000), None);
		assert_eq!(Progress::load(&path, [1; 32], 1001), None);
		let whole = fs::read(&path).unwrap();
		for length in 0..whole.len() {
			fs::write(&path, &whole[..length]).unwrap();
			assert_eq!(Progress::load(&path, [1; 32], 1000), None, "{length} bytes");
		}
		let mut flipped = whole;
		*flipped.last_mut().unwrap() ^= 1;
		fs::write(&path, flipped).unwrap();
		assert_eq!(Progress::load(&path, [1; 32], 1000), None);
		Progress::new([1; 32], 10, 11, Needs::Nothing).save(&path).unwrap();
		assert_eq!(Progress::load(&path, [1; 32], 10), None);
	}
}
