//! Agents that end in the middle, and jobs of others.

use crate::domain::{pattern, read, text, with_domain};
use backup_agent::sources::{ImageFormat::Qcow2, SourceError};
use std::fs;

#[test]
fn what_a_killed_agent_left_is_taken_away() {
	with_domain(&[Qcow2], |domain| {
		let first = domain.open(&[]).unwrap();
		let known = first.checkpoint.unwrap();
		first.close().unwrap();
		let open = domain.open(&[known]).unwrap();
		assert!(domain.has_job());
		assert_eq!(domain.checkpoints().len(), 2);
		// A killed process runs no destructor.
		std::mem::forget(open);
		domain.vm().recover().unwrap();
		domain.vm().settle(&[known]).unwrap();
		assert!(!domain.has_job() && domain.is_running());
		assert_eq!(domain.checkpoints(), [format!("pbk-{known}")]);
		// The files go with the agent's start, or with the next backup.
		let mut open = domain.open(&[]).unwrap();
		assert!(read(&mut open.disks[0]).unwrap() == pattern(0));
		open.close().unwrap();
	});
}

#[test]
fn a_backup_takes_away_what_the_one_before_it_left() {
	with_domain(&[Qcow2], |domain| {
		std::mem::forget(domain.open(&[]).unwrap());
		let mut open = domain.open(&[]).unwrap();
		assert!(read(&mut open.disks[0]).unwrap() == pattern(0));
		open.close().unwrap();
		assert_eq!(domain.checkpoints().len(), 1);
		assert!(!domain.has_job() && domain.is_running());
	});
}

#[test]
fn a_backup_of_somebody_else_is_left_alone() {
	with_domain(&[Qcow2], |domain| {
		let folder = domain.folder.path().join("theirs");
		fs::create_dir(&folder).unwrap();
		crate::daemon::open_to_all(&folder, 0o777);
		let order = domain.folder.path().join("theirs.xml");
		let xml = format!(
			"<domainbackup mode='pull'><server transport='unix' socket='{0}/socket'/>\
			<disks><disk name='vda' backup='yes' type='file'>\
			<scratch file='{0}/scratch'/></disk></disks></domainbackup>",
			text(&folder)
		);
		fs::write(&order, xml).unwrap();
		domain.daemon.virsh(&["backup-begin", &domain.uuid(), text(&order)]);
		let error = domain.open(&[]).unwrap_err();
		assert!(matches!(error, SourceError::Busy { .. }), "{error}");
		domain.vm().recover().unwrap();
		domain.vm().settle(&[]).unwrap();
		assert!(domain.has_job(), "somebody else's backup was ended");
		assert!(domain.checkpoints().is_empty() && domain.scratch().is_empty());
		domain.daemon.virsh(&["domjobabort", &domain.uuid()]);
	});
}
