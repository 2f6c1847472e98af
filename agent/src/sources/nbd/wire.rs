//! The bytes of the protocol: handshake, requests, replies.

use super::SourceError;
use crate::nbd::protocol::{
	CHUNK_BLOCK_STATUS, CHUNK_DONE, CHUNK_ERROR_BIT, CHUNK_NONE, CHUNK_OFFSET_DATA,
	CHUNK_OFFSET_HOLE, COMMAND_BLOCK_STATUS, COMMAND_DISCONNECT, COMMAND_READ, COMMAND_TRIM,
	FIXED_NEWSTYLE, HELLO, INFO_EXPORT, NO_ZEROES, OPTION_GO, OPTION_MAGIC, OPTION_REPLY_MAGIC,
	OPTION_SET_META_CONTEXT, OPTION_STRUCTURED_REPLY, REPLY_ACK, REPLY_ERROR_BIT, REPLY_INFO,
	REPLY_META_CONTEXT, REQUEST_MAGIC, SEND_TRIM, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use std::{
	collections::HashMap,
	io::{self, BufReader, Read, Write},
	os::unix::net::UnixStream,
};

const CLIENT_FIXED_NEWSTYLE_NO_ZEROES: u32 = (FIXED_NEWSTYLE | NO_ZEROES) as u32;

/// What the contexts of QEMU's bitmaps begin with, and their state of areas that were written to.
pub(super) const BITMAP: &str = "qemu:dirty-bitmap:";
pub(super) const STATE_DIRTY: u32 = 1;

/// Longest option reply and longest error chunk that are read.
const SHORT_BYTES_MAX: u32 = 16 * 1024;

/// Longest list of states that is read.
const STATUS_PAYLOAD_MAX: u32 = 8 * 1024 * 1024;

/// Most option replies before the transmission begins.
const OPTION_REPLIES_MAX: usize = 64;

/// What a piece of a reply brought.
#[derive(Debug)]
pub(super) enum Reply {
	/// Bytes, which are where they belong.
	Data,
	/// The states of areas, in order.
	Status(Vec<Status>),
	/// Nothing more will come for this request.
	Done,
}

/// The state of an area.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
	pub(super) length_bytes: u32,
	/// By the context that was asked for.
	pub(super) state: u32,
}

/// What a request in flight asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
	/// So many bytes are still to come.
	Read(u32),
	Status,
	Trim,
}

/// A connection in its transmission phase.
#[derive(Debug)]
pub(super) struct Connection {
	reader: BufReader<UnixStream>,
	size_bytes: u64,
	flags: u16,
	/// Whether the context was granted that was asked for.
	has_context: bool,
	next_cookie: u64,
	pending: HashMap<u64, Asked>,
}

impl Connection {
	/// Shake hands and open an export, whose areas' states are told by this context.
	pub(super) fn negotiate(
		stream: UnixStream,
		name: &str,
		context: &str,
	) -> Result<Self, SourceError> {
		let reader = BufReader::with_capacity(256 * 1024, stream);
		let mut connection = Self {
			reader,
			size_bytes: 0,
			flags: 0,
			has_context: false,
			next_cookie: 1,
			pending: HashMap::new(),
		};
		let (hello, version, flags) = (connection.u64()?, connection.u64()?, connection.u16()?);
		if hello != HELLO || version != OPTION_MAGIC || flags & FIXED_NEWSTYLE == 0 {
			return Err(nbd("the server is none of the fixed newstyle"));
		}
		connection.write(&CLIENT_FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes())?;
		connection.option(OPTION_STRUCTURED_REPLY, &[])?;
		if !connection.option_replies(|_, _, _| Ok(()))? {
			return Err(nbd("the server has no structured replies"));
		}
		connection.set_meta_context(name, context)?;
		connection.go(name)?;
		Ok(connection)
	}

	fn set_meta_context(&mut self, name: &str, context: &str) -> Result<(), SourceError> {
		let mut data = counted(name);
		data.extend(1u32.to_be_bytes());
		data.extend(counted(context));
		self.option(OPTION_SET_META_CONTEXT, &data)?;
		self.option_replies(|connection, kind, data| {
			// NOTE: a server may grant less than was asked for without a word.
			let granted = data.split_first_chunk::<4>().map(|(_id, granted)| granted);
			connection.has_context |=
				kind == REPLY_META_CONTEXT && granted == Some(context.as_bytes());
			Ok(())
		})?;
		Ok(())
	}

	fn go(&mut self, name: &str) -> Result<(), SourceError> {
		let mut data = counted(name);
		data.extend(0u16.to_be_bytes());
		self.option(OPTION_GO, &data)?;
		let mut is_known = false;
		let granted = self.option_replies(|connection, kind, data| {
			let Some((info, rest)) = data.split_first_chunk() else { return Ok(()) };
			if kind == REPLY_INFO && u16::from_be_bytes(*info) == INFO_EXPORT {
				let (size, flags) = rest.split_first_chunk().ok_or_else(|| nbd("a cut reply"))?;
				let flags = flags.try_into().map_err(|_| nbd("a cut reply"))?;
				connection.size_bytes = u64::from_be_bytes(*size);
				connection.flags = u16::from_be_bytes(flags);
				is_known = true;
			}
			Ok(())
		})?;
		match granted && is_known {
			true => Ok(()),
			false => Err(nbd(&format!("the server has no export {name:?}"))),
		}
	}

	fn option(&mut self, option: u32, data: &[u8]) -> Result<(), SourceError> {
		let mut message = OPTION_MAGIC.to_be_bytes().to_vec();
		message.extend(option.to_be_bytes());
		message.extend((data.len() as u32).to_be_bytes());
		message.extend(data);
		self.write(&message)
	}

	/// Read the replies to an option until it is granted or refused.
	fn option_replies(
		&mut self,
		mut take: impl FnMut(&mut Self, u32, &[u8]) -> Result<(), SourceError>,
	) -> Result<bool, SourceError> {
		for _ in 0..OPTION_REPLIES_MAX {
			let magic = self.u64()?;
			let (_option, kind, length) = (self.u32()?, self.u32()?, self.u32()?);
			if magic != OPTION_REPLY_MAGIC || length > SHORT_BYTES_MAX {
				return Err(nbd("a malformed reply to an option"));
			}
			let data = self.bytes(length)?;
			match kind {
				REPLY_ACK => return Ok(true),
				kind if kind & REPLY_ERROR_BIT != 0 => return Ok(false),
				kind => take(self, kind, &data)?,
			}
		}
		Err(nbd("no end of replies to an option"))
	}

	pub(super) fn size_bytes(&self) -> u64 {
		self.size_bytes
	}

	pub(super) fn can_trim(&self) -> bool {
		self.flags & SEND_TRIM != 0
	}

	pub(super) fn has_context(&self) -> bool {
		self.has_context
	}

	pub(super) fn is_any_pending(&self) -> bool {
		!self.pending.is_empty()
	}

	pub(super) fn ask_read(&mut self, offset: u64, length: u32) -> Result<u64, SourceError> {
		self.request(COMMAND_READ, Asked::Read(length), offset, length)
	}

	pub(super) fn ask_status(&mut self, offset: u64, length: u32) -> Result<u64, SourceError> {
		self.request(COMMAND_BLOCK_STATUS, Asked::Status, offset, length)
	}

	pub(super) fn ask_trim(&mut self, offset: u64, length: u32) -> Result<u64, SourceError> {
		self.request(COMMAND_TRIM, Asked::Trim, offset, length)
	}

	fn request(
		&mut self,
		command: u16,
		asked: Asked,
		offset: u64,
		length: u32,
	) -> Result<u64, SourceError> {
		let cookie = self.next_cookie;
		self.next_cookie += 1;
		self.pending.insert(cookie, asked);
		self.send(command, cookie, offset, length)?;
		Ok(cookie)
	}

	fn send(
		&mut self,
		command: u16,
		cookie: u64,
		offset: u64,
		length: u32,
	) -> Result<(), SourceError> {
		let mut message = [0; 28];
		message[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
		message[6..8].copy_from_slice(&command.to_be_bytes());
		message[8..16].copy_from_slice(&cookie.to_be_bytes());
		message[16..24].copy_from_slice(&offset.to_be_bytes());
		message[24..28].copy_from_slice(&length.to_be_bytes());
		self.write(&message)
	}

	/// Take the next piece of a reply. `place` gives the memory for data of a request, or
	/// nothing if that data was not asked for.
	pub(super) fn receive<'b>(
		&mut self,
		place: impl FnOnce(u64, u64, u64) -> Option<&'b mut [u8]>,
	) -> Result<(u64, Reply), SourceError> {
		match self.u32()? {
			STRUCTURED_REPLY_MAGIC => self.receive_chunk(place),
			SIMPLE_REPLY_MAGIC => {
				let (error, cookie) = (self.u32()?, self.u64()?);
				let asked = self.pending.remove(&cookie);
				match (error, asked) {
					(_, Some(Asked::Trim)) | (0, Some(Asked::Status)) => Ok((cookie, Reply::Done)),
					(0, _) => Err(nbd("a reply without structure")),
					(code, _) => Err(io::Error::from_raw_os_error(code as i32).into()),
				}
			}
			_ => Err(nbd("a malformed reply")),
		}
	}

	fn receive_chunk<'b>(
		&mut self,
		place: impl FnOnce(u64, u64, u64) -> Option<&'b mut [u8]>,
	) -> Result<(u64, Reply), SourceError> {
		let (flags, kind) = (self.u16()?, self.u16()?);
		let (cookie, length) = (self.u64()?, self.u32()?);
		let asked = *self.pending.get(&cookie).ok_or_else(|| nbd("an answer to no request"))?;
		let reply = match kind {
			CHUNK_NONE if length == 0 => Reply::Data,
			CHUNK_OFFSET_DATA if matches!(asked, Asked::Read(_)) => {
				self.receive_data(cookie, length, place)?
			}
			CHUNK_OFFSET_HOLE if matches!(asked, Asked::Read(_)) && length == 12 => {
				let (offset, zeros) = (self.u64()?, self.u32()?);
				self.count(cookie, zeros)?;
				place(cookie, offset, zeros.into()).ok_or_else(not_asked_for)?.fill(0);
				Reply::Data
			}
			CHUNK_BLOCK_STATUS if asked == Asked::Status => self.receive_status(length)?,
			kind if kind & CHUNK_ERROR_BIT != 0 => {
				return self.receive_error(asked, cookie, length);
			}
			_ => return Err(nbd("a piece of a reply that was not asked for")),
		};
		if flags & CHUNK_DONE == 0 {
			return Ok((cookie, reply));
		}
		// Zeros would look like an answer.
		if let Some(Asked::Read(missing @ 1..)) = self.pending.remove(&cookie) {
			return Err(nbd(&format!("a read was answered without {missing} of its bytes")));
		}
		match reply {
			Reply::Data => Ok((cookie, Reply::Done)),
			reply => Ok((cookie, reply)),
		}
	}

	/// Note that bytes of a read have come.
	fn count(&mut self, cookie: u64, bytes: u32) -> Result<(), SourceError> {
		if let Some(Asked::Read(missing)) = self.pending.get_mut(&cookie) {
			*missing =
				missing.checked_sub(bytes).ok_or_else(|| nbd("more data than was asked for"))?;
		}
		Ok(())
	}

	fn receive_data<'b>(
		&mut self,
		cookie: u64,
		length: u32,
		place: impl FnOnce(u64, u64, u64) -> Option<&'b mut [u8]>,
	) -> Result<Reply, SourceError> {
		let length = length.checked_sub(8).ok_or_else(|| nbd("data without place"))?;
		let offset = self.u64()?;
		self.count(cookie, length)?;
		let buffer = place(cookie, offset, length.into()).ok_or_else(not_asked_for)?;
		self.reader.read_exact(buffer)?;
		Ok(Reply::Data)
	}

	fn receive_status(&mut self, length: u32) -> Result<Reply, SourceError> {
		let is_list = length >= 12 && (length - 4).is_multiple_of(8);
		if !is_list || length > STATUS_PAYLOAD_MAX {
			return Err(nbd("a malformed list of states"));
		}
		let payload = self.bytes(length)?;
		let states = payload[4..].chunks_exact(8).map(|entry| {
			let (length, flags) = entry.split_at(4);
			let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
			Status { length_bytes: word(length), state: word(flags) }
		});
		Ok(Reply::Status(states.collect()))
	}

	fn receive_error(
		&mut self,
		asked: Asked,
		cookie: u64,
		length: u32,
	) -> Result<(u64, Reply), SourceError> {
		if !(6..=SHORT_BYTES_MAX).contains(&length) {
			return Err(nbd("a malformed error"));
		}
		let payload = self.bytes(length)?;
		let code = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
		self.pending.remove(&cookie);
		match asked {
			Asked::Trim => Ok((cookie, Reply::Done)),
			Asked::Read(_) | Asked::Status => Err(io::Error::from_raw_os_error(code as i32).into()),
		}
	}

	fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
		Ok(self.reader.get_mut().write_all(bytes)?)
	}

	fn bytes(&mut self, length: u32) -> Result<Vec<u8>, SourceError> {
		let mut bytes = vec![0; length as usize];
		self.reader.read_exact(&mut bytes)?;
		Ok(bytes)
	}

	fn u16(&mut self) -> Result<u16, SourceError> {
		let mut bytes = [0; 2];
		self.reader.read_exact(&mut bytes)?;
		Ok(u16::from_be_bytes(bytes))
	}

	fn u32(&mut self) -> Result<u32, SourceError> {
		let mut bytes = [0; 4];
		self.reader.read_exact(&mut bytes)?;
		Ok(u32::from_be_bytes(bytes))
	}

	fn u64(&mut self) -> Result<u64, SourceError> {
		let mut bytes = [0; 8];
		self.reader.read_exact(&mut bytes)?;
		Ok(u64::from_be_bytes(bytes))
	}
}

impl Drop for Connection {
	fn drop(&mut self) {
		let _ = self.send(COMMAND_DISCONNECT, 0, 0, 0);
	}
}

fn counted(text: &str) -> Vec<u8> {
	let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
	bytes.extend(text.as_bytes());
	bytes
}

fn not_asked_for() -> SourceError {
	nbd("data that was not asked for")
}

fn nbd(fault: &str) -> SourceError {
	SourceError::Nbd(fault.to_owned())
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::nbd::protocol::ALLOCATION;

	const LENGTH: u32 = 16;

	/// A piece of an answer: flags, kind and payload.
	type Chunk<'a> = (u16, u16, &'a [u8]);

	/// What becomes of a read of 16 bytes that is answered like this.
	fn read_answered_with(chunks: &[Chunk<'_>]) -> Result<Vec<u8>, SourceError> {
		let (mut server, client) = UnixStream::pair().unwrap();
		server.write_all(&handshake()).unwrap();
		let mut connection = Connection::negotiate(client, "disk", ALLOCATION).unwrap();
		let cookie = connection.ask_read(0, LENGTH).unwrap();
		for (flags, kind, payload) in chunks {
			let length = payload.len() as u32;
			let parts: [&[u8]; 6] = [
				&STRUCTURED_REPLY_MAGIC.to_be_bytes(),
				&flags.to_be_bytes(),
				&kind.to_be_bytes(),
				&cookie.to_be_bytes(),
				&length.to_be_bytes(),
				payload,
			];
			server.write_all(&parts.concat()).unwrap();
		}
		drop(server);
		// What was read before into the same place.
		let mut bytes = vec![9; LENGTH as usize];
		while connection.is_any_pending() {
			connection.receive(|_, offset, length| {
				bytes.get_mut(offset as usize..(offset + length) as usize)
			})?;
		}
		Ok(bytes)
	}

	fn handshake() -> Vec<u8> {
		let option_reply = |kind: u32, data: &[u8]| {
			let length = data.len() as u32;
			let head = [OPTION_REPLY_MAGIC.to_be_bytes().as_slice(), &0u32.to_be_bytes()].concat();
			[&head[..], &kind.to_be_bytes(), &length.to_be_bytes(), data].concat()
		};
		let ack = option_reply(REPLY_ACK, &[]);
		let export = [&[0; 2][..], &u64::from(LENGTH).to_be_bytes(), &[0; 2]].concat();
		let info = option_reply(REPLY_INFO, &export);
		let hello = [HELLO.to_be_bytes(), OPTION_MAGIC.to_be_bytes()].concat();
		[&hello[..], &FIXED_NEWSTYLE.to_be_bytes(), &ack, &ack, &info, &ack].concat()
	}

	fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
		[&offset.to_be_bytes(), bytes].concat()
	}

	fn hole(offset: u64, length: u32) -> Vec<u8> {
		[&offset.to_be_bytes()[..], &length.to_be_bytes()].concat()
	}

	#[test]
	fn a_read_is_put_together_from_data_and_holes_in_any_order() {
		let chunks: [Chunk<'_>; 3] = [
			(0, CHUNK_OFFSET_HOLE, &hole(4, 4)),
			(0, CHUNK_OFFSET_DATA, &data(8, &[2; 8])),
			(CHUNK_DONE, CHUNK_OFFSET_DATA, &data(0, &[1; 4])),
		];
		let bytes = read_answered_with(&chunks).unwrap();
		assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2]);
	}

	#[test]
	fn a_read_that_is_answered_in_part_has_failed() {
		let answers: [&[Chunk<'_>]; 4] = [
			&[(CHUNK_DONE, CHUNK_NONE, &[])],
			&[(CHUNK_DONE, CHUNK_OFFSET_DATA, &data(0, &[1; 15]))],
			&[(CHUNK_DONE, CHUNK_OFFSET_HOLE, &hole(0, 15))],
			&[(0, CHUNK_OFFSET_DATA, &data(0, &[1; 8])), (CHUNK_DONE, CHUNK_NONE, &[])],
		];
		for answer in answers {
			let error = read_answered_with(answer).unwrap_err();
			assert!(matches!(error, SourceError::Nbd(_)), "{error}");
		}
	}

	#[test]
	fn more_than_was_asked_for_is_refused() {
		let answers: [&[Chunk<'_>]; 2] = [
			&[(CHUNK_DONE, CHUNK_OFFSET_HOLE, &hole(0, 17))],
			&[
				(0, CHUNK_OFFSET_HOLE, &hole(0, 16)),
				(CHUNK_DONE, CHUNK_OFFSET_DATA, &data(0, &[1; 1])),
			],
		];
		for answer in answers {
			let error = read_answered_with(answer).unwrap_err();
			assert!(matches!(error, SourceError::Nbd(_)), "{error}");
		}
	}
}
