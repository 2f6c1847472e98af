//! The verbs of owners, operators and the council that need a chain and no machine: what each says it did
//! is read back from the chain. Those about snapshots are in the story of an owner.

use crate::town::{Town, all_of};
use anyhow::{Context, Result, ensure};
use backup_e2e::{
	command,
	process::{Process, end_with_us},
	wait,
	world::COMMAND_TIME_MAX,
};
use serde_json::{Value as Json, json};
use std::{fs, process::Stdio};
use subxt_signer::sr25519::dev;

/// Exit codes that the command documents.
const USAGE: i32 = 2;
const REFUSED: i32 = 4;
const NOT_FOUND: i32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_about_accounts_nodes_and_motions_does_what_it_says() -> Result<()> {
	let town = Town::found("s18-verbs").await?;
	// Blocks take their time, and these people have nothing to do with each other.
	all_of([
		&|| council_decides(&town).context("governance"),
		&|| operator_turns_keys(&town).context("node"),
		&|| owner_comes_and_goes(&town).context("subscribe, request, key"),
	])?;

	ensure!(town.chain.storage("Marketplace", "Price", vec![]).await? == 12_345, "the price");
	let admitted = town.chain.storage("Backup", "StorageNodeCount", vec![]).await?;
	ensure!(admitted == 0, "{admitted} nodes hold copies, and the only one was dismissed");
	for node in [7, 8] {
		let left = town.stored("Compute", "Nodes", node).await?;
		ensure!(left.is_null(), "node {node} is still there: {left}");
	}
	let subscription = town.of("Marketplace", "Subscriptions", &dev::bob()).await?;
	ensure!(subscription.is_null(), "it is still paid for: {subscription}");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_a_node_that_comes_back() -> Result<()> {
	let mut town = Town::found("s18-watch").await?;
	let mut watch = command::program()?;
	watch.args(["--json", "--node", &town.node.url(), "watch"]);
	let mut watch = Process::start("backup watch", watch, &town.lab.log("watch"))?;
	// Whatever is decided before it looks is none of its business.
	tells(&town, &watch, "cadence 1000", "BackupOffchainWorkerFrequencyUpdated")?;

	town.node.kill()?;
	town.node.start()?;
	town.chain = town.node.connect().await?;
	tells(&town, &watch, "pause", "AllPaused")?;
	let end = watch.terminate()?;
	ensure!(end.success(), "it ended with {end}, and was only told to");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_who_reads_it() -> Result<()> {
	let town = Town::found("s18-reader").await?;
	let mut watch = command::program()?;
	watch.args(["--node", &town.node.url(), "watch"]).stdout(Stdio::piped());
	end_with_us(&mut watch);
	let mut watch = watch.spawn()?;
	drop(watch.stdout.take());
	let end = wait::until("the end of a watch that nobody reads", COMMAND_TIME_MAX, || {
		town.answer("Alice", "governance propose pause")?;
		Ok(watch.try_wait()?)
	})?;
	ensure!(end.success(), "it ended with {end}");
	Ok(())
}

/// Have the council decide the same until the watch tells of it.
fn tells(town: &Town, watch: &Process, words: &str, event: &str) -> Result<()> {
	wait::until(event, COMMAND_TIME_MAX, || {
		town.answer("Alice", &format!("governance propose {words}"))?;
		let told = watch.output();
		let mut lines = told.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
		Ok(lines.any(|line| line["event"] == event).then_some(()))
	})
}

/// A council of one decides at once.
fn council_decides(town: &Town) -> Result<()> {
	let recipient = town.recipient("eighth.key")?;
	let secret = town.path("Alice");
	let node = format!("--authority-secret-file {secret} --recipient {recipient}");
	town.answer("Alice", &format!("node register --id 8 {node}"))?;
	let decided = |words: &str| -> Result<String> {
		let answer = town.answer("Alice", &format!("governance propose {words}"))?;
		ensure!(answer["motion"].is_null(), "{words} is put to the vote: {answer}");
		Ok(answer["transaction"]["events"].to_string())
	};
	for (words, event) in [
		("admit 8", "StorageNodeAdmitted"),
		("dismiss 8", "StorageNodeDismissed"),
		("price 12345", "PriceSet"),
		("deregister 8 --yes", "NodeDeregistered"),
	] {
		let events = decided(words)?;
		ensure!(events.contains(event), "{words}: {events}");
	}
	// What is not there is found out by the call itself.
	for words in ["hold 77 0", "release 77 0", "keep 77", "keep 77 0"] {
		let propose = format!("governance propose {words}");
		town.fails("Alice", &propose, NOT_FOUND, "Backup::BackupNotFound")?;
	}
	town.fails("Alice", "governance propose keep", USAGE, "required arguments")
}

fn operator_turns_keys(town: &Town) -> Result<()> {
	let (old, new) = (town.recipient("seventh.key")?, town.recipient("seventh-new.key")?);
	let authority = |name: &str| format!("--authority-secret-file {}", town.path(name));
	fs::write(town.path("Old"), "//Dave//old")?;
	fs::write(town.path("New"), "//Dave//new")?;
	let gateway = "--gateway http://node-7.example:9956";
	let register = format!("node register --id 7 {} --recipient {old}", authority("Old"));
	town.answer("Dave", &format!("{register} {gateway}"))?;
	let rotated =
		town.answer("Dave", &format!("node rotate --id 7 {} --recipient {new}", authority("New")))?;
	ensure!(rotated["events"][0]["event"] == "NodeKeysRotated", "{rotated}");
	town.fails("Dave", "node deregister --id 7", USAGE, "nothing was confirmed")?;
	let gone = town.answer("Dave", "node deregister --id 7 --yes")?;
	ensure!(gone["events"][0]["event"] == "NodeDeregistered", "{gone}");
	town.fails("Dave", "node deregister --id 7 --yes", NOT_FOUND, "NodeNotFound")
}

fn owner_comes_and_goes(town: &Town) -> Result<()> {
	town.answer("Bob", "subscribe --periods 1")?;
	let first = town.recipient("first.key")?;
	let registered = town.answer("Bob", &format!("key register {first}"))?;
	let keys = town.answer("Bob", "key show")?;
	let expected =
		json!([{ "key_version": 1, "recipient": first, "active_from": registered["active_from"] }]);
	ensure!(keys["keys"] == expected, "{keys}");
	let offline = town.answer("Bob", &format!("key show --identity {}", town.path("first.key")))?;
	ensure!(offline["recipients"] == json!([first]), "{offline}");

	let asked = town.answer("Bob", "request create --disk-bytes 1048576")?;
	let request = asked["request"].as_u64().context("no request was made")?;
	// Nobody has taken it yet.
	town.fails("Bob", &format!("request release {request}"), REFUSED, "WrongState")?;
	for (verb, error) in [
		(format!("upkeep prune {request}"), "BackupNotFound"),
		(format!("upkeep close-deletion {request}"), "BackupNotFound"),
		(format!("upkeep replace-holders {request}"), "BackupNotFound"),
		(format!("copies {request}"), "no backup"),
	] {
		town.fails("Bob", &verb, NOT_FOUND, error)?;
	}
	let deposit = format!("upkeep reclaim-deposit {request}");
	town.fails("Bob", &deposit, NOT_FOUND, "DepositNotFound")?;
	let ended = town.answer("Bob", &format!("request end {request}"))?;
	ensure!(ended["events"][0]["event"] == "RequestEnded", "{ended}");
	let gone = town.answer("Bob", "unsubscribe --yes")?;
	ensure!(gone["events"][0]["event"] == "Unsubscribed", "{gone}");
	town.fails("Bob", "unsubscribe --yes", REFUSED, "NotSubscribed")
}
