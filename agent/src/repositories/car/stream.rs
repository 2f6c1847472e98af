//! A CAR that is read as it comes, from somebody who is not trusted.

use super::{CarError, HEADER_BYTES_MAX, LENGTH_BYTES_MAX, VERSION, decode_header};
use crate::format::{BLOCK_BYTES_MAX, Cid, digest};
use backup_primitives::cid::CID_BYTES;
use std::io::{self, Read};

/// Reads the blocks of a CAR one after the other. Takes memory for one block.
#[derive(Debug)]
pub struct CarStream<R> {
	input: R,
	roots: Vec<Cid>,
	at: u64,
}

impl<R: Read> CarStream<R> {
	/// Reads the header.
	pub fn new(mut input: R) -> Result<Self, CarError> {
		let (length, at) = read_length(&mut input, 0)?.ok_or(CarError::Truncated { at: 0 })?;
		if length == 0 || length > HEADER_BYTES_MAX {
			return Err(CarError::HeaderLength);
		}
		let mut header = vec![0; length as usize];
		read_exact(&mut input, &mut header, 0)?;
		let (version, roots) = decode_header(&header).map_err(CarError::Header)?;
		match version {
			VERSION => Ok(Self { input, roots, at: at + length }),
			found => Err(CarError::Version { found }),
		}
	}

	/// The roots that the header names.
	pub fn roots(&self) -> &[Cid] {
		&self.roots
	}

	/// The next block, checked, or nothing behind the last.
	pub fn next_block(&mut self) -> Result<Option<(Cid, Vec<u8>)>, CarError> {
		let at = self.at;
		let Some((length, start)) = read_length(&mut self.input, at)? else { return Ok(None) };
		let fits = (CID_BYTES as u64..=(CID_BYTES + BLOCK_BYTES_MAX) as u64).contains(&length);
		if !fits {
			return Err(CarError::SectionLength { at });
		}
		let mut cid = [0; CID_BYTES];
		read_exact(&mut self.input, &mut cid, at)?;
		let cid = Cid::try_from(cid.as_slice()).map_err(|_| CarError::SectionLength { at })?;
		let mut block = vec![0; length as usize - CID_BYTES];
		read_exact(&mut self.input, &mut block, at)?;
		self.at = start + length;
		match digest(&block) == cid.digest() {
			true => Ok(Some((cid, block))),
			false => Err(CarError::Corrupt { cid }),
		}
	}
}

/// A length and where what it measures begins; nothing at the end of the file.
fn read_length(input: &mut impl Read, at: u64) -> Result<Option<(u64, u64)>, CarError> {
	let mut length = 0;
	for place in 0..LENGTH_BYTES_MAX {
		let mut byte = [0];
		match read_exact(input, &mut byte, at) {
			Err(CarError::Truncated { .. }) if place == 0 => return Ok(None),
			done => done?,
		}
		length |= u64::from(byte[0] & 0x7f) << (7 * place);
		if byte[0] & 0x80 == 0 {
			return Ok(Some((length, at + place as u64 + 1)));
		}
	}
	Err(CarError::SectionLength { at })
}

fn read_exact(input: &mut impl Read, buffer: &mut [u8], at: u64) -> Result<(), CarError> {
	input.read_exact(buffer).map_err(|error| match error.kind() {
		io::ErrorKind::UnexpectedEof => CarError::Truncated { at },
		_ => error.into(),
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::repositories::CarWriter;

	fn car(blocks: &[&[u8]]) -> Vec<u8> {
		let root = Cid::raw(digest(blocks[0]));
		let mut writer = CarWriter::new(Vec::new(), &root).unwrap();
		for block in blocks {
			writer.block(&Cid::raw(digest(block)), block).unwrap();
		}
		writer.finish().unwrap()
	}

	/// All blocks, or why it ended.
	fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, CarError> {
		let mut stream = CarStream::new(bytes)?;
		let mut blocks = Vec::new();
		while let Some(block) = stream.next_block()? {
			blocks.push(block.1);
		}
		Ok(blocks)
	}

	#[test]
	fn what_was_written_is_read_in_its_order() {
		let bytes = car(&[b"one", b"two", b""]);
		assert_eq!(CarStream::new(bytes.as_slice()).unwrap().roots().len(), 1);
		assert_eq!(read(&bytes).unwrap(), [b"one".to_vec(), b"two".to_vec(), Vec::new()]);
	}

	#[test]
	fn a_block_that_is_not_what_it_says_is_noticed() {
		let mut bytes = car(&[b"one", b"two"]);
		*bytes.last_mut().unwrap() ^= 1;
		assert!(matches!(read(&bytes), Err(CarError::Corrupt { .. })));
	}

	#[test]
	fn a_cut_within_a_section_is_noticed_and_one_between_two_is_an_end() {
		let (one, both) = (car(&[b"one"]), car(&[b"one", b"two"]));
		for cut in one.len() + 1..both.len() {
			assert!(matches!(read(&both[..cut]), Err(CarError::Truncated { .. })), "{cut}");
		}
		assert_eq!(read(&both[..one.len()]).unwrap().len(), 1);
	}

	#[test]
	fn lengths_that_no_block_has_are_refused_before_memory_is_taken() {
		for length in [&[0xff, 0xff, 0xff, 0x7f][..], &[0x80; 4], &[1], &[0]] {
			let bytes = [car(&[b"one"]), length.to_vec()].concat();
			assert!(matches!(read(&bytes), Err(CarError::SectionLength { .. })), "{length:x?}");
		}
	}

	#[test]
	fn what_is_no_car_is_refused() {
		for bytes in [&b""[..], b"\0", b"GET / HTTP/1.1", &[0xff; 64]] {
			assert!(read(bytes).is_err(), "{bytes:x?}");
		}
	}
}
