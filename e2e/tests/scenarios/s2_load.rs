//! A guest under load is backed up while it runs, and comes back sound.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	command::backup,
	guest::check_disk,
	story::{self, Pace},
	world::{COMMAND_TIME_MAX, SNAPSHOT_TIME_MAX, World, checksum, scenario},
};
use std::{path::Path, process::Command};

/// Records in the journal of the guest's disk, which must be numbered without a gap. The last
/// line may be torn, as after a power cut.
fn records(image: &Path) -> Result<u64> {
	let output = Command::new("debugfs")
		.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
		.args(["-R", "cat /journal"])
		.arg(image)
		.output()
		.context("failed to run debugfs")?;
	let text = String::from_utf8_lossy(&output.stdout);
	let mut count = 0;
	for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
		ensure!(line.trim_end() == format!("record {:010}", count + 1), "line {count}: {line:?}");
		count += 1;
	}
	Ok(count)
}

async fn take_back(world: &World, cid: &str, key: &Path, name: &str) -> Result<std::path::PathBuf> {
	let image = world.lab.path().join(name);
	let (url, output) = (world.agent.url(), image.display().to_string());
	let (key, cid) = (key.display().to_string(), cid.to_owned());
	tokio::task::spawn_blocking(move || {
		let arguments = ["restore", "--root", &cid, "--identity", &key, "--gateway", &url];
		backup(arguments.into_iter().chain(["--output", &output]))
	})
	.await??;
	Ok(image)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_writes_all_the_time_is_backed_up_and_comes_back_sound() {
	scenario("s2", Pace::FAST, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 512).await?;
		machine.guest.write(16, COMMAND_TIME_MAX)?;
		machine.guest.load(COMMAND_TIME_MAX)?;
		let synced = machine.guest.synced(COMMAND_TIME_MAX)?;
		world.begin_backups(&machine).await?;

		let first = world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		let synced_later = machine.guest.synced(COMMAND_TIME_MAX)?;
		ensure!(synced_later > synced, "the load stood still at {synced}");
		let both = world.chain.wait_for_snapshots(machine.request, 2, SNAPSHOT_TIME_MAX).await?;
		ensure!(machine.guest.is_running(), "the machine stopped");
		ensure!(both[1].taken_at > first[0].recorded_at - 5, "{both:?}");

		// As the owner, with nothing but the identity.
		let image = take_back(world, &both[0].cid, &machine.identity.path, "first.raw").await?;
		check_disk(&image)?;
		let held = records(&image)?;
		ensure!(held >= synced, "{synced} records were synced before, the image holds {held}");

		// And as the node, which has written an image of its own.
		let restore = story::request_restore(&world.chain, &machine.owner, &both[0].cid).await?;
		world.chain.wait_for_event("Backup.SnapshotRestored", 0, SNAPSHOT_TIME_MAX).await?;
		let again = take_back(world, &both[0].cid, &machine.identity.path, "again.raw").await?;
		let of_node = world.agent.image(machine.request, 0, restore);
		ensure!(checksum(&of_node)? == checksum(&again)?, "owner and node got different images");

		machine.guest.quiet(COMMAND_TIME_MAX)?;
		machine.guest.verify(COMMAND_TIME_MAX)?;
		Ok(())
	})
	.await;
}
