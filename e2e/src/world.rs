//! All of it together: a chain with a registered node, its agent, and machines on demand.

use crate::{
	agent::Agent,
	chain::Chain,
	guest::{Guest, GuestOptions, make_disk, make_guest},
	host::Host,
	lab::Lab,
	network,
	node::Node,
	story::{self, Identity, Pace},
};
use anyhow::{Context, Result};
use backup_primitives::VmTag;
use sha2::{Digest, Sha256};
use std::{
	fs::File,
	io::{self, Read},
	path::{Path, PathBuf},
	time::Duration,
};
use subxt_signer::sr25519::Keypair;

/// How long a guest may take to boot, without hardware acceleration.
pub const BOOT_TIME_MAX: Duration = Duration::from_secs(120);

/// How long a snapshot may take from being due to being recorded.
pub const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(120);

/// How long a guest may take to obey.
pub const COMMAND_TIME_MAX: Duration = Duration::from_secs(120);

/// A chain, its node and its agent. Dropped, all of it ends.
#[derive(Debug)]
pub struct World {
	/// Connection to the node.
	pub chain: Chain,
	/// The agent.
	pub agent: Agent,
	/// The node.
	pub node: Node,
	/// The chain's other authorities.
	pub peers: Vec<Peer>,
	/// The folder. The last to go.
	pub lab: Lab,
}

/// An authority beside the operator's node. It hosts no machines.
#[derive(Debug)]
pub struct Peer {
	/// Connection to it.
	pub chain: Chain,
	/// The node.
	pub node: Node,
}

/// A machine of an owner, with its request on chain.
#[derive(Debug)]
pub struct Machine {
	/// The machine that runs.
	pub guest: Guest,
	/// Its disk.
	pub disk: PathBuf,
	/// Its request.
	pub request: u64,
	/// The tag that it carries.
	pub tag: VmTag,
	/// Name in the agent's inventory.
	pub name: String,
	/// Its owner's identity.
	pub identity: Identity,
	/// Its owner.
	pub owner: Keypair,
}

impl World {
	/// Start node and agent, set the chain's pace, register the node.
	pub async fn start(name: &str, pace: Pace) -> Result<Self> {
		let lab = Lab::new(name)?;
		let programs = start_alone(&lab, pace).await;
		Self::of(lab, programs)
	}

	/// The same on a chain of three authorities, one of which is the node. The chain keeps the
	/// pace that it begins with.
	pub async fn start_network(name: &str) -> Result<Self> {
		let lab = Lab::new(name)?;
		let programs = start_network(&lab).await;
		Self::of(lab, programs)
	}

	fn of(lab: Lab, programs: Result<Programs>) -> Result<Self> {
		match programs {
			Ok(Programs { chain, agent, node, peers }) => {
				Ok(Self { chain, agent, node, peers, lab })
			}
			Err(error) => {
				eprintln!("{}", lab.logs());
				Err(error)
			}
		}
	}

	/// Start the node again after it ended.
	pub async fn resume_node(&mut self) -> Result<()> {
		self.node.start()?;
		self.chain = self.node.connect().await?;
		Ok(())
	}

	/// An owner's machine that runs and is known to chain and agent. Its owner has no key
	/// yet, so no snapshot is due.
	pub async fn machine(&self, owner: &Keypair, name: &str, disk_mib: u64) -> Result<Machine> {
		self.full_machine(owner, name, disk_mib, 0).await
	}

	/// The same, with QEMU's guest agent in it.
	pub async fn machine_with_agent(
		&self,
		owner: &Keypair,
		name: &str,
		disk_mib: u64,
	) -> Result<Machine> {
		let place = (&self.agent, &story::operator(), story::NODE);
		let make = Make { disk_mib, noise_mib: 0, has_agent: true };
		self.make_machine(place, owner, name, make).await
	}

	/// The same, with so much noise of all that is on its disk that jobs take a while.
	pub async fn full_machine(
		&self,
		owner: &Keypair,
		name: &str,
		disk_mib: u64,
		noise_mib: u64,
	) -> Result<Machine> {
		let place = (&self.agent, &story::operator(), story::NODE);
		let make = Make { disk_mib, noise_mib, has_agent: false };
		self.make_machine(place, owner, name, make).await
	}

	/// A machine on another node than the operator's.
	pub async fn machine_on(
		&self,
		host: &Host,
		owner: &Keypair,
		name: &str,
		disk_mib: u64,
	) -> Result<Machine> {
		self.full_machine_on(host, owner, name, disk_mib, 0).await
	}

	/// The same, with noise on its disk.
	pub async fn full_machine_on(
		&self,
		host: &Host,
		owner: &Keypair,
		name: &str,
		disk_mib: u64,
		noise_mib: u64,
	) -> Result<Machine> {
		let place = (&host.agent, &host.operator, host.id);
		let make = Make { disk_mib, noise_mib, has_agent: false };
		self.make_machine(place, owner, name, make).await
	}

	async fn make_machine(
		&self,
		(agent, operator, node): (&Agent, &Keypair, u32),
		owner: &Keypair,
		name: &str,
		Make { disk_mib, noise_mib, has_agent }: Make,
	) -> Result<Machine> {
		let request = story::order_machine(&self.chain, owner, disk_mib << 20).await?;
		let tag = story::vm_tag(&self.chain, request, owner);
		let disk = self.lab.path().join(format!("{name}.raw"));
		make_disk(&disk, disk_mib - noise_mib)?;
		add_noise(&disk, noise_mib)?;
		let options = self.guest_options(name, &disk, "raw", tag)?;
		let guest = Guest::start(&GuestOptions { has_agent, ..options })?;
		agent.add_machine(name, tag, Some(&guest.backup_qmp()), &disk)?;
		if has_agent {
			agent.add_guest_agent(name, &guest.agent_socket())?;
		}
		story::fulfil_on(&self.chain, operator, node, request, name).await?;
		guest.wait_ready(BOOT_TIME_MAX)?;
		let identity = Identity::new(self.lab.path(), &format!("{name}.key"))?;
		let name = name.to_owned();
		Ok(Machine { guest, disk, request, tag, name, identity, owner: owner.clone() })
	}

	/// Start a guest on a disk.
	pub fn boot(&self, name: &str, disk: &Path, tag: VmTag) -> Result<Guest> {
		self.boot_on(name, disk, "raw", tag)
	}

	/// The same, on an image of another format.
	pub fn boot_on(&self, name: &str, disk: &Path, format: &str, tag: VmTag) -> Result<Guest> {
		Ok(Guest::start(&self.guest_options(name, disk, format, tag)?)?)
	}

	fn guest_options(
		&self,
		name: &str,
		disk: &Path,
		format: &str,
		tag: VmTag,
	) -> Result<GuestOptions> {
		Ok(GuestOptions {
			dir: self.lab.path().join(name),
			disk_image: disk.to_owned(),
			disk_format: format.into(),
			uuid: tag.to_string(),
			memory_mib: 256,
			has_agent: false,
			guest_cache_dir: make_guest()?,
		})
	}

	/// The owner registers the key, and snapshots begin.
	pub async fn begin_backups(&self, machine: &Machine) -> Result<()> {
		story::register_key(&self.chain, &machine.owner, machine.identity.recipient).await
	}
}

/// What a machine has.
#[derive(Clone, Copy)]
struct Make {
	disk_mib: u64,
	noise_mib: u64,
	has_agent: bool,
}

/// A world without its folder.
struct Programs {
	chain: Chain,
	agent: Agent,
	node: Node,
	peers: Vec<Peer>,
}

async fn start_alone(lab: &Lab, pace: Pace) -> Result<Programs> {
	let programs = start_programs(lab, Node::prepare(lab)?, Vec::new()).await?;
	story::open(&programs.chain, pace, programs.agent.contact()).await?;
	Ok(programs)
}

async fn start_network(lab: &Lab) -> Result<Programs> {
	let mut nodes = Node::prepare_authorities(lab)?;
	let node = nodes.remove(0);
	let programs = start_programs(lab, node, nodes).await?;
	let Programs { chain, agent, peers, .. } = &programs;
	// Nodes that have not met yet may each have begun a chain, of which one stays.
	for chain in peers.iter().map(|peer| &peer.chain).chain([chain]) {
		network::wait_for_peers(chain, peers.len()).await?;
	}
	story::register_node(chain, &story::operator(), story::NODE, agent.contact()).await?;
	Ok(programs)
}

/// Start the operator's node with its agent, and the others beside it.
async fn start_programs(lab: &Lab, mut node: Node, mut others: Vec<Node>) -> Result<Programs> {
	let mut agent = Agent::prepare(lab, &node.url())?;
	node.use_agent(agent.url(), agent.secret_file());
	node.start()?;
	for other in &mut others {
		other.start()?;
	}
	agent.start().await?;
	let chain = node.connect().await?;
	let mut peers = Vec::new();
	for mut node in others {
		peers.push(Peer { chain: node.connect().await?, node });
	}
	Ok(Programs { chain, agent, node, peers })
}

/// Run a scenario. When it fails, it says why and prints the logs.
pub async fn scenario(name: &str, pace: Pace, act: impl AsyncFnOnce(&mut World) -> Result<()>) {
	play(name, World::start(name, pace).await, act).await;
}

/// The same on a chain of three authorities.
pub async fn network_scenario(name: &str, act: impl AsyncFnOnce(&mut World) -> Result<()>) {
	play(name, World::start_network(name).await, act).await;
}

async fn play(name: &str, world: Result<World>, act: impl AsyncFnOnce(&mut World) -> Result<()>) {
	let mut world = match world {
		Ok(world) => world,
		Err(error) => panic!("the scenario {name} could not begin: {error:#}"),
	};
	if let Err(error) = act(&mut world).await {
		// Here, so that the logs are still there when they are printed.
		panic!("the scenario {name} failed: {error:#}");
	}
}

/// Put what does not compress behind the file system of a disk that no machine has yet. A file there
/// would take far longer to be made.
fn add_noise(disk: &Path, mib: u64) -> Result<()> {
	let mut source = File::open("/dev/urandom").context("no noise")?.take(mib << 20);
	let mut disk = File::options().append(true).open(disk).context("failed to open a disk")?;
	io::copy(&mut source, &mut disk).context("failed to make noise")?;
	Ok(())
}

/// SHA2-256 of a file, in hexadecimal digits.
pub fn checksum(path: &Path) -> Result<String> {
	let context = || format!("failed to read {}", path.display());
	let mut file = File::open(path).with_context(context)?;
	let mut hasher = Sha256::new();
	let mut buffer = vec![0; 1 << 20];
	loop {
		match file.read(&mut buffer).with_context(context)? {
			0 => return Ok(hex::encode(hasher.finalize())),
			count => hasher.update(&buffer[..count]),
		}
	}
}
