//! What accounts register and ask for: keys, nodes, machines.

use super::{
	numbers::{NODE, REQUEST, number, parse_bytes},
	values::{Machine, parse_recipient},
};
use backup_primitives::Recipient;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
	/// Make a new age identity and print its recipient.
	New {
		/// File to write the identity to, readable only by its owner; standard output if
		/// not given.
		#[arg(long, value_name = "FILE")]
		output: Option<PathBuf>,
	},
	/// Register the key that backups of the account are sealed to.
	#[command(group = clap::ArgGroup::new("key").required(true))]
	Register {
		/// The recipient, age1…
		#[arg(value_parser = parse_recipient, group = "key")]
		recipient: Option<Recipient>,
		/// File with an identity, whose recipient is registered.
		#[arg(long, value_name = "FILE", group = "key")]
		identity: Option<PathBuf>,
	},
	/// Print the recipients of a file's identities, which needs no chain; without a file the keys
	/// that an account has registered.
	Show {
		/// File with identities.
		#[arg(long, value_name = "FILE", conflicts_with = "owner")]
		identity: Option<PathBuf>,
		/// Whose keys; the account of the secret if not given.
		#[arg(long, value_name = "ADDRESS")]
		owner: Option<String>,
	},
	/// Print the identities of a file as 24 words each, to be kept on paper. Whoever reads them can
	/// open the backups.
	Words {
		/// File with identities.
		#[arg(long, value_name = "FILE")]
		identity: PathBuf,
	},
	/// Make an identity again from the 24 words on paper, which it asks for.
	Recover {
		/// File to write the identity to, readable only by its owner.
		#[arg(long, value_name = "FILE")]
		output: PathBuf,
	},
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
	/// Register a node with its authority key and its agent's recipient.
	Register {
		/// Id of the node, free to choose.
		#[arg(long, value_parser = number::<u32>(NODE))]
		id: u32,
		/// File with the secret of the node's authority key, to prove that it is there. The
		/// variable BACKUP_AUTHORITY_SECRET can hold it too; on a terminal it is asked for.
		#[arg(long, alias = "authority-suri-file", value_name = "FILE")]
		authority_secret_file: Option<PathBuf>,
		/// Recipient of the node's agent, age1…
		#[arg(long, value_name = "age1…", value_parser = parse_recipient)]
		recipient: Recipient,
		/// Where the node's blocks can be fetched; up to four times.
		#[arg(long, value_name = "URL")]
		gateway: Vec<String>,
	},
	/// Give a node another authority key and another recipient.
	Rotate {
		/// Id of the node.
		#[arg(long, value_parser = number::<u32>(NODE))]
		id: u32,
		/// File with the secret of the new authority key. The variable BACKUP_AUTHORITY_SECRET can
		/// hold it too; on a terminal it is asked for.
		#[arg(long, value_name = "FILE")]
		authority_secret_file: Option<PathBuf>,
		/// Recipient of the node's agent from now on, age1…
		#[arg(long, value_name = "age1…", value_parser = parse_recipient)]
		recipient: Recipient,
	},
	/// Take a node off the chain, for good: its id is never given again.
	Deregister {
		/// Id of the node.
		#[arg(long, value_parser = number::<u32>(NODE))]
		id: u32,
		/// Do not ask.
		#[arg(long)]
		yes: bool,
	},
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
	/// Ask for a machine.
	Create {
		/// What its disks may hold in all: bytes, or with a unit as 64M and 10GiB.
		#[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
		disk_bytes: u64,
	},
	/// Take a request for a node.
	Assign {
		/// The request.
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
		/// The node that takes it.
		#[arg(long, value_name = "ID", value_parser = number::<u32>(NODE))]
		to: u32,
	},
	/// Say that the machine of a request runs.
	Fulfil {
		/// The request.
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
		/// Name of the machine, as the node's agent knows it.
		#[arg(long, value_name = "NAME")]
		vm: String,
	},
	/// Print the UUID that the machine of a request must have.
	Tag {
		/// The request.
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
	},
	/// Take a machine from its node, so that another one may run it. Its snapshots stay, and its
	/// history goes on there.
	Release {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
	/// End a request. Its snapshots stay.
	End {
		/// The request.
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
	},
}
