//! CAR files: the blocks of snapshots in one file, for keeping and carrying.
//!
//! ```text
//! varint length | header (dag-cbor): { "roots": [cid…], "version": 1 }
//! varint length | CID 36 | block        as often as there are blocks
//! ```
//! Version 1 of <https://ipld.io/specs/transport/car/carv1/>. Every reader of such files takes
//! what [`CarWriter`] writes. [`CarFile`] takes blocks in any order, and repeated ones; blocks
//! of foreign kinds are stepped over.

mod stream;

pub use stream::CarStream;

use crate::{
	format::{
		BLOCK_BYTES_MAX, CborError, Cid,
		cbor::{Decoder, Encoder},
		digest,
	},
	repositories::{BlockSource, RepositoryError},
};
use backup_primitives::cid::CID_BYTES;
use std::{
	fs::File,
	io::{self, Write},
	os::unix::fs::FileExt,
	path::Path,
};

/// Most roots that a file may name.
pub const CAR_ROOTS_MAX: usize = 1024;

const VERSION: u64 = 1;

/// Most bytes of a header with that many roots.
const HEADER_BYTES_MAX: u64 = 64 * 1024;

/// Most bytes of a section's length: it has at most 28 bits.
const LENGTH_BYTES_MAX: usize = 4;

/// What a file of version 2 begins with, behind its length.
const VERSION_2: &[u8] = b"\xa1\x67version\x02";

/// Why a file is not a CAR that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarError {
	/// The file cannot be read.
	#[error("it cannot be read: {0}")]
	Io(#[from] io::Error),
	/// It does not begin as a CAR does.
	#[error("it does not begin with the header of a CAR: {0}")]
	Header(#[source] CborError),
	/// It does not begin as a CAR does, or with a longer header than is read.
	#[error("it does not begin with a header of at most {HEADER_BYTES_MAX} bytes")]
	HeaderLength,
	/// Another version.
	#[error("it is a CAR of version {found}, and version {VERSION} is read")]
	Version {
		/// The version that was found.
		found: u64,
	},
	/// A length that no block of ours has, or bytes that are no length.
	#[error("the section at byte {at} has a length that no block has")]
	SectionLength {
		/// Where the section begins.
		at: u64,
	},
	/// A block is not what its CID says.
	#[error("block {cid} in it is damaged")]
	Corrupt {
		/// Which one.
		cid: Cid,
	},
	/// The file ends within a section.
	#[error("it ends within the section that begins at byte {at}: part of it is missing")]
	Truncated {
		/// Where the section begins.
		at: u64,
	},
}

/// Writes a CAR. The caller writes each block once, and all below the roots.
#[derive(Debug)]
pub struct CarWriter<W> {
	out: W,
	written_bytes: u64,
}

impl<W: Write> CarWriter<W> {
	/// Writes the header with the root of what follows.
	pub fn new(mut out: W, root: &Cid) -> io::Result<Self> {
		let mut header = Encoder::default();
		header.map(2);
		header.text("roots");
		header.array(1);
		header.link(root);
		header.text("version");
		header.unsigned(VERSION);
		let header = header.finish();
		let length = varint(header.len());
		out.write_all(&length)?;
		out.write_all(&header)?;
		Ok(Self { out, written_bytes: (length.len() + header.len()) as u64 })
	}

	/// Writes a block, whose hash the caller has checked.
	pub fn block(&mut self, cid: &Cid, block: &[u8]) -> io::Result<()> {
		let length = varint(CID_BYTES + block.len());
		self.out.write_all(&length)?;
		self.out.write_all(cid.as_bytes())?;
		self.out.write_all(block)?;
		self.written_bytes += (length.len() + CID_BYTES + block.len()) as u64;
		Ok(())
	}

	/// Bytes of the file so far.
	pub fn written_bytes(&self) -> u64 {
		self.written_bytes
	}

	/// Hands the output back, flushed.
	pub fn finish(mut self) -> io::Result<W> {
		self.out.flush()?;
		Ok(self.out)
	}
}

fn varint(length: usize) -> Vec<u8> {
	let mut buffer = unsigned_varint::encode::usize_buffer();
	unsigned_varint::encode::usize(length, &mut buffer).to_vec()
}

/// A CAR that blocks are read from, wherever in it they stand.
///
/// Takes 16 bytes of memory for each block of the file.
#[derive(Debug)]
pub struct CarFile {
	file: File,
	roots: Vec<Cid>,
	/// The blocks in the order of their digests.
	places: Vec<Place>,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
	/// The first bytes of its digest, which tell nearly all blocks apart.
	start_of_digest: u64,
	/// Where its section begins.
	at: u64,
}

impl Place {
	fn of(cid: &Cid, at: u64) -> Self {
		Self { start_of_digest: start_of_digest(cid), at }
	}
}

/// What stands before the bytes of a block.
struct Section {
	/// `None` for a block of a foreign kind.
	cid: Option<Cid>,
	/// Where CID and bytes begin.
	start: u64,
	/// How many bytes they have.
	length: u64,
}

impl Section {
	fn end(&self) -> u64 {
		self.start + self.length
	}
}

impl CarFile {
	/// Reads the header, and where each block stands. No block is read.
	pub fn open(path: &Path) -> Result<Self, CarError> {
		let file = File::open(path)?;
		let end = file.metadata()?.len();
		let (roots, mut at) = read_header(&file, end)?;
		let mut places = Vec::new();
		while at < end {
			let section = read_section(&file, at, end)?;
			places.extend(section.cid.map(|cid| Place::of(&cid, at)));
			at = section.end();
		}
		places.sort_unstable();
		Ok(Self { file, roots, places })
	}

	/// The roots that the file names.
	pub fn roots(&self) -> &[Cid] {
		&self.roots
	}

	/// How many blocks the file has.
	pub fn blocks(&self) -> usize {
		self.places.len()
	}

	fn find(&self, cid: &Cid) -> Result<Option<Section>, CarError> {
		let start = start_of_digest(cid);
		let first = self.places.partition_point(|place| place.start_of_digest < start);
		let alike = self.places[first..].iter().take_while(|p| p.start_of_digest == start);
		let end = self.file.metadata()?.len();
		for place in alike {
			let section = read_section(&self.file, place.at, end)?;
			if section.cid == Some(*cid) {
				return Ok(Some(section));
			}
		}
		Ok(None)
	}
}

impl BlockSource for CarFile {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let unreadable = |error: CarError| RepositoryError::Io {
			action: "read a CAR",
			source: io::Error::other(error),
		};
		let Some(section) = self.find(cid).map_err(unreadable)? else { return Ok(None) };
		let bytes = section.length - CID_BYTES as u64;
		let mut block = vec![0; usize::try_from(bytes).expect("sections are bounded")];
		self.file
			.read_exact_at(&mut block, section.start + CID_BYTES as u64)
			.map_err(|error| unreadable(error.into()))?;
		match digest(&block) == cid.digest() {
			true => Ok(Some(block)),
			false => Err(RepositoryError::Corrupt { cid: *cid }),
		}
	}
}

fn start_of_digest(cid: &Cid) -> u64 {
	let digest = cid.digest();
	let (start, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
	u64::from_be_bytes(*start)
}

/// The roots, and where the first section begins.
fn read_header(file: &File, end: u64) -> Result<(Vec<Cid>, u64), CarError> {
	let (length, start) = read_length(file, 0, end)?.ok_or(CarError::HeaderLength)?;
	if length == 0 || length > HEADER_BYTES_MAX || length > end - start {
		return Err(CarError::HeaderLength);
	}
	let mut header = vec![0; usize::try_from(length).map_err(|_| CarError::HeaderLength)?];
	file.read_exact_at(&mut header, start)?;
	if header == VERSION_2 {
		return Err(CarError::Version { found: 2 });
	}
	let (version, roots) = decode_header(&header).map_err(CarError::Header)?;
	match version {
		VERSION => Ok((roots, start + length)),
		found => Err(CarError::Version { found }),
	}
}

fn decode_header(header: &[u8]) -> Result<(u64, Vec<Cid>), CborError> {
	let mut decoder = Decoder::new(header);
	decoder.map_of(2)?;
	decoder.key("roots")?;
	let count = decoder.array(CAR_ROOTS_MAX)?;
	let roots = (0..count).map(|_| decoder.link()).collect::<Result<_, _>>()?;
	decoder.key("version")?;
	let version = decoder.unsigned()?;
	decoder.end()?;
	Ok((version, roots))
}

fn read_section(file: &File, at: u64, end: u64) -> Result<Section, CarError> {
	let (length, start) = read_length(file, at, end)?.ok_or(CarError::SectionLength { at })?;
	if length == 0 {
		return Err(CarError::SectionLength { at });
	}
	if length > end - start {
		return Err(CarError::Truncated { at });
	}
	let mut cid = None;
	if length >= CID_BYTES as u64 {
		let mut bytes = [0; CID_BYTES];
		file.read_exact_at(&mut bytes, start)?;
		cid = Cid::try_from(bytes.as_slice()).ok();
	}
	match cid {
		Some(_) if length > (CID_BYTES + BLOCK_BYTES_MAX) as u64 => {
			Err(CarError::SectionLength { at })
		}
		cid => Ok(Section { cid, start, length }),
	}
}

/// A length and where what it measures begins; `None` if no length stands there. Whoever asks
/// knows that something does.
fn read_length(file: &File, at: u64, end: u64) -> Result<Option<(u64, u64)>, CarError> {
	let mut bytes = [0; LENGTH_BYTES_MAX];
	let there = usize::try_from(end - at).unwrap_or(usize::MAX).min(bytes.len());
	file.read_exact_at(&mut bytes[..there], at)?;
	match unsigned_varint::decode::u64(&bytes[..there]) {
		Ok((length, rest)) => Ok(Some((length, at + (there - rest.len()) as u64))),
		// Its end may lie beyond the file's.
		Err(unsigned_varint::decode::Error::Insufficient) if there < bytes.len() => {
			Err(CarError::Truncated { at })
		}
		Err(_) => Ok(None),
	}
}

#[cfg(test)]
mod tests;
