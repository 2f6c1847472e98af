//! What the disk did not give when the index was made anew.
//!
//! An index knows nothing of what could not be read while it was made, and that may be all there
//! is: a disk with a loose cable gives it again. So a pack with such a place is not removed, though
//! no live block is known in it, and the first start that can read one makes the index anew. Until
//! then, or until a repair goes on without it.

use super::Index;
use crate::repositories::RepositoryError;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};
use std::collections::BTreeSet;

/// Pack and offset of what could not be read → how many bytes were asked for.
const UNREAD: TableDefinition<(u32, u64), u64> = TableDefinition::new("unread");

/// A place of a pack that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
	pub(crate) pack: u32,
	pub(crate) offset: u64,
	pub(crate) len: u64,
}

impl Index {
	pub(crate) fn note_unread(&self, places: &[Unread]) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			let mut table = transaction.open_table(UNREAD)?;
			for Unread { pack, offset, len } in places {
				table.insert((*pack, *offset), *len)?;
			}
			Ok(())
		})
	}

	/// All that could not be read when the index was made, and is not given up.
	pub(crate) fn unread(&self) -> Result<Vec<Unread>, RepositoryError> {
		self.read(|database| {
			let table = match database.begin_read()?.open_table(UNREAD) {
				// Everything could be read, or it was made before such places were noted.
				Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
				table => table?,
			};
			let mut places = Vec::new();
			for row in table.iter()? {
				let (place, len) = row?;
				let (pack, offset) = place.value();
				places.push(Unread { pack, offset, len: len.value() });
			}
			Ok(places)
		})
	}

	/// The packs that hold more than is known.
	pub(crate) fn unread_packs(&self) -> Result<BTreeSet<u32>, RepositoryError> {
		Ok(self.unread()?.into_iter().map(|place| place.pack).collect())
	}
}

/// Nothing of it is waited for any more.
pub(super) fn give_up(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
	transaction.delete_table(UNREAD)?;
	Ok(())
}
