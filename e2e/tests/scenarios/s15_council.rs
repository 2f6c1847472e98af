//! A council of three decides about backups, with the command and with polkadot.js: a motion is carried out when
//! enough members said aye, and not before; one that is turned down changes nothing.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	book, chain::Chain, command, lab::Lab, network::wait_for_peers, node::Node, script,
};
use serde_json::{Value as Json, json};
use std::{fs, path::PathBuf, process::Output};

/// The council, and somebody who is no member.
const MEMBERS: [&str; 3] = ["Alice", "Bob", "Charlie"];
const STRANGER: &str = "Dave";

/// Exit codes that the command documents.
const REFUSED: i32 = 4;
const NOT_ALLOWED: i32 = 12;

/// A chain whose authorities are its council.
struct Chamber {
	chain: Chain,
	nodes: Vec<Node>,
	// Goes last, with the folder that the nodes write to.
	lab: Lab,
}

impl Chamber {
	async fn open() -> Result<Self> {
		let lab = Lab::new("s15-council")?;
		let mut nodes = Node::prepare_authorities(&lab)?;
		for node in &mut nodes {
			node.start()?;
		}
		// Nodes that have not met yet may each have begun a chain, of which one stays.
		for node in &mut nodes {
			wait_for_peers(&node.connect().await?, MEMBERS.len() - 1).await?;
		}
		let chain = nodes[0].connect().await?;
		for name in MEMBERS.into_iter().chain([STRANGER]) {
			fs::write(lab.path().join(name), format!("//{name}"))?;
		}
		Ok(Self { chain, nodes, lab })
	}

	fn secret(&self, who: &str) -> PathBuf {
		self.lab.path().join(who)
	}

	fn run(&self, who: &str, words: &str) -> Result<Output> {
		let node = self.nodes[0].url();
		let secret = self.secret(who);
		let secret = secret.to_str().context("the folder's name is not text")?;
		let who = ["--node", &node, "--secret-file", secret, "governance"];
		command::run(who.into_iter().chain(words.split_whitespace()))
	}

	/// The answer of a verb that succeeds.
	fn answer(&self, who: &str, words: &str) -> Result<Json> {
		let output = self.run(who, words)?;
		let errors = String::from_utf8_lossy(&output.stderr);
		ensure!(output.status.success(), "{who}: {words}: {errors}");
		serde_json::from_slice(&output.stdout).context("the answer is not JSON")
	}

	/// Have the chain refuse a verb with an error, for which the command has a code.
	fn assert_refused(&self, who: &str, words: &str, error: &str, code: i32) -> Result<()> {
		let output = self.run(who, words)?;
		let errors = String::from_utf8_lossy(&output.stderr);
		ensure!(output.status.code() == Some(code) && errors.contains(error), "{who}: {errors}");
		Ok(())
	}

	async fn is_paused(&self) -> Result<bool> {
		Ok(self.chain.storage("Backup", "Paused", vec![]).await? == true)
	}

	async fn settings(&self) -> Result<Json> {
		self.chain.storage("Backup", "Settings", vec![]).await
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_motion_is_carried_out_with_enough_votes_and_not_before() -> Result<()> {
	let chamber = Chamber::open().await?;
	chamber.assert_refused(STRANGER, "propose pause", "NotMember", NOT_ALLOWED)?;
	let proposed = chamber.answer("Alice", "propose pause")?;
	ensure!(proposed["threshold"] == 2 && proposed["members"] == 3, "{proposed}");
	let motion = proposed["motion"].as_u64().context("no motion was made")?;
	chamber.assert_refused(STRANGER, &format!("vote {motion} --aye"), "NotMember", NOT_ALLOWED)?;

	chamber.answer("Alice", &format!("vote {motion} --aye"))?;
	chamber.assert_refused("Alice", &format!("close {motion}"), "TooEarly", REFUSED)?;
	ensure!(!chamber.is_paused().await?, "one member of three has paused the chain");
	let open = chamber.answer("Bob", "motions")?;
	ensure!(open["motions"][0]["ayes"].as_array().is_some_and(|ayes| ayes.len() == 1), "{open}");

	chamber.answer("Bob", &format!("vote {motion} --aye"))?;
	let closed = chamber.answer("Charlie", &format!("close {motion}"))?;
	ensure!(closed["state"] == "executed", "{closed}");
	ensure!(chamber.is_paused().await?, "the motion was carried out and nothing is paused");
	let open = chamber.answer("Bob", "motions")?;
	ensure!(open["motions"].as_array().is_some_and(Vec::is_empty), "{open}");
	Ok(())
}

/// The program of the book's page, as it stands there: three motions of two ayes each.
#[tokio::test(flavor = "multi_thread")]
async fn polkadotjs_has_the_council_set_the_cadence_pause_and_resume() -> Result<()> {
	script::install("polkadotjs")?;
	let chamber = Chamber::open().await?;
	let url = chamber.nodes[0].url();
	let page = book::pages().join("governance.md").to_string_lossy().into_owned();
	let words = move || script::run("polkadotjs", &["guide.mjs", &url, &page]);
	let seen = tokio::task::spawn_blocking(words).await??;
	ensure!(seen["logged"] == json!([77, true, false]), "{seen}");
	// On chain, too, by another client.
	ensure!(chamber.settings().await?["frequency"] == 77, "{}", chamber.settings().await?);
	ensure!(!chamber.is_paused().await?, "the chain was not resumed");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_one_by_one_and_a_motion_that_is_turned_down_changes_none() -> Result<()> {
	let chamber = Chamber::open().await?;
	let before = chamber.settings().await?;
	let decide = |words: &str, word: &str| -> Result<Json> {
		let motion = &chamber.answer("Alice", words)?["motion"];
		for member in &MEMBERS[..2] {
			chamber.answer(member, &format!("vote {motion} --{word}"))?;
		}
		chamber.answer("Alice", &format!("close {motion}"))
	};
	let closed = decide("propose set keep_last=9", "nay")?;
	ensure!(closed["state"] == "disapproved", "{closed}");
	ensure!(chamber.settings().await? == before, "a motion that was turned down changed something");

	decide("propose set keep_last=9", "aye")?;
	decide("propose cadence 77", "aye")?;
	decide("propose set min_frequency=70 max_frequency=90", "aye")?;
	let mut expected = before;
	expected["keep_last"] = 9.into();
	expected["frequency"] = 77.into();
	expected["min_frequency"] = 70.into();
	expected["max_frequency"] = 90.into();
	for (words, error) in [
		("propose cadence 91", "FrequencyOutOfBounds"),
		("propose set min_frequency=78", "FrequencyOutOfBounds"),
		("propose set min_frequency=91", "FrequencyBoundsInvalid"),
		("propose set min_frequency=4", "FrequencyBoundsInvalid"),
	] {
		let refused = decide(words, "aye").expect_err("it is out of bounds").to_string();
		ensure!(refused.contains(error), "{words}: {refused}");
	}
	let after = chamber.settings().await?;
	ensure!(after == expected, "{after}");
	Ok(())
}
