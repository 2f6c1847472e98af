//! The places of a chain's authorities in their network, and the links between them, which can be
//! cut and joined while the nodes run.
//!
//! Nodes speak with reserved peers only, so a node that is no reserved peer any more is out of
//! reach for blocks, transactions and votes alike, although its process never notices.

use crate::{
	chain::Chain,
	lab::free_port,
	wait,
	world::{Peer, World},
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
	path::{Path, PathBuf},
	process::Command,
	time::Duration,
};

/// How long a link may take to come or go. Nodes try again every few seconds.
const LINK_TIME_MAX: Duration = Duration::from_secs(60);

/// A node's place in a network: its peers know it before it starts, and find it again after a
/// restart.
#[derive(Clone, Debug)]
pub struct Seat {
	/// The file with its key.
	pub key_file: PathBuf,
	/// The name that the network knows it by.
	pub peer_id: String,
	/// Where it listens.
	pub port: u16,
}

impl Seat {
	/// Make a key in this file, and choose a port.
	pub fn make(program: &Path, key_file: PathBuf) -> Result<Self> {
		let output = Command::new(program)
			.args(["key", "generate-node-key", "--file"])
			.arg(&key_file)
			.output()
			.context("failed to run backup-node")?;
		// The key goes to the file, the name that follows from it to the standard error.
		let words = String::from_utf8(output.stderr)?;
		ensure!(output.status.success(), "backup-node made no key: {words}");
		Ok(Self { key_file, peer_id: words.trim().to_owned(), port: free_port()? })
	}

	/// Where others find it.
	pub fn address(&self) -> String {
		format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", self.port, self.peer_id)
	}
}

impl World {
	/// Cut the operator's node off from all others, and wait until no link is left.
	pub async fn cut_off(&self) -> Result<()> {
		let own = self.node.seat()?;
		for Peer { chain, node } in &self.peers {
			let other = node.seat()?;
			self.chain.rpc("system_removeReservedPeer", &[json!(other.peer_id)]).await?;
			chain.rpc("system_removeReservedPeer", &[json!(own.peer_id)]).await?;
		}
		self.wait_for_links(0, self.peers.len() - 1).await
	}

	/// Join the operator's node with all others again, and wait until it is.
	pub async fn rejoin(&self) -> Result<()> {
		let own = self.node.seat()?;
		for Peer { chain, node } in &self.peers {
			let other = node.seat()?;
			self.chain.rpc("system_addReservedPeer", &[json!(other.address())]).await?;
			chain.rpc("system_addReservedPeer", &[json!(own.address())]).await?;
		}
		self.wait_for_links(self.peers.len(), self.peers.len()).await
	}

	/// Wait until the operator's node has so many peers, and so many each of the others.
	async fn wait_for_links(&self, own: usize, others: usize) -> Result<()> {
		wait_for_peers(&self.chain, own).await?;
		for peer in &self.peers {
			wait_for_peers(&peer.chain, others).await?;
		}
		Ok(())
	}
}

/// Wait until a node has so many peers.
pub async fn wait_for_peers(chain: &Chain, count: usize) -> Result<()> {
	wait::until_async(&format!("{count} peers"), LINK_TIME_MAX, || async move {
		let peers = chain.rpc("system_peers", &[]).await?;
		let found = peers.as_array().context("peers are a list")?.len();
		Ok((found == count).then_some(()))
	})
	.await
}
