//! A further node, which makes no blocks, with an agent of its own: it runs machines, or holds copies
//! of those of others.

use crate::{
	agent::Agent,
	chain::Chain,
	front::Front,
	link::Link,
	network::wait_for_peers,
	node::Node,
	story::{self, Contact},
	world::World,
};
use anyhow::{Context, Result};
use serde_json::json;
use subxt_signer::sr25519::Keypair;

/// A node and its agent. Dropped, both end.
#[derive(Debug)]
pub struct Host {
	/// Its number on chain.
	pub id: u32,
	/// Who runs it.
	pub operator: Keypair,
	/// Connection to it.
	pub chain: Chain,
	/// The agent.
	pub agent: Agent,
	/// The node.
	pub node: Node,
}

impl Host {
	/// Start one and register it. `suri` is the secret of its operator, and of its authority.
	pub async fn start(world: &World, id: u32, operator: Keypair, suri: &str) -> Result<Self> {
		Self::start_with(world, id, operator, suri, Agent::contact).await
	}

	/// The same, where others reach its agent on a line.
	pub async fn start_on(
		world: &World,
		id: u32,
		operator: Keypair,
		suri: &str,
		link: &Link,
	) -> Result<Self> {
		Self::start_with(world, id, operator, suri, |agent| agent.contact_on(link)).await
	}

	/// The same, where others reach its agent behind these alone.
	pub async fn start_behind(
		world: &World,
		id: u32,
		operator: Keypair,
		suri: &str,
		fronts: &[Front],
	) -> Result<Self> {
		Self::start_with(world, id, operator, suri, |agent| agent.contact_behind(fronts)).await
	}

	async fn start_with(
		world: &World,
		id: u32,
		operator: Keypair,
		suri: &str,
		contact: impl FnOnce(&Agent) -> Contact,
	) -> Result<Self> {
		let node = format!("node-{id}");
		let mut node = Node::prepare_host(&world.lab, &node, &world.chain, suri).await?;
		let folder = world.lab.path().join(format!("agent-{id}"));
		let mut agent = Agent::prepare_at(&world.lab, &node.url(), folder)?;
		node.use_agent(agent.url(), agent.secret_file());
		node.start()?;
		agent.start().await?;
		let chain = node.connect().await?;
		story::register_node(&world.chain, &operator, id, contact(&agent)).await?;
		Ok(Self { id, operator, chain, agent, node })
	}

	/// Cut its node off from the chain's others, and wait until no link is left. The one that it
	/// follows is its only peer.
	pub async fn cut_off(&self) -> Result<()> {
		let (_, peer_id) = self.followed()?;
		self.chain.rpc("system_removeReservedPeer", &[json!(peer_id)]).await?;
		wait_for_peers(&self.chain, 0).await
	}

	/// Join its node with the chain again, and wait until it is.
	pub async fn rejoin(&self) -> Result<()> {
		let (address, _) = self.followed()?;
		self.chain.rpc("system_addReservedPeer", &[json!(address)]).await?;
		wait_for_peers(&self.chain, 1).await
	}

	/// The address of the node that it follows, and its name in the network.
	fn followed(&self) -> Result<(&str, &str)> {
		let address = self.node.followed().context("this node follows none")?;
		let (_, peer_id) = address.rsplit_once('/').context("an address ends with a name")?;
		Ok((address, peer_id))
	}

	/// Lose it with all that it has, as with the machine that it is.
	pub fn destroy(&mut self) -> Result<()> {
		self.node.kill()?;
		self.agent.destroy()
	}
}
