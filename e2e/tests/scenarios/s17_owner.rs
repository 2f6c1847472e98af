//! Every verb of an owner, on a running chain with a real agent: what it says it did is read back
//! from the chain, and what it writes is what the machine had on its disk.

use crate::desk::{COUNCIL, Desk, OWNER, STRANGER, shown};
use anyhow::{Context, Result, ensure};
use backup_e2e::{
	chain::{Snapshot, View, bytes},
	command,
	process::Process,
	story::{self, Identity, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, checksum, scenario},
};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use std::{fs, os::unix::fs::FileExt, process::Command};

/// Time enough to take a deletion back by hand.
const PACE: Pace = Pace { deletion_grace: 25, ..Pace::ONCE };

/// Exit codes that the command documents.
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;
const REFUSED: i32 = 4;
const NOT_FOUND: i32 = 5;
const KEY: i32 = 6;
const LATE: i32 = 9;
const FAILED: i32 = 10;
const NOT_ALLOWED: i32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_of_an_owner_does_what_it_says() {
	scenario("s17", PACE, async |world| {
		let machine = world.machine(&story::owner(), "web-1", 128).await?;
		let desk = Desk::open(world, &machine)?;
		let watch = Watch::begin(&desk)?;
		let (snapshots, between) = two_snapshots(&desk).await.context("snapshot now")?;

		machines_are_listed(&desk).context("vms")?;
		snapshots_are_listed(&desk, &snapshots).context("snapshots")?;
		a_root_is_found(&desk, &snapshots, &between).context("root")?;
		a_wrong_name_suggests_the_right_one(&desk).context("names")?;
		a_cost_is_told(&desk).await.context("cost")?;
		a_snapshot_is_held_and_released(&desk).await.context("hold, release")?;
		deletions_are_taken_back(&desk).await.context("delete, keep")?;
		others_restore_only_while_they_may(&desk, &snapshots).await.context("grant, revoke")?;
		settings_change(&desk).await.context("cadence, settings")?;
		proposals_are_answered(&desk).await.context("approve, reject")?;

		let [first, newest] = &snapshots;
		differences_are_told(&desk, first, newest).context("diff")?;
		desk.answer(&format!("delete {} 0 --yes", machine.request))?;
		the_node_writes_an_image(&desk, newest).await.context("request-restore")?;
		a_root_tells_what_it_holds(&desk, newest).context("show, verify")?;
		files_come_out(&desk, newest).context("ls, cat, restore-file")?;
		a_disk_is_served(&desk, newest).context("serve-disk")?;
		a_snapshot_travels_in_a_file(&desk, newest).context("export, import, restore")?;
		a_machine_comes_back_from_who_has_it(&desk, newest).context("copies, restore --at")?;
		a_closed_gateway_lets_its_owners_in(&desk, newest).context("gateways, drill")?;
		an_envelope_opens_a_snapshot(&desk, newest).context("envelope")?;
		a_deleted_snapshot_is_gone(&desk, newest).await.context("delete")?;
		disks_are_replaced(&desk, newest).context("request-restore --replace")?;
		another_machines_node_restores(&desk, newest).context("request-restore --onto")?;
		everything_can_be_deleted(&desk).await.context("delete-all")?;
		watch.ends_with_all_of_it().context("watch")
	})
	.await;
}

/// The first snapshot is due as soon as there is a key; the second is asked for.
/// Gives both, and a date between them.
async fn two_snapshots(desk: &Desk<'_>) -> Result<([Snapshot; 2], String)> {
	let Machine { guest, request, identity, .. } = desk.machine;
	let chain = &desk.world.chain;
	guest.write(2, COMMAND_TIME_MAX)?;
	guest.quiet(COMMAND_TIME_MAX)?;
	let key = desk.answer(&format!("key register --identity {}", shown(&identity.path)))?;
	ensure!(key["key_version"] == 1 && key["recipient"] == identity.recipient.to_string(), "{key}");
	let first = chain.wait_for_snapshots(*request, 1, SNAPSHOT_TIME_MAX).await?.remove(0);

	guest.write(2, COMMAND_TIME_MAX)?;
	guest.quiet(COMMAND_TIME_MAX)?;
	// No sooner than the chain's shortest cadence allows.
	chain.wait_for_block(first.recorded_at + 5, COMMAND_TIME_MAX).await?;
	let between = now()?;
	let asked = desk.answer("snapshot now web-1")?;
	ensure!(events(&asked) == ["SnapshotRequested"], "{asked}");
	let mut both = chain.wait_for_snapshots(*request, 2, SNAPSHOT_TIME_MAX).await?;
	let newest = both.remove(1);
	ensure!(newest.taken_at >= asked["block"].as_u64().context("no block")?, "{newest:?}");
	Ok(([first, newest], between))
}

/// The time as RFC 3339 has it. A development chain's is that of this machine.
fn now() -> Result<String> {
	let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output()?;
	Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The events of a transaction, by their names.
fn events(transaction: &Json) -> Vec<&str> {
	let events = transaction["events"].as_array().map(Vec::as_slice).unwrap_or_default();
	events.iter().filter_map(|event| event["event"].as_str()).collect()
}

fn machines_are_listed(desk: &Desk<'_>) -> Result<()> {
	let answer = desk.answer("vms")?;
	let machines = answer["machines"].as_array().context("no machines")?;
	ensure!(machines.len() == 1, "{answer}");
	let only = &machines[0];
	ensure!(only["request"] == desk.machine.request && only["vm"] == "web-1", "{answer}");
	ensure!(only["state"] == "running" && only["snapshots"] == 2, "{answer}");
	ensure!(only["disk_bytes"] == 128 << 20, "{answer}");
	let others = desk.answer_to(STRANGER, "vms")?;
	ensure!(others["machines"] == json!([]), "a stranger has this machine: {others}");
	Ok(())
}

fn snapshots_are_listed(desk: &Desk<'_>, [first, newest]: &[Snapshot; 2]) -> Result<()> {
	let list = |filter: &str| -> Result<Vec<Json>> {
		let answer = desk.answer(&format!("snapshots {filter}"))?;
		Ok(answer["backups"][0]["snapshots"].as_array().context("no snapshots")?.clone())
	};
	let all = list("")?;
	ensure!(all.len() == 2, "{all:?}");
	for (told, recorded) in all.iter().zip([first, newest]) {
		ensure!(told["sequence"] == recorded.sequence && told["cid"] == recorded.cid, "{told}");
		ensure!(told["taken_at"] == recorded.taken_at, "{told}");
		ensure!(told["new_bytes"] == recorded.new_bytes, "{told}");
	}
	ensure!(all[0]["parent"].is_null() && all[1]["parent"] == first.cid, "{all:?}");
	let request = desk.machine.request;
	let (since, until) = (newest.taken_at, first.taken_at);
	for (filter, expected) in [
		(format!("{request} --since {since}"), &all[1..]),
		(format!("{request} --until {until}"), &all[..1]),
		(format!("{request} --newest 1"), &all[1..]),
		(format!("{request} --by-node {}", story::NODE), &all[..]),
		(format!("{request} --by-node 77"), &[]),
	] {
		ensure!(list(&filter)? == expected, "snapshots {filter}: {:?}", list(&filter)?);
	}
	let tree = desk.text(&format!("snapshots {request} --tree"))?;
	let lines: Vec<&str> = tree.lines().skip(1).collect();
	let starts = [format!("├─ 0 {}", first.cid), format!("└─ 1 {}", newest.cid)];
	let is_so = |(line, start): (&&str, &String)| line.starts_with(start);
	ensure!(lines.len() == 2 && lines.iter().zip(&starts).all(is_so), "{tree}");
	desk.fails(OWNER, "snapshots 4711", NOT_FOUND, "no backup")
}

fn a_root_is_found(desk: &Desk<'_>, [first, newest]: &[Snapshot; 2], between: &str) -> Result<()> {
	let request = desk.machine.request;
	let root = |at: &str| desk.text(&format!("root {request} {at}"));
	ensure!(root("")?.trim() == newest.cid, "the newest is {}", root("")?);
	let before = format!("--at {}", newest.taken_at - 1);
	ensure!(root(&before)?.trim() == first.cid, "{before} is {}", root(&before)?);
	let never = format!("root {request} --at {}", first.taken_at - 1);
	desk.fails(OWNER, &never, NOT_FOUND, "no snapshot")?;

	let then = format!("--at {between}");
	ensure!(root(&then)?.trim() == first.cid, "{then} is {}", root(&then)?);
	ensure!(root("--at 2100-01-01")?.trim() == newest.cid, "what is to come is not the newest");
	desk.fails(
		OWNER,
		"root web-1 --at 2020-01-01",
		NOT_FOUND,
		"2020-01-01 00:00:00 UTC or before",
	)?;
	let since = desk.answer(&format!("snapshots web-1 --since {between}"))?;
	let since = &since["backups"][0]["snapshots"];
	ensure!(since[0]["cid"] == newest.cid && since[1].is_null(), "since {between}: {since}");
	let until = desk.answer(&format!("snapshots web-1 --until {between}"))?;
	let until = &until["backups"][0]["snapshots"];
	ensure!(until[0]["cid"] == first.cid && until[1].is_null(), "until {between}: {until}");
	Ok(())
}

fn a_wrong_name_suggests_the_right_one(desk: &Desk<'_>) -> Result<()> {
	let meant = "no machine 'web1'; did you mean 'web-1'?";
	for verb in ["snapshots web1", "hold web1 0", "root web1", "status web1"] {
		desk.fails(OWNER, verb, NOT_FOUND, meant)?;
	}
	// It is another account's.
	desk.fails(STRANGER, "hold web-1 0", NOT_FOUND, "no machine 'web-1'")?;
	let nowhere = "vms --node ws://127.0.0.1:1";
	desk.fails(OWNER, nowhere, UNREACHABLE, "no node answers")?;
	desk.fails(OWNER, "snapshots --since yesterday", USAGE, "a block is a number")
}

async fn a_cost_is_told(desk: &Desk<'_>) -> Result<()> {
	let answer = desk.answer("cost")?;
	let owner = desk.machine.owner.public_key().0;
	let chain = &desk.world.chain;
	let holds = chain.storage("Balances", "Holds", vec![bytes(&owner)]).await?;
	ensure!(answer["snapshots"] == 2 && answer["logical_bytes"] == 128 << 20, "{answer}");
	let lineage = desk.of_request("Lineages", desk.machine.request).await?;
	ensure!(answer["stored_bytes"] == lineage["stored_bytes"], "{answer} {lineage}");
	let paid_until = chain.storage("Marketplace", "Subscriptions", vec![bytes(&owner)]).await?;
	ensure!(answer["paid_until"] == paid_until && paid_until.is_u64(), "{answer} {paid_until}");
	let deposit = &answer["deposits"][0];
	let amount = deposit["amount"].as_str().context("no deposit")?;
	ensure!(deposit["reason"] == "history", "{answer}");
	ensure!(holds.to_string().contains(&format!("\"amount\":{amount}")), "{answer} {holds}");
	Ok(())
}

async fn a_snapshot_is_held_and_released(desk: &Desk<'_>) -> Result<()> {
	let request = desk.machine.request;
	ensure!(desk.of_snapshot("SnapshotLocks", 0).await?.is_null(), "it is held already");
	desk.answer("hold web-1 0")?;
	let lock = desk.of_snapshot("SnapshotLocks", 0).await?;
	ensure!(lock["by_owner"] == true && lock["by_governance"] == false, "{lock}");
	desk.fails(STRANGER, &format!("release {request} 0"), NOT_ALLOWED, "NotBackupOwner")?;
	let meant = format!("request {request} has no snapshot 77; did you mean '1'?");
	for verb in ["hold", "release", "delete --yes", "keep", "request-restore"] {
		desk.fails(OWNER, &format!("{verb} web-1 77"), NOT_FOUND, &meant)?;
	}
	desk.answer(&format!("release {request} 0"))?;
	ensure!(desk.of_snapshot("SnapshotLocks", 0).await?.is_null(), "it is still held");
	desk.fails(OWNER, &format!("release {request} 0"), REFUSED, "SnapshotNotHeld")
}

async fn deletions_are_taken_back(desk: &Desk<'_>) -> Result<()> {
	let request = desk.machine.request;
	desk.fails(OWNER, &format!("delete {request} 0"), USAGE, "nothing was confirmed")?;
	let shown = desk.typed("delete web-1 0", "no\n")?;
	let told = format!("Snapshot 0 of request {request} (web-1), 128.0 MiB, taken at block");
	ensure!(shown.contains(&told) && shown.contains("nothing was confirmed"), "{shown}");
	ensure!(desk.of_snapshot("SnapshotDeletions", 0).await?.is_null(), "it goes all the same");
	desk.answer(&format!("delete {request} 0 --yes"))?;
	let due = desk.of_snapshot("SnapshotDeletions", 0).await?;
	ensure!(due.is_u64(), "nothing is to be deleted: {due}");
	desk.answer(&format!("keep {request} 0"))?;
	ensure!(desk.of_snapshot("SnapshotDeletions", 0).await?.is_null(), "it still goes");

	// By age, but for those that are held, and for those that are to go already.
	desk.answer("hold web-1 1")?;
	desk.answer("delete web-1 --until 1s --yes")?;
	ensure!(desk.of_snapshot("SnapshotDeletions", 0).await?.is_u64(), "it is old enough");
	ensure!(desk.of_snapshot("SnapshotDeletions", 1).await?.is_null(), "it is held");
	// A date without its hyphens is a block, and would mean all.
	let slip = "delete web-1 --until 20260501 --yes";
	desk.fails(OWNER, slip, USAGE, "block 20260501 is to come")?;
	let none_left = "neither held nor to be deleted already";
	desk.fails(OWNER, "delete web-1 --until 1s --yes", NOT_FOUND, none_left)?;
	desk.fails(OWNER, "delete web-1 --until 30d --yes", NOT_FOUND, none_left)?;
	desk.answer("keep web-1 0")?;
	desk.answer("release web-1 1")?;
	// Several are deleted together, or none of them.
	let shown = desk.typed("delete web-1 1 0", "delete\n")?;
	let told = format!("2 snapshots of request {request} (web-1), from 0 to 1, taken from block");
	ensure!(shown.contains(&told) && shown.contains("256.0 MiB in all"), "{shown}");
	desk.fails(OWNER, "delete web-1 0 1 --yes", REFUSED, "DeletionPending")?;
	for place in [0, 1] {
		ensure!(desk.of_snapshot("SnapshotDeletions", place).await?.is_u64(), "one is left");
		desk.answer(&format!("keep web-1 {place}"))?;
	}

	desk.answer(&format!("delete {request} --yes"))?;
	let lineage = desk.of_request("Lineages", request).await?;
	ensure!(lineage["delete_at"].is_u64(), "{lineage}");
	desk.answer(&format!("keep {request}"))?;
	let lineage = desk.of_request("Lineages", request).await?;
	ensure!(lineage["delete_at"].is_null() && lineage["kept"] == 2, "{lineage}");
	Ok(())
}

async fn others_restore_only_while_they_may(
	desk: &Desk<'_>,
	[first, newest]: &[Snapshot; 2],
) -> Result<()> {
	let request = desk.machine.request;
	let stranger = subxt::utils::AccountId32(story::stranger().public_key().0).to_string();
	let restore = format!("request-restore {request} 0");
	desk.fails(STRANGER, &restore, NOT_ALLOWED, "NotAuthorized")?;
	let by_root = format!("request-restore {}", first.cid);
	desk.fails(STRANGER, &by_root, NOT_FOUND, "SnapshotNotFound")?;
	let until = desk.world.chain.number(View::Best).await? + 10_000;
	desk.answer(&format!("grant {request} --to {stranger} --until {until}"))?;
	let grants = desk.answer(&format!("grants {request}"))?;
	let grant = &grants["grants"][0];
	ensure!(grant["account"] == stranger && grant["expires_at"] == until, "{grants}");
	let as_of = format!("request-restore {request} --at {}", newest.taken_at - 1);
	for restore in [&restore, &as_of] {
		let asked = desk.answer_to(STRANGER, restore)?;
		ensure!(asked["cid"] == first.cid, "{restore}: {asked}");
		let id = asked["restore"].as_u64().context("a restore has a number")?;
		let recorded = desk.of_request("RestoreRequests", id).await?;
		ensure!(recorded["sequence"] == 0 && recorded["request_id"] == request, "{recorded}");
		desk.answer_to(STRANGER, &format!("close-restore {id}"))?;
	}

	desk.answer(&format!("revoke {request} --from {stranger}"))?;
	let grants = desk.answer(&format!("grants {request}"))?;
	ensure!(grants["grants"] == json!([]), "{grants}");
	let left = desk.of_request("Grants", request).await?;
	ensure!(!left.to_string().contains("account"), "the chain has {left}");
	desk.fails(STRANGER, &restore, NOT_ALLOWED, "NotAuthorized")?;

	// The end of a grant is a block on the chain, also where a date was named.
	desk.answer(&format!("grant {request} --to {stranger} --until 2100-01-01"))?;
	let grants = desk.answer(&format!("grants {request}"))?;
	let ends = grants["grants"][0]["expires_at"].as_u64().context("the grant has no end")?;
	ensure!(ends > until, "{grants}");
	desk.answer(&format!("revoke {request} --from {stranger}"))?;
	Ok(())
}

async fn settings_change(desk: &Desk<'_>) -> Result<()> {
	let request = desk.machine.request;
	desk.answer("cadence 50000")?;
	let owner = vec![bytes(&desk.machine.owner.public_key().0)];
	let cadence =
		desk.world.chain.storage("Backup", "BackupOffchainWorkerFrequency", owner).await?;
	ensure!(cadence == 50_000, "the cadence is {cadence}");
	desk.answer(&format!("settings {request} --pause --keep-last 5"))?;
	let lineage = desk.of_request("Lineages", request).await?;
	ensure!(lineage["settings"] == json!({ "paused": true, "keep_last": 5 }), "{lineage}");
	let vms = desk.answer("vms")?;
	ensure!(vms["machines"][0]["eligibility"]["state"] == "paused", "{vms}");
	let shown = desk.answer(&format!("settings {request}"))?;
	ensure!(shown["settings"] == json!({ "paused": true, "keep_last": 5 }), "{shown}");
	desk.answer(&format!("settings {request} --resume"))?;
	let lineage = desk.of_request("Lineages", request).await?;
	ensure!(lineage["settings"] == json!({ "paused": false, "keep_last": 5 }), "{lineage}");
	desk.answer(&format!("settings {request} --keep-last default"))?;
	let lineage = desk.of_request("Lineages", request).await?;
	ensure!(lineage["settings"] == json!({ "paused": false, "keep_last": null }), "{lineage}");
	Ok(())
}

/// A node runs two machines of an account that has no backups.
async fn proposals_are_answered(desk: &Desk<'_>) -> Result<()> {
	let request = |words: &str| -> Result<u64> {
		let answer = desk.answer_to(STRANGER, words)?;
		answer["request"].as_u64().context("no request was made")
	};
	let (wanted, unwanted) = (
		request("request create --disk-bytes 1048576")?,
		request("request create --disk-bytes 1048576")?,
	);
	for (request, vm) in [(wanted, "mail-1"), (unwanted, "mail-2")] {
		story::fulfil(&desk.world.chain, request, vm).await?;
		let proposal = desk.of_request("Proposals", request).await?;
		ensure!(proposal["node"] == story::NODE, "{proposal}");
	}
	desk.fails(STRANGER, &format!("approve {wanted}"), REFUSED, "BackupsNotEnabled")?;
	let paid = desk.answer_to(STRANGER, "subscribe --periods 2")?;
	let stranger = vec![bytes(&story::stranger().public_key().0)];
	let until = desk.world.chain.storage("Marketplace", "Subscriptions", stranger).await?;
	ensure!(paid["paid_until"] == until, "{paid} {until}");

	desk.fails(OWNER, &format!("approve {wanted}"), NOT_ALLOWED, "NotAuthorized")?;
	desk.answer_to(STRANGER, &format!("approve {wanted}"))?;
	ensure!(desk.of_request("Lineages", wanted).await?.is_object(), "no backup began");
	let released = desk.answer_to(STRANGER, &format!("request release {wanted}"))?;
	ensure!(released["events"][0]["event"] == "RequestReleased", "{released}");
	desk.answer_to(STRANGER, &format!("reject {unwanted}"))?;
	ensure!(desk.of_request("Proposals", unwanted).await?.is_null(), "the proposal stands");
	ensure!(desk.of_request("Lineages", unwanted).await?.is_null(), "a backup began");
	Ok(())
}

fn differences_are_told(desk: &Desk<'_>, first: &Snapshot, newest: &Snapshot) -> Result<()> {
	let identity = shown(&desk.machine.identity.path);
	let place = format!("--identity {identity} --gateway {}", desk.world.agent.url());
	let between = |before: &Snapshot, after: &Snapshot| -> Result<Json> {
		let answer = desk.answer(&format!("diff {} {} {place}", before.cid, after.cid))?;
		Ok(answer["disks"][0].clone())
	};
	let changed = between(first, newest)?;
	let bytes = |disk: &Json, what: &str| disk[what].as_u64().unwrap_or_default();
	let written = bytes(&changed, "written_bytes") + bytes(&changed, "rewritten_bytes");
	// Two files of 1 MiB, and what belongs to them.
	ensure!((2 << 20..32 << 20).contains(&written), "{changed}");
	let same = between(newest, newest)?;
	ensure!(bytes(&same, "written_bytes") + bytes(&same, "rewritten_bytes") == 0, "{same}");
	let numbers = format!("{} {} {}", desk.machine.request, first.sequence, newest.sequence);
	let by_number = desk.answer(&format!("diff --machine {numbers} {place}"))?;
	ensure!(by_number["before"] == first.cid && by_number["after"] == newest.cid, "{by_number}");
	ensure!(by_number["disks"][0] == changed, "{by_number}");
	Ok(())
}

async fn the_node_writes_an_image(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let Machine { request, disk, .. } = desk.machine;
	let answer = desk.answer(&format!("request-restore {} --wait", newest.cid))?;
	ensure!(answer["state"] == "fulfilled" && answer["request"] == *request, "{answer}");
	let restore = answer["restore"].as_u64().context("a restore has a number")?;
	let image = desk.world.agent.image(*request, newest.sequence, restore);
	ensure!(checksum(&image)? == checksum(disk)?, "the image is not the disk");
	let status = desk.answer(&format!("status {request}"))?;
	ensure!(status["restores"][0]["state"] == "fulfilled", "{status}");
	desk.answer(&format!("close-restore {restore}"))?;
	ensure!(desk.of_request("RestoreRequests", restore).await?.is_null(), "it is not closed");
	// Nobody has the patience.
	let at_once = format!("request-restore {} --wait --timeout 0", newest.cid);
	desk.fails(OWNER, &at_once, LATE, "waited 0 s for restore")
}

fn a_root_tells_what_it_holds(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let shown = desk.answer(&format!("show {}", desk.unlock(&newest.cid)))?;
	ensure!(shown["sequence"] == newest.sequence, "{shown}");
	ensure!(shown["disks"] == json!([{ "name": "vda", "bytes": 128 << 20 }]), "{shown}");
	let place = format!("--root {} --gateway {}", newest.cid, desk.world.agent.url());
	let asked = desk.answer(&format!("verify {place}"))?;
	let read = desk.answer(&format!("verify {place} --read"))?;
	ensure!(asked["bad_blocks"] == 0 && read["bad_blocks"] == 0, "{asked} {read}");
	ensure!(asked["good_blocks"] == read["good_blocks"], "{asked} {read}");
	Ok(())
}

/// The guest's manifest says what its files hold.
fn files_come_out(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let unlock = desk.unlock(&newest.cid);
	let volumes = desk.answer(&format!("ls {unlock}"))?;
	ensure!(volumes["volumes"][0]["readable"] == true, "{volumes}");
	let listed = desk.answer(&format!("ls {unlock} /files"))?;
	let entries = listed["entries"].as_array().context("no entries")?;
	let paths: Vec<_> = entries.iter().filter_map(|entry| entry["path"].as_str()).collect();
	ensure!(paths == ["000001", "000002", "000003", "000004"], "{listed}");

	let manifest = String::from_utf8(desk.bytes(&format!("cat {unlock} /manifest"))?)?;
	let folder = desk.path("files");
	let restored =
		desk.answer(&format!("restore-file {unlock} /files --output {}", shown(&folder)))?;
	ensure!(restored["files"] == 4 && restored["bytes"] == 4 << 20, "{restored}");
	for path in paths {
		let line = manifest.lines().find(|line| line.ends_with(path));
		let sum = line.and_then(|line| line.split_whitespace().next());
		let sum = sum.with_context(|| format!("the manifest does not know {path}: {manifest}"))?;
		let written = checksum(&folder.join(path))?;
		let told = hex::encode(Sha256::digest(desk.bytes(&format!("cat {unlock} /files/{path}"))?));
		ensure!(written == sum && told == sum, "{path}: {written} {told} {sum}");
	}
	desk.fails(OWNER, &format!("cat {unlock} /files/77"), NOT_FOUND, "/files/77")
}

/// Another program reads it, of a snapshot that only the agent has.
fn a_disk_is_served(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let (socket, image) = (desk.path("nbd"), desk.path("served.raw"));
	let mut serve = command::program()?;
	serve.args(["serve-disk", "--socket"]).arg(&socket);
	serve.args(desk.unlock(&newest.cid).split_whitespace());
	let log = desk.world.lab.log("serve-disk");
	let mut serve = Process::start("backup serve-disk", serve, &log)?;
	wait::until("the disk to be served", COMMAND_TIME_MAX, || {
		serve.ensure_runs()?;
		Ok(serve.output().contains("serving vda").then_some(()))
	})?;
	let url = format!("nbd+unix:///vda?socket={}", shown(&socket));
	let convert = ["convert", "-f", "raw", "-O", "raw", &url];
	let converted = Command::new("qemu-img").args(convert).arg(&image).status()?;
	ensure!(converted.success(), "qemu-img ended with {converted}");
	ensure!(checksum(&image)? == checksum(&desk.machine.disk)?, "the image is not the disk");
	let end = serve.terminate()?;
	ensure!(end.success() && !socket.exists(), "it ended with {end}");
	fs::remove_file(image).context("the image cannot be removed")
}

fn a_snapshot_travels_in_a_file(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let (car, store, image) = (desk.path("one.car"), desk.path("imported"), desk.path("one.raw"));
	let (root, gateway) = (&newest.cid, desk.world.agent.url());
	let (car_text, store_text) = (shown(&car), shown(&store));
	let exported =
		desk.answer(&format!("export --root {root} --gateway {gateway} --output {car_text}"))?;
	let imported = desk.answer(&format!("import {car_text} --store {store_text}"))?;
	ensure!(imported["roots"] == json!([root]), "{imported}");
	ensure!(imported["new_blocks"] == exported["blocks"], "{exported} {imported}");
	let identity = shown(&desk.machine.identity.path);
	let words = format!("restore --root {root} --identity {identity} --store {store_text}");
	let restored = desk.answer(&format!("{words} --output {}", shown(&image)))?;
	ensure!(restored["sequence"] == newest.sequence, "{restored}");
	ensure!(checksum(&image)? == checksum(&desk.machine.disk)?, "the image is not the disk");
	fs::remove_file(image).context("the image cannot be removed")
}

/// No place is named: the chain knows who has the blocks, and these know the owner.
fn a_machine_comes_back_from_who_has_it(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let image = desk.path("as-of.raw");
	let agent = &desk.world.agent;
	let gateway = agent.contact().gateways.pop().context("the agent has no gateway")?;
	let copies = desk.answer("copies web-1")?;
	let host = &copies["copies"][0];
	ensure!(host["node"] == story::NODE && host["role"] == "host", "{copies}");
	let address = format!("{gateway}#{}", agent.recipient());
	ensure!(host["gateways"] == json!([address]) && copies["copies"][1].is_null(), "{copies}");

	let identity = shown(&desk.machine.identity.path);
	let place = format!("--identity {identity} --output {}", shown(&image));
	let near = format!("restore --machine web-1 {place}");
	desk.fails(OWNER, &near, USAGE, "127.0.0.1 is not public")?;
	let words = format!("{near} --peer-network 127.0.0.0/8");
	desk.fails(OWNER, &format!("{words} --at 2020-01-01"), NOT_FOUND, "no snapshot")?;
	ensure!(!image.exists(), "there is an image of nothing");
	let restored = desk.answer(&format!("{words} --at {}", newest.taken_at))?;
	ensure!(restored["root"] == newest.cid, "{restored}");
	ensure!(checksum(&image)? == checksum(&desk.machine.disk)?, "the image is not the disk");
	fs::remove_file(&image).context("the image cannot be removed")?;
	// The same by a date.
	let restored = desk.answer(&format!("{words} --at {}", now()?))?;
	ensure!(restored["root"] == newest.cid, "{restored}");
	ensure!(checksum(&image)? == checksum(&desk.machine.disk)?, "the image is not the disk");
	fs::remove_file(image).context("the image cannot be removed")
}

/// It serves neither everybody nor whoever has a key.
fn a_closed_gateway_lets_its_owners_in(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let agent = &desk.world.agent;
	let gateway = agent.contact().gateways.pop().context("the agent has no gateway")?;
	let (root, identity) = (&newest.cid, shown(&desk.machine.identity.path));
	let nobody = Identity::new(desk.world.lab.path(), "nobody.key")?;
	let place = format!("--root {root} --gateway {gateway}");
	let only = "only whom the chain knows is let in";
	desk.fails(OWNER, &format!("verify {place}"), NOT_ALLOWED, only)?;
	let unknown = format!("show {place} --identity {}", shown(&nobody.path));
	desk.fails(STRANGER, &unknown, NOT_ALLOWED, "none of these keys")?;

	// The gateway's key and whose the owner's is stand on the chain.
	let verified =
		desk.answer_to(STRANGER, &format!("verify {place} --identity {identity} --read"))?;
	ensure!(verified["bad_blocks"] == 0, "{verified}");
	let listed = desk.answer(&format!("ls {place} --identity {identity} /files"))?;
	ensure!(listed["entries"].as_array().is_some_and(|entries| entries.len() == 4), "{listed}");
	let car = desk.path("closed.car");
	desk.answer(&format!("export {place} --identity {identity} --output {}", shown(&car)))?;
	fs::remove_file(car)?;

	// Both can be named, and then there need be no chain.
	let owner = subxt::utils::AccountId32(desk.machine.owner.public_key().0);
	let offline = format!(
		"--root {root} --gateway {gateway}#{} --owner {owner} --node ws://127.0.0.1:1 --identity",
		agent.recipient()
	);
	// Whichever of the identities it is that the owner registered.
	let several = desk.path("several.key");
	let texts = [&nobody.path, &desk.machine.identity.path, &nobody.path].map(fs::read_to_string);
	fs::write(&several, texts.into_iter().collect::<Result<String, _>>()?)?;
	let opened = desk.answer(&format!("show {offline} {}", shown(&several)))?;
	ensure!(opened["sequence"] == newest.sequence, "{opened}");
	desk.fails(
		OWNER,
		&format!("show {offline} {}", shown(&nobody.path)),
		UNREACHABLE,
		"let us in",
	)?;
	let drill = desk.answer(&format!("drill {offline} {identity}"))?;
	ensure!(drill["disks"][0]["logical_bytes"] == 128 << 20, "{drill}");
	ensure!(drill["disks"][0]["written_bytes"].as_u64() > Some(4 << 20), "{drill}");
	Ok(())
}

fn an_envelope_opens_a_snapshot(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let friend = Identity::new(desk.world.lab.path(), "friend.key")?;
	let envelope = shown(&desk.path("friend.envelope"));
	desk.answer(&format!(
		"envelope {} --to {} --output {envelope}",
		desk.unlock(&newest.cid),
		friend.recipient
	))?;
	let gateway = desk.world.agent.url();
	let theirs = format!("--identity {} --gateway {gateway}", shown(&friend.path));
	let show = format!("show --root {} {theirs}", newest.cid);
	desk.fails(STRANGER, &show, KEY, "not sealed to this identity")?;
	let opened = desk.answer_to(STRANGER, &format!("{show} --envelope {envelope}"))?;
	ensure!(opened["sequence"] == newest.sequence, "{opened}");

	// Nodes let them in when the owner has named their key, and no longer than that stands.
	let gateway = desk.world.agent.contact().gateways.pop().context("the agent has no gateway")?;
	let request = desk.machine.request;
	let closed = format!(
		"show --machine {request} --gateway {gateway} --identity {} --envelope {envelope}",
		shown(&friend.path)
	);
	desk.fails(STRANGER, &closed, NOT_ALLOWED, "none of these keys")?;
	let stranger = subxt::utils::AccountId32(story::stranger().public_key().0).to_string();
	let key = &friend.recipient;
	desk.answer(&format!("grant {request} --to {stranger} --key {key} --finalized"))?;
	let grants = desk.answer(&format!("grants {request}"))?;
	ensure!(grants["grants"][0]["recipient"] == key.to_string(), "{grants}");
	let opened = desk.answer_to(STRANGER, &closed)?;
	ensure!(opened["sequence"] == newest.sequence, "{opened}");
	desk.answer(&format!("revoke {request} --from {stranger}"))?;
	desk.fails(STRANGER, &closed, NOT_ALLOWED, "none of these keys")
}

/// The grace period of what was deleted before is over by now, or soon will be.
async fn a_deleted_snapshot_is_gone(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let (chain, request) = (&desk.world.chain, desk.machine.request);
	chain.wait_for_event("Backup.SnapshotDeleted", newest.recorded_at, COMMAND_TIME_MAX).await?;
	ensure!(desk.of_snapshot("Snapshots", 0).await?.is_null(), "its record stands");
	let answer = desk.answer(&format!("snapshots {request}"))?;
	let left = answer["backups"][0]["snapshots"].as_array().context("no snapshots")?;
	ensure!(left.len() == 1 && left[0]["cid"] == newest.cid, "{answer}");
	Ok(())
}

/// The machine is off and its disk is not what it was.
fn disks_are_replaced(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let Machine { guest, disk, request, .. } = desk.machine;
	let before = checksum(disk)?;
	let while_it_runs = "request-restore web-1 --replace --yes --wait";
	desk.fails(OWNER, while_it_runs, FAILED, "the machine whose disks were to be replaced runs")?;
	guest.kill();
	fs::OpenOptions::new().write(true).open(disk)?.write_all_at(b"lost", 4096)?;
	let replace = "request-restore web-1 --replace --wait";
	desk.fails(OWNER, replace, USAGE, "nothing was confirmed")?;
	let shown = desk.typed(replace, "no\n")?;
	let told = format!("All disks of web-1 (request {request}) on node {}", story::NODE);
	let taken = format!("those of snapshot 1, 128.0 MiB, taken at block {}, 20", newest.taken_at);
	ensure!(shown.contains(&told) && shown.contains(&taken), "{shown}");
	ensure!(shown.contains("nothing was confirmed"), "{shown}");
	ensure!(checksum(disk)? != before, "it was replaced all the same");

	let shown = desk.typed(replace, "replace\n")?;
	ensure!(shown.contains("is complete, the node reported at block"), "{shown}");
	ensure!(checksum(disk)? == before, "the disk is not that of the snapshot");
	Ok(())
}

/// A machine whose node writes the image of another one.
fn another_machines_node_restores(desk: &Desk<'_>, newest: &Snapshot) -> Result<()> {
	let asked = desk.answer("request create --disk-bytes 1048576")?;
	let other = asked["request"].as_u64().context("no request was made")?;
	let council = |words: &str| desk.answer_to(COUNCIL, words);
	council(&format!("request assign {other} --to {}", story::NODE))?;
	council(&format!("request fulfil {other} --vm web-2"))?;
	let answer = desk.answer("request-restore web-1 --onto web-2 --wait")?;
	let restore = answer["restore"].as_u64().context("a restore has a number")?;
	let recorded = desk.world.agent.image(desk.machine.request, newest.sequence, restore);
	ensure!(answer["cid"] == newest.cid && answer["state"] == "fulfilled", "{answer}");
	ensure!(checksum(&recorded)? == checksum(&desk.machine.disk)?, "the image is not the disk");
	Ok(())
}

async fn everything_can_be_deleted(desk: &Desk<'_>) -> Result<()> {
	desk.answer_to(STRANGER, "delete-all --yes")?;
	let stranger = || vec![bytes(&story::stranger().public_key().0)];
	let deletion = desk.world.chain.storage("Backup", "UserDeletions", stranger()).await?;
	ensure!(deletion["effective_at"].is_u64(), "{deletion}");
	let status = desk.answer_to(STRANGER, "status")?;
	ensure!(status["account"]["deletion_from"] == deletion["effective_at"], "{status}");
	desk.answer_to(STRANGER, "keep --all")?;
	let deletion = desk.world.chain.storage("Backup", "UserDeletions", stranger()).await?;
	ensure!(deletion.is_null(), "everything still goes: {deletion}");
	Ok(())
}

/// `backup watch` beside all that happens.
struct Watch {
	process: Process,
	request: u64,
}

impl Watch {
	fn begin(desk: &Desk<'_>) -> Result<Self> {
		let request = desk.machine.request;
		let mut watch = command::program()?;
		watch.args(["--json", "--node", &desk.world.node.url(), "watch", &request.to_string()]);
		let process = Process::start("backup watch", watch, &desk.world.lab.log("watch"))?;
		Ok(Self { process, request })
	}

	fn told(&self) -> Result<Vec<Json>> {
		let lines = self.process.output();
		let complete = lines.rsplit_once('\n').map_or("", |(complete, _)| complete);
		complete.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
	}

	/// It has told of everything in its order, and of no other machine.
	fn ends_with_all_of_it(mut self) -> Result<()> {
		let told = wait::until("the end of the story", COMMAND_TIME_MAX, || {
			let told = self.told()?;
			// Behind the deletion there are two restores.
			let after = told.iter().skip_while(|line| line["event"] != "SnapshotDeleted");
			let mut restored = after.filter(|line| line["event"] == "SnapshotRestored");
			Ok(restored.nth(1).is_some().then_some(told))
		})?;
		// What is told without the request stands in the words of a deletion that was taken back.
		let requests = told.iter().map(|line| &line["fields"]["request_id"]);
		let is_stray = |request: &Json| !request.is_null() && *request != self.request;
		ensure!(!requests.into_iter().any(is_stray), "{told:?}");
		let mut names: Vec<_> = told.iter().filter_map(|line| line["event"].as_str()).collect();
		names.dedup();
		// The watch begins beside the finality of the block in which backups began.
		if names.first() == Some(&"BackupCreated") {
			names.remove(0);
		}
		let expected = [
			"SnapshotAdded",
			"SnapshotRequested",
			"SnapshotAdded",
			"SnapshotHeld",
			"SnapshotReleased",
			"SnapshotDeletionRequested",
			"DeletionCancelled",
			"SnapshotHeld",
			"SnapshotDeletionRequested",
			"DeletionCancelled",
			"SnapshotReleased",
			"SnapshotDeletionRequested",
			"DeletionCancelled",
			"BackupDeletionRequested",
			"DeletionCancelled",
			"AccessGranted",
			"SnapshotRestoreRequested",
		];
		ensure!(names.starts_with(&expected), "{names:?}");
		for ending in ["SnapshotRestored", "SnapshotRestoreFailed", "RestoreClosed"] {
			ensure!(names.contains(&ending), "{ending} is not told: {names:?}");
		}
		self.process.ensure_runs()
	}
}
