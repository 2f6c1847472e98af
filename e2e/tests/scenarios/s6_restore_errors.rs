//! A restore with the wrong secret, with a missing block, with a flipped bit: a clear error
//! each, and no file left.

use crate::tampering::{Fault, TamperingGateway};
use anyhow::{Context, Result, ensure};
use backup_e2e::{
	command::{backup, run},
	story::{self, Identity, Pace},
	world::{COMMAND_TIME_MAX, SNAPSHOT_TIME_MAX, checksum, scenario},
};
use serde_json::Value as Json;
use std::{
	fs::{self, OpenOptions},
	os::unix::fs::FileExt,
	path::Path,
	process::Command,
};

/// Exit codes that the command documents.
const KEY: i32 = 6;
const BLOCKS: i32 = 7;

/// A restore that must fail with this code and words, and leave nothing.
fn fails(
	folder: &Path,
	place: [&str; 2],
	root: &str,
	key: &Path,
	code: i32,
	words: &str,
) -> Result<()> {
	let image = folder.join("refused.raw");
	let (key, output) = (key.display().to_string(), image.display().to_string());
	let arguments = ["restore", "--root", root, "--identity", &key, "--output", &output];
	let outcome = run(arguments.into_iter().chain(place))?;
	let error: Json = serde_json::from_slice(&outcome.stderr)
		.with_context(|| String::from_utf8_lossy(&outcome.stderr).into_owned())?;
	ensure!(outcome.status.code() == Some(code), "ended with {}: {error}", outcome.status);
	let message = error["error"]["message"].as_str().unwrap_or_default();
	ensure!(message.contains(words), "the message does not say '{words}': {error}");
	ensure!(error["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{error}");
	ensure!(outcome.stdout.is_empty(), "a failed restore answered");
	let left: Vec<_> = fs::read_dir(folder)?
		.flatten()
		.map(|entry| entry.file_name().to_string_lossy().into_owned())
		.filter(|name| name.starts_with("refused"))
		.collect();
	ensure!(left.is_empty(), "a failed restore left {left:?}");
	Ok(())
}

/// Flip a bit in the middle of the largest pack.
fn damage(store: &Path) -> Result<()> {
	let packs = fs::read_dir(store)?.flatten().map(|entry| entry.path());
	let packs = packs.filter(|path| path.extension().is_some_and(|ending| ending == "pack"));
	let largest = packs.max_by_key(|path| path.metadata().map_or(0, |data| data.len()));
	let path = largest.context("the store has no pack")?;
	let pack = OpenOptions::new().read(true).write(true).open(&path)?;
	let at = pack.metadata()?.len() / 2;
	let mut byte = [0];
	pack.read_exact_at(&mut byte, at)?;
	pack.write_all_at(&[byte[0] ^ 0x10], at)?;
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_cannot_be_right_says_so_and_leaves_nothing() {
	scenario("s6", Pace::ONCE, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 256).await?;
		machine.guest.write(16, COMMAND_TIME_MAX)?;
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		let disk = checksum(&machine.disk)?;
		world.begin_backups(&machine).await?;
		let taken = world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		let (root, key) = (taken[0].cid.clone(), machine.identity.path.clone());
		let folder = world.lab.path().to_owned();
		let stranger = Identity::new(&folder, "stranger.key")?.path;
		let agent = world.agent.url();

		let place = ["--gateway", agent.as_str()];
		fails(&folder, place, &root, &stranger, KEY, "not sealed to this identity")?;
		let nothing = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454";
		fails(&folder, place, nothing, &key, BLOCKS, "there is no snapshot")?;
		for (fault, words) in [(Fault::Missing, "is missing"), (Fault::Flipped, "is damaged")] {
			// The root itself, the tree, and blocks of the disk.
			for number in [0, 1, 5, 20] {
				let gateway = TamperingGateway::start(&agent, fault, number)?;
				let words =
					if number == 0 && fault == Fault::Missing { "there is no" } else { words };
				fails(&folder, ["--gateway", gateway.url()], &root, &key, BLOCKS, words)?;
			}
		}

		// The same blocks from the disk, as after the loss of the node.
		world.agent.stop()?;
		let store = world.agent.store();
		let good = folder.join("good.raw");
		let place = ["--store", store.to_str().context("the path is text")?];
		restore_well(&root, &key, &good, place)?;
		ensure!(checksum(&good)? == disk, "the image is not the disk");
		let copy = folder.join("damaged");
		let copied = Command::new("cp").arg("-r").arg(&store).arg(&copy).status()?;
		ensure!(copied.success(), "the store could not be copied");
		damage(&copy)?;
		let place = ["--store", copy.to_str().context("the path is text")?];
		fails(&folder, place, &root, &key, BLOCKS, "is damaged")?;
		Ok(())
	})
	.await;
}

fn restore_well(root: &str, key: &Path, image: &Path, place: [&str; 2]) -> Result<()> {
	let (key, output) = (key.display().to_string(), image.display().to_string());
	let arguments = ["restore", "--root", root, "--identity", &key, "--output", &output];
	backup(arguments.into_iter().chain(place)).map(drop)
}
