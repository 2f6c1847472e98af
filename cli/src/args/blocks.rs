//! Where blocks are, what opens a snapshot of them, and what is done with them as they are.

use super::values::{GatewayAddress, Machine, Revision, When, parse_cid, parse_recipient};
use backup_primitives::{Cid, Recipient};
use clap::Args;
use ipnet::IpNet;
use std::path::PathBuf;

/// Where blocks are read from: one of the first three, or with --machine the nodes that the chain
/// names.
#[derive(Debug, Args)]
pub(crate) struct From {
	/// Folder of the block store of an agent that does not run.
	#[arg(long, value_name = "DIR", group = "place")]
	pub(crate) store: Option<PathBuf>,
	/// Gateway that serves raw blocks, of a node or of IPFS; can be given more than once. One that
	/// serves only whom the chain knows is shown the owner's key; its own is taken from the chain,
	/// or from behind a '#', as 'backup copies' prints it. Without any place, --machine asks the
	/// nodes that hold copies.
	#[arg(long, value_name = "URL[#age1…]", group = "place")]
	pub(crate) gateway: Vec<GatewayAddress>,
	/// CAR file.
	#[arg(long, value_name = "FILE", group = "place")]
	pub(crate) car: Option<PathBuf>,
	/// Whose key is shown to gateways; found on the chain if not given.
	#[arg(long, value_name = "ADDRESS", conflicts_with_all = ["store", "car"])]
	pub(crate) owner: Option<String>,
	/// A network beside the public ones in which nodes that the chain names may be asked; can be
	/// given more than once.
	#[arg(long, value_name = "CIDR", env = "BACKUP_PEER_NETWORKS", value_delimiter = ',')]
	pub(crate) peer_network: Vec<IpNet>,
}

impl From {
	/// Whether a place is named.
	pub(crate) fn is_named(&self) -> bool {
		self.store.is_some() || self.car.is_some() || !self.gateway.is_empty()
	}
}

/// Which snapshot is meant.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("snapshot").required(true))]
pub(crate) struct Which {
	/// Root of the snapshot.
	#[arg(long, value_name = "CID", group = "snapshot", value_parser = parse_cid)]
	pub(crate) root: Option<Cid>,
	/// Instead of a root: the newest snapshot of this machine, named by its name or the number of
	/// its request. The chain is asked.
	#[arg(long, group = "snapshot")]
	pub(crate) machine: Option<Machine>,
	/// With --machine: the newest that was taken at this block or time, or before: 2026-05-01 in UTC, or an age such as 30d.
	#[arg(long, value_name = "BLOCK|DATE|AGE", requires = "machine", conflicts_with = "root")]
	pub(crate) at: Option<When>,
	/// With --machine: the newest of all, which is what it means anyway.
	#[arg(long, requires = "machine", conflicts_with_all = ["at", "root"])]
	pub(crate) latest: bool,
}

/// A snapshot, what opens it, and where its blocks are.
#[derive(Debug, Args)]
pub(crate) struct Unlock {
	#[command(flatten)]
	pub(crate) which: Which,
	/// File with the age identities of the owner or of the node. All of them are tried.
	#[arg(long, value_name = "FILE")]
	pub(crate) identity: PathBuf,
	/// File with an envelope that was made later, by 'backup envelope'; the root's own if not
	/// given.
	#[arg(long, value_name = "FILE")]
	pub(crate) envelope: Option<PathBuf>,
	#[command(flatten)]
	pub(crate) from: From,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
	#[command(flatten)]
	pub(crate) which: Which,
	/// File with the owner's age identity, for gateways that serve only whom the chain knows.
	#[arg(long, value_name = "FILE")]
	pub(crate) identity: Option<PathBuf>,
	#[command(flatten)]
	pub(crate) from: From,
	/// Read every block and hash it, and not only ask for it.
	#[arg(long)]
	pub(crate) read: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
	#[command(flatten)]
	pub(crate) which: Which,
	/// File with the owner's age identity, for gateways that serve only whom the chain knows.
	#[arg(long, value_name = "FILE")]
	pub(crate) identity: Option<PathBuf>,
	#[command(flatten)]
	pub(crate) from: From,
	/// File to write. It appears when it is complete; an existing one is never overwritten.
	#[arg(long, value_name = "FILE")]
	pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
	/// CAR file.
	#[arg(value_name = "FILE")]
	pub(crate) file: PathBuf,
	/// Folder of the block store; made if it is not there. Its agent must not run.
	#[arg(long, value_name = "DIR")]
	pub(crate) store: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Envelope {
	#[command(flatten)]
	pub(crate) which: Which,
	/// File with age identities that open the root.
	#[arg(long, value_name = "FILE")]
	pub(crate) identity: PathBuf,
	#[command(flatten)]
	pub(crate) from: From,
	/// Who shall open the root too; can be given more than once.
	#[arg(long, value_name = "age1…", value_parser = parse_recipient, required = true)]
	pub(crate) to: Vec<Recipient>,
	/// File to write; an existing one is never overwritten.
	#[arg(long, value_name = "FILE")]
	pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
	/// The earlier snapshot: its root, or with --machine its number.
	pub(crate) before: Revision,
	/// The later snapshot: its root, or with --machine its number.
	pub(crate) after: Revision,
	/// Whose snapshots are meant by number: a machine, by its name or the number of its request. The
	/// chain is asked.
	#[arg(long)]
	pub(crate) machine: Option<Machine>,
	/// File with the age identities of the owner or of the node. All of them are tried.
	#[arg(long, value_name = "FILE")]
	pub(crate) identity: PathBuf,
	#[command(flatten)]
	pub(crate) from: From,
	/// List the places that changed, and not only how much did.
	#[arg(long)]
	pub(crate) places: bool,
}
