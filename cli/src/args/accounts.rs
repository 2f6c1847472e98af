//! What accounts register and ask for: keys, nodes, machines.

use super::values::parse_recipient;
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
	Register {
		/// The recipient, age1…
		#[arg(value_parser = parse_recipient, required_unless_present = "identity")]
		recipient: Option<Recipient>,
		/// File with an identity, whose recipient is registered.
		#[arg(long, value_name = "FILE", conflicts_with = "recipient")]
		identity: Option<PathBuf>,
	},
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
	/// Register a node with its authority key and its agent's recipient.
	Register {
		/// Id of the node, free to choose.
		#[arg(long)]
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
	/// Ask for a machine.
	Create {
		/// What its disks may hold in all, in bytes.
		#[arg(long, value_name = "BYTES")]
		disk_bytes: u64,
	},
	/// Take a request for a node.
	Assign {
		/// The request.
		request: u64,
		/// The node that takes it.
		#[arg(long, value_name = "ID")]
		to: u32,
	},
	/// Say that the machine of a request runs.
	Fulfil {
		/// The request.
		request: u64,
		/// Name of the machine, as the node's agent knows it.
		#[arg(long, value_name = "NAME")]
		vm: String,
	},
	/// Print the UUID that the machine of a request must have.
	Tag {
		/// The request.
		request: u64,
	},
	/// End a request. Its snapshots stay.
	End {
		/// The request.
		request: u64,
	},
}
