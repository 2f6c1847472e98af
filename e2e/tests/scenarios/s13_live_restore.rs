//! A machine's disk and its description are gone. It is started at once on an image that fills in
//! from the snapshot; the agent is killed while the guest boots, so the guest waits, and when the
//! agent is back it goes on and finds everything.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	guest::{Guest, check_disk},
	story::{self, Pace},
	wait,
	world::{BOOT_TIME_MAX, COMMAND_TIME_MAX, SNAPSHOT_TIME_MAX, World, scenario},
};
use serde_json::json;
use std::{fs, path::Path, process::Command, time::Duration};

/// How long it may take until a guest whose disk does not answer stands still: requests wait for
/// ten seconds, and it has to boot first.
const PAUSE_TIME_MAX: Duration = Duration::from_secs(180);

async fn wait_until_paused(guest: &Guest) -> Result<()> {
	wait::until("the guest to stand still", PAUSE_TIME_MAX, || {
		let status = guest.qmp("query-status", &json!({}))?;
		Ok((status["status"] == "io-error").then_some(()))
	})
}

async fn wait_until_complete(world: &World) -> Result<()> {
	wait::until_async("the disk to be complete", COMMAND_TIME_MAX, || async {
		let live_restores = world.agent.get("/v1/live-restores").await?;
		Ok((live_restores == json!([])).then_some(()))
	})
	.await
}

/// The image as raw bytes; fails if it needs another.
fn to_raw(image: &Path, raw: &Path) -> Result<()> {
	let info = Command::new("qemu-img").args(["info", "--output=json"]).arg(image).output()?;
	let info: serde_json::Value = serde_json::from_slice(&info.stdout)?;
	ensure!(info["backing-filename"].is_null(), "the image needs another: {info}");
	let convert = ["convert", "-f", "qcow2", "-O", "raw"];
	let status = Command::new("qemu-img").args(convert).arg(image).arg(raw).status()?;
	ensure!(status.success(), "the image cannot be read");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_starts_before_its_disk_is_back_and_waits_for_a_killed_agent() {
	scenario("s13", Pace::ONCE, async |world| {
		let mut machine = world.machine(&story::owner(), "vm-1", 256).await?;
		machine.guest.write(16, COMMAND_TIME_MAX)?;
		world.begin_backups(&machine).await?;
		let snapshots =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		machine.guest.kill();
		fs::remove_file(&machine.disk)?;
		fs::remove_file(world.agent.machine_file("vm-1"))?;

		let folder = world.lab.path().join("back");
		let to = folder.to_str().context("the folder has a plain name")?;
		let begin = ["live-restore", "begin", "--vm", "vm-1", "--folder", to, "--root"];
		world.agent.tool(&[&begin[..], &[&snapshots[0].cid]].concat())?;
		let image = folder.join("vda.qcow2");
		machine.guest = world.boot_on("vm-1", &image, "qcow2", machine.tag)?;
		world.agent.kill()?;
		wait_until_paused(&machine.guest).await?;

		world.agent.start().await?;
		machine.guest.wait_ready(BOOT_TIME_MAX)?;
		let verified = machine.guest.verify(COMMAND_TIME_MAX)?;
		ensure!(verified.files >= 16, "{verified:?}");
		machine.guest.write(4, COMMAND_TIME_MAX)?;
		wait_until_complete(world).await?;
		world.agent.stop()?;

		let again = machine.guest.verify(COMMAND_TIME_MAX)?;
		ensure!(again.files == verified.files + 4, "{again:?}, {verified:?} before");
		machine.guest.power_off(COMMAND_TIME_MAX)?;
		let raw = folder.join("vda.raw");
		to_raw(&image, &raw)?;
		check_disk(&raw)?;
		Ok(())
	})
	.await;
}
