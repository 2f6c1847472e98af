//! A client of the network block device protocol, made to read a disk once, fast, front to back.
//!
//! It sends many requests at once, reads only what the server does not know to be zero, and
//! trims what it has read where the server is a copy-before-write filter, so that the guest's
//! later writes there cost no scratch.
//!
//! When a method returns no request is in flight. A QEMU that wants its disks quiet (the guest
//! resets a device, an operator stops the machine) waits for every answer to be taken, and the
//! whole machine with it: a reader that was busy elsewhere would hang the guest.
//! See the protocol's `doc/proto.md`: fixed newstyle
//! handshake, structured replies, the meta context `base:allocation`.

mod wire;

use super::{SourceError, socket::connect_within};
use crate::pipeline::source::DiskReader;
use std::{collections::VecDeque, io, ops::Range, path::Path, time::Duration};
use wire::{Connection, Reply};

/// How long the server may take to let us in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the server may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Most requests that are sent at once.
const REQUESTS_MAX: usize = 16;

/// Bytes that one request reads.
const READ_BYTES: u64 = 1024 * 1024;

/// Bytes of which one request asks whether they are zero.
const STATUS_BYTES_MAX: u64 = 1 << 30;

/// Bytes that are trimmed at once.
const TRIM_BYTES: u64 = 16 * 1024 * 1024;

/// What to do with areas that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRead {
	/// Leave them as they are.
	Keep,
	/// Trim them: the server keeps them for us alone.
	Trim,
}

/// One disk behind an NBD server.
#[derive(Debug)]
pub struct NbdDisk {
	connection: Connection,
	after_read: AfterRead,
	/// Areas that may hold data, in order, not asked for yet.
	extents: VecDeque<Range<u64>>,
	/// Up to where `extents` is known.
	known_until: u64,
	/// Areas that were asked for, in order.
	ahead: VecDeque<Segment>,
	/// What lies before is not kept any more.
	forgotten_until: u64,
	/// Read, and not trimmed yet.
	to_trim: Range<u64>,
}

/// An area that was asked for.
#[derive(Debug)]
struct Segment {
	range: Range<u64>,
	cookie: u64,
	/// The bytes, zeros where nothing has come yet.
	bytes: Vec<u8>,
}

impl NbdDisk {
	/// Open the export `name` of the server on this socket.
	pub fn connect(socket: &Path, name: &str, after_read: AfterRead) -> Result<Self, SourceError> {
		let stream = connect_within(socket, CONNECT_TIME_MAX)?;
		stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
		stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
		let connection = Connection::negotiate(stream, name)?;
		let after_read = if connection.can_trim() { after_read } else { AfterRead::Keep };
		Ok(Self {
			connection,
			after_read,
			extents: VecDeque::new(),
			known_until: 0,
			ahead: VecDeque::new(),
			forgotten_until: 0,
			to_trim: 0..0,
		})
	}

	fn size(&self) -> u64 {
		self.connection.size_bytes()
	}

	/// Fetch what comes next, when little of it is left.
	fn pump(&mut self) -> Result<(), SourceError> {
		if self.ahead.len() > REQUESTS_MAX / 2 {
			return Ok(());
		}
		self.ask()?;
		self.settle()
	}

	/// Take every answer that is still to come.
	fn settle(&mut self) -> Result<(), SourceError> {
		while self.connection.is_any_pending() {
			self.receive()?;
		}
		Ok(())
	}

	fn ask(&mut self) -> Result<(), SourceError> {
		while self.ahead.len() < REQUESTS_MAX {
			let Some(extent) = self.extents.front_mut() else {
				if self.known_until >= self.size() {
					break;
				}
				self.learn_extents()?;
				continue;
			};
			let end = extent.end.min(extent.start + READ_BYTES);
			let range = extent.start..end;
			extent.start = end;
			if extent.is_empty() {
				self.extents.pop_front();
			}
			let length = (range.end - range.start) as u32;
			let cookie = self.connection.ask_read(range.start, length)?;
			let bytes = vec![0; length as usize];
			self.ahead.push_back(Segment { range, cookie, bytes });
		}
		Ok(())
	}

	/// Learn which of the next areas may hold data.
	fn learn_extents(&mut self) -> Result<(), SourceError> {
		let start = self.known_until;
		let length = STATUS_BYTES_MAX.min(self.size() - start);
		if !self.connection.knows_allocation() {
			self.extents.push_back(start..self.size());
			self.known_until = self.size();
			return Ok(());
		}
		let cookie = self.connection.ask_status(start, length as u32)?;
		let statuses = loop {
			match self.receive()? {
				Some((about, Reply::Status(statuses))) if about == cookie => break statuses,
				_ => continue,
			}
		};
		let mut at = start;
		for status in statuses {
			let end = at.saturating_add(status.length_bytes.into()).min(self.size());
			if !status.is_zero && end > at {
				match self.extents.back_mut() {
					Some(last) if last.end == at => last.end = end,
					_ => self.extents.push_back(at..end),
				}
			}
			at = end;
		}
		if at == start {
			return Err(SourceError::Nbd("the server told nothing of an area".into()));
		}
		self.known_until = at;
		Ok(())
	}

	/// Take one piece of a reply. Data goes to its segment, the rest is returned.
	fn receive(&mut self) -> Result<Option<(u64, Reply)>, SourceError> {
		let Self { connection, ahead, .. } = self;
		let (cookie, reply) = connection.receive(|cookie, offset, length| {
			let segment = ahead.iter_mut().find(|segment| segment.cookie == cookie)?;
			let start = offset.checked_sub(segment.range.start)?;
			let end = start.checked_add(length)?;
			segment.bytes.get_mut(start as usize..end as usize)
		})?;
		match reply {
			Reply::Data | Reply::Done => Ok(None),
			reply @ Reply::Status(_) => Ok(Some((cookie, reply))),
		}
	}

	fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
		let end = offset.saturating_add(buffer.len() as u64);
		if end > self.size() {
			return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
		}
		if offset < self.forgotten_until {
			// Zeros would look like an answer.
			return Err(SourceError::Nbd(format!("byte {offset} was passed over already")));
		}
		buffer.fill(0);
		let mut at = offset;
		while at < end {
			self.forget_before(at);
			self.pump()?;
			// Segments are in order, and everything before the first one is zeros.
			if self.ahead.front().is_none_or(|first| first.range.start >= end) {
				break;
			}
			let first = &self.ahead[0];
			let (from, to) = (first.range.start.max(offset), first.range.end.min(end));
			let start = (from - first.range.start) as usize;
			let length = (to - from) as usize;
			buffer[(from - offset) as usize..][..length]
				.copy_from_slice(&first.bytes[start..start + length]);
			at = to;
		}
		Ok(())
	}

	/// Let go of segments that lie before a place.
	fn forget_before(&mut self, place: u64) {
		while let Some(segment) = self.ahead.pop_front_if(|segment| segment.range.end <= place) {
			self.forgotten_until = segment.range.end;
		}
	}

	fn trim(&mut self) -> Result<(), SourceError> {
		while !self.to_trim.is_empty() {
			let length = (self.to_trim.end - self.to_trim.start).min(STATUS_BYTES_MAX);
			self.connection.ask_trim(self.to_trim.start, length as u32)?;
			self.to_trim.start += length;
		}
		self.settle()
	}
}

impl DiskReader for NbdDisk {
	fn logical_bytes(&self) -> u64 {
		self.size()
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		if from >= self.size() {
			return Ok(None);
		}
		loop {
			self.pump()?;
			let asked = self.ahead.iter().map(|segment| segment.range.clone());
			let next = asked
				.chain(self.extents.iter().cloned())
				.find(|range| range.end > from)
				.map(|range| range.start.max(from)..range.end);
			if next.is_some() || self.known_until >= self.size() {
				return Ok(next);
			}
			// What is in flight lies before `from`: it is not needed.
			self.forget_before(from);
		}
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		Ok(self.read(offset, buffer)?)
	}

	fn release(&mut self, range: Range<u64>) {
		if self.after_read == AfterRead::Keep {
			return;
		}
		if self.to_trim.end == range.start {
			self.to_trim.end = range.end;
		} else {
			// A trim that fails costs scratch, not the backup.
			let _ = self.trim();
			self.to_trim = range;
		}
		if self.to_trim.end - self.to_trim.start >= TRIM_BYTES {
			let _ = self.trim();
		}
	}
}
