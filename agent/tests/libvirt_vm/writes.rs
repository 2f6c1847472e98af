//! What is written to a domain between its backups, and what becomes of the record of it.

use crate::domain::{Domain, MIB, pattern, read, read_ranges, text, with_domain};
use backup_agent::sources::{
	Checkpoint,
	ImageFormat::{Qcow2, Raw},
};
use std::{fs, ops::Range, process::Command};

/// How finely libvirt records.
const GRANULE: u64 = 64 << 10;

/// Back up as the agent does, and settle. Returns the checkpoint and what was recorded of the first
/// disk.
fn back_up(
	domain: &Domain,
	known: &[Checkpoint],
	bytes: &mut Vec<u8>,
) -> (Checkpoint, Option<Vec<Range<u64>>>) {
	let mut open = domain.open(known).unwrap();
	let checkpoint = open.checkpoint.expect("writes are recorded from here on");
	let disk = &mut open.disks[0];
	let written = disk.written.clone();
	match &written {
		Some(written) => read_ranges(disk.reader.as_mut(), written, bytes).unwrap(),
		None => *bytes = read(disk).unwrap(),
	}
	open.close().unwrap();
	domain.vm().settle(&[checkpoint]).unwrap();
	assert_eq!(domain.checkpoints(), [format!("pbk-{checkpoint}")]);
	(checkpoint, written)
}

/// Write to the first disk and to its copy.
fn write(domain: &Domain, expected: &mut [u8], byte: u8, offset: u64) {
	domain.write(0, byte, offset, GRANULE);
	expected[offset as usize..(offset + GRANULE) as usize].fill(byte);
}

#[test]
fn no_more_is_read_than_was_written_since_the_last_backup() {
	with_domain(&[Qcow2, Raw], |domain| {
		let (mut expected, mut bytes) = (pattern(0), Vec::new());
		let (first, written) = back_up(domain, &[], &mut bytes);
		assert!(written.is_none() && bytes == expected);
		write(domain, &mut expected, 0x11, 20 * MIB);
		write(domain, &mut expected, 0x22, 40 * MIB);
		let (second, written) = back_up(domain, &[first], &mut bytes);
		let granule = |offset| offset..offset + GRANULE;
		assert_eq!(written, Some(vec![granule(20 * MIB), granule(40 * MIB)]));
		assert!(bytes == expected);
		// Over a restart, too.
		write(domain, &mut expected, 0x33, 60 * MIB);
		domain.stop();
		domain.start();
		let (_, written) = back_up(domain, &[second, first], &mut bytes);
		assert_eq!(written, Some(vec![granule(60 * MIB)]));
		assert!(bytes == expected);
	});
}

/// The record says nothing of it. What does is that the disk reads as zeros from there on: a backup
/// looks whether the last chunk is there that held anything (`agent/src/pipeline/recorded.rs`).
#[test]
fn a_disk_that_was_cut_and_grew_back_reads_as_zeros_where_nothing_is_recorded() {
	with_domain(&[Qcow2], |domain| {
		let (mut expected, mut bytes) = (pattern(0), Vec::new());
		let (first, _) = back_up(domain, &[], &mut bytes);
		let uuid = domain.uuid();
		write(domain, &mut expected, 0x11, 50 * MIB);
		for size in ["42MiB", "64MiB"] {
			domain.daemon.virsh(&["blockresize", &uuid, "vda", size]);
		}
		expected[42 * MIB as usize..].fill(0);
		// As who makes a partition table does.
		let last = 64 * MIB - GRANULE..64 * MIB;
		write(domain, &mut expected, 0x22, last.start);
		let (_, written) = back_up(domain, &[first], &mut bytes);
		assert_eq!(written, Some(vec![last]));
		assert!(bytes != expected, "the record is right, so nobody need look");
		let mut whole = domain.open(&[]).unwrap();
		assert!(read(&mut whole.disks[0]).unwrap() == expected);
		whole.close().unwrap();
	});
}

#[test]
fn a_domain_that_is_off_is_read_by_the_same_record() {
	with_domain(&[Qcow2, Raw, Qcow2], |domain| {
		let (mut expected, mut bytes) = (pattern(0), Vec::new());
		let (first, _) = back_up(domain, &[], &mut bytes);
		write(domain, &mut expected, 0x11, 20 * MIB);
		domain.stop();
		let granule = |offset| offset..offset + GRANULE;
		// More than once: reading does not change the images.
		for _ in 0..2 {
			let mut open = domain.open(&[first]).unwrap();
			assert_eq!((open.base, open.checkpoint), (Some(first), None));
			assert_eq!(open.disks[0].written, Some(vec![granule(20 * MIB)]));
			assert_eq!(open.disks[1].written, None, "raw");
			assert_eq!(open.disks[2].written, Some(Vec::new()));
			let written = open.disks[0].written.clone().unwrap();
			read_ranges(open.disks[0].reader.as_mut(), &written, &mut bytes).unwrap();
			assert!(bytes == expected);
			open.close().unwrap();
		}
		// And the record goes on with the domain.
		domain.start();
		write(domain, &mut expected, 0x22, 40 * MIB);
		let (_, written) = back_up(domain, &[first], &mut bytes);
		assert_eq!(written, Some(vec![granule(20 * MIB), granule(40 * MIB)]));
		assert!(bytes == expected);
	});
}

#[test]
fn a_record_of_a_domain_that_is_off_counts_only_if_nothing_is_odd_about_it() {
	with_domain(&[Qcow2, Qcow2], |domain| {
		let (first, _) = back_up(domain, &[], &mut Vec::new());
		let written = |known: &[Checkpoint]| {
			let open = domain.open(known).unwrap();
			let written: Vec<_> = open.disks.iter().map(|disk| disk.written.is_some()).collect();
			open.close().unwrap();
			written
		};
		domain.stop();
		assert_eq!(written(&[first]), [true, true]);
		assert_eq!(written(&[]), [false, false]);
		assert_eq!(written(&[Checkpoint::new()]), [false, false], "of another backup");
		// An image that was made anew has no bitmap.
		let copy = domain.folder.path().join("copy");
		let image = domain.image(0);
		let convert = ["convert", "-O", "qcow2", text(&image), text(&copy)];
		assert!(Command::new("qemu-img").args(convert).status().unwrap().success());
		fs::rename(&copy, &image).unwrap();
		assert_eq!(written(&[first]), [false, true]);
		// QEMU knows that it has missed something.
		domain.start();
		domain.write(1, 0x11, 21 * MIB, GRANULE);
		domain.crash();
		assert_eq!(written(&[first]), [false, false]);
	});
}

#[test]
fn what_was_not_written_can_be_read_beside_the_record() {
	with_domain(&[Qcow2, Raw], |domain| {
		let (first, _) = back_up(domain, &[], &mut Vec::new());
		domain.write(0, 0x11, 20 * MIB, GRANULE);
		let mut open = domain.open(&[first]).unwrap();
		assert_eq!(open.base, Some(first));
		domain.write(0, 0x99, 0, 4 * MIB);
		let mut sample = vec![0; pattern(0).len()];
		let range = 256 << 10..512 << 10;
		read_ranges(open.disks[0].reader.as_mut(), std::slice::from_ref(&range), &mut sample)
			.unwrap();
		let range = range.start as usize..range.end as usize;
		assert!(sample[range.clone()] == pattern(0)[range]);
		// The raw disk beside it has no record and is read as a whole.
		assert!(open.disks[1].written.is_none());
		assert!(read(&mut open.disks[1]).unwrap() == pattern(1));
		open.close().unwrap();
	});
}

#[test]
fn after_a_backup_that_failed_the_old_checkpoint_counts() {
	with_domain(&[Qcow2], |domain| {
		let (mut expected, mut bytes) = (pattern(0), Vec::new());
		let (first, _) = back_up(domain, &[], &mut bytes);
		write(domain, &mut expected, 0x11, 20 * MIB);
		let open = domain.open(&[first]).unwrap();
		write(domain, &mut expected, 0x22, 30 * MIB);
		drop(open);
		domain.vm().settle(&[first]).unwrap();
		assert_eq!(domain.checkpoints(), [format!("pbk-{first}")]);
		write(domain, &mut expected, 0x33, 40 * MIB);
		let (_, written) = back_up(domain, &[first], &mut bytes);
		assert_eq!(written.unwrap().len(), 3);
		assert!(bytes == expected);
	});
}

#[test]
fn a_checkpoint_that_is_lost_leads_to_a_full_reading() {
	with_domain(&[Qcow2], |domain| {
		let mut bytes = Vec::new();
		let (first, _) = back_up(domain, &[], &mut bytes);
		let name = format!("pbk-{first}");
		domain.daemon.virsh(&["checkpoint-delete", &domain.uuid(), &name]);
		let (second, written) = back_up(domain, &[first], &mut bytes);
		assert!(written.is_none() && bytes == pattern(0));
		// libvirt knows of this one, and QEMU does not.
		let blocks = domain.daemon.virsh(&[
			"qemu-monitor-command",
			&domain.uuid(),
			r#"{"execute":"query-block"}"#,
		]);
		let blocks: serde_json::Value = serde_json::from_str(&blocks).unwrap();
		let node = blocks["return"][0]["inserted"]["node-name"].as_str().unwrap();
		let command = format!(
			r#"{{"execute":"block-dirty-bitmap-remove","arguments":{{"node":"{node}","name":"pbk-{second}"}}}}"#
		);
		domain.daemon.virsh(&["qemu-monitor-command", &domain.uuid(), &command]);
		let (_, written) = back_up(domain, &[second], &mut bytes);
		assert!(written.is_none() && bytes == pattern(0));
	});
}

#[test]
fn after_a_crash_of_qemu_a_domain_is_read_in_full() {
	with_domain(&[Qcow2], |domain| {
		let (mut expected, mut bytes) = (pattern(0), Vec::new());
		let (first, _) = back_up(domain, &[], &mut bytes);
		// Stored once, the record is found broken afterwards.
		domain.stop();
		domain.start();
		// In place, so that the crash cannot take it: QEMU keeps new places to itself for a while.
		write(domain, &mut expected, 0x11, 21 * MIB);
		domain.crash();
		domain.start();
		let (second, written) = back_up(domain, &[first], &mut bytes);
		assert_eq!(written, None);
		assert!(bytes == expected);
		let (_, written) = back_up(domain, &[second], &mut bytes);
		assert_eq!(written, Some(Vec::new()));
	});
}

#[test]
fn checkpoints_of_others_are_not_touched() {
	with_domain(&[Qcow2], |domain| {
		let mut bytes = Vec::new();
		let theirs = domain.folder.path().join("theirs.xml");
		fs::write(&theirs, "<domaincheckpoint><name>nightly</name></domaincheckpoint>").unwrap();
		domain.daemon.virsh(&["checkpoint-create", &domain.uuid(), theirs.to_str().unwrap()]);
		let open = domain.open(&[]).unwrap();
		let checkpoint = open.checkpoint.unwrap();
		open.close().unwrap();
		domain.vm().settle(&[checkpoint]).unwrap();
		assert_eq!(domain.checkpoints(), ["nightly".to_owned(), format!("pbk-{checkpoint}")]);
		domain.write(0, 0x11, 20 * MIB, GRANULE);
		let mut open = domain.open(&[checkpoint]).unwrap();
		assert_eq!(open.disks[0].written.as_ref().unwrap().len(), 1);
		bytes.append(&mut read(&mut open.disks[0]).unwrap());
		open.close().unwrap();
		domain.vm().settle(&[]).unwrap();
		assert_eq!(domain.checkpoints(), ["nightly"]);
	});
}
