//! What the agent tells of its jobs: at which stage they are, and nothing that is secret.

use crate::{
	machine::Machine,
	orders::restore_of,
	world::{World, noise},
};
use backup_agent::sources::ImageFormat;
use serde_json::Value as Json;
use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn log_and_metrics_tell_the_stages_of_each_job() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Qcow2);
	let order = world.running_machine(7, &machine.vm());
	let taken = world.take(&order).unwrap();
	world.restore(&restore_of(&order, taken.cid, 1)).unwrap();

	let metrics = world.get("/metrics").text();
	for (kind, stages) in [
		("snapshot", &["open", "freeze", "read", "pin", "close"][..]),
		("restore", &["open", "write"][..]),
	] {
		for stage in stages {
			let line = format!(
				"backup_agent_job_stage_seconds_count{{kind=\"{kind}\",stage=\"{stage}\"}} 1"
			);
			assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
		}
	}
	let of_stages = metrics.lines().filter(|line| line.contains("job_stage_seconds_count"));
	assert_eq!(of_stages.count(), 7, "no more than there are");
	let log = world.log();
	let line = log.lines().find(|line| line.contains("the machine's disks stand still")).unwrap();
	assert!(line.contains("vm-7") && line.contains("snapshot"), "{line}");
	let line = log.lines().find(|line| line.contains("the machine was sealed")).unwrap();
	assert!(line.contains("stage") && line.contains("pin"), "{line}");
}

/// Words of a file that nobody but the agent may read.
fn words(path: &Path, secrets: &mut BTreeSet<String>) {
	let bytes = fs::read(path).unwrap();
	match String::from_utf8(bytes.clone()) {
		Ok(text) => secrets
			.extend(text.split_whitespace().filter(|word| word.len() >= 16).map(str::to_owned)),
		Err(_) => {
			secrets.insert(hex::encode(bytes));
		}
	}
}

#[test]
fn neither_metrics_nor_views_nor_the_log_hold_a_secret() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 1 << 20));
	let taken = world.take(&order).unwrap();
	world.restore(&restore_of(&order, taken.cid, 1)).unwrap();
	world.run_with("verify", &["--depth", "drill"]);
	let mut secrets = BTreeSet::new();
	for file in ["state/secret", "state/identity"] {
		words(&world.path(file), &mut secrets);
	}
	for entry in fs::read_dir(world.path("state/keys")).unwrap() {
		words(&entry.unwrap().path(), &mut secrets);
	}
	assert!(secrets.iter().any(|word| word.starts_with("AGE-SECRET-KEY-")), "{}", secrets.len());
	// What is public stands beside them.
	let recipient = String::from_utf8(world.run("recipient").stdout).unwrap();
	secrets.remove(recipient.trim());
	assert!(secrets.len() >= 3, "{}", secrets.len());
	let views = ["/metrics", "/v1/status", "/v1/jobs", "/v1/machines", "/v1/history"];
	let views = views.into_iter().chain(["/v1/verifications", "/v1/snapshots", "/v1/replicas"]);
	let told = views.map(|view| (view, world.get(view).text()));
	for (place, text) in told.chain([("log", world.log())]) {
		assert!(!text.is_empty(), "{place}");
		for secret in &secrets {
			assert!(!text.contains(secret), "{place} holds a secret");
		}
	}
	let metrics = world.get("/metrics").text();
	let jobs: Json = world.get("/v1/jobs").json();
	assert!(metrics.contains("vm=\"vm-7\"") && jobs[0]["stage"].is_null(), "{jobs}");
}
