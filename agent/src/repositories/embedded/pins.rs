//! The pin log: which roots must stay.
//!
//! Pins are records of their own file, appended and synced before a pin is acknowledged, and
//! kept in memory while the store is open. The index knows nothing of them, so losing it loses
//! no pin. They do not stand between the blocks, for two reasons: a pack without live blocks
//! can go as a whole, and going on behind damage never takes bytes of a block, which others
//! may have chosen, for a pin.
//!
//! A torn record at the end was never acknowledged and is cut off. Damage before the end, or more of it
//! than one record, is skipped and reported: pins may have been lost, and nothing must be collected
//! before they are confirmed.

use crate::{
	format::Cid,
	repositories::{
		LABEL_BYTES_MAX, Pin, RepositoryError,
		embedded::{
			files::{Files, StoreFile},
			record::{HEADER_BYTES, Header, Kind, find_magic},
		},
	},
};
use std::{collections::BTreeMap, io, sync::Arc};

pub(crate) const PINS_FILE: &str = "pins.log";
pub(crate) const PINS_NEW_FILE: &str = "pins.new";

/// Records beyond twice the pins after which the log is written anew.
const SPARE_RECORDS: u64 = 256;

#[derive(Debug)]
pub(crate) struct PinLog {
	files: Arc<dyn Files>,
	/// `None` while there is none.
	file: Option<Arc<dyn StoreFile>>,
	end: u64,
	records: u64,
	pins: BTreeMap<Cid, Vec<u8>>,
	/// Something was wrong with it when it was opened.
	is_damaged: bool,
	/// After an error the end of the file is not known for sure.
	must_rewrite: bool,
}

/// Whether the log could be read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinsFound {
	All,
	PerhapsNotAll,
}

impl PinLog {
	/// Reads the log, if there is one. One that is missing is not [made](Self::mend) yet.
	pub(crate) fn open(
		files: Arc<dyn Files>,
		names: &[String],
	) -> Result<(Self, PinsFound), RepositoryError> {
		let there = names.iter().any(|name| name == PINS_FILE);
		Self::try_open(files, there).map_err(RepositoryError::io("read its pins"))
	}

	fn try_open(files: Arc<dyn Files>, there: bool) -> io::Result<(Self, PinsFound)> {
		let file = if there { Some(files.open(PINS_FILE)?) } else { None };
		let pins = BTreeMap::new();
		let is_damaged = false;
		let mut log =
			Self { files, file, end: 0, records: 0, pins, is_damaged, must_rewrite: false };
		let found = log.replay()?;
		log.is_damaged = found == PinsFound::PerhapsNotAll;
		if log.records > 2 * log.pins.len() as u64 + SPARE_RECORDS && found == PinsFound::All {
			log.rewrite()?;
		}
		Ok((log, found))
	}

	#[cfg(test)]
	pub(crate) fn distrust(&mut self) {
		self.is_damaged = true;
	}

	/// Makes the log anew if it is missing or damaged. From then on what it says counts as all that is
	/// pinned.
	pub(crate) fn mend(&mut self) -> Result<(), RepositoryError> {
		if self.is_damaged {
			self.rewrite().map_err(RepositoryError::io("write its pins"))?;
			self.is_damaged = false;
		}
		Ok(())
	}

	pub(crate) fn list(&self) -> Vec<Pin> {
		let pin = |(root, label): (&Cid, &Vec<u8>)| Pin { root: *root, label: label.clone() };
		self.pins.iter().map(pin).collect()
	}

	pub(crate) fn is_pinned(&self, root: &Cid) -> bool {
		self.pins.contains_key(root)
	}

	pub(crate) fn roots(&self) -> Vec<Cid> {
		self.pins.keys().copied().collect()
	}

	pub(crate) fn pin(&mut self, root: &Cid, label: &[u8]) -> Result<(), RepositoryError> {
		let (found, max) = (label.len(), LABEL_BYTES_MAX);
		if found > max {
			return Err(RepositoryError::LabelTooLong { found, max });
		}
		if self.pins.get(root).is_some_and(|old| old == label) {
			return Ok(());
		}
		self.append(Kind::Pin, root, label)?;
		self.pins.insert(*root, label.to_vec());
		Ok(())
	}

	/// Says whether there is a pin, and another label for it; what is not pinned stays so.
	pub(crate) fn relabel(
		&mut self,
		root: &Cid,
		change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
	) -> Result<bool, RepositoryError> {
		match self.pins.get(root).and_then(|label| change(label)) {
			Some(label) => self.pin(root, &label).map(|()| true),
			None => Ok(false),
		}
	}

	pub(crate) fn unpin(&mut self, root: &Cid) -> Result<bool, RepositoryError> {
		if !self.pins.contains_key(root) {
			return Ok(false);
		}
		self.append(Kind::Unpin, root, &[])?;
		self.pins.remove(root);
		Ok(true)
	}

	fn append(&mut self, kind: Kind, root: &Cid, label: &[u8]) -> Result<(), RepositoryError> {
		let action = "write its pins";
		let file = match &self.file {
			Some(file) if !self.must_rewrite => file.clone(),
			Some(_) | None => self.rewrite().map_err(RepositoryError::io(action))?,
		};
		let record = record(kind, root, label);
		// Until the record is durable, the end of the file is anyone's guess.
		self.must_rewrite = true;
		file.write_at(self.end, &record)
			.and_then(|()| file.sync())
			.map_err(RepositoryError::io(action))?;
		self.must_rewrite = false;
		self.end += record.len() as u64;
		self.records += 1;
		Ok(())
	}

	/// Writes the pins to a new file, which then takes the place of the old one.
	fn rewrite(&mut self) -> io::Result<Arc<dyn StoreFile>> {
		// Once the name has changed, what is appended to the old file is lost.
		self.must_rewrite = true;
		if self.files.list()?.iter().any(|name| name == PINS_NEW_FILE) {
			self.files.remove(PINS_NEW_FILE)?;
		}
		let file = self.files.create(PINS_NEW_FILE)?;
		let bytes: Vec<u8> =
			self.pins.iter().flat_map(|(root, label)| record(Kind::Pin, root, label)).collect();
		file.write_at(0, &bytes)?;
		file.sync()?;
		self.files.rename(PINS_NEW_FILE, PINS_FILE)?;
		self.files.sync_folder()?;
		self.file = Some(file.clone());
		self.end = bytes.len() as u64;
		self.records = self.pins.len() as u64;
		self.must_rewrite = false;
		Ok(file)
	}

	/// Reads all records, steps over damage and cuts off what is torn at the end.
	fn replay(&mut self) -> io::Result<PinsFound> {
		let Some(file) = self.file.clone() else { return Ok(PinsFound::PerhapsNotAll) };
		let len = file.len()?;
		let mut found = PinsFound::All;
		let mut at = 0;
		while at < len {
			match read_record(&*file, at, len)? {
				Some((header, label)) => {
					if at > self.end {
						found = PinsFound::PerhapsNotAll;
					}
					match header.kind {
						Kind::Pin => drop(self.pins.insert(header.cid, label)),
						Kind::Unpin => drop(self.pins.remove(&header.cid)),
						Kind::Block | Kind::Skip => found = PinsFound::PerhapsNotAll,
					}
					self.records += 1;
					at += header.record_bytes();
					self.end = at;
				}
				None => match find_magic(&*file, at + 1, len)? {
					// A crash tears no more than one record.
					Some(next) => {
						found = PinsFound::PerhapsNotAll;
						at = next;
					}
					None => at = len,
				},
			}
		}
		if len - self.end > HEADER_BYTES + LABEL_BYTES_MAX as u64 {
			found = PinsFound::PerhapsNotAll;
		}
		if self.end < len {
			// Needs no sync of its own: that of the next record covers it, and until then what
			// comes back after a power cut is torn as before, and is cut again.
			file.set_len(self.end)?;
		}
		Ok(found)
	}
}

fn record(kind: Kind, root: &Cid, label: &[u8]) -> Vec<u8> {
	let len = u32::try_from(label.len()).expect("labels are bounded");
	let header = Header { kind, len, cid: *root }.encode(label);
	[&header, label].concat()
}

/// The record at `at`, if a whole one stands there.
fn read_record(file: &dyn StoreFile, at: u64, end: u64) -> io::Result<Option<(Header, Vec<u8>)>> {
	let mut bytes = vec![0; (HEADER_BYTES as usize + LABEL_BYTES_MAX).min((end - at) as usize)];
	file.read_at(at, &mut bytes)?;
	let Some((header, data)) = bytes.split_first_chunk() else {
		return Ok(None);
	};
	let len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
	let Some(label) = data.get(..len as usize) else {
		return Ok(None);
	};
	Ok(Header::decode(header, label).map(|header| (header, label.to_vec())))
}
