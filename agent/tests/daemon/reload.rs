//! SIGHUP: a configuration that is read again while the agent works.

use crate::{
	orders::{nothing, restore_of, snapshots},
	webhook::listen,
	world::{World, noise, until},
};
use backup_primitives::{FailureReason, job::SnapshotOrder};
use std::fs;

/// An agent that reads a disk for half a minute and more, and the order that it works on.
fn busy(more: &str) -> (World, SnapshotOrder) {
	let mut world = World::prepare();
	configure(&world, &format!("{SLOW}{more}"));
	world.start_agent();
	let order = world.machine(7, &noise(1, 64 << 20));
	world.reconcile(&snapshots([order.clone()]));
	world.wait_for_progress();
	(world, order)
}

const SLOW: &str = "read_bytes_per_second = 1048576\nthreads = 1\n";

fn configure(world: &World, more: &str) {
	world.configure(&format!("node_rpc = \"{}\"\n{more}", world.node.url()));
}

fn reload(world: &World) {
	let count = || world.log().matches("the configuration was read again").count();
	let before = count();
	world.hang_up();
	until("the configuration to be read again", || (count() > before).then_some(()));
}

#[test]
fn a_backup_that_runs_goes_on_over_a_reload_and_follows_its_pace() {
	let (world, order) = busy("");
	let job = world.running_job().unwrap()["id"].clone();
	configure(&world, "jobs_max = 3\n");
	reload(&world);
	// At the old pace it would take a minute, which the deadline of a test has, too.
	let began = std::time::Instant::now();
	let taken = world.take(&order).unwrap();
	assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
	assert_eq!(world.roots(), [taken.cid.to_string()]);
	let ended = &world.get("/v1/history").json()["attempts"][0];
	assert_eq!(ended["job"], job, "it is the same job");
	let log = world.log();
	assert!(log.contains("jobs_max, threads, read_bytes_per_second"), "{log}");
	assert!(!log.contains("job cancelled") && !log.contains("next start"), "{log}");
}

#[test]
fn restores_write_no_faster_than_their_limit() {
	let mut world = World::prepare();
	configure(&world, "restore_format = \"raw\"\nwrite_bytes_per_second = 1048576\n");
	world.start_agent();
	let bytes = noise(1, 4 << 20);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	let began = std::time::Instant::now();
	let images = world.restore(&restore_of(&order, taken.cid, 3)).unwrap();
	assert!(began.elapsed().as_secs() >= 3, "{:?}", began.elapsed());
	let image = fs::read_dir(images).unwrap().next().unwrap().unwrap().path();
	assert!(fs::read(image).unwrap() == bytes);
}

#[test]
fn a_second_job_begins_as_soon_as_a_reload_allows_it() {
	let (world, first) = busy("jobs_max = 1\n");
	let second = world.machine(8, &noise(2, 1 << 20));
	let both = snapshots([first, second]);
	world.reconcile(&both);
	let running = || {
		let jobs = world.get("/v1/jobs").json();
		jobs.as_array().unwrap().iter().filter(|job| job["state"] == "running").count()
	};
	assert_eq!(running(), 1);
	configure(&world, &format!("{SLOW}jobs_max = 2\n"));
	reload(&world);
	let is_second = |result: &backup_primitives::job::SnapshotResult| {
		result.outcome.as_ref().is_ok_and(|taken| taken.logical_bytes == 1 << 20)
	};
	until("the second job to be done beside the first", || {
		world.reconcile(&both).snapshots.iter().any(is_second).then_some(())
	});
	assert_eq!(running(), 1, "the first one still runs");
}

#[test]
fn a_file_that_is_wrong_leaves_everything_as_it_was_and_is_told() {
	let (world, order) = busy("");
	for (text, why) in [
		("jobs_max = 0\n", "jobs_max = 0: 1 to 32"),
		("read_bytes_per_second = 0\njob_max = 3\n", "job_max"),
		("log_filter = \"a=b=c\"\n", "use log_filter"),
	] {
		configure(&world, text);
		world.hang_up();
		until("the fault to be told", || world.log().contains(why).then_some(()));
	}
	fs::remove_file(world.path("agent.toml")).unwrap();
	world.hang_up();
	until("the missing file to be told", || world.log().contains("No such file").then_some(()));
	let log = world.log();
	assert_eq!(log.matches("the configuration stays as it was").count(), 4, "{log}");
	assert!(!log.contains("read again\n"), "{log}");
	// The backup goes on, as slowly as before.
	assert!(world.running_job().is_some());
	configure(&world, "");
	reload(&world);
	world.take(&order).unwrap();
}

#[test]
fn what_needs_a_restart_is_named_and_what_does_not_takes_effect_beside_it() {
	let world = World::start();
	assert!(!world.log().contains("DEBUG"));
	let text = "scratch_dir = \"/elsewhere\"\ngateway_open = true\nlog_filter = \"debug\"\n";
	configure(&world, text);
	fs::write(world.path("state/vms/broken.toml"), "uuid = 1\n").unwrap();
	reload(&world);
	until("a line of the new filter", || {
		world.reconcile(&nothing());
		world.log().contains("DEBUG").then_some(())
	});
	let log = world.log();
	let named = log.lines().find(|line| line.contains("at the next start")).unwrap();
	assert!(named.contains("scratch_dir") && named.contains("gateway_open"), "{log}");
	assert!(!named.contains("log_filter"), "{log}");
	assert!(log.contains("a machine's file is wrong") && log.contains("broken.toml"), "{log}");
	// What the agent works with is the folder that it started with.
	let order = world.machine(7, &noise(1, 1 << 20));
	world.take(&order).unwrap();
}

#[test]
fn a_webhook_is_told_from_the_reload_on_that_names_it() {
	let world = World::start();
	let (url, received) = listen(&[204]);
	let node_rpc = world.node.url();
	let order = world.machine(7, &noise(1, 1 << 20));
	fs::rename(world.image(7), world.path("away")).unwrap();
	assert_eq!(world.take(&order), Err(FailureReason::ImageUnreadable));
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nwebhook_url = \"{url}\"\n"));
	reload(&world);
	until("the webhook to be followed", || world.log().contains("is told").then_some(()));
	let again = SnapshotOrder { slot: 1, ..order };
	assert_eq!(world.take(&again), Err(FailureReason::ImageUnreadable));
	let told = until("the news", || received.try_recv().ok());
	assert_eq!(told["event"], "backup-failed");
	assert!(received.try_recv().is_err(), "the failure from before is not told");
	assert!(!world.log().contains("s3cret"));
}

#[test]
fn many_reloads_at_once_leave_the_last_one_in_force() {
	let (world, order) = busy("");
	for jobs_max in 1..=20 {
		configure(&world, &format!("{SLOW}jobs_max = {jobs_max}\n"));
		world.hang_up();
	}
	configure(&world, "");
	reload(&world);
	world.take(&order).unwrap();
}
