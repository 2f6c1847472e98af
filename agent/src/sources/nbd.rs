//! A client of the network block device protocol, made to read a disk once, fast, front to back.
//!
//! It asks for the next area while it takes the last one, reads only what the server does not know
//! to be zero, and trims what it has read where the server is a copy-before-write filter, so that the guest's
//! later writes there cost no scratch.
//!
//! When a method returns no request is in flight. A QEMU that wants its disks quiet (the guest
//! resets a device, an operator stops the machine) waits for every answer to be taken, and the
//! whole machine with it: a reader that was busy elsewhere would hang the guest.
//! See the protocol's `doc/proto.md`: fixed newstyle
//! handshake, structured replies, the meta context `base:allocation`.

mod wire;

use super::{SourceError, socket::connect_within};
use crate::nbd::protocol::{ALLOCATION, STATE_ZERO};
use crate::pipeline::source::DiskReader;
use std::{collections::VecDeque, io, ops::Range, path::Path, time::Duration};
use wire::{BITMAP, Connection, Reply, STATE_DIRTY, Status};

/// How long the server may take to let us in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the server may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Areas that are in flight or at hand.
///
/// QEMU has memory from its allocator for each request that it serves, and gives it back to the
/// kernel once more than two such pieces are free: with many requests at once, half of what QEMU
/// computes is fresh pages. They would also queue before what the guest reads and writes.
const AREAS_MAX: usize = 2;

/// Bytes that one request reads.
const READ_BYTES: u64 = 2 * 1024 * 1024;

/// Most trims that are sent at once.
const TRIMS_MAX: usize = 16;

/// Bytes of which one request asks whether they are zero.
const STATUS_BYTES_MAX: u64 = 1 << 30;

/// How long an area is, of those that somebody wrote to, for which it is not asked whether it is
/// zero.
const SURELY_DATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes that are trimmed at once, after reading.
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
	/// The only areas that are read, if not all.
	wanted: Option<Vec<Range<u64>>>,
	/// Areas that may hold data, in order, not asked for yet.
	extents: VecDeque<Range<u64>>,
	/// Up to where `extents` is known.
	known_until: u64,
	/// Areas that were asked for, in order.
	ahead: VecDeque<Segment>,
	/// Memory of areas that are over, for the next ones.
	spare: Vec<Vec<u8>>,
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
	/// The bytes, once all of them have come.
	bytes: Vec<u8>,
}

impl NbdDisk {
	/// Open the export `name` of the server on this socket.
	pub fn connect(socket: &Path, name: &str, after_read: AfterRead) -> Result<Self, SourceError> {
		let connection = open(socket, name, ALLOCATION)?;
		let after_read = if connection.can_trim() { after_read } else { AfterRead::Keep };
		Ok(Self {
			connection,
			after_read,
			wanted: None,
			extents: VecDeque::new(),
			known_until: 0,
			ahead: VecDeque::new(),
			spare: Vec::new(),
			forgotten_until: 0,
			to_trim: 0..0,
		})
	}

	fn size(&self) -> u64 {
		self.connection.size_bytes()
	}

	/// Fetch what comes next, when little of it is left.
	fn pump(&mut self) -> Result<(), SourceError> {
		if self.ahead.len() > AREAS_MAX / 2 {
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
		while self.ahead.len() < AREAS_MAX {
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
			let mut bytes = self.spare.pop().unwrap_or_default();
			// What it held stays until the answer has overwritten all of it.
			bytes.resize(length as usize, 0);
			self.ahead.push_back(Segment { range, cookie, bytes });
		}
		Ok(())
	}

	/// Learn which of the next areas may hold data.
	fn learn_extents(&mut self) -> Result<(), SourceError> {
		// A server that was let trim the rest refuses questions about it.
		let next = self.next_wanted(self.known_until);
		let is_short = self.wanted.is_some() && next.end - next.start <= SURELY_DATA_BYTES_MAX;
		if !self.connection.has_context() || is_short {
			self.known_until = next.end;
			self.extents.extend((!next.is_empty()).then_some(next));
			return Ok(());
		}
		let start = next.start;
		let length = STATUS_BYTES_MAX.min(next.end - start);
		let cookie = self.connection.ask_status(start, length as u32)?;
		let statuses = loop {
			match self.receive()? {
				Some((about, Reply::Status(statuses))) if about == cookie => break statuses,
				_ => continue,
			}
		};
		let data = areas(&statuses, start, next.end, |state| state & STATE_ZERO == 0)?;
		self.extents.extend(data.areas);
		self.known_until = data.until;
		Ok(())
	}

	/// The first area at or after `from` that is wanted; nothing, at the end, if none is.
	fn next_wanted(&self, from: u64) -> Range<u64> {
		let Some(wanted) = &self.wanted else { return from..self.size() };
		let next = wanted.partition_point(|range| range.end <= from);
		let none = self.size()..self.size();
		wanted.get(next).map_or(none, |range| range.start.max(from)..range.end)
	}

	/// The parts of an area that are wanted.
	fn clip(&self, area: Range<u64>) -> Vec<Range<u64>> {
		let Some(wanted) = &self.wanted else { return vec![area] };
		let first = wanted.partition_point(|range| range.end <= area.start);
		let beside = wanted[first..].iter().take_while(|range| range.start < area.end);
		beside.map(|range| range.start.max(area.start)..range.end.min(area.end)).collect()
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
		let asked = offset..end;
		if self.clip(asked.clone()) != [asked] {
			return Err(SourceError::Nbd(format!("byte {offset} was said not to be wanted")));
		}
		let place = |at: u64| (at - offset) as usize;
		let mut at = offset;
		while at < end {
			self.forget_before(at);
			self.pump()?;
			// Segments are in order, and everything before the first one is zeros.
			let Some(first) = self.ahead.front().filter(|first| first.range.start < end) else {
				break;
			};
			// Whoever reads has passed it over.
			if first.range.end <= at {
				continue;
			}
			let (from, to) = (first.range.start.max(offset), first.range.end.min(end));
			let start = (from - first.range.start) as usize;
			let (gap, part) = buffer[place(at)..place(to)].split_at_mut(place(from) - place(at));
			gap.fill(0);
			part.copy_from_slice(&first.bytes[start..][..part.len()]);
			at = to;
		}
		buffer[place(at)..].fill(0);
		Ok(())
	}

	/// Let go of segments that lie before a place.
	fn forget_before(&mut self, place: u64) {
		while let Some(segment) = self.ahead.pop_front_if(|segment| segment.range.end <= place) {
			self.forgotten_until = segment.range.end;
			self.spare.push(segment.bytes);
		}
	}

	fn trim(&mut self) -> Result<(), SourceError> {
		let area = std::mem::take(&mut self.to_trim);
		self.trim_all([area])
	}

	fn trim_all(&mut self, areas: impl IntoIterator<Item = Range<u64>>) -> Result<(), SourceError> {
		let mut sent = 0;
		for mut area in areas {
			while !area.is_empty() {
				let length = (area.end - area.start).min(STATUS_BYTES_MAX);
				self.connection.ask_trim(area.start, length as u32)?;
				area.start += length;
				sent += 1;
				// A server whose answers nobody takes takes no more requests.
				if sent % TRIMS_MAX == 0 {
					self.settle()?;
				}
			}
		}
		self.settle()
	}
}

/// Areas of an export that were written to, as a bitmap of QEMU's records them: sorted, and apart
/// from each other.
pub fn written(socket: &Path, export: &str, bitmap: &str) -> Result<Vec<Range<u64>>, SourceError> {
	let mut connection = open(socket, export, &format!("{BITMAP}{bitmap}"))?;
	// A server may grant less than was asked for without a word.
	if !connection.has_context() {
		return Err(SourceError::Nbd(format!("the server tells nothing of the bitmap {bitmap:?}")));
	}
	let size = connection.size_bytes();
	let mut written: Vec<Range<u64>> = Vec::new();
	let mut at = 0;
	while at < size {
		let length = STATUS_BYTES_MAX.min(size - at);
		connection.ask_status(at, length as u32)?;
		let mut statuses = Vec::new();
		while connection.is_any_pending() {
			if let (_, Reply::Status(told)) = connection.receive(|_, _, _| None)? {
				statuses = told;
			}
		}
		let dirty = areas(&statuses, at, size, |state| state & STATE_DIRTY != 0)?;
		for area in dirty.areas {
			join(&mut written, area);
		}
		at = dirty.until;
	}
	Ok(written)
}

fn open(socket: &Path, export: &str, context: &str) -> Result<Connection, SourceError> {
	let stream = connect_within(socket, CONNECT_TIME_MAX)?;
	stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
	stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
	Connection::negotiate(stream, export, context)
}

/// Add an area behind others, to the last of which it may belong.
fn join(areas: &mut Vec<Range<u64>>, next: Range<u64>) {
	match areas.last_mut() {
		Some(last) if last.end == next.start => last.end = next.end,
		_ => areas.push(next),
	}
}

/// What a server told of the areas from a place on.
struct Told {
	/// Those of the kind that was looked for, apart from each other.
	areas: Vec<Range<u64>>,
	/// Up to where it told something.
	until: u64,
}

fn areas(
	statuses: &[Status],
	start: u64,
	end_max: u64,
	is_meant: impl Fn(u32) -> bool,
) -> Result<Told, SourceError> {
	let mut told = Told { areas: Vec::new(), until: start };
	for status in statuses {
		let end = told.until.saturating_add(status.length_bytes.into()).min(end_max);
		if is_meant(status.state) && end > told.until {
			join(&mut told.areas, told.until..end);
		}
		told.until = end;
	}
	match told.until > start {
		true => Ok(told),
		false => Err(SourceError::Nbd("the server told nothing of an area".into())),
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

	fn restrict(&mut self, ranges: &[Range<u64>]) {
		let starts = ranges.iter().map(|range| range.start).chain([self.size()]);
		let ends = [0].into_iter().chain(ranges.iter().map(|range| range.end));
		if self.after_read == AfterRead::Trim {
			let gaps: Vec<_> = ends.zip(starts).map(|(end, start)| end..start).collect();
			// A trim that fails costs scratch, not the backup.
			let _ = self.trim_all(gaps);
		}
		self.wanted = Some(ranges.to_vec());
	}

	fn release(&mut self, range: Range<u64>) {
		if self.after_read == AfterRead::Keep {
			return;
		}
		// What is not wanted was trimmed before all else.
		for part in self.clip(range) {
			if self.to_trim.end == part.start {
				self.to_trim.end = part.end;
			} else {
				let _ = self.trim();
				self.to_trim = part;
			}
			if self.to_trim.end - self.to_trim.start >= TRIM_BYTES {
				let _ = self.trim();
			}
		}
	}
}
