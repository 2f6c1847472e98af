//! The verbs about what is kept and for how long, on a chain that begins with a history: what anybody may have
//! the chain do now, and what the council decides about snapshots. No blocks stand behind them, and none are
//! needed.

use crate::town::{Town, all_of};
use anyhow::{Context, Result, ensure};
use backup_e2e::{chain::number, history::machines_of, story, wait, world::COMMAND_TIME_MAX};
use serde_json::Value as Json;
use std::iter;
use subxt::utils::AccountId32;

/// Snapshots of Bob's machine that the chain begins with.
const SNAPSHOTS: u64 = 12;

/// How many of them it keeps.
const KEPT: u64 = 9;

/// The request of Bob's machine.
const MACHINE: u64 = 0;

/// Further machines of Bob's, with one snapshot each: so many that the chain comes round to each of them
/// only once in about 30 blocks.
const FURTHER: usize = 480;

/// Another operator's node, which holds copies.
const HOLDER: u64 = 2;

/// Exit codes that the command documents.
const REFUSED: i32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_what_owners_and_the_council_want() -> Result<()> {
	let owner = story::owner().public_key().0;
	let past = machines_of(owner, iter::once(SNAPSHOTS).chain(iter::repeat_n(1, FURTHER)));
	let town = Town::found_with("s19-upkeep", past).await?;
	let node = |who: &str, id: u64, key: &str| -> Result<()> {
		let (secret, recipient) = (town.path(who), town.recipient(key)?);
		let register = format!("node register --id {id} --recipient {recipient}");
		town.answer(who, &format!("{register} --authority-secret-file {secret}")).map(drop)
	};
	all_of([
		&|| node("Alice", story::NODE.into(), "first.key"),
		&|| node("Dave", HOLDER, "second.key"),
		&|| {
			// Before it subscribes, so that its backup is proposed and not begun.
			town.answer("Charlie", "request create --disk-bytes 1048576").map(drop)
		},
		&|| town.answer("Bob", &format!("settings {MACHINE} --keep-last {KEPT}")).map(drop),
	])?;
	let new = MACHINE + 1 + FURTHER as u64;
	town.answer("Alice", &format!("request assign {new} --to {}", story::NODE))?;
	town.answer("Alice", &format!("request fulfil {new} --vm new"))?;
	all_of([
		&|| council_keeps_snapshots(&town).context("governance hold, release, keep"),
		&|| backup_begins(&town, new).context("create"),
		&|| history_is_pruned(&town).context("upkeep prune"),
	])?;
	let kept: Vec<_> = (SNAPSHOTS - KEPT..SNAPSHOTS).collect();
	ensure!(sequences(&town)? == kept, "{:?}", sequences(&town)?);

	// From now on a deletion is not waited for.
	let pace = "deletion_grace=1 deletion_deadline=1 replicas=1";
	town.answer("Alice", &format!("governance propose set {pace}"))?;
	let late = last_in_turn(&town).await?;
	all_of([
		&|| due_deletion_is_carried_out(&town).context("upkeep close-deletion"),
		&|| holders_are_chosen(&town, late).context("upkeep replace-holders, copies"),
		&|| backup_is_gone(&town, new).context("upkeep close-deletion, reclaim-deposit"),
	])?;

	let (machine, snapshot) = (number(MACHINE), number(6));
	let gone = town.chain.storage("Backup", "Snapshots", vec![machine, snapshot]).await?;
	ensure!(gone.is_null(), "the snapshot is still there: {gone}");
	let left = town.stored("Backup", "Lineages", new).await?;
	ensure!(left.is_null(), "the backup is still there: {left}");
	let holders = town.stored("Backup", "HoldersOf", MACHINE).await?;
	ensure!(holders[0][0]["node"] == HOLDER, "{holders}");
	Ok(())
}

/// The names of a transaction's events.
fn events(transaction: &Json) -> Vec<&str> {
	let events = transaction["events"].as_array().map(Vec::as_slice).unwrap_or_default();
	events.iter().filter_map(|event| event["event"].as_str()).collect()
}

fn sequences(town: &Town) -> Result<Vec<u64>> {
	let answer = town.answer("Bob", &format!("snapshots {MACHINE}"))?;
	let snapshots = answer["backups"][0]["snapshots"].as_array().context("no snapshots")?;
	Ok(snapshots.iter().filter_map(|snapshot| snapshot["sequence"].as_u64()).collect())
}

/// Anybody may, and no more places are looked at than wanted.
fn history_is_pruned(town: &Town) -> Result<()> {
	let pruned = town.answer("Dave", &format!("upkeep prune {MACHINE} --places 2"))?;
	ensure!(events(&pruned) == ["SnapshotEvicted"; 2], "{pruned}");
	let pruned = town.answer("Dave", &format!("upkeep prune {MACHINE}"))?;
	ensure!(events(&pruned) == ["SnapshotEvicted"], "{pruned}");
	town.fails("Dave", &format!("upkeep prune {MACHINE}"), REFUSED, "NothingToPrune")
}

/// The council has one member, who decides at once.
fn council_keeps_snapshots(town: &Town) -> Result<()> {
	let decided = |words: &str, event: &str| -> Result<()> {
		let answer = town.answer("Alice", &format!("governance propose {words}"))?;
		let transaction = &answer["transaction"];
		let names = events(transaction);
		ensure!(answer["motion"].is_null() && names.contains(&event), "{words}: {answer}");
		Ok(())
	};
	decided(&format!("hold {MACHINE} 5"), "SnapshotHeld")?;
	town.answer("Bob", &format!("delete {MACHINE} 5 --yes"))?;
	decided(&format!("keep {MACHINE} 5"), "DeletionCancelled")?;
	decided(&format!("release {MACHINE} 5"), "SnapshotReleased")?;

	town.answer("Bob", &format!("delete {MACHINE} --yes"))?;
	decided(&format!("keep {MACHINE}"), "DeletionCancelled")?;
	town.answer("Bob", "delete-all --yes")?;
	let owner = AccountId32(story::owner().public_key().0);
	decided(&format!("keep --account {owner}"), "DeletionCancelled")
}

fn due_deletion_is_carried_out(town: &Town) -> Result<()> {
	town.answer("Bob", &format!("delete {MACHINE} 6 --yes"))?;
	let closed = once_it_may(town, "Bob", &format!("upkeep close-deletion {MACHINE} 6"))?;
	ensure!(events(&closed) == ["SnapshotDeleted"], "{closed}");
	ensure!(!sequences(town)?.contains(&6), "it is still listed");
	Ok(())
}

/// The machine that the chain has just looked at, whose next turn comes last.
async fn last_in_turn(town: &Town) -> Result<u64> {
	wait::until_async("a turn to begin", COMMAND_TIME_MAX, || async {
		let cursor = town.chain.storage("Backup", "TakeOverCursor", vec![]).await?;
		Ok(cursor.as_u64())
	})
	.await
}

/// Anybody may ask for it; the chain does it by itself when it comes round.
fn holders_are_chosen(town: &Town, late: u64) -> Result<()> {
	let replace = |machine: u64| format!("upkeep replace-holders {machine}");
	// Nobody may hold copies yet.
	town.fails("Dave", &replace(late), REFUSED, "NothingToReplace")?;
	town.answer("Alice", &format!("governance propose admit {HOLDER}"))?;
	let replaced = town.answer("Dave", &replace(late))?;
	ensure!(events(&replaced) == ["HolderChosen"], "{replaced}");
	town.fails("Dave", &replace(late), REFUSED, "NothingToReplace")?;
	wait::until("a holder to be chosen", COMMAND_TIME_MAX, || {
		let copies = town.answer("Dave", &format!("copies {MACHINE}"))?;
		let holder = &copies["copies"][1];
		Ok((holder["node"] == HOLDER && holder["role"] == "holder").then_some(()))
	})?;
	town.fails("Dave", &replace(MACHINE), REFUSED, "NothingToReplace")
}

/// A machine that ran before its owner subscribed.
fn backup_begins(town: &Town, request: u64) -> Result<()> {
	town.answer("Charlie", "subscribe --periods 1")?;
	let begun = town.answer("Charlie", &format!("create {request} --description nightly"))?;
	ensure!(events(&begun).contains(&"BackupCreated"), "{begun}");
	let cost = town.answer("Charlie", "cost")?;
	ensure!(cost["deposits"][0]["reason"] == "history", "{cost}");
	Ok(())
}

/// What was deposited for its history comes back when that is gone, and not before.
fn backup_is_gone(town: &Town, request: u64) -> Result<()> {
	let reclaim = format!("upkeep reclaim-deposit {request}");
	town.fails("Charlie", &reclaim, REFUSED, "BackupAlreadyExists")?;
	town.answer("Charlie", &format!("delete {request} --yes"))?;
	let closed = once_it_may(town, "Charlie", &format!("upkeep close-deletion {request}"))?;
	ensure!(events(&closed).contains(&"DeletionClosed"), "{closed}");
	let reclaimed = town.answer("Charlie", &reclaim)?;
	ensure!(events(&reclaimed) == ["DepositReturned"], "{reclaimed}");
	let cost = town.answer("Charlie", "cost")?;
	ensure!(cost["deposits"].as_array().is_some_and(Vec::is_empty), "{cost}");
	Ok(())
}

/// The answer of a verb that is refused until a block has come.
fn once_it_may(town: &Town, who: &str, words: &str) -> Result<Json> {
	wait::until(words, COMMAND_TIME_MAX, || match town.answer(who, words) {
		Ok(answer) => Ok(Some(answer)),
		Err(error) if error.to_string().contains("DeletionNotOver") => Ok(None),
		Err(error) => Err(error),
	})
}
