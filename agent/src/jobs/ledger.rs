//! How jobs ended, written down before anybody is told.
//!
//! One redb table from subject to end, both in SCALE, one for facts of the agent itself, one for
//! verifications, and two for what people look back at. It keeps a bounded number of ends: the
//! oldest go first, and what the chain has recorded goes as soon as it is seen there.

mod history;

use super::{Ended, Subject};
use crate::verification::Verification;
use backup_primitives::Cid;
use codec::{Decode, Encode};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::{collections::BTreeMap, path::Path, sync::Arc};

const ENDED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ended-v1");
/// From a root and a depth to the last verification.
const VERIFICATIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("verifications-v1");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts-v1");

const GENESIS: &str = "genesis";
const FINALIZED: &str = "finalized";
const TOLD: &str = "told";

/// Most ends that are kept.
const ENDED_MAX: usize = 10_000;

/// Memory that the database may use for pages, in bytes.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The ledger's file. Clones are the same ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
	database: Arc<Database>,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
	/// The database failed.
	#[error("use the ledger of jobs: {source}")]
	Database {
		/// Why.
		source: Box<redb::Error>,
	},
	/// An entry cannot be read.
	#[error(
		"read the ledger of jobs: an entry is malformed; move the file away to begin a new one"
	)]
	Malformed,
}

impl<E: Into<redb::Error>> From<E> for LedgerError {
	fn from(error: E) -> Self {
		Self::Database { source: Box::new(error.into()) }
	}
}

impl Ledger {
	/// Open the ledger in this file, or begin one.
	pub fn open(path: &Path) -> Result<Self, LedgerError> {
		let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
		let transaction = database.begin_write()?;
		transaction.open_table(ENDED)?;
		transaction.open_table(FACTS)?;
		transaction.open_table(VERIFICATIONS)?;
		history::create(&transaction)?;
		transaction.commit()?;
		Ok(Self { database: Arc::new(database) })
	}

	/// All ends.
	pub(super) fn load(&self) -> Result<BTreeMap<Subject, Ended>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(ENDED)?;
		let mut all = BTreeMap::new();
		for entry in table.iter()? {
			let (subject, ended) = entry?;
			let subject =
				Subject::decode(&mut subject.value()).map_err(|_| LedgerError::Malformed)?;
			let ended = Ended::decode(&mut ended.value()).map_err(|_| LedgerError::Malformed)?;
			all.insert(subject, ended);
		}
		Ok(all)
	}

	/// Write down how a job ended, durably.
	pub(super) fn remember(&self, subject: &Subject, ended: &Ended) -> Result<(), LedgerError> {
		let transaction = self.database.begin_write()?;
		{
			let mut table = transaction.open_table(ENDED)?;
			table.insert(subject.encode().as_slice(), ended.encode().as_slice())?;
			if redb::ReadableTableMetadata::len(&table)? > ENDED_MAX as u64 {
				let mut oldest: Option<(u64, Vec<u8>)> = None;
				for entry in table.iter()? {
					let (key, value) = entry?;
					let at = Ended::decode(&mut value.value()).map_or(0, |ended| ended.ended_at_ms);
					if oldest.as_ref().is_none_or(|(least, _)| at < *least) {
						oldest = Some((at, key.value().to_vec()));
					}
				}
				if let Some((_, key)) = oldest {
					table.remove(key.as_slice())?;
				}
			}
		}
		transaction.commit()?;
		Ok(())
	}

	/// Drop ends, all in one transaction: a page of the chain's ranges may name hundreds. Failing
	/// to costs room only.
	pub(super) fn forget(&self, subjects: &[Subject]) {
		if subjects.is_empty() {
			return;
		}
		let drop_them = || -> Result<(), LedgerError> {
			let transaction = self.database.begin_write()?;
			{
				let mut table = transaction.open_table(ENDED)?;
				for subject in subjects {
					table.remove(subject.encode().as_slice())?;
				}
			}
			transaction.commit()?;
			Ok(())
		};
		if let Err(error) = drop_them() {
			tracing::warn!(%error, "failed to forget jobs");
		}
	}

	/// The last verification of each root and depth.
	pub(crate) fn verifications(&self) -> Result<Vec<Verification>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(VERIFICATIONS)?;
		let mut all = Vec::new();
		for entry in table.iter()? {
			let (_, verification) = entry?;
			let mut bytes = verification.value();
			all.push(Verification::decode(&mut bytes).map_err(|_| LedgerError::Malformed)?);
		}
		Ok(all)
	}

	/// Write down how a verification ended, in place of the one before.
	pub(crate) fn remember_verification(&self, last: &Verification) -> Result<(), LedgerError> {
		let key = (last.root, last.depth).encode();
		let transaction = self.database.begin_write()?;
		transaction.open_table(VERIFICATIONS)?.insert(key.as_slice(), last.encode().as_slice())?;
		transaction.commit()?;
		Ok(())
	}

	/// Drop the verifications of roots that are gone.
	pub(crate) fn forget_verifications(
		&self,
		is_gone: &dyn Fn(&Cid) -> bool,
	) -> Result<(), LedgerError> {
		let gone: Vec<_> =
			self.verifications()?.into_iter().filter(|last| is_gone(&last.root)).collect();
		if gone.is_empty() {
			return Ok(());
		}
		let transaction = self.database.begin_write()?;
		{
			let mut table = transaction.open_table(VERIFICATIONS)?;
			for last in gone {
				table.remove((last.root, last.depth).encode().as_slice())?;
			}
		}
		transaction.commit()?;
		Ok(())
	}

	/// The genesis hash of the chain that this agent serves: the given one, unless it already
	/// serves another.
	pub fn genesis(&self, offered: [u8; 32]) -> Result<[u8; 32], LedgerError> {
		if let Some(kept) = self.known_genesis()? {
			return Ok(kept);
		}
		let transaction = self.database.begin_write()?;
		transaction.open_table(FACTS)?.insert(GENESIS, offered.as_slice())?;
		transaction.commit()?;
		Ok(offered)
	}

	/// The genesis hash of the chain that this agent serves, if it serves one yet.
	pub fn known_genesis(&self) -> Result<Option<[u8; 32]>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(FACTS)?;
		let kept = table.get(GENESIS)?;
		kept.map(|bytes| bytes.value().try_into().map_err(|_| LedgerError::Malformed)).transpose()
	}

	/// Number of the highest finalized block that was ever seen; zero if there is none.
	pub(super) fn finalized(&self) -> Result<u64, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(FACTS)?;
		let Some(kept) = table.get(FINALIZED)? else { return Ok(0) };
		kept.value().try_into().map(u64::from_le_bytes).map_err(|_| LedgerError::Malformed)
	}

	/// The number of the last attempt of which the operator's program was told, if it is told.
	pub(crate) fn told(&self) -> Result<Option<u64>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(FACTS)?;
		let Some(kept) = table.get(TOLD)? else { return Ok(None) };
		kept.value()
			.try_into()
			.map(u64::from_le_bytes)
			.map(Some)
			.map_err(|_| LedgerError::Malformed)
	}

	/// Write down of which attempt the operator's program was told last, or that it is told nothing.
	pub(crate) fn remember_told(&self, number: Option<u64>) -> Result<(), LedgerError> {
		if self.told()? == number {
			return Ok(());
		}
		let transaction = self.database.begin_write()?;
		{
			let mut table = transaction.open_table(FACTS)?;
			match number {
				Some(number) => table.insert(TOLD, number.to_le_bytes().as_slice())?,
				None => table.remove(TOLD)?,
			};
		}
		transaction.commit()?;
		Ok(())
	}

	/// Write down that a block of this number was finalized.
	pub(super) fn remember_finalized(&self, number: u64) -> Result<(), LedgerError> {
		let transaction = self.database.begin_write()?;
		transaction.open_table(FACTS)?.insert(FINALIZED, number.to_le_bytes().as_slice())?;
		transaction.commit()?;
		Ok(())
	}
}
