//! What stands where a block should, and what is to be said of it.

use crate::{
	format::{BLOCK_BYTES_MAX, Cid, digest, links},
	repositories::{
		RepositoryError,
		embedded::{
			Shared,
			entry::{Entry, Flaw},
			record::{HEADER_BYTES, Header, Kind},
		},
	},
};
use backup_primitives::cid::BlockCodec;

type Digest = [u8; 32];

/// What stands where a block should.
#[derive(Debug)]
pub(crate) struct Record {
	/// Whether the bytes are what the digest says.
	is_good: bool,
	/// Whether they are a node.
	is_node: bool,
	/// The codec in the header, if that is the header of this block.
	codec: Option<BlockCodec>,
	/// Whether there was anything to read.
	pub(crate) is_readable: bool,
}

/// What is to be said of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
	Good,
	/// The block is good, and its header is not.
	BadHeader,
	/// The block is good, and the index has it down as something else.
	WrongEntry,
	/// The block is good, and was not at an earlier time.
	GoodAgain,
	Damaged,
	/// Header and block are both wrong: perhaps the block stands elsewhere.
	Strange,
}

impl Record {
	const NOTHING: Self = Self { is_good: false, is_node: false, codec: None, is_readable: false };

	pub(crate) fn verdict(&self, entry: &Entry) -> Verdict {
		use BlockCodec::{DagCbor, Raw};
		if !self.is_good {
			return match self.codec {
				Some(_) => Verdict::Damaged,
				None => Verdict::Strange,
			};
		}
		match (entry.flaw, self.codec) {
			(Some(Flaw::Damaged(_)), Some(_)) => Verdict::GoodAgain,
			(Some(Flaw::Damaged(_)), None) => Verdict::Damaged,
			(None | Some(Flaw::Incomplete(_)), codec) => match (entry.counts_as_node(), codec) {
				(true, Some(DagCbor)) | (false, Some(Raw)) => Verdict::Good,
				// A chunk that was later put as a node has the header of a chunk.
				(true, None | Some(Raw)) if self.is_node => Verdict::BadHeader,
				(false, None) => Verdict::BadHeader,
				(true, None | Some(Raw)) | (false, Some(DagCbor)) => Verdict::WrongEntry,
			},
		}
	}

	/// The entry of what was damaged and is good again. As a node it is looked at with all others,
	/// and until then as incomplete as it was damaged.
	pub(crate) fn as_good_again(&self, entry: &Entry) -> Entry {
		let flaw = match entry.flaw {
			Some(Flaw::Damaged(outlook)) if self.codec == Some(BlockCodec::DagCbor) => {
				Some(Flaw::Incomplete(outlook))
			}
			Some(_) | None => None,
		};
		Entry { flaw, ..*entry }
	}
}

/// Needs the gate, so that the place is not given away meanwhile.
pub(crate) fn read_record(
	store: &Shared,
	name: &Digest,
	entry: &Entry,
) -> Result<Record, RepositoryError> {
	if entry.len as usize > BLOCK_BYTES_MAX {
		return Ok(Record::NOTHING);
	}
	let mut bytes = vec![0; HEADER_BYTES as usize + entry.len as usize];
	let read = store.packs.file(entry.pack).and_then(|file| {
		let at = u64::from(entry.offset);
		file.read_at(at, &mut bytes).map_err(RepositoryError::io("read a pack"))
	});
	match read {
		Ok(()) => {}
		Err(error) if error.is_loss() => return Ok(Record::NOTHING),
		Err(error) => return Err(error),
	}
	let (header, block) = bytes.split_at(HEADER_BYTES as usize);
	let header = header.first_chunk().and_then(|header| Header::decode(header, &[]));
	let header = header.filter(|header| {
		(header.kind, header.len, header.cid.digest()) == (Kind::Block, entry.len, *name)
	});
	let is_node = entry.counts_as_node() && links(block).is_ok();
	let codec = header.map(|header| header.cid.codec());
	Ok(Record { is_good: digest(block) == *name, is_node, codec, is_readable: true })
}

/// The header that belongs before a block.
pub(crate) fn header_of(name: &Digest, entry: &Entry) -> Header {
	Header { kind: Kind::Block, len: entry.len, cid: cid_of(name, entry) }
}

/// What a block is called by what it was stored as.
pub(crate) fn cid_of(name: &Digest, entry: &Entry) -> Cid {
	match entry.counts_as_node() {
		true => Cid::dag_cbor(*name),
		false => Cid::raw(*name),
	}
}
