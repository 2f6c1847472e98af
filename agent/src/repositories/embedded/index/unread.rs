//! What the disk does not give, and may give again.
//!
//! A pack that is away, or its end, and what could not be read while the index was made anew: an index
//! knows nothing of what stands there, and that may be all there is. So a pack with such a place is not
//! removed, though no live block is known in it; nobody says that a root which may stand there is gone;
//! and the first start that can read one makes the index anew. Until then, or until a repair goes on
//! without it.

use super::Index;
use crate::repositories::RepositoryError;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use std::collections::BTreeSet;

/// Pack and offset of what could not be read → how many bytes.
const UNREAD: TableDefinition<(u32, u64), u64> = TableDefinition::new("unread");

/// A place of a pack that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
	pub(crate) pack: u32,
	pub(crate) offset: u64,
	pub(crate) len: u64,
}

impl Unread {
	/// What of it lies behind the end of its file.
	pub(crate) fn behind(self, file_len: u64) -> Option<Self> {
		let end = self.offset.saturating_add(self.len);
		let offset = self.offset.max(file_len);
		(offset < end).then(|| Self { offset, len: end - offset, ..self })
	}
}

impl Index {
	/// From now on these places are what could not be read, and no others.
	pub(crate) fn set_unread(&self, places: &[Unread]) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			give_up(transaction)?;
			put(transaction, places)
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

pub(super) fn put(transaction: &WriteTransaction, places: &[Unread]) -> Result<(), redb::Error> {
	let mut table = transaction.open_table(UNREAD)?;
	for Unread { pack, offset, len } in places {
		let known = table.get((*pack, *offset))?.map_or(0, |known| known.value());
		table.insert((*pack, *offset), known.max(*len))?;
	}
	Ok(())
}

/// Nothing of it is waited for any more.
pub(super) fn give_up(transaction: &WriteTransaction) -> Result<(), redb::Error> {
	transaction.delete_table(UNREAD)?;
	Ok(())
}
