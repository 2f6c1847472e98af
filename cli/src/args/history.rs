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
