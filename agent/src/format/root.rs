//! The root of a snapshot: what it is in clear, what it holds sealed.
//!
//! ```text
//! { "v": 1, "kind": "root", "node": bytes, "salt": bytes 32,
//!   "blobs": [{"tree": cid, "bytes": n}…], "disks": [{"tree": cid, "bytes": n}…],
//!   "sealed": bytes, "fan_out": n, "genesis": bytes 32, "request": bytes,
//!   "envelope": bytes, "sequence": n, "chunk_bytes": n }
//! sealed header:
//! { "blobs": [{"id": bytes 16, "key": bytes 32, "name": text}…], "disks": […],
//!   "consistency": n, "taken_at_ms": n }
//! ```
//! `tree` is left out where all is zero, and then `id` and `key` are too. Blobs are what belongs
//! to a machine beside its disks (definition, UEFI variables, TPM state) and are stored like
//! small disks.
//!
//! The header's additional data is the block without `sealed` and `envelope`, so the envelope
//! of one root fits no other, nor any other tree.

use crate::format::{
	ChildRef, Cid, FORMAT_VERSION, Geometry, GeometryError, OpenError, PlaintextId, ReadKey,
	RepositoryKey, Sealer,
	cbor::{CborError, Decoder, Encoder},
	digest,
	envelope::{self, ENVELOPE_BYTES_MAX, EnvelopeError},
	seal::{Domain, open_bounded},
};
use age::x25519::Identity;
use backup_primitives::{Consistency, OpaqueId, Recipient, cid::BlockCodec, id::ID_BYTES_MAX};
use core::slice;

/// Most disks of one snapshot, and most blobs.
pub const OBJECTS_MAX: usize = 64;

/// Most bytes in the name of a disk or blob.
pub const NAME_BYTES_MAX: usize = 128;

/// Most bytes of a root block.
pub const ROOT_BYTES_MAX: usize = 64 * 1024;

const HEADER_BYTES_MAX: usize = 32 * 1024;
const ENTRIES: usize = 13;
/// Entries that are additional data: all but `sealed` and `envelope`.
const CLEAR_ENTRIES: usize = ENTRIES - 2;

/// A disk or blob with all that reading it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
	/// Which one it is. A plain file name: not empty, no `/`, no control characters.
	pub name: String,
	/// Its size.
	pub logical_bytes: u64,
	/// The top of its tree; `None` when every byte is zero.
	pub tree: Option<ChildRef>,
}

/// What anyone sees of a disk or blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectHead {
	/// Its size.
	pub logical_bytes: u64,
	/// The block on top of its tree; `None` when every byte is zero.
	pub tree: Option<Cid>,
}

/// A complete snapshot, opened or about to be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
	/// Genesis hash of the chain that asked for it.
	pub genesis: [u8; 32],
	/// The node that sealed it.
	pub node: OpaqueId,
	/// The compute request that it is a snapshot of.
	pub request: OpaqueId,
	/// Its place among the snapshots of the request.
	pub sequence: u64,
	/// How its trees are built.
	pub geometry: Geometry,
	/// When its content was current, in milliseconds since the Unix epoch.
	pub taken_at_ms: u64,
	/// How well the disks fit together.
	pub consistency: Consistency,
	/// The disks, in the order of the machine.
	pub disks: Vec<Object>,
	/// What belongs to the machine beside its disks.
	pub blobs: Vec<Object>,
}

/// A sealed root and the key that opens it.
#[derive(Clone, Debug)]
pub struct SealedRoot {
	/// The name of the snapshot.
	pub cid: Cid,
	/// The block to store.
	pub block: Vec<u8>,
	/// What opens it, for further envelopes.
	pub read_key: ReadKey,
}

/// A root as it is stored: what anyone can read, and what is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootBlock {
	clear: Clear,
	sealed: Vec<u8>,
	envelope: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Clear {
	genesis: [u8; 32],
	node: OpaqueId,
	request: OpaqueId,
	sequence: u64,
	geometry: Geometry,
	salt: [u8; 32],
	disks: Vec<ObjectHead>,
	blobs: Vec<ObjectHead>,
}

/// Why a root cannot be written, read or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
	/// The block is something else.
	#[error("the block is not the root of a snapshot")]
	NotARoot,
	/// A later version of this program wrote it.
	#[error("the root has format version {found}, this program reads up to {FORMAT_VERSION}")]
	NewerVersion {
		/// The root's version.
		found: u64,
	},
	/// The block says that it is a root, but is damaged or was never one.
	#[error("the root is malformed: {0}")]
	Malformed(#[from] CborError),
	/// The geometry is none.
	#[error("the root is malformed: {0}")]
	Geometry(#[from] GeometryError),
	/// A disk or blob whose size and link contradict each other.
	#[error("the root is malformed: size and link of object {index} do not fit together")]
	Object {
		/// Which one, disks before blobs.
		index: usize,
	},
	/// More disks or blobs than a snapshot may have.
	#[error("a snapshot has at most {OBJECTS_MAX} disks and as many blobs, not {found}")]
	TooManyObjects {
		/// How many there are.
		found: usize,
	},
	/// A name that is no plain file name, too long, or used twice.
	#[error("{name:?} cannot name a disk or blob")]
	Name {
		/// The name.
		name: String,
	},
	/// The envelope is damaged or sealed to others.
	#[error("the root's envelope does not open: {0}")]
	Envelope(#[from] EnvelopeError),
	/// The read key is another root's, or the root was changed.
	#[error("the root does not open: {0}")]
	Open(#[from] OpenError),
	/// It opened, but its header does not fit to what stands in clear.
	#[error("the root's header does not fit to it")]
	Inconsistent,
}

impl Root {
	/// Seals the snapshot to its recipients, under a fresh random salt.
	///
	/// # Panics
	/// If the operating system has no randomness to give.
	pub fn seal(
		&self,
		key: &RepositoryKey,
		recipients: &[Recipient],
	) -> Result<SealedRoot, RootError> {
		let mut salt = [0; 32];
		aws_lc_rs::rand::fill(&mut salt).expect("the operating system gives random bytes");
		self.seal_with(key, salt, |read_key| envelope::seal_read_key(read_key, recipients))
	}

	fn seal_with(
		&self,
		key: &RepositoryKey,
		salt: [u8; 32],
		envelope: impl FnOnce(&ReadKey) -> Result<Vec<u8>, EnvelopeError>,
	) -> Result<SealedRoot, RootError> {
		self.check()?;
		let clear = self.clear(salt);
		let mut sealer = Sealer::new(key);
		let sealed = sealer.seal(Domain::Root, &clear.additional_data(), &self.header());
		let block =
			RootBlock { clear, sealed: sealed.bytes.to_vec(), envelope: envelope(&sealed.key)? };
		let block = block.encode();
		let cid = Cid::dag_cbor(digest(&block));
		Ok(SealedRoot { cid, block, read_key: sealed.key })
	}

	/// Refuses what [`RootBlock::decode`] would refuse.
	fn check(&self) -> Result<(), RootError> {
		for objects in [&self.disks, &self.blobs] {
			let found = objects.len();
			if found > OBJECTS_MAX {
				return Err(RootError::TooManyObjects { found });
			}
			for (index, object) in objects.iter().enumerate() {
				let taken = objects[..index].iter().any(|other| other.name == object.name);
				if taken || !is_name(&object.name) {
					return Err(RootError::Name { name: object.name.clone() });
				}
			}
		}
		for (index, object) in self.disks.iter().chain(&self.blobs).enumerate() {
			object.head().check(self.geometry, index)?;
		}
		Ok(())
	}

	fn clear(&self, salt: [u8; 32]) -> Clear {
		Clear {
			genesis: self.genesis,
			node: self.node.clone(),
			request: self.request.clone(),
			sequence: self.sequence,
			geometry: self.geometry,
			salt,
			disks: self.disks.iter().map(Object::head).collect(),
			blobs: self.blobs.iter().map(Object::head).collect(),
		}
	}

	fn header(&self) -> Vec<u8> {
		let mut encoder = Encoder::default();
		encoder.map(4);
		for (key, objects) in [("blobs", &self.blobs), ("disks", &self.disks)] {
			encoder.text(key);
			encoder.array(objects.len());
			for object in objects {
				object.encode_secret(&mut encoder);
			}
		}
		encoder.text("consistency");
		encoder.unsigned(consistency_number(self.consistency));
		encoder.text("taken_at_ms");
		encoder.unsigned(self.taken_at_ms);
		encoder.finish()
	}
}

impl Object {
	fn head(&self) -> ObjectHead {
		ObjectHead {
			logical_bytes: self.logical_bytes,
			tree: self.tree.as_ref().map(|tree| tree.cid),
		}
	}

	fn encode_secret(&self, encoder: &mut Encoder) {
		encoder.map(if self.tree.is_some() { 3 } else { 1 });
		if let Some(tree) = &self.tree {
			encoder.text("id");
			encoder.bytes(&tree.id.0);
			encoder.text("key");
			encoder.bytes(tree.key.as_bytes());
		}
		encoder.text("name");
		encoder.text(&self.name);
	}

	fn decode_secret(decoder: &mut Decoder<'_>, head: &ObjectHead) -> Result<Self, CborError> {
		decoder.map_of(if head.tree.is_some() { 3 } else { 1 })?;
		let mut tree = None;
		if let Some(cid) = head.tree {
			decoder.key("id")?;
			let id = PlaintextId(decoder.array_of_bytes()?);
			decoder.key("key")?;
			let key = ReadKey::from_bytes(decoder.array_of_bytes()?);
			tree = Some(ChildRef { cid, key, id });
		}
		decoder.key("name")?;
		let name = decoder.text(NAME_BYTES_MAX)?.to_owned();
		Ok(Self { name, logical_bytes: head.logical_bytes, tree })
	}
}

impl ObjectHead {
	fn check(&self, geometry: Geometry, index: usize) -> Result<(), RootError> {
		let expected = match geometry.levels(self.logical_bytes) {
			0 => BlockCodec::Raw,
			_ => BlockCodec::DagCbor,
		};
		match self.tree {
			None => Ok(()),
			Some(tree) if self.logical_bytes > 0 && tree.check() == Ok(expected) => Ok(()),
			Some(_) => Err(RootError::Object { index }),
		}
	}

	fn encode(&self, encoder: &mut Encoder) {
		encoder.map(if self.tree.is_some() { 2 } else { 1 });
		if let Some(tree) = &self.tree {
			encoder.text("tree");
			encoder.link(tree);
		}
		encoder.text("bytes");
		encoder.unsigned(self.logical_bytes);
	}

	fn decode(decoder: &mut Decoder<'_>) -> Result<Self, CborError> {
		let mut tree = None;
		let at = decoder.at();
		match decoder.map(2)? {
			1 => (),
			2 => {
				decoder.key("tree")?;
				tree = Some(decoder.link()?);
			}
			_ => return Err(CborError::Unexpected { at }),
		}
		decoder.key("bytes")?;
		Ok(Self { logical_bytes: decoder.unsigned()?, tree })
	}
}

impl Clear {
	fn additional_data(&self) -> Vec<u8> {
		self.encode(None)
	}

	/// The block, or without the sealed parts the additional data.
	fn encode(&self, sealed: Option<(&[u8], &[u8])>) -> Vec<u8> {
		let mut encoder = Encoder::with_capacity(2048);
		encoder.map(if sealed.is_some() { ENTRIES } else { CLEAR_ENTRIES });
		encoder.text("v");
		encoder.unsigned(FORMAT_VERSION);
		encoder.text("kind");
		encoder.text("root");
		encoder.text("node");
		encoder.bytes(self.node.as_bytes());
		encoder.text("salt");
		encoder.bytes(&self.salt);
		for (key, objects) in [("blobs", &self.blobs), ("disks", &self.disks)] {
			encoder.text(key);
			encoder.array(objects.len());
			for object in objects {
				object.encode(&mut encoder);
			}
		}
		if let Some((sealed, _)) = sealed {
			encoder.text("sealed");
			encoder.bytes(sealed);
		}
		encoder.text("fan_out");
		encoder.unsigned(self.geometry.fan_out().into());
		encoder.text("genesis");
		encoder.bytes(&self.genesis);
		encoder.text("request");
		encoder.bytes(self.request.as_bytes());
		if let Some((_, envelope)) = sealed {
			encoder.text("envelope");
			encoder.bytes(envelope);
		}
		encoder.text("sequence");
		encoder.unsigned(self.sequence);
		encoder.text("chunk_bytes");
		encoder.unsigned(self.geometry.chunk_bytes().into());
		encoder.finish()
	}
}

impl RootBlock {
	/// Reads a root without opening it.
	pub fn decode(block: &[u8]) -> Result<Self, RootError> {
		if block.len() > ROOT_BYTES_MAX {
			return Err(RootError::NotARoot);
		}
		let mut decoder = Decoder::new(block);
		decode_kind(&mut decoder)?;
		let node = decode_id(&mut decoder, "node")?;
		decoder.key("salt")?;
		let salt = decoder.array_of_bytes()?;
		let blobs = decode_heads(&mut decoder, "blobs")?;
		let disks = decode_heads(&mut decoder, "disks")?;
		decoder.key("sealed")?;
		let sealed = decoder.bytes(HEADER_BYTES_MAX)?.to_vec();
		decoder.key("fan_out")?;
		let fan_out = decoder.unsigned_32()?;
		decoder.key("genesis")?;
		let genesis = decoder.array_of_bytes()?;
		let request = decode_id(&mut decoder, "request")?;
		decoder.key("envelope")?;
		let envelope = decoder.bytes(ENVELOPE_BYTES_MAX)?.to_vec();
		decoder.key("sequence")?;
		let sequence = decoder.unsigned()?;
		decoder.key("chunk_bytes")?;
		let geometry = Geometry::new(decoder.unsigned_32()?, fan_out)?;
		decoder.end()?;
		for (index, head) in disks.iter().chain(&blobs).enumerate() {
			head.check(geometry, index)?;
		}
		let clear = Clear { genesis, node, request, sequence, geometry, salt, disks, blobs };
		Ok(Self { clear, sealed, envelope })
	}

	pub(crate) fn encode(&self) -> Vec<u8> {
		self.clear.encode(Some((&self.sealed, &self.envelope)))
	}

	/// Genesis hash of the chain that asked for the snapshot.
	pub fn genesis(&self) -> [u8; 32] {
		self.clear.genesis
	}

	/// The node that says it sealed the snapshot.
	pub fn node(&self) -> &OpaqueId {
		&self.clear.node
	}

	/// The compute request that it is a snapshot of.
	pub fn request(&self) -> &OpaqueId {
		&self.clear.request
	}

	/// Its place among the snapshots of the request.
	pub fn sequence(&self) -> u64 {
		self.clear.sequence
	}

	/// How its trees are built.
	pub fn geometry(&self) -> Geometry {
		self.clear.geometry
	}

	/// Sizes and links of the disks.
	pub fn disks(&self) -> &[ObjectHead] {
		&self.clear.disks
	}

	/// Sizes and links of the blobs.
	pub fn blobs(&self) -> &[ObjectHead] {
		&self.clear.blobs
	}

	/// The root's read key, if it is sealed to one of these identities.
	pub fn read_key(&self, identities: &[Identity]) -> Result<ReadKey, RootError> {
		Ok(envelope::open_read_key(&self.envelope, identities)?)
	}

	/// Opens the root as one of those whom it is sealed to: its owner or its node.
	pub fn open_with_identity(&self, identity: &Identity) -> Result<Root, RootError> {
		self.open_with_identities(slice::from_ref(identity))
	}

	/// The same for one who has had several identities.
	pub fn open_with_identities(&self, identities: &[Identity]) -> Result<Root, RootError> {
		self.open_with_read_key(&self.read_key(identities)?)
	}

	/// Opens the root with its read key, which may come from a later envelope.
	pub fn open_with_read_key(&self, key: &ReadKey) -> Result<Root, RootError> {
		let aad = self.clear.additional_data();
		let header = open_bounded(key, &aad, &self.sealed, HEADER_BYTES_MAX)?;
		let mut decoder = Decoder::new(&header);
		decoder.map_of(4)?;
		let blobs = decode_secrets(&mut decoder, "blobs", &self.clear.blobs)?;
		let disks = decode_secrets(&mut decoder, "disks", &self.clear.disks)?;
		decoder.key("consistency")?;
		let consistency = consistency_of(decoder.unsigned()?).ok_or(RootError::Inconsistent)?;
		decoder.key("taken_at_ms")?;
		let taken_at_ms = decoder.unsigned()?;
		decoder.end()?;
		let root = Root {
			genesis: self.clear.genesis,
			node: self.clear.node.clone(),
			request: self.clear.request.clone(),
			sequence: self.clear.sequence,
			geometry: self.clear.geometry,
			taken_at_ms,
			consistency,
			disks,
			blobs,
		};
		root.check()?;
		Ok(root)
	}
}

/// Tells "something else", "newer" and "ours" apart, before anything else is looked at.
fn decode_kind(decoder: &mut Decoder<'_>) -> Result<(), RootError> {
	let not_a_root = |_| RootError::NotARoot;
	let entries = decoder.map(1024).map_err(not_a_root)?;
	decoder.key("v").map_err(not_a_root)?;
	let found = decoder.unsigned().map_err(not_a_root)?;
	decoder.key("kind").map_err(not_a_root)?;
	decoder.key("root").map_err(not_a_root)?;
	if found > FORMAT_VERSION {
		return Err(RootError::NewerVersion { found });
	}
	match found == FORMAT_VERSION && entries == ENTRIES {
		true => Ok(()),
		false => Err(CborError::Unexpected { at: 0 }.into()),
	}
}

fn decode_id(decoder: &mut Decoder<'_>, key: &str) -> Result<OpaqueId, CborError> {
	decoder.key(key)?;
	let bytes = decoder.bytes(ID_BYTES_MAX as usize)?;
	Ok(OpaqueId::from_bytes(bytes.to_vec()).expect("the decoder holds to the same bound"))
}

fn decode_heads(decoder: &mut Decoder<'_>, key: &str) -> Result<Vec<ObjectHead>, CborError> {
	decoder.key(key)?;
	(0..decoder.array(OBJECTS_MAX)?).map(|_| ObjectHead::decode(decoder)).collect()
}

fn decode_secrets(
	decoder: &mut Decoder<'_>,
	key: &str,
	heads: &[ObjectHead],
) -> Result<Vec<Object>, RootError> {
	decoder.key(key)?;
	if decoder.array(OBJECTS_MAX)? != heads.len() {
		return Err(RootError::Inconsistent);
	}
	Ok(heads.iter().map(|head| Object::decode_secret(decoder, head)).collect::<Result<_, _>>()?)
}

/// Whether a restore may use it as a file name.
fn is_name(name: &str) -> bool {
	!matches!(name, "" | "." | "..")
		&& name.len() <= NAME_BYTES_MAX
		&& !name.chars().any(|char| char == '/' || char.is_control())
}

fn consistency_number(consistency: Consistency) -> u64 {
	match consistency {
		Consistency::Application => 0,
		Consistency::Crash => 1,
		Consistency::Stopped => 2,
	}
}

fn consistency_of(number: u64) -> Option<Consistency> {
	match number {
		0 => Some(Consistency::Application),
		1 => Some(Consistency::Crash),
		2 => Some(Consistency::Stopped),
		_ => None,
	}
}

/// Seals bytes as the header of a root with two disks and a blob, opens it and writes it anew;
/// `None` if it is refused.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reencode_header(key: &RepositoryKey, header: &[u8]) -> Option<Vec<u8>> {
	let head = |logical_bytes, tree| ObjectHead { logical_bytes, tree };
	let geometry = Geometry::V1;
	let id = OpaqueId::of(&1u32).ok()?;
	let clear = Clear {
		genesis: [1; 32],
		node: id.clone(),
		request: id,
		sequence: 1,
		geometry,
		salt: [2; 32],
		disks: vec![head(1 << 30, Some(Cid::dag_cbor([3; 32]))), head(5, None)],
		blobs: vec![head(9, Some(Cid::raw([4; 32])))],
	};
	let mut sealer = Sealer::new(key);
	let sealed = sealer.seal(Domain::Root, &clear.additional_data(), header);
	let block = RootBlock { clear, sealed: sealed.bytes.to_vec(), envelope: Vec::new() };
	Some(block.open_with_read_key(&sealed.key).ok()?.header())
}

#[cfg(test)]
mod tests;
