//! A town of people with secrets around a chain without machines, and the command `backup` as each of them.

use anyhow::{Context, Result};
use backup_e2e::{
	chain::{Chain, bytes, number},
	command,
	lab::Lab,
	node::Node,
};
use serde_json::Value as Json;
use std::{fs, process::Output, thread};
use subxt_signer::sr25519::Keypair;

/// A chain of one node, and people with secrets. Alice is its council.
pub(crate) struct Town {
	pub(crate) chain: Chain,
	pub(crate) node: Node,
	// Goes last, with the folder that the node writes to.
	pub(crate) lab: Lab,
}

impl Town {
	pub(crate) async fn found(name: &str) -> Result<Self> {
		Self::found_with(name, Vec::new()).await
	}

	/// The same on a chain that begins with these entries in its state.
	pub(crate) async fn found_with(name: &str, past: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Self> {
		let lab = Lab::new(name)?;
		let mut node = Node::prepare_with(&lab, past)?;
		node.start()?;
		let chain = node.connect().await?;
		for name in ["Alice", "Bob", "Charlie", "Dave"] {
			fs::write(lab.path().join(name), format!("//{name}"))?;
		}
		Ok(Self { chain, node, lab })
	}

	pub(crate) fn path(&self, name: &str) -> String {
		self.lab.path().join(name).display().to_string()
	}

	fn run(&self, who: &str, words: &str) -> Result<Output> {
		let (node, secret) = (self.node.url(), self.path(who));
		let who = ["--node", &node, "--secret-file", &secret];
		command::run(who.into_iter().chain(words.split_whitespace()))
	}

	/// The answer of a verb that succeeds.
	pub(crate) fn answer(&self, who: &str, words: &str) -> Result<Json> {
		command::answer_of(&self.run(who, words)?, who, words)
	}

	/// A verb that ends with this code and says these words.
	pub(crate) fn fails(&self, who: &str, words: &str, code: i32, said: &str) -> Result<()> {
		command::ensure_fails(&self.run(who, words)?, who, words, code, said)
	}

	pub(crate) async fn stored(&self, pallet: &str, entry: &str, key: u64) -> Result<Json> {
		self.chain.storage(pallet, entry, vec![number(key)]).await
	}

	pub(crate) async fn of(&self, pallet: &str, entry: &str, who: &Keypair) -> Result<Json> {
		self.chain.storage(pallet, entry, vec![bytes(&who.public_key().0)]).await
	}

	/// A new age identity's recipient.
	pub(crate) fn recipient(&self, name: &str) -> Result<String> {
		let answer = self.answer("Alice", &format!("key new --output {}", self.path(name)))?;
		Ok(answer["recipient"].as_str().context("no recipient")?.to_owned())
	}
}

/// People who have nothing to do with each other, side by side: blocks take their time.
pub(crate) fn all_of<const PEOPLE: usize>(
	people: [&(dyn Fn() -> Result<()> + Sync); PEOPLE],
) -> Result<()> {
	thread::scope(|scope| {
		let busy = people.map(|one| scope.spawn(one));
		let ends = busy.map(|one| one.join().unwrap_or_else(|_| panic!("it panicked")));
		ends.into_iter().collect()
	})
}
