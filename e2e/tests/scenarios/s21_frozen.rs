//! QEMU's own guest agent in the machine: its file systems stand still for the moment of the backup. The restored
//! disk shows it, whose journal has nothing to replay, and the machine goes on writing.

use anyhow::ensure;
use backup_e2e::{
	guest::{check_disk, needs_recovery},
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, SNAPSHOT_TIME_MAX, scenario},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_guest_agent_is_frozen_for_the_moment_of_its_backup() {
	scenario("s21", Pace::ONCE, async |world| {
		let machine = world.machine_with_agent(&story::owner(), "vm-1", 128).await?;
		machine.guest.load(COMMAND_TIME_MAX)?;
		ensure!(needs_recovery(&machine.disk)?, "the disk of a machine that writes looks clean");
		world.begin_backups(&machine).await?;
		let snapshots =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		ensure!(snapshots[0].consistency == "Application", "{snapshots:?}");

		let before = machine.guest.synced(COMMAND_TIME_MAX)?;
		wait::until("a record after the freeze", COMMAND_TIME_MAX, || {
			Ok((machine.guest.synced(COMMAND_TIME_MAX)? > before).then_some(()))
		})?;
		ensure!(needs_recovery(&machine.disk)?, "the machine stands still");
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		machine.guest.verify(COMMAND_TIME_MAX)?;

		let restore =
			story::request_restore(&world.chain, &machine.owner, &snapshots[0].cid).await?;
		let image = world.agent.image(machine.request, 0, restore);
		wait::until("the image", SNAPSHOT_TIME_MAX, || Ok(image.exists().then_some(())))?;
		ensure!(!needs_recovery(&image)?, "the journal of a frozen disk is to be replayed");
		check_disk(&image)?;
		Ok(())
	})
	.await;
}
