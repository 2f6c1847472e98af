//! One reading of a domain that runs or is off, and what it leaves behind.

use crate::daemon::open_to_all;
use crate::domain::{MIB, pattern, read, text, with_domain, with_domain_of};
use backup_agent::sources::{
	DOMAIN_FILE,
	ImageFormat::{Qcow2, Raw},
	OpenOptions, SourceError, Vm,
};
use backup_primitives::{Consistency, FailureReason, VmTag};
use std::fs;

#[test]
fn a_running_domain_is_read_as_it_was_when_it_was_opened() {
	with_domain(&[Qcow2, Raw], |domain| {
		let mut open = domain.open(&[]).unwrap();
		assert_eq!(open.consistency, Consistency::Crash);
		// Both disks show one instant.
		for disk in [0, 1] {
			domain.write(disk, 0xee, 0, 8 * MIB);
			domain.write(disk, 0xee, 33 * MIB, 5 * MIB);
		}
		for (index, disk) in open.disks.iter_mut().enumerate() {
			assert!(disk.written.is_none());
			assert!(read(disk).unwrap() == pattern(index as u8), "{}", disk.name);
		}
		open.close().unwrap();
		domain.assert_clean();
	});
}

#[test]
fn the_domains_definition_travels_with_its_disks_and_its_passwords_do_not() {
	with_domain(&[Qcow2], |domain| {
		let check = |files: &[(String, Vec<u8>)]| {
			let file = files.iter().find(|(name, _)| name == DOMAIN_FILE);
			let xml = String::from_utf8(file.unwrap().1.clone()).unwrap();
			assert!(xml.contains(&domain.uuid()) && xml.contains(text(&domain.image(0))), "{xml}");
			assert!(xml.contains("type='vnc'") && !xml.contains("hunter2"), "{xml}");
		};
		let open = domain.open(&[]).unwrap();
		check(&open.files);
		open.close().unwrap();
		domain.stop();
		check(&domain.open(&[]).unwrap().files);
	});
}

#[test]
fn a_disk_that_is_skipped_is_not_read() {
	with_domain(&[Qcow2, Raw], |domain| {
		let mut vm = domain.vm();
		vm.disks[0].skip = true;
		let mut open = vm.open(domain.tag, &[], &domain.options()).unwrap();
		assert_eq!(open.disks.len(), 1);
		// A raw disk has no record, so there is nothing to begin.
		assert!(open.checkpoint.is_none());
		let xml = domain.daemon.virsh(&["backup-dumpxml", &domain.uuid()]);
		assert!(xml.contains("<disk name='vda' backup='no'"), "{xml}");
		assert!(read(&mut open.disks[0]).unwrap() == pattern(1));
		open.close().unwrap();
		assert!(domain.checkpoints().is_empty());
		domain.assert_clean();
	});
}

#[test]
fn a_domain_with_another_tag_is_refused_and_not_touched() {
	with_domain(&[Qcow2], |domain| {
		let wrong = VmTag([9; 16]);
		let error = domain.vm().open(wrong, &[], &domain.options()).unwrap_err();
		assert!(matches!(error, SourceError::TagMismatch { .. }), "{error}");
		assert!(error.to_string().contains(&domain.uuid()), "{error}");
		assert!(domain.checkpoints().is_empty());
		domain.assert_clean();
	});
}

#[test]
fn an_unknown_domain_and_a_disk_that_it_does_not_have_are_named() {
	with_domain(&[Qcow2], |domain| {
		let vm = Vm { libvirt: Some("--nobody".into()), ..domain.vm() };
		let error = vm.open(domain.tag, &[], &domain.options()).unwrap_err();
		assert!(matches!(error, SourceError::DomainNotFound { .. }), "{error}");
		assert_eq!(error.reason(), FailureReason::VmNotFound);
		let mut vm = domain.vm();
		vm.disks[0].name = "vdz".into();
		let error = vm.open(domain.tag, &[], &domain.options()).unwrap_err();
		assert!(matches!(error, SourceError::DiskNotFound { .. }), "{error}");
		// The domain has such a disk, on another image.
		let mut vm = domain.vm();
		vm.disks[0].image = "/nowhere/disk.img".into();
		let error = vm.open(domain.tag, &[], &domain.options()).unwrap_err();
		assert!(matches!(error, SourceError::DiskNotFound { .. }), "{error}");
		domain.assert_clean();
	});
}

#[test]
fn a_domain_that_is_off_is_read_from_its_images_and_cannot_start_while_it_is_held() {
	with_domain(&[Qcow2, Raw], |domain| {
		let scratch = &domain.options().scratch_dir;
		let error = domain.vm().hold(domain.tag, scratch).unwrap_err();
		assert!(matches!(error, SourceError::Running), "{error}");
		domain.stop();
		let mut open = domain.open(&[]).unwrap();
		assert_eq!(open.consistency, Consistency::Stopped);
		for (index, disk) in open.disks.iter_mut().enumerate() {
			assert!(read(disk).unwrap() == pattern(index as u8), "{}", disk.name);
		}
		open.close().unwrap();
		let mut held = domain.vm().hold(domain.tag, scratch).unwrap();
		held.ensure_held().unwrap();
		let refused = domain.daemon.try_virsh(&["start", &domain.uuid()]).unwrap_err();
		assert!(refused.contains("lock"), "{refused}");
		drop(held);
		domain.start();
		domain.assert_clean();
	});
}

#[test]
fn a_domain_that_its_operator_paused_stays_paused() {
	with_domain(&[Qcow2], |domain| {
		domain.daemon.virsh(&["suspend", &domain.uuid()]);
		let mut open = domain.open(&[]).unwrap();
		assert!(read(&mut open.disks[0]).unwrap() == pattern(0));
		open.close().unwrap();
		assert_eq!(domain.daemon.virsh(&["domstate", &domain.uuid()]).trim(), "paused");
	});
}

#[test]
fn guest_writes_past_the_scratch_cap_end_the_backup_and_not_the_guest() {
	with_domain(&[Qcow2], |domain| {
		let options = OpenOptions { scratch_bytes_max: 8 << 20, ..domain.options() };
		let mut open = domain.vm().open(domain.tag, &[], &options).unwrap();
		for offset in 0..32 {
			domain.write(0, 0xbb, offset << 21, 1 << 21);
		}
		let error = read(&mut open.disks[0]).unwrap_err();
		let error = SourceError::of(&error).expect("one of ours");
		assert!(matches!(error, SourceError::ScratchFull), "{error}");
		drop(open);
		domain.write(0, 0xcc, 0, MIB);
		domain.vm().settle(&[]).unwrap();
		assert!(domain.checkpoints().is_empty());
		domain.assert_clean();
	});
}

#[test]
fn a_backup_that_somebody_ends_and_a_domain_that_ends_are_told_apart() {
	with_domain(&[Qcow2], |domain| {
		let mut open = domain.open(&[]).unwrap();
		domain.daemon.virsh(&["domjobabort", &domain.uuid()]);
		let error = read(&mut open.disks[0]).unwrap_err();
		let error = SourceError::of(&error).expect("one of ours");
		assert!(matches!(error, SourceError::BackupEnded { .. }), "{error}");
		open.close().unwrap();
		domain.assert_clean();
		let mut open = domain.open(&[]).unwrap();
		domain.stop();
		let error = read(&mut open.disks[0]).unwrap_err();
		let error = SourceError::of(&error).expect("one of ours");
		assert!(matches!(error, SourceError::Vanished), "{error}");
		open.close().unwrap();
		assert!(domain.scratch().is_empty());
	});
}

/// QEMU 7.2 fails an assertion when the client of an export on an I/O thread hangs up, under
/// libvirt, too: the guest is gone. So such a domain is not touched.
#[test]
fn a_disk_on_an_io_thread_is_refused_where_qemu_would_crash() {
	with_domain_of("iothread='1'", &[Qcow2], |domain| {
		// In the agent's words: what libvirt does not understand would be taken for an old QEMU.
		let (domain_is, question) =
			(format!("--domain={}", domain.uuid()), r#"--cmd={"execute":"query-version"}"#);
		let answer = domain.daemon.virsh(&["qemu-monitor-command", &domain_is, question]);
		let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
		let major = answer["return"]["qemu"]["major"].as_u64().unwrap();
		let opened = domain.open(&[]);
		if major < 9 {
			let error = opened.unwrap_err();
			assert!(matches!(error, SourceError::IoThread { .. }), "{error}");
		} else {
			opened.unwrap().close().unwrap();
		}
		domain.assert_clean();
	});
}

#[test]
fn a_scratch_folder_that_qemu_cannot_reach_is_told() {
	with_domain(&[Qcow2], |domain| {
		let folder = tempfile::tempdir().unwrap();
		open_to_all(folder.path(), 0o700);
		let options = OpenOptions { scratch_dir: folder.path().into(), ..domain.options() };
		let error = domain.vm().open(domain.tag, &[], &options).unwrap_err();
		assert!(error.to_string().contains("let QEMU's user pass"), "{error}");
		assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
		domain.assert_clean();
	});
}
