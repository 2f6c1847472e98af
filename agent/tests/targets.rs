//! Raw and qcow2 targets, judged by `qemu-img`, and how they come by their name.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "fixtures/loop_device.rs"]
mod loop_device;

use std::{
	fs::{self, File},
	io::{self, Read},
	os::unix::{
		fs::{FileExt, MetadataExt, PermissionsExt},
		net::UnixStream,
	},
	path::{Path, PathBuf},
	process::Command,
	thread,
	time::Duration,
};

use backup_agent::{
	pipeline::source::{OnFound, RestoreTarget},
	targets::{DeviceTarget, QCOW2_LOGICAL_BYTES_MAX, Qcow2Target, RawTarget, TargetError},
};
use backup_primitives::Cid;
use loop_device::Loop;
use proptest::prelude::*;

const CLUSTER: u64 = 64 << 10;
const MIB: u64 = 1 << 20;
/// What one L2 table covers.
const TABLE: u64 = 512 * MIB;

type Create = fn(&Path) -> Result<Box<dyn RestoreTarget>, TargetError>;

/// What holds for the one holds for the other.
const BOTH: [Create; 2] = [
	|path| RawTarget::create(path).map(|target| Box::new(target) as _),
	|path| Qcow2Target::create(path).map(|target| Box::new(target) as _),
];

#[derive(Clone, Debug)]
struct Write {
	offset: u64,
	bytes: Vec<u8>,
}

/// Bytes that differ from place to place, so that a cluster in another's place shows.
fn pattern(offset: u64, len: u64) -> Vec<u8> {
	let mut bytes = vec![0; usize::try_from(len).unwrap()];
	blake3::Hasher::new().update(&offset.to_le_bytes()).finalize_xof().fill(&mut bytes);
	bytes
}

fn writes(ranges: &[(u64, u64)]) -> Vec<Write> {
	ranges.iter().map(|&(offset, len)| Write { offset, bytes: pattern(offset, len) }).collect()
}

fn qemu_img(arguments: &[&str], paths: &[&Path]) -> String {
	let output = Command::new("qemu-img").args(arguments).args(paths).output().unwrap();
	let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
	assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
	stdout
}

/// Writes the same to both targets and to a plain file, from `threads` threads, and has QEMU
/// compare all three. Returns the qcow2 image.
fn check(dir: &Path, logical_bytes: u64, writes: &[Write], threads: usize) -> PathBuf {
	let [expected, raw, qcow2] = ["expected", "disk.raw", "disk.qcow2"].map(|name| dir.join(name));
	let file = File::create(&expected).unwrap();
	file.set_len(logical_bytes).unwrap();
	for write in writes {
		file.write_all_at(&write.bytes, write.offset).unwrap();
	}
	for (create, path) in BOTH.iter().zip([&raw, &qcow2]) {
		let mut target = create(path).unwrap();
		target.set_len(logical_bytes).unwrap();
		thread::scope(|scope| {
			for part in 0..threads {
				let target = &target;
				scope.spawn(move || {
					for write in writes.iter().skip(part).step_by(threads) {
						target.write_at(write.offset, &write.bytes).unwrap();
					}
				});
			}
		});
		target.finish().unwrap();
	}
	assert_eq!(fs::metadata(&raw).unwrap().len(), logical_bytes);
	let report = qemu_img(&["check", "--output=json"], &[&qcow2]);
	let report: serde_json::Value = serde_json::from_str(&report).unwrap();
	assert_eq!(report["check-errors"], 0);
	assert!(report["leaks"].is_null() && report["corruptions"].is_null(), "{report}");
	assert_eq!(report["image-end-offset"], fs::metadata(&qcow2).unwrap().len());
	qemu_img(&["compare", "-f", "raw", "-F", "raw"], &[&expected, &raw]);
	qemu_img(&["compare", "-f", "raw", "-F", "qcow2"], &[&expected, &qcow2]);
	qcow2
}

#[test]
fn boundary_sizes_of_a_disk() {
	for logical_bytes in [0, 1, 511, 512, 513, CLUSTER - 1, CLUSTER, CLUSTER + 1, TABLE + 7] {
		let dir = tempfile::tempdir().unwrap();
		let whole = writes(&[(0, logical_bytes.min(3 * CLUSTER))]);
		check(dir.path(), logical_bytes, &whole, 1);
	}
}

#[test]
fn boundary_writes_at_clusters_and_tables() {
	let dir = tempfile::tempdir().unwrap();
	let ranges = [
		(TABLE - CLUSTER - 1, 2 * CLUSTER + 2),
		(0, 1),
		(1, CLUSTER - 1),
		(CLUSTER, CLUSTER),
		(3 * CLUSTER - 1, 2),
		(3 * TABLE + 5, 3),
		(4 * TABLE - 1, 1),
	];
	check(dir.path(), 4 * TABLE, &writes(&ranges), 1);
}

#[test]
fn an_empty_disk_takes_next_to_nothing() {
	let dir = tempfile::tempdir().unwrap();
	let qcow2 = check(dir.path(), 64 * TABLE, &[], 1);
	assert!(fs::metadata(&qcow2).unwrap().len() <= 5 * CLUSTER);
	assert_eq!(fs::metadata(dir.path().join("disk.raw")).unwrap().blocks(), 0);
}

#[test]
fn several_threads_write_one_disk() {
	let dir = tempfile::tempdir().unwrap();
	// Odd sizes, so that neighbours share clusters and are written by different threads.
	let step = MIB / 3 + 1;
	let ranges = (0..200).rev().map(|index| (index * step, step)).collect::<Vec<_>>();
	let qcow2 = check(dir.path(), 200 * step, &writes(&ranges), 8);
	let wasted = fs::metadata(qcow2).unwrap().len() - 200 * step;
	assert!(wasted < 6 * CLUSTER, "{wasted}");
}

fn random_writes() -> impl Strategy<Value = (u64, Vec<Write>)> {
	(1..40 * CLUSTER).prop_flat_map(|logical_bytes| {
		let cuts = prop::collection::btree_set(0..=logical_bytes, 2..40);
		let picks = prop::collection::vec(any::<(bool, u32)>(), 40);
		(Just(logical_bytes), cuts, picks).prop_map(|(logical_bytes, cuts, picks)| {
			let cuts = cuts.into_iter().collect::<Vec<_>>();
			let mut picked = cuts
				.windows(2)
				.zip(picks)
				.filter(|(_, (wanted, _))| *wanted)
				.map(|(cut, (_, order))| (order, (cut[0], cut[1] - cut[0])))
				.collect::<Vec<_>>();
			picked.sort_unstable();
			let ranges = picked.into_iter().map(|(_, range)| range).collect::<Vec<_>>();
			(logical_bytes, writes(&ranges))
		})
	})
}

proptest! {
	#![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

	/// Ranges that do not overlap, in any order, as the pipeline writes them.
	#[test]
	fn any_writes_read_back((logical_bytes, writes) in random_writes(), threads in 1_usize..4) {
		let dir = tempfile::tempdir().unwrap();
		check(dir.path(), logical_bytes, &writes, threads);
	}
}

#[test]
fn a_target_has_its_name_only_when_it_is_finished() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let (path, partial) = (dir.path().join("disk"), dir.path().join("disk.partial"));
		let mut target = create(&path).unwrap();
		target.set_len(MIB).unwrap();
		target.write_at(0, b"bytes").unwrap();
		assert!(!path.exists());
		assert_eq!(fs::metadata(&partial).unwrap().permissions().mode() & 0o777, 0o600);
		target.finish().unwrap();
		drop(target);
		assert!(path.exists() && !partial.exists());
	}
}

#[test]
fn a_target_that_is_dropped_leaves_nothing() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let mut target = create(&dir.path().join("disk")).unwrap();
		target.set_len(MIB).unwrap();
		target.write_at(0, b"bytes").unwrap();
		drop(target);
		assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
	}
}

#[test]
fn fails_over_an_existing_file_or_a_dangling_link() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let (file, link) = (dir.path().join("file"), dir.path().join("link"));
		fs::write(&file, "precious").unwrap();
		std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
		for path in [&file, &link] {
			assert!(matches!(create(path), Err(TargetError::Exists { .. })));
		}
		assert_eq!(fs::read(&file).unwrap(), b"precious");
		assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
	}
}

#[test]
fn fails_to_take_a_name_that_was_taken_meanwhile() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("disk");
		let mut target = create(&path).unwrap();
		target.set_len(MIB).unwrap();
		fs::write(&path, "precious").unwrap();
		let error = target.finish().unwrap_err();
		assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
		assert!(error.downcast::<TargetError>().is_ok());
		drop(target);
		assert_eq!(fs::read(&path).unwrap(), b"precious");
		assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
	}
}

#[test]
fn fails_while_another_restore_writes_there() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("disk");
		let mut first = create(&path).unwrap();
		assert!(matches!(create(&path), Err(TargetError::Busy { .. })));
		first.set_len(MIB).unwrap();
		first.finish().unwrap();
		assert!(path.exists());
	}
}

#[test]
fn a_left_over_of_a_killed_process_is_replaced() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("disk");
		fs::write(dir.path().join("disk.partial"), vec![1; 100_000]).unwrap();
		let mut target = create(&path).unwrap();
		target.set_len(10).unwrap();
		target.finish().unwrap();
		drop(target);
		let bytes = fs::read(&path).unwrap();
		assert!(!bytes.ends_with(&[1; 100]));
		assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
	}
}

/// Nobody looks how much is found.
const SEEN: OnFound<'_> = &|_| Ok(());

/// The name of some content.
fn content(name: u8) -> Cid {
	Cid::raw([name; 32])
}

#[test]
fn a_restore_that_was_left_is_gone_on_with() {
	let (half, end) = (4 * MIB, 8 * MIB + 1000);
	let first = writes(&[(0, 2 * MIB), (3 * MIB, MIB)]);
	let second = writes(&[(4 * MIB, MIB), (8 * MIB, 1000)]);
	let write = |target: &dyn RestoreTarget, write: &Write| {
		target.write_at(write.offset, &write.bytes).unwrap()
	};
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let [path, expected] = ["disk", "expected"].map(|name| dir.path().join(name));
		let mut target = create(&path).unwrap();
		assert_eq!(target.resume(&content(1), end, SEEN).unwrap(), 0);
		target.set_len(end).unwrap();
		first.iter().for_each(|one| write(&target, one));
		target.keep(half).unwrap();
		// What came after that is lost or half there, as after a power cut.
		target.write_at(8 * MIB, &[0xee; 1000]).unwrap();
		target.leave();
		drop(target);

		let mut target = create(&path).unwrap();
		assert_eq!(target.resume(&content(1), end, SEEN).unwrap(), half);
		target.set_len(end).unwrap();
		second.iter().for_each(|one| write(&target, one));
		target.finish().unwrap();
		let file = File::create(&expected).unwrap();
		file.set_len(end).unwrap();
		for one in first.iter().chain(&second) {
			file.write_all_at(&one.bytes, one.offset).unwrap();
		}
		qemu_img(&["compare", "-F", "raw"], &[&path, &expected]);
		assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the progress is gone");
	}
}

/// What happens to a folder between two attempts.
type Cut = fn(&Path);

#[test]
fn what_was_left_of_other_content_is_forgotten() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("disk");
		let leave = || {
			let mut target = create(&path).unwrap();
			target.resume(&content(1), MIB, SEEN).unwrap();
			target.set_len(MIB).unwrap();
			target.write_at(0, &[1; MIB as usize]).unwrap();
			target.keep(MIB / 2).unwrap();
			target.leave();
		};
		let cuts: [(u8, u64, Cut); 4] = [
			(2, MIB, |_| ()),
			(1, MIB / 2, |_| ()),
			(1, MIB, |dir| fs::write(dir.join("disk.partial.progress"), "torn").unwrap()),
			// The file was put back from somewhere, older than what is kept of it.
			(1, MIB, |dir| fs::write(dir.join("disk.partial"), "old").unwrap()),
		];
		for (name, length, cut) in cuts {
			leave();
			cut(dir.path());
			let mut target = create(&path).unwrap();
			assert_eq!(target.resume(&content(name), length, SEEN).unwrap(), 0);
			target.set_len(length).unwrap();
			target.finish().unwrap();
			drop(target);
			let raw = dir.path().join("raw");
			qemu_img(&["convert", "-O", "raw"], &[&path, &raw]);
			assert!(fs::read(&raw).unwrap() == vec![0; length as usize], "something shows through");
			fs::remove_file(&path).unwrap();
			fs::remove_file(&raw).unwrap();
		}
	}
}

#[test]
fn an_image_that_has_two_names_keeps_the_one_that_counts() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("disk");
		let complete = dir.path().join("complete");
		fs::write(&complete, "an image").unwrap();
		fs::hard_link(&complete, dir.path().join("disk.partial")).unwrap();
		let mut target = create(&path).unwrap();
		target.set_len(10).unwrap();
		target.finish().unwrap();
		assert_eq!(fs::read_to_string(&complete).unwrap(), "an image");
	}
}

#[test]
fn fails_where_no_file_can_be() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		assert!(matches!(create(Path::new("/")), Err(TargetError::NoFileName { .. })));
		let error = create(&dir.path().join("missing/disk")).err().unwrap();
		assert!(matches!(error, TargetError::Io { .. }) && !error.is_disk_full());
	}
}

#[test]
fn fails_out_of_order_and_out_of_bounds() {
	for create in BOTH {
		let dir = tempfile::tempdir().unwrap();
		let mut target = create(&dir.path().join("disk")).unwrap();
		assert!(target.write_at(0, b"early").is_err());
		target.set_len(10).unwrap();
		assert!(target.set_len(20).is_err());
		assert!(target.write_at(6, b"bytes").is_err());
		assert!(target.write_at(u64::MAX, b"bytes").is_err());
		target.write_at(5, b"bytes").unwrap();
		target.finish().unwrap();
		assert!(target.write_at(0, b"late").is_err());
		assert!(target.set_len(10).is_err());
		assert!(target.finish().is_err());
	}
}

#[test]
fn boundary_of_the_largest_qcow2_image() {
	let dir = tempfile::tempdir().unwrap();
	let path = dir.path().join("disk");
	let mut target = Qcow2Target::create(&path).unwrap();
	assert!(target.set_len(QCOW2_LOGICAL_BYTES_MAX + 1).is_err());
	target.set_len(QCOW2_LOGICAL_BYTES_MAX).unwrap();
	target.write_at(QCOW2_LOGICAL_BYTES_MAX - 5, b"bytes").unwrap();
	target.finish().unwrap();
	qemu_img(&["check"], &[&path]);
	let map = qemu_img(&["map", "--output=json", "-f", "qcow2"], &[&path]);
	assert!(map.contains(&format!("\"start\": {}", QCOW2_LOGICAL_BYTES_MAX - CLUSTER)));
}

#[test]
fn a_device_becomes_the_disk_and_keeps_what_is_behind_it() {
	let dir = tempfile::tempdir().unwrap();
	let before = pattern(7, 4 * MIB);
	let Some(device) = Loop::over(&dir.path().join("volume"), &before) else { return };
	let mut target = DeviceTarget::open(&device.0).unwrap();
	assert_eq!(target.device_bytes(), 4 * MIB);
	let logical_bytes = 3 * MIB;
	target.set_len(logical_bytes).unwrap();
	let written = writes(&[(MIB, 2 * CLUSTER), (logical_bytes - 5, 5)]);
	for write in &written {
		target.write_at(write.offset, &write.bytes).unwrap();
	}
	target.finish().unwrap();
	drop(target);
	let mut expected = vec![0; logical_bytes as usize];
	for Write { offset, bytes } in written {
		expected[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
	}
	expected.extend_from_slice(&before[logical_bytes as usize..]);
	assert!(fs::read(&device.0).unwrap() == expected);
}

/// What one digest of a device's stands for, and what a part of it that is looked at alone.
const STRETCH: u64 = 64 * MIB;
const PIECE: u64 = 256 << 10;

/// A restore of three stretches, of which nearly two are noted.
const LOGICAL: u64 = 3 * STRETCH - 1000;
const NOTED: u64 = 2 * STRETCH - 5 * PIECE;

/// A piece here and there, and the last bytes.
fn disk_writes() -> Vec<Write> {
	let pieces = (0..LOGICAL / PIECE).step_by(37).map(|piece| (piece * PIECE, PIECE));
	writes(&pieces.chain([(LOGICAL / PIECE * PIECE, LOGICAL % PIECE)]).collect::<Vec<_>>())
}

fn open_device(path: &Path, folder: &Path) -> DeviceTarget {
	let mut target = DeviceTarget::open(path).unwrap();
	target.remember_in(folder).unwrap();
	target
}

/// Restore the first content to a device as far as it is noted, and something behind that.
fn restore_a_part(path: &Path, folder: &Path) {
	let mut target = open_device(path, folder);
	assert_eq!(target.resume(&content(1), LOGICAL, SEEN).unwrap(), 0);
	target.set_len(LOGICAL).unwrap();
	// In any order, and noted on the way.
	let (mut before, behind): (Vec<_>, Vec<_>) =
		disk_writes().into_iter().partition(|write| write.offset < NOTED);
	before.reverse();
	before.sort_by_key(|write| write.offset / STRETCH);
	for write in &before {
		target.write_at(write.offset, &write.bytes).unwrap();
		if write.offset < STRETCH {
			continue;
		}
		target.keep(STRETCH + 3 * PIECE).unwrap();
	}
	target.keep(NOTED + 17).unwrap();
	target.write_at(behind[0].offset, &vec![0xee; behind[0].bytes.len()]).unwrap();
}

/// Go on with some content, and say where; all that is written is what is not there.
fn go_on(path: &Path, folder: &Path, name: u8) -> u64 {
	let mut target = open_device(path, folder);
	let from = target.resume(&content(name), LOGICAL, SEEN).unwrap();
	target.set_len(LOGICAL).unwrap();
	for write in disk_writes().iter().filter(|write| write.offset >= from) {
		target.write_at(write.offset, &write.bytes).unwrap();
	}
	target.keep(LOGICAL).unwrap();
	target.finish().unwrap();
	from
}

fn disk_bytes() -> Vec<u8> {
	let mut bytes = vec![0; LOGICAL as usize];
	for Write { offset, bytes: written } in disk_writes() {
		bytes[offset as usize..][..written.len()].copy_from_slice(&written);
	}
	bytes
}

/// A device with other bytes, and where it is kept how far it is.
fn other_device(dir: &Path, name: &str) -> Option<Loop> {
	Loop::over(&dir.join(name), &vec![0xaa; 3 * STRETCH as usize])
}

fn write_to(path: &Path, offset: u64, bytes: &[u8]) {
	let device = fs::OpenOptions::new().write(true).open(path).unwrap();
	device.write_all_at(bytes, offset).unwrap();
	device.sync_all().unwrap();
}

#[test]
fn a_restore_to_a_device_goes_on_with_what_is_there_and_with_nothing_else() {
	/// What somebody did to the device meanwhile.
	type Deed = fn(&Path, &Path);
	let cases: [(&str, u8, u64, Deed); 8] = [
		("nothing", 1, NOTED, |_, _| ()),
		("written behind", 1, NOTED, |device, _| write_to(device, NOTED + PIECE, &[7; 4096])),
		("a byte", 1, STRETCH, |device, _| write_to(device, STRETCH + 5 * PIECE + 1, &[7])),
		("a zero", 1, 0, |device, _| write_to(device, 37 * PIECE, &[0; 512])),
		("a file system", 1, 0, |device, _| write_to(device, 1024, &[7; 1024])),
		("other content", 2, 0, |_, _| ()),
		("torn", 1, 0, |_, noted| {
			fs::File::options().write(true).open(noted).unwrap().set_len(99).unwrap()
		}),
		("lost", 1, 0, |_, noted| fs::remove_file(noted).unwrap()),
	];
	for (what, name, from, deed) in cases {
		let dir = tempfile::tempdir().unwrap();
		let folder = dir.path().join("state/restores");
		let Some(device) = other_device(dir.path(), "volume") else { return };
		restore_a_part(&device.0, &folder);
		let noted: Vec<_> = fs::read_dir(&folder).unwrap().map(|one| one.unwrap().path()).collect();
		assert_eq!(noted.len(), 1, "{noted:?}");
		deed(&device.0, &noted[0]);
		assert_eq!(go_on(&device.0, &folder, name), from, "{what}");
		let found = fs::read(&device.0).unwrap();
		assert!(found[..LOGICAL as usize] == disk_bytes(), "{what}: other bytes came back");
		let end = LOGICAL.next_multiple_of(512) as usize;
		assert!(found[LOGICAL as usize..end].iter().all(|byte| *byte == 0), "{what}");
		assert!(found[end..].iter().all(|byte| *byte == 0xaa), "{what}: it was not the disk's");
		assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "what was kept is gone");
	}
}

#[test]
fn another_device_of_the_same_name_is_not_taken_for_the_first() {
	let dir = tempfile::tempdir().unwrap();
	let [folder, name] = ["restores", "name"].map(|name| dir.path().join(name));
	let Some(first) = other_device(dir.path(), "first") else { return };
	let Some(second) = other_device(dir.path(), "second") else { return };
	std::os::unix::fs::symlink(&first.0, &name).unwrap();
	restore_a_part(&name, &folder);
	fs::remove_file(&name).unwrap();
	std::os::unix::fs::symlink(&second.0, &name).unwrap();
	assert_eq!(go_on(&name, &folder, 1), 0);
	assert!(fs::read(&second.0).unwrap()[..LOGICAL as usize] == disk_bytes());
}

#[test]
fn what_is_noted_of_a_device_is_this_users_alone_and_the_search_can_be_ended() {
	let dir = tempfile::tempdir().unwrap();
	let folder = dir.path().join("restores");
	let Some(device) = other_device(dir.path(), "volume") else { return };
	restore_a_part(&device.0, &folder);
	assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
	let noted = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
	assert_eq!(fs::metadata(&noted).unwrap().permissions().mode() & 0o777, 0o600);

	let mut target = open_device(&device.0, &folder);
	let end = |found: u64| match found {
		0 => Ok(()),
		_ => Err(io::ErrorKind::Interrupted.into()),
	};
	let error = target.resume(&content(1), LOGICAL, &end).unwrap_err();
	assert_eq!(error.kind(), io::ErrorKind::Interrupted);
	drop(target);
	assert_eq!(go_on(&device.0, &folder, 1), NOTED, "and nothing is lost by that");

	std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
	let mut target = DeviceTarget::open(&device.0).unwrap();
	let refused = target.remember_in(&folder).unwrap_err();
	assert!(refused.to_string().ends_with("is another user's"), "{refused}");
	assert_eq!(target.keep_every(), None);
}

/// Chunks of other snapshots may be smaller than what has a digest: nothing wrong is noted then.
#[test]
fn a_device_that_is_written_in_small_parts_is_begun_anew() {
	let dir = tempfile::tempdir().unwrap();
	let folder = dir.path().join("restores");
	let Some(device) = other_device(dir.path(), "volume") else { return };
	let mut target = open_device(&device.0, &folder);
	target.resume(&content(1), LOGICAL, SEEN).unwrap();
	target.set_len(LOGICAL).unwrap();
	let part = pattern(3, PIECE);
	target.write_at(0, &part).unwrap();
	for offset in (PIECE..2 * PIECE).step_by(4096) {
		target.write_at(offset, &part[..4096]).unwrap();
	}
	target.keep(2 * PIECE).unwrap();
	drop(target);
	let mut target = open_device(&device.0, &folder);
	assert_eq!(target.resume(&content(1), LOGICAL, SEEN).unwrap(), PIECE);
}

#[test]
fn a_device_that_is_too_small_stays_as_it_is() {
	let dir = tempfile::tempdir().unwrap();
	let before = pattern(7, MIB);
	let Some(device) = Loop::over(&dir.path().join("volume"), &before) else { return };
	let mut target = DeviceTarget::open(&device.0).unwrap();
	let error = target.set_len(MIB + 1).unwrap_err();
	assert_eq!(error.to_string(), "the device holds 1048576 bytes, the disk has 1048577");
	drop(target);
	assert!(fs::read(&device.0).unwrap() == before);
}

#[test]
fn a_device_in_use_is_refused() {
	let dir = tempfile::tempdir().unwrap();
	let Some(device) = Loop::over(&dir.path().join("volume"), &pattern(7, MIB)) else { return };
	let _other = DeviceTarget::open(&device.0).unwrap();
	let refused = DeviceTarget::open(&device.0);
	assert!(matches!(refused, Err(TargetError::DeviceInUse { .. })), "{refused:?}");
}

#[test]
fn a_device_that_a_machine_has_is_refused() {
	let dir = tempfile::tempdir().unwrap();
	let Some(device) = Loop::over(&dir.path().join("volume"), &pattern(7, MIB)) else { return };
	let socket = dir.path().join("nbd");
	let mut qemu = Command::new("qemu-nbd")
		.args(["--persistent", "--format=raw", "--socket"])
		.args([&socket, &device.0])
		.spawn()
		.unwrap();
	// It greets when it has the device, and listens before.
	let mut greeting = [0; 8];
	while UnixStream::connect(&socket).and_then(|mut it| it.read_exact(&mut greeting)).is_err() {
		assert!(qemu.try_wait().unwrap().is_none(), "qemu-nbd ended");
		thread::sleep(Duration::from_millis(10));
	}
	assert_eq!(&greeting, b"NBDMAGIC");
	let refused = DeviceTarget::open(&device.0);
	qemu.kill().unwrap();
	qemu.wait().unwrap();
	assert!(matches!(refused, Err(TargetError::DeviceInUse { .. })), "{refused:?}");
	DeviceTarget::open(&device.0).unwrap();
}

#[test]
fn a_file_is_no_device() {
	let file = tempfile::NamedTempFile::new().unwrap();
	let refused = DeviceTarget::open(file.path());
	assert!(matches!(refused, Err(TargetError::NoDevice { .. })), "{refused:?}");
}
