//! What an operator asks about domains: which there are, and whether they can be backed up.

use crate::domain::{Domain, text, with_domain};
use backup_agent::sources::{ImageFormat, Inventory};
use serde_json::Value as Json;
use std::{
	path::PathBuf,
	process::{Command, Output},
};

fn run(domain: &Domain, arguments: &[&str]) -> (Json, Output) {
	let (state, scratch) = (state(domain), domain.folder.path().join("scratch"));
	let mut command = Command::new(env!("CARGO_BIN_EXE_backup-agent"));
	command.args(arguments).arg("--json").env("BACKUP_AGENT_LISTEN", "127.0.0.1:9");
	command.args(["--state-dir", text(&state), "--scratch-dir", text(&scratch)]);
	let output = command.output().unwrap();
	let report = serde_json::from_slice(&output.stdout).unwrap_or(Json::Null);
	(report, output)
}

fn state(domain: &Domain) -> PathBuf {
	domain.folder.path().join("state")
}

#[test]
fn a_domain_is_found_described_and_tried() {
	with_domain(&[ImageFormat::Qcow2, ImageFormat::Raw], |domain| {
		let state_dir = state(domain);
		let mut init = Command::new(env!("CARGO_BIN_EXE_backup-agent"));
		init.args(["init", "--state-dir", text(&state_dir)]);
		assert!(init.output().unwrap().status.success());
		let uri = domain.daemon.uri();
		let add = ["add-vm", &domain.name, "--as", "web", "--yes", "--libvirt-uri", &uri];
		let (report, output) = run(domain, &add);
		assert!(output.status.success(), "{output:?}");
		// Its QEMU is no machine of its own.
		assert_eq!(report["machines"].as_array().unwrap().len(), 1, "{report:#}");
		assert_eq!(report["machines"][0]["state"], "added", "{report:#}");
		let written = Inventory::at(state_dir.join("vms")).find(b"web").unwrap();
		assert_eq!(written, domain.vm());

		let (report, _) = run(domain, &["doctor"]);
		let verdict = |name: &str| {
			let checks = report["checks"].as_array().unwrap();
			let is_meant = |check: &&Json| check["machine"] == "web" && check["check"] == name;
			checks.iter().find(is_meant).unwrap_or_else(|| panic!("no {name} in {report:#}"))
				["verdict"]
				.clone()
		};
		for check in ["libvirt", "disks", "scratch", "guest-agent"] {
			assert_eq!(verdict(check), "ok", "{check} in {report:#}");
		}
		domain.assert_clean();
		domain.stop();
		let (report, _) = run(domain, &["doctor"]);
		let disks = report["checks"]
			.as_array()
			.unwrap()
			.iter()
			.find(|check| check["machine"] == "web" && check["check"] == "disks");
		assert_eq!(disks.unwrap()["verdict"], "ok", "{report:#}");
		domain.daemon.virsh(&["undefine", &domain.uuid(), "--checkpoints-metadata"]);
		let (report, output) = run(domain, &["doctor"]);
		assert!(report.to_string().contains("libvirt does not know it"), "{report:#}");
		assert_eq!(output.status.code(), Some(1));
	});
}
