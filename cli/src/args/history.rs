//! Snapshots of a history: which ones are meant, and one out of turn.

use super::values::{Machine, When};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Snapshots {
	/// The machine, by its name or the number of its request; all of the owner if not given.
	pub(crate) machine: Option<Machine>,
	/// Whose backups; the account of the secret if not given.
	#[arg(long, value_name = "ADDRESS")]
	pub(crate) owner: Option<String>,
	#[command(flatten)]
	pub(crate) filter: Filter,
	/// Draw each history as a tree, with what is missing in it.
	#[arg(long)]
	pub(crate) tree: bool,
}

/// Which snapshots of a history are meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Filter {
	/// Taken at this block, or date in UTC, or later.
	#[arg(long, value_name = "BLOCK|DATE")]
	pub(crate) since: Option<When>,
	/// Taken at this block, or date in UTC, or before.
	#[arg(long, value_name = "BLOCK|DATE")]
	pub(crate) until: Option<When>,
	/// Sealed by this node.
	#[arg(long, value_name = "ID")]
	pub(crate) by_node: Option<u64>,
	/// No more than the newest so many of each history.
	#[arg(long, value_name = "NUMBER")]
	pub(crate) newest: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
	/// Ask for a snapshot of a machine before it is due.
	Now {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
}

#[derive(Debug, Subcommand)]
pub(crate) enum Upkeep {
	/// Evict what a history has too much, after its settings or holds have changed.
	Prune {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// How many places of the history are looked at.
		#[arg(long, value_name = "NUMBER", default_value_t = 64)]
		places: u32,
	},
	/// Carry out a deletion that is due, or close one that nodes have not confirmed in time.
	CloseDeletion {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Place of the snapshot in the history; the whole backup if not given.
		sequence: Option<u64>,
	},
	/// Have other nodes chosen in place of those with copies that are silent or gone.
	ReplaceHolders {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
	/// Take back the deposit for a history that is gone.
	ReclaimDeposit {
		/// The request.
		request: u64,
	},
}
