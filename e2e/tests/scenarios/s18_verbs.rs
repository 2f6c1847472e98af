//! The verbs of owners, operators and the council that need a chain and no machine: what each says it did
//! is read back from the chain. Those about snapshots are in the story of an owner.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	chain::{Chain, bytes, number},
	command,
	lab::Lab,
	node::Node,
	process::Process,
	wait,
	world::COMMAND_TIME_MAX,
};
use serde_json::{Value as Json, json};
use std::{fs, process::Output, thread};
use subxt_signer::sr25519::{Keypair, dev};

/// Exit codes that the command documents.
const USAGE: i32 = 2;
const REFUSED: i32 = 4;
const NOT_FOUND: i32 = 5;

/// A chain of one node, and people with secrets. Alice is its council.
struct Town {
	chain: Chain,
	node: Node,
	// Goes last, with the folder that the node writes to.
	lab: Lab,
}

impl Town {
	async fn found(name: &str) -> Result<Self> {
		let lab = Lab::new(name)?;
		let mut node = Node::prepare(&lab)?;
		node.start()?;
		let chain = node.connect().await?;
		for name in ["Alice", "Bob", "Charlie", "Dave"] {
			fs::write(lab.path().join(name), format!("//{name}"))?;
		}
		Ok(Self { chain, node, lab })
	}

	fn path(&self, name: &str) -> String {
		self.lab.path().join(name).display().to_string()
	}

	fn run(&self, who: &str, words: &str) -> Result<Output> {
		let (node, secret) = (self.node.url(), self.path(who));
		let who = ["--node", &node, "--secret-file", &secret];
		command::run(who.into_iter().chain(words.split_whitespace()))
	}

	/// The answer of a verb that succeeds.
	fn answer(&self, who: &str, words: &str) -> Result<Json> {
		let output = self.run(who, words)?;
		let errors = String::from_utf8_lossy(&output.stderr);
		ensure!(output.status.success(), "{who}: {words}: {errors}");
		serde_json::from_slice(&output.stdout).context("the answer is not JSON")
	}

	/// A verb that ends with this code and says these words.
	fn fails(&self, who: &str, words: &str, code: i32, said: &str) -> Result<()> {
		let output = self.run(who, words)?;
		let errors = String::from_utf8_lossy(&output.stderr);
		let is_so = output.status.code() == Some(code) && errors.contains(said);
		ensure!(is_so, "{who}: {words}: {}: {errors}", output.status);
		Ok(())
	}

	async fn stored(&self, pallet: &str, entry: &str, key: u64) -> Result<Json> {
		self.chain.storage(pallet, entry, vec![number(key)]).await
	}

	async fn of(&self, pallet: &str, entry: &str, who: &Keypair) -> Result<Json> {
		self.chain.storage(pallet, entry, vec![bytes(&who.public_key().0)]).await
	}

	/// A new age identity's recipient.
	fn recipient(&self, name: &str) -> Result<String> {
		let answer = self.answer("Alice", &format!("key new --output {}", self.path(name)))?;
		Ok(answer["recipient"].as_str().context("no recipient")?.to_owned())
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_about_accounts_nodes_and_motions_does_what_it_says() -> Result<()> {
	let town = Town::found("s18-verbs").await?;
	// Blocks take their time, and these people have nothing to do with each other.
	let (council, operator, owner) = thread::scope(|scope| {
		let council = scope.spawn(|| council_decides(&town));
		let operator = scope.spawn(|| operator_turns_keys(&town));
		let owner = scope.spawn(|| owner_comes_and_goes(&town));
		(council.join(), operator.join(), owner.join())
	});
	let calm =
		|result: thread::Result<Result<()>>| result.unwrap_or_else(|_| panic!("it panicked"));
	calm(council).context("governance")?;
	calm(operator).context("node")?;
	calm(owner).context("subscribe, request, key")?;

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
	watch.ensure_runs()
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
		("deregister 8", "NodeDeregistered"),
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
