//! Physical volumes that the tools of LVM2 wrote, whole and damaged, and some made by hand.

use super::*;
use crate::{FileSystem, memory::area, scan};
use std::{fs, path::PathBuf};

/// A disk of `testdata/volumes`.
fn disk(name: &str) -> Vec<u8> {
	let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/volumes");
	let packed = fs::read(folder.join(format!("lvm-{name}.zst"))).unwrap();
	zstd::decode_all(packed.as_slice()).unwrap()
}

fn named(disks: Vec<(&str, Vec<u8>)>) -> Vec<(String, Area)> {
	disks.into_iter().map(|(name, bytes)| (name.to_owned(), area(bytes))).collect()
}

/// Where the metadata's header of the second disk is, which has no partitions.
const METADATA_AT: usize = 4096;

#[test]
fn a_volume_over_two_disks_is_put_together() {
	let layout = scan(&named(vec![("vda", disk("vda")), ("vdb", disk("vdb"))])).unwrap();
	let names: Vec<_> = layout.volumes.iter().map(|volume| volume.name.as_str()).collect();
	assert_eq!(names, ["vda1", "vdb", "vg0/root"]);
	assert_eq!(layout.volumes[0].label, "data");
	let root = layout.volume("vg0/root").unwrap();
	assert_eq!((root.content, root.area.bytes()), (Content::Ext, 4 << 20));
	let files = FileSystem::open(&root.area).unwrap();
	let mut long = files.file(b"/long").unwrap();
	let mut bytes = vec![0; 3_000_000];
	assert_eq!(long.read(&mut bytes).unwrap(), 2_500_000);
	assert!(bytes[..2_500_000].iter().all(|byte| *byte == b'x'));
	// What is not linear is told of.
	let [problem] = &layout.problems[..] else { panic!("{:?}", layout.problems) };
	assert!(problem.contains("vg0/striped") && problem.contains("linear"), "{problem}");
}

#[test]
fn a_volume_of_which_a_part_is_not_there_is_told_of() {
	let layout = scan(&named(vec![("vdb", disk("vdb"))])).unwrap();
	assert!(layout.volume("vg0/root").is_none());
	assert!(layout.problems.iter().any(|problem| problem.contains("not in this snapshot")));
}

#[test]
fn the_newest_metadata_counts() {
	// The metadata of the first disk is taken away, and with it nothing but a copy.
	let mut first = disk("vda");
	let at = (1 << 20) + METADATA_AT;
	first[at + 40..at + 48].fill(0);
	let sum = checksum(&first[at + 4..at + SECTOR]);
	first[at..at + 4].copy_from_slice(&sum.to_le_bytes());
	let layout = scan(&named(vec![("vda", first), ("vdb", disk("vdb"))])).unwrap();
	assert!(layout.volume("vg0/root").is_some(), "{:?}", layout.problems);
}

#[test]
fn metadata_that_goes_round_the_ring_is_read() {
	let mut bytes = disk("vdb");
	let header = &bytes[METADATA_AT..METADATA_AT + SECTOR];
	let read = |at| number(header, at, 8).ok().unwrap() as usize;
	let (ring, start, length) = (read(32), read(40), read(48));
	let text = bytes[METADATA_AT + start..METADATA_AT + start + length].to_vec();
	let (head, tail) = text.split_at(100);
	bytes[METADATA_AT + ring - 100..METADATA_AT + ring].copy_from_slice(head);
	bytes[METADATA_AT + SECTOR..METADATA_AT + SECTOR + tail.len()].copy_from_slice(tail);
	let start = (ring - 100) as u64;
	bytes[METADATA_AT + 40..METADATA_AT + 48].copy_from_slice(&start.to_le_bytes());
	let sum = checksum(&bytes[METADATA_AT + 4..METADATA_AT + SECTOR]);
	bytes[METADATA_AT..METADATA_AT + 4].copy_from_slice(&sum.to_le_bytes());
	let (_, physical) = read_physical(&area(bytes)).ok().unwrap();
	assert!(physical.metadata.unwrap().section("vg0").is_some());
}

/// Change the metadata's header of the second disk, seal it again, and tell what comes of it.
fn with_header(change: impl FnOnce(&mut [u8])) -> String {
	let mut bytes = disk("vdb");
	change(&mut bytes[METADATA_AT..METADATA_AT + SECTOR]);
	let sum = checksum(&bytes[METADATA_AT + 4..METADATA_AT + SECTOR]);
	bytes[METADATA_AT..METADATA_AT + 4].copy_from_slice(&sum.to_le_bytes());
	problem(bytes)
}

fn problem(bytes: Vec<u8>) -> String {
	let layout = scan(&named(vec![("vdb", bytes)])).unwrap();
	layout.problems.join("; ")
}

#[test]
fn damaged_and_hostile_metadata_is_told_of() {
	let huge = u64::MAX.to_le_bytes();
	assert!(with_header(|header| header[48..56].copy_from_slice(&huge)).contains("place"));
	assert!(with_header(|header| header[40..48].copy_from_slice(&huge)).contains("place"));
	assert!(
		with_header(|header| header[40..48].copy_from_slice(&1u64.to_le_bytes())).contains("place")
	);
	assert!(with_header(|header| header[56] ^= 1).contains("checksum of its metadata is wrong"));
	assert!(with_header(|header| header[4] ^= 1).contains("no metadata"));
	let mut bytes = disk("vdb");
	bytes[METADATA_AT + 100] ^= 1;
	assert!(problem(bytes).contains("metadata's header"));
	let mut bytes = disk("vdb");
	bytes[SECTOR + 40] ^= 1;
	assert!(problem(bytes).contains("label"));
}

#[test]
fn hostile_labels_are_told_of() {
	let with_label = |change: fn(&mut [u8])| {
		let mut bytes = disk("vdb");
		let label = &mut bytes[SECTOR..2 * SECTOR];
		change(label);
		let sum = checksum(&label[20..]);
		label[16..20].copy_from_slice(&sum.to_le_bytes());
		problem(bytes)
	};
	assert!(with_label(|label| label[20..24].fill(0xff)).contains("too soon"));
	assert!(
		with_label(|label| label[20..24].copy_from_slice(&500u32.to_le_bytes()))
			.contains("too soon")
	);
	assert!(with_label(|label| label[72..512].fill(1)).contains("more areas"));
	assert!(with_label(|label| label[104..112].fill(0xff)).contains("beyond its end"));
}

#[test]
fn hostile_segments_are_told_of() {
	let group = |segment: &str| {
		let text = format!(
			"extent_size = 8 physical_volumes {{ pv0 {{ id = \"a-b\" pe_start = 8 }} }} \
			 logical_volumes {{ lv {{ status = [\"VISIBLE\"] {segment} }} }}"
		);
		let section = text::parse(&text).unwrap();
		let volume = Physical { area: area(vec![0; 1 << 20]), metadata: None };
		let there = [("ab".to_owned(), volume)].into();
		let (mut volumes, mut problems) = (Vec::new(), Vec::new());
		logical("vg", &section, &there, &mut volumes, &mut problems).unwrap();
		assert_eq!(volumes.len() + problems.len(), 1);
		problems.join("")
	};
	let segment = |start: u64, count: u64, extent: u64| {
		group(&format!(
			"segment_count = 1 segment1 {{ start_extent = {start} extent_count = {count} \
			 type = \"striped\" stripe_count = 1 stripes = [\"pv0\", {extent}] }}"
		))
	};
	assert_eq!(segment(0, 10, 0), "");
	for (start, count, extent) in
		[(1, 1, 0), (0, u64::MAX, 0), (0, 1, u64::MAX), (0, 1, 255), (0, 1 << 60, 1 << 60)]
	{
		assert_ne!(segment(start, count, extent), "", "{start} {count} {extent}");
	}
	for odd in [
		"",
		"segment_count = 99999999999",
		"segment_count = 1",
		"segment_count = 1 segment1 { start_extent = 0 extent_count = 1 type = \"thin\" }",
		"segment_count = 1 segment1 { start_extent = 0 extent_count = 1 type = \"striped\" stripes = [] }",
	] {
		assert_ne!(group(odd), "", "{odd}");
	}
}
