//! What goes wrong around a backup ends in a failed job with a reason that tells the operator
//! what to do; the next cadence tries again, and nothing that is stored is lost.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	guest::check_disk,
	small_disk::SmallDisk,
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, checksum, scenario},
};
use std::{
	fs,
	io::Write,
	net::TcpListener,
	os::unix::{fs::PermissionsExt, net::UnixListener},
	path::Path,
	thread,
	time::Duration,
};

/// How long the node's log may take to tell of a fault.
const LOG_TIME_MAX: Duration = Duration::from_secs(60);

async fn wait_for_failure(world: &World, machine: &Machine, reason: &str) -> Result<()> {
	let what = format!("the failure {reason}");
	wait::until_async(&what, SNAPSHOT_TIME_MAX, || async move {
		let lineage = vec![backup_e2e::chain::number(machine.request)];
		let lineage = world.chain.storage("Backup", "Lineages", lineage).await?;
		Ok((lineage["failure"]["reason"] == reason).then_some(()))
	})
	.await
}

async fn wait_for_one_more(world: &World, machine: &Machine) -> Result<usize> {
	let count = world.chain.snapshots(machine.request).await?.len();
	world.chain.wait_for_snapshots(machine.request, count + 1, SNAPSHOT_TIME_MAX).await?;
	Ok(count + 1)
}

fn wait_for_log(world: &World, words: &str) -> Result<()> {
	let what = format!("'{words}' in the node's log");
	wait::until(&what, LOG_TIME_MAX, || Ok(world.node.output().contains(words).then_some(())))
}

/// A program that is no QEMU on a socket. It ends with the test's process.
fn impostor(path: &Path) -> Result<()> {
	let listener = UnixListener::bind(path).context("failed to bind a socket")?;
	thread::spawn(move || {
		for stream in listener.incoming().flatten() {
			// The agent hangs up when it sees what this is.
			let _ = (&stream).write_all(b"SSH-2.0-not a monitor\r\n");
		}
	});
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_cannot_be_read_fail_and_are_tried_again() {
	scenario("s9-machine", Pace::FAST, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 128).await?;
		let name = &machine.name;
		let wrong = world.lab.path().join("wrong.sock");
		impostor(&wrong)?;
		world.agent.add_machine(name, machine.tag, Some(&wrong), &machine.disk)?;
		world.begin_backups(&machine).await?;
		wait_for_failure(world, &machine, "VmUnreachable").await?;
		ensure!(world.agent.output().contains("wrong.sock"), "the log does not name the socket");

		// The right socket again.
		let socket = machine.guest.backup_qmp();
		world.agent.add_machine(name, machine.tag, Some(&socket), &machine.disk)?;
		wait_for_one_more(world, &machine).await?;

		// No socket at all: the image is that of a stopped machine, but somebody has it open.
		world.agent.add_machine(name, machine.tag, None, &machine.disk)?;
		wait_for_failure(world, &machine, "ImageInUse").await?;

		// Off, it can be read.
		machine.guest.kill();
		let count = wait_for_one_more(world, &machine).await?;
		let taken = world.chain.snapshots(machine.request).await?;
		ensure!(taken[count - 1].consistency == "Stopped", "{taken:?}");

		// Gone.
		fs::rename(&machine.disk, machine.disk.with_extension("away"))?;
		wait_for_failure(world, &machine, "ImageUnreadable").await?;
		Ok(())
	})
	.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_or_another_program_on_the_port_is_told() {
	scenario("s9-agent", Pace::FAST, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 128).await?;
		let right = world.agent.secret_file();
		let wrong = world.lab.path().join("wrong-secret");
		fs::write(&wrong, "ab".repeat(32))?;
		fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600))?;
		world.node.stop()?;
		world.node.use_agent(world.agent.url(), wrong);
		world.resume_node().await?;
		world.begin_backups(&machine).await?;
		wait_for_log(world, "it refused our secret")?;
		ensure!(world.agent.jobs().await?.is_empty(), "a stranger's order was carried out");

		world.node.stop()?;
		world.agent.stop()?;
		let port = TcpListener::bind(world.agent.url().trim_start_matches("http://"))?;
		thread::spawn(move || {
			for stream in port.incoming().flatten() {
				// The worker hangs up when it sees what this is.
				let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
			}
		});
		world.node.use_agent(world.agent.url(), right.clone());
		world.resume_node().await?;
		wait_for_log(world, "not signed with our secret")?;
		let refused = world.agent.start_and_fail()?;
		ensure!(refused.contains("does another program use the port"), "{refused}");
		ensure!(world.chain.snapshots(machine.request).await?.is_empty());
		Ok(())
	})
	.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_backup_and_loses_nothing() {
	scenario("s9-full", Pace::FAST, async |world| {
		let machine = world.full_machine(&story::owner(), "vm-1", 256, 100).await?;
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		let blocks = world.agent.store();
		world.agent.stop()?;
		// The store keeps 256 MiB free, so that there is always room to remove blocks.
		fs::create_dir_all(&blocks)?;
		let small = SmallDisk::over(&blocks, 300)?.context("this is for root only")?;
		world.agent.start().await?;
		world.begin_backups(&machine).await?;
		wait_for_failure(world, &machine, "StoreFull").await?;
		ensure!(machine.guest.is_running(), "the machine stopped");
		small.grow(1024)?;
		world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;

		// Full again, in mid-life: the snapshot that is there stays good.
		let before = checksum(&machine.disk)?;
		let taken = world.chain.snapshots(machine.request).await?;
		let available = world.agent.get("/v1/status").await?["available_bytes"].as_u64();
		let ballast = available.context("no available bytes")?.saturating_sub(2 << 20);
		fs::write(blocks.join("ballast"), vec![1; usize::try_from(ballast)?])?;
		machine.guest.write(24, COMMAND_TIME_MAX)?;
		wait_for_failure(world, &machine, "StoreFull").await?;
		let restore = story::request_restore(&world.chain, &machine.owner, &taken[0].cid).await?;
		world.chain.wait_for_event("Backup.SnapshotRestored", 0, SNAPSHOT_TIME_MAX).await?;
		let image = world.agent.image(machine.request, taken[0].sequence, restore);
		ensure!(checksum(&image)? == before, "the snapshot from before is not what it was");
		check_disk(&image)?;
		fs::remove_file(blocks.join("ballast"))?;
		wait_for_one_more(world, &machine).await?;
		world.agent.stop()?;
		Ok(())
	})
	.await;
}
