//! Whether a repository takes a block in, keeps it and gives it back.

use super::{BlockSource, Repository, RepositoryError};
use crate::format::{Cid, digest};

/// What the pin of a trial says. It is none of a snapshot's, so nobody takes it for one.
const LABEL: &[u8] = b"doctor";

/// Write a block that nobody has, pin it, read it back and unpin it.
///
/// No pin is left, not even by a trial that was killed before. The block goes with the next
/// collection.
pub fn try_out<R: Repository>(repository: &R) -> Result<(), RepositoryError> {
	forget_trials(repository)?;
	let block = [LABEL, &rand::random::<[u8; 32]>()].concat();
	let root = Cid::raw(digest(&block));
	// It keeps the block from being collected meanwhile.
	let session = repository.open_session()?;
	session.put(&root, &block)?;
	session.flush()?;
	session.pin(&root, LABEL)?;
	let read = read_back(repository, &root, &block);
	repository.unpin(&root)?;
	read
}

/// Unpin what trials have left that were killed.
pub(crate) fn forget_trials<R: Repository>(repository: &R) -> Result<(), RepositoryError> {
	let left = repository.pins()?.into_iter().filter(|pin| is_trial(&pin.label));
	left.into_iter().try_for_each(|pin| repository.unpin(&pin.root).map(drop))
}

/// Whether this is what the pin of a trial says, which is of no use to anybody else.
pub(crate) fn is_trial(label: &[u8]) -> bool {
	label == LABEL
}

fn read_back<S: BlockSource>(source: &S, root: &Cid, block: &[u8]) -> Result<(), RepositoryError> {
	match source.get(root)? {
		Some(found) if found == block => Ok(()),
		Some(_) => Err(RepositoryError::Corrupt { cid: *root }),
		None => Err(RepositoryError::Missing { cid: *root }),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::repositories::{EmbeddedStore, StoreOptions};

	#[test]
	fn a_trial_leaves_no_pin_and_after_a_collection_no_block() {
		let folder = tempfile::tempdir().unwrap();
		let store = EmbeddedStore::open(folder.path(), StoreOptions::V1).unwrap();
		let before = store.usage().unwrap().blocks;
		try_out(&store).unwrap();
		try_out(&store).unwrap();
		assert!(store.pins().unwrap().is_empty());
		assert_eq!(store.usage().unwrap().blocks, before + 2);
		store.collect().unwrap();
		assert_eq!(store.usage().unwrap().blocks, before);
	}

	#[test]
	fn the_pin_of_a_trial_that_was_killed_goes_with_the_next_one() {
		let folder = tempfile::tempdir().unwrap();
		let store = EmbeddedStore::open(folder.path(), StoreOptions::V1).unwrap();
		let session = store.open_session().unwrap();
		for label in [LABEL, b"an operator's own"] {
			let root = Cid::raw(digest(label));
			session.put(&root, label).unwrap();
			session.flush().unwrap();
			session.pin(&root, label).unwrap();
		}
		try_out(&store).unwrap();
		let left: Vec<_> = store.pins().unwrap().into_iter().map(|pin| pin.label).collect();
		assert_eq!(left, [b"an operator's own"]);
	}
}
