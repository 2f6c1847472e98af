//! LVM2: volume groups over partitions and disks, and their linear logical volumes.
//!
//! 1. A physical volume has a label in one of its first four sectors, which names its place for
//!    metadata.
//! 2. The metadata is text, in a ring; a header says where the newest begins. Every physical volume
//!    may have it, and the one with the highest number counts.
//! 3. A linear logical volume is one run of extents after the other.
//!
//! Striped, mirrored, thin and cached volumes are not put together; they are told of.

mod text;

use crate::{Area, ReadError, Volume, content::Content, lvm::text::Section};
use std::collections::BTreeMap;

const SECTOR: usize = 512;
const LABEL_SECTORS: usize = 4;
const LABEL: &[u8] = b"LABELONE";
const LABEL_TYPE: &[u8] = b"LVM2 001";
const METADATA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";

/// What a checksum begins with.
const CHECKSUM_SEED: u32 = 0xf597_a6cf;

/// Longest metadata that is read. The tools make room for one MiB.
const METADATA_BYTES_MAX: u64 = 16 << 20;

/// Most areas of one physical volume.
const AREAS_MAX: usize = 16;

const UUID_BYTES: usize = 32;

/// Most volumes of a group, and most segments of a volume, that are put together.
const VOLUMES_MAX: usize = 4096;
const SEGMENTS_MAX: usize = 65_536;

/// A physical volume.
struct Physical {
	area: Area,
	/// Metadata of its group, if it has any that can be used.
	metadata: Option<Section>,
}

/// Find the logical volumes on what may be physical ones. What cannot be used is told in
/// `problems`.
pub(crate) fn find(
	candidates: &[&Volume],
	problems: &mut Vec<String>,
) -> Result<Vec<Volume>, ReadError> {
	let mut physical: BTreeMap<String, Physical> = BTreeMap::new();
	for volume in candidates {
		match read_physical(&volume.area) {
			Ok((uuid, found)) => drop(physical.insert(uuid, found)),
			Err(Unusable::Read(error)) => return Err(error),
			Err(Unusable::Damaged(reason)) => {
				problems.push(format!("the physical volume {}: {reason}", volume.name));
			}
		}
	}
	let mut volumes = Vec::new();
	for (name, group) in newest(&physical) {
		logical(&name, group, &physical, &mut volumes, problems)?;
	}
	Ok(volumes)
}

/// The newest metadata of each group, by the group's name.
fn newest(physical: &BTreeMap<String, Physical>) -> BTreeMap<String, &Section> {
	let mut groups: BTreeMap<String, &Section> = BTreeMap::new();
	for metadata in physical.values().filter_map(|volume| volume.metadata.as_ref()) {
		let Some((name, group)) = metadata.sections().next() else { continue };
		let number = |group: &Section| group.number("seqno").unwrap_or(0);
		match groups.get(name) {
			Some(other) if number(other) >= number(group) => (),
			_ => drop(groups.insert(name.to_owned(), group)),
		}
	}
	groups
}

enum Unusable {
	Read(ReadError),
	Damaged(String),
}

impl From<ReadError> for Unusable {
	fn from(error: ReadError) -> Self {
		Self::Read(error)
	}
}

impl From<&str> for Unusable {
	fn from(reason: &str) -> Self {
		Self::Damaged(reason.into())
	}
}

/// The UUID of a physical volume, and what it says of its group.
fn read_physical(area: &Area) -> Result<(String, Physical), Unusable> {
	let head = area.peek(0, LABEL_SECTORS * SECTOR)?;
	let mut sectors = head.chunks_exact(SECTOR);
	let label = sectors.find(|sector| sector.starts_with(LABEL) && &sector[24..32] == LABEL_TYPE);
	let label = label.ok_or("it has no label of LVM2")?;
	if checksum(&label[20..]) != number(label, 16, 4)? as u32 {
		return Err("the checksum of its label is wrong".into());
	}
	let header = usize::try_from(number(label, 20, 4)?).unwrap_or(usize::MAX);
	let uuid = label.get(header..).and_then(|rest| rest.get(..UUID_BYTES));
	let uuid = String::from_utf8_lossy(uuid.ok_or("its label ends too soon")?).into_owned();
	// Behind the size come two lists of areas, each with a zero behind it: data, then metadata.
	let mut at = header + UUID_BYTES + 8;
	areas(label, &mut at)?;
	let mut metadata = None;
	for (offset, bytes) in areas(label, &mut at)? {
		let found = read_metadata(area, offset, bytes)?;
		metadata = metadata.or(found);
	}
	Ok((uuid, Physical { area: area.clone(), metadata }))
}

/// A list of offsets and lengths, up to the zero that ends it.
fn areas(label: &[u8], at: &mut usize) -> Result<Vec<(u64, u64)>, Unusable> {
	let mut list = Vec::new();
	for _ in 0..AREAS_MAX {
		let (offset, bytes) = (number(label, *at, 8)?, number(label, *at + 8, 8)?);
		*at += 16;
		if offset == 0 {
			return Ok(list);
		}
		list.push((offset, bytes));
	}
	Err("its label has more areas than any".into())
}

/// The text in one area for metadata; nothing if there is none yet.
fn read_metadata(volume: &Area, offset: u64, bytes: u64) -> Result<Option<Section>, Unusable> {
	let ring = volume.part(offset, bytes).ok_or("its metadata is beyond its end")?;
	let header = ring.peek(0, SECTOR)?;
	if header.len() < SECTOR || &header[4..20] != METADATA_MAGIC {
		return Err("it has no metadata where its label says".into());
	}
	if checksum(&header[4..]) != number(&header, 0, 4)? as u32 {
		return Err("the checksum of its metadata's header is wrong".into());
	}
	let (start, length) = (number(&header, 40, 8)?, number(&header, 48, 8)?);
	if start == 0 || length == 0 {
		return Ok(None);
	}
	if length > METADATA_BYTES_MAX.min(bytes) || start >= bytes || start < SECTOR as u64 {
		return Err("its metadata has no possible place".into());
	}
	// What does not fit to the end goes on behind the header.
	let to_end = length.min(bytes - start) as usize;
	let mut text = vec![0; length as usize];
	let (first, second) = text.split_at_mut(to_end);
	ring.read(start, first)?;
	ring.read(SECTOR as u64, second)?;
	if checksum(&text) != number(&header, 56, 4)? as u32 {
		return Err("the checksum of its metadata is wrong".into());
	}
	let text = String::from_utf8_lossy(&text);
	let text = text.trim_end_matches('\0');
	text::parse(text).map(Some).map_err(|error| Unusable::Damaged(error.to_string()))
}

/// Put the logical volumes of a group together.
fn logical(
	group: &str,
	section: &Section,
	physical: &BTreeMap<String, Physical>,
	volumes: &mut Vec<Volume>,
	problems: &mut Vec<String>,
) -> Result<(), ReadError> {
	let Some(parts) = Group::of(section, physical) else {
		problems.push(format!("the volume group {group} does not say what it is made of"));
		return Ok(());
	};
	let logical = section.section("logical_volumes");
	let logical = logical.into_iter().flat_map(Section::sections);
	for (name, volume) in logical.take(VOLUMES_MAX) {
		// The others are parts of these.
		if !volume.words("status").any(|word| word == "VISIBLE") {
			continue;
		}
		let name = format!("{group}/{name}");
		match parts.assemble(volume) {
			Ok(area) => {
				let content = Content::of(&area)?;
				volumes.push(Volume { name, label: String::new(), content, area });
			}
			Err(reason) => problems.push(format!("the logical volume {name}: {reason}")),
		}
	}
	Ok(())
}

/// What logical volumes are made of.
struct Group<'a> {
	extent_bytes: u64,
	/// By the names that the metadata has for them: the volumes, and where their extents begin.
	physical: BTreeMap<&'a str, (&'a Area, u64)>,
}

impl<'a> Group<'a> {
	fn of(section: &'a Section, there: &'a BTreeMap<String, Physical>) -> Option<Self> {
		let extent_bytes = sectors(section.number("extent_size")?)?;
		let mut physical = BTreeMap::new();
		for (name, volume) in section.section("physical_volumes")?.sections() {
			let uuid = volume.text("id")?.replace('-', "");
			let start = sectors(volume.number("pe_start")?)?;
			if let Some(found) = there.get(&uuid) {
				physical.insert(name, (&found.area, start));
			}
		}
		Some(Self { extent_bytes, physical })
	}

	fn assemble(&self, volume: &Section) -> Result<Area, String> {
		let malformed = || "its segments do not add up".to_owned();
		let count = volume.number("segment_count").ok_or_else(malformed)?;
		if count > SEGMENTS_MAX as u64 {
			return Err(malformed());
		}
		let mut whole = Area::empty();
		for index in 1..=count {
			let segment = volume.section(&format!("segment{index}")).ok_or_else(malformed)?;
			let start = segment.number("start_extent").and_then(|at| self.bytes(at));
			if start != Some(whole.bytes()) {
				return Err(malformed());
			}
			let part = self.segment(segment)?;
			whole.append(&part).ok_or_else(malformed)?;
		}
		Ok(whole)
	}

	fn segment(&self, segment: &Section) -> Result<Area, String> {
		let malformed = || "a segment of it is malformed".to_owned();
		let kind = segment.text("type").ok_or_else(malformed)?;
		let stripes = segment.number("stripe_count").unwrap_or(1);
		if kind != "striped" || stripes != 1 {
			let kind = if kind == "striped" { "striped over several disks" } else { kind };
			return Err(format!("it is {kind}, and only linear ones are put together"));
		}
		let bytes = segment.number("extent_count").and_then(|count| self.bytes(count));
		let (name, extent) = segment.stripe().ok_or_else(malformed)?;
		let (area, start) = self
			.physical
			.get(name)
			.ok_or_else(|| format!("its physical volume {name} is not in this snapshot"))?;
		let offset = self.bytes(extent).and_then(|offset| offset.checked_add(*start));
		let part = offset.zip(bytes).and_then(|(offset, bytes)| area.part(offset, bytes));
		part.ok_or_else(|| format!("it reaches beyond its physical volume {name}"))
	}

	fn bytes(&self, extents: u64) -> Option<u64> {
		extents.checked_mul(self.extent_bytes)
	}
}

fn sectors(count: u64) -> Option<u64> {
	count.checked_mul(SECTOR as u64)
}

/// A number of up to eight bytes, the lowest first.
fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64, Unusable> {
	let field = at.checked_add(width).and_then(|end| bytes.get(at..end));
	let mut whole = [0; 8];
	whole[..width].copy_from_slice(field.ok_or("its label ends too soon")?);
	Ok(u64::from_le_bytes(whole))
}

/// The CRC-32 that everybody has, from another start and without the last step.
fn checksum(bytes: &[u8]) -> u32 {
	let mut hasher = crc32fast::Hasher::new_with_initial(!CHECKSUM_SEED);
	hasher.update(bytes);
	!hasher.finalize()
}

#[cfg(test)]
mod tests;
