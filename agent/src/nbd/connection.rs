//! One client of the server: handshake, then requests one after the other.
//!
//! What a client sends is bounded, and wrong requests are answered with an error; a client that
//! does not keep to the protocol loses its connection.

use super::{
	protocol::{
		ALLOCATION, CAN_MULTI_CONN, CHUNK_BLOCK_STATUS, CHUNK_DONE, CHUNK_ERROR, CHUNK_NONE,
		CHUNK_OFFSET_DATA, CHUNK_OFFSET_HOLE, COMMAND_BLOCK_STATUS, COMMAND_CACHE,
		COMMAND_DISCONNECT, COMMAND_FLUSH, COMMAND_READ, COMMAND_TRIM, COMMAND_WRITE,
		COMMAND_WRITE_ZEROES, EINVAL, EIO, EPERM, FIXED_NEWSTYLE, FLAG_REQUEST_ONE, HAS_FLAGS,
		HELLO, INFO_BLOCK_SIZE, INFO_EXPORT, NO_ZEROES, OPTION_ABORT, OPTION_EXPORT_NAME,
		OPTION_GO, OPTION_INFO, OPTION_LIST, OPTION_LIST_META_CONTEXT, OPTION_MAGIC,
		OPTION_REPLY_MAGIC, OPTION_SET_META_CONTEXT, OPTION_STRUCTURED_REPLY, READ_ONLY, REPLY_ACK,
		REPLY_INFO, REPLY_INVALID, REPLY_META_CONTEXT, REPLY_SERVER, REPLY_UNKNOWN,
		REPLY_UNSUPPORTED, REQUEST_MAGIC, SEND_FLUSH, SIMPLE_REPLY_MAGIC, STATE_HOLE, STATE_ZERO,
		STRUCTURED_REPLY_MAGIC,
	},
	server::ServedDisk,
};
use crate::{
	pipeline::{DiskView, Part, ViewError},
	repositories::BlockSource,
};
use std::{
	io::{self, BufReader, BufWriter, Read, Write},
	ops::Range,
	os::unix::net::UnixStream,
	time::Duration,
};

/// A disk, for as long as one client reads it.
type View<'a> = DiskView<&'a dyn BlockSource>;

/// How long a client may take for each word of its handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(20);

/// Longest option that is read: names have 4096 bytes at most.
const OPTION_BYTES_MAX: u32 = 16 * 1024;

/// Most options of a handshake.
const OPTIONS_MAX: usize = 64;

/// Longest read, which is the protocol's own limit for servers that name none.
const READ_BYTES_MAX: u32 = 32 << 20;

/// Best length of a read.
const READ_BYTES_GOOD: u32 = 256 << 10;

/// Most areas whose states are told at once.
const STATES_MAX: usize = 4096;

const EXPORT_FLAGS: u16 = HAS_FLAGS | READ_ONLY | SEND_FLUSH | CAN_MULTI_CONN;

/// The only context, by the number that it has here.
const ALLOCATION_ID: u32 = 1;

pub(super) struct Connection {
	reader: BufReader<UnixStream>,
	writer: BufWriter<UnixStream>,
	has_structure: bool,
	/// The export for which states were asked for.
	context: Option<String>,
}

/// A request, without what comes behind it.
struct Request {
	flags: u16,
	command: u16,
	cookie: u64,
	offset: u64,
	length: u32,
}

impl Request {
	/// The range that it is about, if that is within a disk.
	fn range(&self, disk_bytes: u64) -> Option<Range<u64>> {
		let end = self.offset.checked_add(self.length.into())?;
		(end <= disk_bytes).then_some(self.offset..end)
	}
}

impl Connection {
	pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
		let reader = BufReader::new(stream.try_clone()?);
		let writer = BufWriter::new(stream);
		Ok(Self { reader, writer, has_structure: false, context: None })
	}

	/// Serve until the client leaves.
	pub(super) fn run(mut self, disks: &[ServedDisk]) -> io::Result<()> {
		self.reader.get_ref().set_read_timeout(Some(HANDSHAKE_TIME_MAX))?;
		let Some(disk) = self.negotiate(disks)? else { return Ok(()) };
		self.reader.get_ref().set_read_timeout(None)?;
		let has_states = self.context.as_deref() == Some(&disk.name);
		let mut view = DiskView::new(disk.repository.as_ref(), disk.geometry, &disk.object);
		while let Some(request) = self.request()? {
			match request.command {
				COMMAND_DISCONNECT => return Ok(()),
				COMMAND_READ => self.read(&request, &mut view, &disk.name)?,
				COMMAND_BLOCK_STATUS if has_states => {
					self.states(&request, &mut view, &disk.name)?;
				}
				COMMAND_FLUSH | COMMAND_CACHE => self.done(&request)?,
				COMMAND_WRITE => {
					self.skip(request.length)?;
					self.fail(&request, EPERM)?;
				}
				COMMAND_TRIM | COMMAND_WRITE_ZEROES => self.fail(&request, EPERM)?,
				_ => self.fail(&request, EINVAL)?,
			}
			self.writer.flush()?;
		}
		Ok(())
	}

	/// Shake hands, and return the disk that the client wants; nothing if it wants none.
	fn negotiate<'d>(&mut self, disks: &'d [ServedDisk]) -> io::Result<Option<&'d ServedDisk>> {
		self.put(&HELLO.to_be_bytes())?;
		self.put(&OPTION_MAGIC.to_be_bytes())?;
		self.put(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes())?;
		self.writer.flush()?;
		let flags = u32::from_be_bytes(self.take()?);
		if flags & u32::from(FIXED_NEWSTYLE) == 0 || flags > (FIXED_NEWSTYLE | NO_ZEROES).into() {
			return Err(wrong("flags of the client"));
		}
		let has_zeroes = flags & u32::from(NO_ZEROES) == 0;
		for _ in 0..OPTIONS_MAX {
			if u64::from_be_bytes(self.take()?) != OPTION_MAGIC {
				return Err(wrong("an option"));
			}
			let (option, length) =
				(u32::from_be_bytes(self.take()?), u32::from_be_bytes(self.take()?));
			if length > OPTION_BYTES_MAX {
				return Err(wrong("the length of an option"));
			}
			let mut data = vec![0; length as usize];
			self.reader.read_exact(&mut data)?;
			match option {
				OPTION_ABORT => {
					self.answer(option, REPLY_ACK, &[])?;
					return Ok(None);
				}
				// There is no way to refuse this one but to hang up.
				OPTION_EXPORT_NAME => {
					let disk = find(disks, &data).ok_or_else(|| wrong("the name of an export"))?;
					self.put(&disk.object.logical_bytes.to_be_bytes())?;
					self.put(&EXPORT_FLAGS.to_be_bytes())?;
					if has_zeroes {
						self.put(&[0; 124])?;
					}
					self.writer.flush()?;
					return Ok(Some(disk));
				}
				OPTION_GO | OPTION_INFO => {
					let disk = self.describe(option, &data, disks)?;
					if option == OPTION_GO && disk.is_some() {
						return Ok(disk);
					}
				}
				OPTION_LIST => {
					for disk in disks {
						self.answer(option, REPLY_SERVER, &counted(&disk.name))?;
					}
					self.answer(option, REPLY_ACK, &[])?;
				}
				OPTION_STRUCTURED_REPLY => {
					self.has_structure = true;
					self.answer(option, REPLY_ACK, &[])?;
				}
				OPTION_SET_META_CONTEXT | OPTION_LIST_META_CONTEXT => {
					self.contexts(option, &data, disks)?;
				}
				_ => self.answer(option, REPLY_UNSUPPORTED, &[])?,
			}
		}
		Err(wrong("the number of options"))
	}

	/// Say what an export is like.
	fn describe<'d>(
		&mut self,
		option: u32,
		data: &[u8],
		disks: &'d [ServedDisk],
	) -> io::Result<Option<&'d ServedDisk>> {
		let Some((name, _infos)) = split_counted(data) else {
			self.answer(option, REPLY_INVALID, &[])?;
			return Ok(None);
		};
		let Some(disk) = find(disks, name) else {
			self.answer(option, REPLY_UNKNOWN, &[])?;
			return Ok(None);
		};
		let size = disk.object.logical_bytes.to_be_bytes();
		let export = [&INFO_EXPORT.to_be_bytes()[..], &size, &EXPORT_FLAGS.to_be_bytes()].concat();
		self.answer(option, REPLY_INFO, &export)?;
		let sizes = [1, READ_BYTES_GOOD, READ_BYTES_MAX].map(u32::to_be_bytes).concat();
		let sizes = [&INFO_BLOCK_SIZE.to_be_bytes()[..], &sizes].concat();
		self.answer(option, REPLY_INFO, &sizes)?;
		self.answer(option, REPLY_ACK, &[])?;
		Ok(Some(disk))
	}

	/// Grant what there is of the contexts that a client asks for, or list it.
	fn contexts(&mut self, option: u32, data: &[u8], disks: &[ServedDisk]) -> io::Result<()> {
		let parsed = split_counted(data).and_then(|(name, rest)| {
			let (count, mut rest) = rest.split_first_chunk()?;
			let mut asks = u32::from_be_bytes(*count) == 0 && option == OPTION_LIST_META_CONTEXT;
			while !rest.is_empty() {
				let (query, behind) = split_counted(rest)?;
				asks |= query == ALLOCATION.as_bytes() || query == b"base:";
				rest = behind;
			}
			Some((name, asks))
		});
		let Some((name, asks)) = parsed else { return self.answer(option, REPLY_INVALID, &[]) };
		let Some(disk) = find(disks, name) else { return self.answer(option, REPLY_UNKNOWN, &[]) };
		let is_set = option == OPTION_SET_META_CONTEXT;
		if is_set && !self.has_structure {
			return self.answer(option, REPLY_INVALID, &[]);
		}
		if is_set {
			self.context = asks.then(|| disk.name.clone());
		}
		if asks {
			let context = [&ALLOCATION_ID.to_be_bytes()[..], ALLOCATION.as_bytes()].concat();
			self.answer(option, REPLY_META_CONTEXT, &context)?;
		}
		self.answer(option, REPLY_ACK, &[])
	}

	fn answer(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
		self.put(&OPTION_REPLY_MAGIC.to_be_bytes())?;
		self.put(&option.to_be_bytes())?;
		self.put(&kind.to_be_bytes())?;
		self.put(&(data.len() as u32).to_be_bytes())?;
		self.put(data)?;
		self.writer.flush()
	}

	/// The next request; nothing if the client is gone.
	fn request(&mut self) -> io::Result<Option<Request>> {
		let magic = match self.take() {
			Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
			magic => u32::from_be_bytes(magic?),
		};
		if magic != REQUEST_MAGIC {
			return Err(wrong("a request"));
		}
		Ok(Some(Request {
			flags: u16::from_be_bytes(self.take()?),
			command: u16::from_be_bytes(self.take()?),
			cookie: u64::from_be_bytes(self.take()?),
			offset: u64::from_be_bytes(self.take()?),
			length: u32::from_be_bytes(self.take()?),
		}))
	}

	fn read(&mut self, request: &Request, view: &mut View<'_>, disk: &str) -> io::Result<()> {
		let range = request.range(view.logical_bytes());
		let Some(range) = range.filter(|_| request.length <= READ_BYTES_MAX) else {
			return self.fail(request, EINVAL);
		};
		match self.has_structure {
			true => self.read_in_pieces(request, range, view, disk),
			false => self.read_at_once(request, range, view, disk),
		}
	}

	fn read_in_pieces(
		&mut self,
		request: &Request,
		range: Range<u64>,
		view: &mut View<'_>,
		disk: &str,
	) -> io::Result<()> {
		let mut at = range.start;
		while at < range.end {
			let part = match view.read(at..range.end) {
				Ok(part) => part,
				Err(error) => return self.unreadable(request, at, disk, &error),
			};
			let offset = at.to_be_bytes();
			at += part.len();
			let flags = if at == range.end { CHUNK_DONE } else { 0 };
			match part {
				Part::Zeros(bytes) => {
					// A part ends with its chunk, and chunks are small.
					let length = (bytes as u32).to_be_bytes();
					self.chunk(request, flags, CHUNK_OFFSET_HOLE, &[&offset, &length])?;
				}
				Part::Data(chunk, inner) => {
					self.chunk(request, flags, CHUNK_OFFSET_DATA, &[&offset, &chunk[inner]])?;
				}
			}
		}
		match range.is_empty() {
			true => self.done(request),
			false => Ok(()),
		}
	}

	/// For clients that know no pieces: an error cannot be told any more once data was sent.
	fn read_at_once(
		&mut self,
		request: &Request,
		range: Range<u64>,
		view: &mut View<'_>,
		disk: &str,
	) -> io::Result<()> {
		let mut bytes = Vec::with_capacity(request.length as usize);
		let mut at = range.start;
		while at < range.end {
			match view.read(at..range.end) {
				Ok(Part::Zeros(zeros)) => bytes.resize(bytes.len() + zeros as usize, 0),
				Ok(Part::Data(chunk, inner)) => bytes.extend_from_slice(&chunk[inner]),
				Err(error) => return self.unreadable(request, at, disk, &error),
			}
			at = range.start + bytes.len() as u64;
		}
		self.done(request)?;
		self.put(&bytes)
	}

	fn states(&mut self, request: &Request, view: &mut View<'_>, disk: &str) -> io::Result<()> {
		let range = request.range(view.logical_bytes());
		let Some(range) = range.filter(|range| !range.is_empty()) else {
			return self.fail(request, EINVAL);
		};
		let states_max = if request.flags & FLAG_REQUEST_ONE == 0 { STATES_MAX } else { 1 };
		let mut states: Vec<(u32, u32)> = Vec::new();
		let mut at = range.start;
		while at < range.end {
			let (is_zero, bytes) = match view.is_zero(at..range.end) {
				Ok(found) => found,
				Err(error) => return self.unreadable(request, at, disk, &error),
			};
			let state = if is_zero { STATE_HOLE | STATE_ZERO } else { 0 };
			// The sum is no longer than the request.
			let is_full = states.len() == states_max;
			match states.last_mut() {
				Some((length, last)) if *last == state => *length += bytes as u32,
				_ if is_full => break,
				_ => states.push((bytes as u32, state)),
			}
			at += bytes;
		}
		let words = states.iter().flat_map(|(length, state)| [*length, *state]);
		let payload: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
		let id = ALLOCATION_ID.to_be_bytes();
		self.chunk(request, CHUNK_DONE, CHUNK_BLOCK_STATUS, &[&id, &payload])
	}

	fn unreadable(
		&mut self,
		request: &Request,
		offset: u64,
		disk: &str,
		error: &ViewError,
	) -> io::Result<()> {
		tracing::error!(disk, offset, %error, "a served disk cannot be read");
		self.fail(request, EIO)
	}

	fn done(&mut self, request: &Request) -> io::Result<()> {
		match self.has_structure {
			true if request.command == COMMAND_READ => {
				self.chunk(request, CHUNK_DONE, CHUNK_NONE, &[])
			}
			_ => self.simple(request, 0),
		}
	}

	fn fail(&mut self, request: &Request, code: u32) -> io::Result<()> {
		match self.has_structure {
			true => {
				let payload = [&code.to_be_bytes()[..], &0u16.to_be_bytes()].concat();
				self.chunk(request, CHUNK_DONE, CHUNK_ERROR, &[&payload])
			}
			false => self.simple(request, code),
		}
	}

	fn simple(&mut self, request: &Request, code: u32) -> io::Result<()> {
		self.put(&SIMPLE_REPLY_MAGIC.to_be_bytes())?;
		self.put(&code.to_be_bytes())?;
		self.put(&request.cookie.to_be_bytes())
	}

	fn chunk(
		&mut self,
		request: &Request,
		flags: u16,
		kind: u16,
		payload: &[&[u8]],
	) -> io::Result<()> {
		let length: usize = payload.iter().map(|part| part.len()).sum();
		self.put(&STRUCTURED_REPLY_MAGIC.to_be_bytes())?;
		self.put(&flags.to_be_bytes())?;
		self.put(&kind.to_be_bytes())?;
		self.put(&request.cookie.to_be_bytes())?;
		self.put(&(length as u32).to_be_bytes())?;
		payload.iter().try_for_each(|part| self.put(part))
	}

	/// Read over what comes behind a request that is refused.
	fn skip(&mut self, length: u32) -> io::Result<()> {
		if length > READ_BYTES_MAX {
			return Err(wrong("the length of a write"));
		}
		let mut payload = self.reader.by_ref().take(length.into());
		let skipped = io::copy(&mut payload, &mut io::sink())?;
		match skipped == u64::from(length) {
			true => Ok(()),
			false => Err(io::ErrorKind::UnexpectedEof.into()),
		}
	}

	fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
		self.writer.write_all(bytes)
	}

	fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
		let mut bytes = [0; N];
		self.reader.read_exact(&mut bytes)?;
		Ok(bytes)
	}
}

/// The disk of this name. No name is that of the only one.
fn find<'d>(disks: &'d [ServedDisk], name: &[u8]) -> Option<&'d ServedDisk> {
	match disks {
		[only] if name.is_empty() => Some(only),
		disks => disks.iter().find(|disk| disk.name.as_bytes() == name),
	}
}

fn counted(text: &str) -> Vec<u8> {
	[&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn split_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
	let (length, rest) = bytes.split_first_chunk()?;
	rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

fn wrong(what: &str) -> io::Error {
	io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not as in the NBD protocol"))
}
