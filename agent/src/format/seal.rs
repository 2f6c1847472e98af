//! The one rule by which chunks, nodes and root headers are sealed.
//!
//! 1. payload = codec byte ‖ bytes, compressed by zstd if that makes them smaller;
//! 2. siv = keyed BLAKE3 over domain, version, additional data and payload, each framed by its
//!    length, under the repository's `k_siv`;
//! 3. read key = keyed BLAKE3 over the siv, under the repository's `k_enc`;
//! 4. AES-256-GCM of the payload under the read key with nonce zero.
//!
//! NOTE: the key comes from the payload, not from the plaintext. Two compression levels of one
//! chunk are two payloads, and would otherwise share key and nonce. For the same reason the
//! additional data is part of the siv: one key must never authenticate two of them.

use crate::format::{
	FORMAT_VERSION, ReadKey, RepositoryKey,
	key::{READ_KEY_CONTEXT, secret_bytes},
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

/// Bytes that sealing adds at most: the codec byte and the tag.
pub const SEAL_OVERHEAD_BYTES: usize = 1 + 16;

/// How hard is tried to make blocks smaller.
///
/// What a chunk becomes follows from its bytes and the level alone, never from the chunks before
/// it: equal chunks must give equal blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression(i32);

impl Compression {
	/// Nothing is compressed.
	pub const NONE: Self = Self(0);

	/// What is best for most disks.
	pub const DEFAULT: Self = Self(3);

	/// The highest level.
	pub const LEVEL_MAX: u32 = 19;

	/// From this level on zstd takes its time with what it cannot make smaller, so the fastest
	/// level is asked first whether there is anything to gain.
	const SLOW: Self = Self(10);

	/// A level of zstd, from 1, the fastest, to 19, the smallest; 0 for none at all.
	pub fn level(level: u32) -> Option<Self> {
		i32::try_from(level).ok().filter(|_| level <= Self::LEVEL_MAX).map(Self)
	}

	/// The level, from 0 to [`LEVEL_MAX`](Self::LEVEL_MAX).
	pub fn to_level(self) -> u32 {
		self.0.unsigned_abs()
	}

	fn compressor(self) -> Option<Compressor<'static>> {
		(self != Self::NONE).then(|| Compressor::new(self.0).ok()).flatten()
	}
}

/// What a frame begins with. Frames that a decoder skips begin otherwise.
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;

/// What is sealed. No key of one domain ever fits another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
	Chunk,
	Node,
	Root,
}

impl Domain {
	fn tag(self) -> &'static [u8] {
		match self {
			Self::Chunk => b"chunk",
			Self::Node => b"node",
			Self::Root => b"root",
		}
	}
}

/// A keyed hash of plaintext, truncated. It tells equal chunks of one repository and serves
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlaintextId(pub(crate) [u8; 16]);

/// Why sealed bytes do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
	/// The key is another one, or the bytes or what stands beside them were changed.
	#[error("the read key does not open it")]
	WrongKey,
	/// The codec byte is unknown.
	#[error("codec {codec} is unknown")]
	UnknownCodec {
		/// What was found.
		codec: u8,
	},
	/// It opened, but holds more or less than its place in the snapshot says.
	#[error("it holds {found} bytes where {expected} belong")]
	Length {
		/// Bytes that were found. One more than expected stands for any larger number.
		found: usize,
		/// Bytes that belong here.
		expected: usize,
	},
	/// The compressed bytes are malformed.
	#[error("the compressed bytes are malformed")]
	Decompress,
}

/// Sealed bytes with the key that opens them.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
	pub(crate) bytes: &'a [u8],
	pub(crate) key: ReadKey,
}

/// Seals under one repository key. Each thread has its own.
pub struct Sealer {
	key: RepositoryKey,
	/// `None` seals everything uncompressed.
	compressor: Option<Compressor<'static>>,
	/// Tells what is worth the time of a slow level.
	probe: Option<Compressor<'static>>,
	/// The payload and its tag; kept, because large allocations cost as much as sealing.
	scratch: Vec<u8>,
}

impl core::fmt::Debug for Sealer {
	fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
		f.debug_struct("Sealer").field("key", &self.key).finish_non_exhaustive()
	}
}

impl Sealer {
	/// A sealer that compresses as most do.
	pub fn new(key: &RepositoryKey) -> Self {
		Self::with_compression(key, Compression::DEFAULT)
	}

	/// A sealer that compresses otherwise.
	pub fn with_compression(key: &RepositoryKey, compression: Compression) -> Self {
		let is_slow = compression.0 >= Compression::SLOW.0;
		Self {
			key: key.clone(),
			compressor: compression.compressor(),
			probe: is_slow.then(|| Compression(1).compressor()).flatten(),
			scratch: Vec::new(),
		}
	}

	/// Seals one chunk. The result is the raw block.
	pub fn chunk(&mut self, plaintext: &[u8]) -> (&[u8], ReadKey) {
		let sealed = self.seal(Domain::Chunk, &[], plaintext);
		(sealed.bytes, sealed.key)
	}

	/// The plaintext id of a chunk.
	pub fn chunk_id(&self, plaintext: &[u8]) -> PlaintextId {
		self.key.plaintext_id(Domain::Chunk.tag(), plaintext)
	}

	pub(crate) fn node_id(&self, secret: &[u8]) -> PlaintextId {
		self.key.plaintext_id(Domain::Node.tag(), secret)
	}

	pub(crate) fn seal(&mut self, domain: Domain, aad: &[u8], plaintext: &[u8]) -> Sealed<'_> {
		let payload_bytes = self.write_payload(plaintext);
		let key = derive(&self.key, domain, aad, &self.scratch[..payload_bytes]);
		let (payload, rest) = self.scratch.split_at_mut(payload_bytes);
		let tag = cipher(&key)
			.seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), payload)
			.expect("AES-GCM seals up to 64 GiB, and blocks are bounded far below");
		let tag = tag.as_ref();
		rest[..tag.len()].copy_from_slice(tag);
		let bytes = &self.scratch[..payload_bytes + tag.len()];
		Sealed { bytes, key }
	}

	/// Writes codec byte and bytes to the scratch, whichever form is smaller, and says how many
	/// bytes that are. Behind them is room for the tag.
	fn write_payload(&mut self, plaintext: &[u8]) -> usize {
		let len = plaintext.len();
		if self.scratch.len() < len + SEAL_OVERHEAD_BYTES {
			self.scratch.resize(len + SEAL_OVERHEAD_BYTES, 0);
		}
		let (codec, bytes) = self.scratch.split_first_mut().expect("it has room for the tag");
		// With as much room as the plaintext has, "does not fit" means "not smaller".
		let mut compress = |compressor: &mut Compressor<'_>| {
			compressor.compress_to_buffer(plaintext, &mut bytes[..len]).ok()
		};
		let is_hopeless = self.probe.as_mut().is_some_and(|probe| compress(probe).is_none());
		let compressor = self.compressor.as_mut().filter(|_| !is_hopeless);
		let compressed = compressor.and_then(compress);
		match compressed {
			Some(compressed) if compressed < len => {
				*codec = CODEC_ZSTD;
				1 + compressed
			}
			Some(_) | None => {
				*codec = CODEC_RAW;
				bytes[..len].copy_from_slice(plaintext);
				1 + len
			}
		}
	}
}

/// The read key of a payload.
fn derive(key: &RepositoryKey, domain: Domain, aad: &[u8], payload: &[u8]) -> ReadKey {
	derive_in(FORMAT_VERSION, key, domain, aad, payload)
}

fn derive_in(
	version: u64,
	key: &RepositoryKey,
	domain: Domain,
	aad: &[u8],
	payload: &[u8],
) -> ReadKey {
	let mut hasher = blake3::Hasher::new_keyed(key.siv_key());
	let version = version.to_le_bytes();
	for part in [domain.tag(), &version, aad, payload] {
		hasher.update(&(part.len() as u64).to_le_bytes());
		hasher.update(part);
	}
	let mut siv = secret_bytes(hasher.finalize());
	let mut hasher = blake3::Hasher::new_keyed(key.enc_key());
	hasher.update(READ_KEY_CONTEXT);
	hasher.update(&siv);
	siv.zeroize();
	ReadKey::from_bytes(secret_bytes(hasher.finalize()))
}

/// Opens a raw block into `plaintext`, which has exactly the length of the chunk.
///
/// `block` is used up: it holds the opened payload afterwards.
pub fn open_chunk(key: &ReadKey, block: &mut [u8], plaintext: &mut [u8]) -> Result<(), OpenError> {
	open_into(key, &[], block, plaintext)
}

fn open_into(
	key: &ReadKey,
	aad: &[u8],
	sealed: &mut [u8],
	plaintext: &mut [u8],
) -> Result<(), OpenError> {
	let expected = plaintext.len();
	let (codec, bytes) = open_payload(key, aad, sealed)?;
	let found = match codec {
		CODEC_RAW => {
			if bytes.len() == expected {
				plaintext.copy_from_slice(bytes);
			}
			bytes.len()
		}
		CODEC_ZSTD => decompress(bytes, plaintext)?,
		codec => return Err(OpenError::UnknownCodec { codec }),
	};
	match found == expected {
		true => Ok(()),
		false => Err(OpenError::Length { found, expected }),
	}
}

/// Opens what is at most `max` bytes long.
pub(crate) fn open_bounded(
	key: &ReadKey,
	aad: &[u8],
	sealed: &[u8],
	max: usize,
) -> Result<Vec<u8>, OpenError> {
	let mut sealed = sealed.to_vec();
	let (codec, bytes) = open_payload(key, aad, &mut sealed)?;
	let plaintext = match codec {
		CODEC_RAW => bytes.to_vec(),
		CODEC_ZSTD => {
			let mut plaintext = vec![0; max];
			let len = decompress(bytes, &mut plaintext)?;
			plaintext.truncate(len);
			plaintext
		}
		codec => return Err(OpenError::UnknownCodec { codec }),
	};
	match plaintext.len() <= max {
		true => Ok(plaintext),
		false => Err(OpenError::Length { found: plaintext.len(), expected: max }),
	}
}

/// Decompresses at most as many bytes as `plaintext` has and says how many there were. The bytes
/// are exactly one frame that states its size, so that every reader comes to the same result.
fn decompress(bytes: &[u8], plaintext: &mut [u8]) -> Result<usize, OpenError> {
	let expected = plaintext.len();
	if !bytes.starts_with(&ZSTD_MAGIC) {
		return Err(OpenError::Decompress);
	}
	let stated = get_frame_content_size(bytes).ok().flatten().ok_or(OpenError::Decompress)?;
	if stated > expected as u64 {
		return Err(OpenError::Length { found: expected + 1, expected });
	}
	if find_frame_compressed_size(bytes) != Ok(bytes.len()) {
		return Err(OpenError::Decompress);
	}
	zstd::bulk::decompress_to_buffer(bytes, plaintext).map_err(|_| OpenError::Decompress)
}

fn open_payload<'a>(
	key: &ReadKey,
	aad: &[u8],
	sealed: &'a mut [u8],
) -> Result<(u8, &'a [u8]), OpenError> {
	let payload = cipher(key)
		.open_in_place(zero_nonce(), Aad::from(aad), sealed)
		.map_err(|_| OpenError::WrongKey)?;
	let (codec, bytes) = payload.split_first().ok_or(OpenError::Decompress)?;
	Ok((*codec, bytes))
}

fn cipher(key: &ReadKey) -> LessSafeKey {
	let key = UnboundKey::new(&AES_256_GCM, key.as_bytes())
		.expect("a read key has the 32 bytes of an AES-256 key");
	LessSafeKey::new(key)
}

/// Each key seals one payload only, so one nonce serves them all.
fn zero_nonce() -> Nonce {
	Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
	use super::*;

	fn repository_key() -> RepositoryKey {
		RepositoryKey::from_parts([1; 32], [2; 32])
	}

	fn compressible() -> Vec<u8> {
		(0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
	}

	#[test]
	fn one_chunk_at_two_levels_and_raw_has_three_keys() {
		let plaintext = compressible();
		let keys = [1, 3, 0].map(|level| {
			let compression = Compression::level(level).unwrap();
			let mut sealer = Sealer::with_compression(&repository_key(), compression);
			sealer.seal(Domain::Chunk, &[], &plaintext).key
		});
		assert_ne!(keys[0], keys[1]);
		assert_ne!(keys[1], keys[2]);
		assert_ne!(keys[0], keys[2]);
	}

	#[test]
	fn another_version_has_another_key_for_the_same_bytes() {
		let key = |version| derive_in(version, &repository_key(), Domain::Chunk, &[], b"payload");
		assert_eq!(key(1), derive(&repository_key(), Domain::Chunk, &[], b"payload"));
		assert_ne!(key(1), key(2));
	}

	#[test]
	fn domain_and_additional_data_change_the_key() {
		let mut sealer = Sealer::new(&repository_key());
		let chunk = sealer.seal(Domain::Chunk, b"a", b"x").key;
		assert_ne!(chunk, sealer.seal(Domain::Node, b"a", b"x").key);
		assert_ne!(chunk, sealer.seal(Domain::Chunk, b"b", b"x").key);
		// The frames keep "a" ‖ "x" apart from "" ‖ "ax".
		assert_ne!(chunk, sealer.seal(Domain::Chunk, b"", b"ax").key);
	}

	#[test]
	fn chunks_open_to_what_was_sealed() {
		let mut sealer = Sealer::new(&repository_key());
		let mut noise = vec![0; 4096];
		aws_lc_rs::rand::fill(&mut noise).unwrap();
		for plaintext in [compressible(), noise, vec![7], Vec::new()] {
			let (block, key) = sealer.chunk(&plaintext);
			let mut block = block.to_vec();
			assert!(block.len() <= plaintext.len() + SEAL_OVERHEAD_BYTES);
			let mut opened = vec![0; plaintext.len()];
			open_chunk(&key, &mut block, &mut opened).unwrap();
			assert_eq!(opened, plaintext);
		}
	}

	#[test]
	fn what_was_sealed_before_changes_no_block() {
		let mut noise = vec![0; 10_000];
		aws_lc_rs::rand::fill(&mut noise).unwrap();
		for level in [0, 1, 3, 10, 19] {
			let compression = Compression::level(level).unwrap();
			let sealer = || Sealer::with_compression(&repository_key(), compression);
			let alone = sealer().chunk(&compressible()).0.to_vec();
			let mut busy = sealer();
			(0..50).for_each(|_| drop(busy.chunk(&noise)));
			assert!(busy.chunk(&compressible()).0 == alone, "level {level}");
		}
	}

	#[test]
	fn a_slow_level_takes_no_time_for_what_cannot_be_made_smaller() {
		let mut noise = vec![0; 10_000];
		aws_lc_rs::rand::fill(&mut noise).unwrap();
		let mut slow = Sealer::with_compression(&repository_key(), Compression::level(19).unwrap());
		assert_eq!(slow.chunk(&noise).0.len(), noise.len() + SEAL_OVERHEAD_BYTES);
		// And all that it needs for what can.
		let fast = Sealer::new(&repository_key()).chunk(&compressible()).0.len();
		assert!(slow.chunk(&compressible()).0.len() < fast);
	}

	#[test]
	fn boundary_of_the_levels() {
		assert_eq!(Compression::level(0), Some(Compression::NONE));
		assert_eq!(Compression::level(3), Some(Compression::DEFAULT));
		assert!(Compression::level(19).is_some());
		assert_eq!(Compression::level(20), None);
	}

	#[test]
	fn sealing_is_deterministic_within_a_repository_only() {
		let plaintext = compressible();
		let seal = |key| Sealer::new(&key).chunk(&plaintext).0.to_vec();
		assert_eq!(seal(repository_key()), seal(repository_key()));
		assert_ne!(seal(repository_key()), seal(RepositoryKey::from_parts([1; 32], [3; 32])));
		assert_ne!(seal(repository_key()), seal(RepositoryKey::from_parts([3; 32], [2; 32])));
	}

	#[test]
	fn every_changed_bit_is_found() {
		let mut sealer = Sealer::new(&repository_key());
		let (block, key) = sealer.chunk(b"some plaintext");
		for at in 0..block.len() {
			let mut changed = block.to_vec();
			changed[at] ^= 1;
			assert_eq!(open_chunk(&key, &mut changed, &mut [0; 14]), Err(OpenError::WrongKey));
		}
	}

	#[test]
	fn a_chunk_of_another_length_is_refused() {
		for plaintext in [compressible(), vec![3; 20], b"incompressible".to_vec()] {
			let mut sealer = Sealer::new(&repository_key());
			let (block, key) = sealer.chunk(&plaintext);
			for wrong in [plaintext.len() - 1, plaintext.len() + 1] {
				let opened = open_chunk(&key, &mut block.to_vec(), &mut vec![0; wrong]);
				assert!(
					matches!(opened, Err(OpenError::Length { expected, .. }) if expected == wrong)
				);
			}
		}
	}

	#[test]
	fn decompression_stops_at_the_bound() {
		let mut sealer = Sealer::new(&repository_key());
		let sealed = sealer.seal(Domain::Node, &[], &vec![0; 1 << 20]);
		assert!(sealed.bytes.len() < 1000);
		assert_eq!(
			open_bounded(&sealed.key, &[], sealed.bytes, 1000),
			Err(OpenError::Length { found: 1001, expected: 1000 })
		);
	}
}
