//! Snapshots of a history: which ones are meant, how many are kept, and one out of turn.

use super::{
	numbers::{COUNT, NODE, REQUEST, SNAPSHOT, number},
	values::{KeepLast, Machine, When},
};
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
	/// Taken at this block or time, or later: 2026-05-01 in UTC, or an age such as 30d.
	#[arg(long, value_name = "BLOCK|DATE|AGE")]
	pub(crate) since: Option<When>,
	/// Taken at this block or time, or before.
	#[arg(long, value_name = "BLOCK|DATE|AGE")]
	pub(crate) until: Option<When>,
	/// Sealed by this node.
	#[arg(long, value_name = "ID", value_parser = number::<u64>(NODE))]
	pub(crate) by_node: Option<u64>,
	/// No more than the newest so many of each history.
	#[arg(long, value_name = "NUMBER", value_parser = number::<usize>(COUNT))]
	pub(crate) newest: Option<usize>,
}

/// What is deleted of a backup.
#[derive(Clone, Debug, Args)]
pub(crate) struct Delete {
	/// The machine: its name, or the number of its request.
	pub(crate) machine: Machine,
	/// Places of the snapshots in the history; the whole backup if none is given.
	#[arg(value_name = "SEQUENCE", value_parser = number::<u64>(SNAPSHOT))]
	pub(crate) sequences: Vec<u64>,
	/// The snapshots taken at this block or time, or before: 2026-05-01 in UTC, or an age such as 30d.
	/// Those that are held stay.
	#[arg(long, value_name = "BLOCK|DATE|AGE", conflicts_with = "sequences")]
	pub(crate) until: Option<When>,
	/// Do not ask.
	#[arg(long)]
	pub(crate) yes: bool,
}

/// What an owner changes about a backup.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SettingsChange {
	/// Take no snapshots, until it is resumed.
	#[arg(long, alias = "paused", conflicts_with = "resume")]
	pub(crate) pause: bool,
	/// Take snapshots again.
	#[arg(long)]
	pub(crate) resume: bool,
	/// How many snapshots to keep; `default` for as many as the chain keeps of any backup.
	#[arg(long, value_name = "NUMBER|default")]
	pub(crate) keep_last: Option<KeepLast>,
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
		#[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = number::<u32>(COUNT))]
		places: u32,
	},
	/// Carry out a deletion that is due, or close one that nodes have not confirmed in time.
	CloseDeletion {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Place of the snapshot in the history; the whole backup if not given.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
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
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
	},
}
