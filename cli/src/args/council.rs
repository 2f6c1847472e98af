//! The council: motions, and what they are about.

use super::{
	numbers::{AMOUNT, BLOCKS, MEMBERS, MOTION, NODE, REQUEST, SNAPSHOT, number},
	values::parse_setting,
};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Governance {
	/// Propose a motion, as a member of the council.
	Propose {
		#[command(subcommand)]
		motion: Motion,
		/// How many members must say aye; more than half of them if not given.
		#[arg(long, value_name = "MEMBERS", value_parser = number::<u32>(MEMBERS))]
		threshold: Option<u32>,
	},
	/// List the motions that are open.
	Motions,
	/// Vote on a motion, as a member of the council.
	#[command(group = clap::ArgGroup::new("word").required(true))]
	Vote {
		/// The motion's number.
		#[arg(value_parser = number::<u32>(MOTION))]
		motion: u32,
		/// For it.
		#[arg(long, group = "word")]
		aye: bool,
		/// Against it.
		#[arg(long, group = "word")]
		nay: bool,
	},
	/// Close a motion that has enough votes, or whose time is over; approved, it is carried out.
	Close {
		/// The motion's number.
		#[arg(value_parser = number::<u32>(MOTION))]
		motion: u32,
	},
}

/// What a motion does.
#[derive(Debug, Subcommand)]
pub(crate) enum Motion {
	/// Pause all backups and deletions of the chain.
	Pause,
	/// Resume them.
	Resume,
	/// Set the cadence of accounts that set none.
	Cadence {
		/// Blocks from one snapshot to the next.
		#[arg(value_parser = number::<u32>(BLOCKS))]
		blocks: u32,
	},
	/// Let a node hold copies of other nodes' snapshots.
	Admit {
		/// Id of the node.
		#[arg(value_name = "NODE", value_parser = number::<u32>(NODE))]
		id: u32,
	},
	/// Let a node hold no new copies.
	Dismiss {
		/// Id of the node.
		#[arg(value_name = "NODE", value_parser = number::<u32>(NODE))]
		id: u32,
	},
	/// Take a node off the chain, for good.
	Deregister {
		/// Id of the node.
		#[arg(value_name = "NODE", value_parser = number::<u32>(NODE))]
		id: u32,
		/// Do not ask.
		#[arg(long)]
		yes: bool,
	},
	/// Keep a snapshot, and its request, from deletion.
	Hold {
		/// The request.
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
		/// Place of the snapshot in the history.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: u64,
	},
	/// Give up such a hold.
	Release {
		/// The request.
		#[arg(value_parser = number::<u64>(REQUEST))]
		request: u64,
		/// Place of the snapshot in the history.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: u64,
	},
	/// Take back a deletion that an owner asked for: of a snapshot, of a request's backup, or of an
	/// account.
	#[command(group = clap::ArgGroup::new("kept").required(true))]
	Keep {
		/// The request.
		#[arg(group = "kept", value_parser = number::<u64>(REQUEST))]
		request: Option<u64>,
		/// Place of the snapshot in the history; the whole backup if not given.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: Option<u64>,
		/// All backups of this account.
		#[arg(long, value_name = "ADDRESS", group = "kept")]
		account: Option<String>,
	},
	/// Set what a period of backups costs.
	Price {
		/// In the smallest unit of the chain's money.
		#[arg(value_parser = number::<u128>(AMOUNT))]
		amount: u128,
	},
	/// Change settings of the chain, such as keep_last=7; the others stay.
	Set {
		/// Name and number; can be given more than once.
		#[arg(value_name = "NAME=NUMBER", required = true, value_parser = parse_setting)]
		settings: Vec<(String, u64)>,
	},
}
