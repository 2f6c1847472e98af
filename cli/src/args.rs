//! The command line: verbs, flags, and how their values read.

use backup_primitives::{Cid, Recipient};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::{ffi::OsString, path::PathBuf};

/// Back up virtual machines of a compute chain, and bring them back.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 3 node or agent unreachable, 4 refused by the
/// chain, 5 not found, 6 wrong or missing key, 7 block missing or damaged, 8 file, 9 waited
/// too long, 10 failed on the node, 11 a disk holds what cannot be read, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "backup", version, max_term_width = 100)]
pub(crate) struct Args {
	#[command(flatten)]
	pub(crate) global: Global,
	#[command(subcommand)]
	pub(crate) command: Command,
}

/// What every verb understands.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
	/// Address of a node of the chain; ws://127.0.0.1:9944 if nothing says otherwise.
	#[arg(long, global = true, value_name = "URL", env = "BACKUP_NODE")]
	pub(crate) node: Option<String>,

	/// Which chain of the configuration file.
	#[arg(long, global = true, value_name = "NAME", env = "BACKUP_CHAIN")]
	pub(crate) chain: Option<String>,

	/// Configuration file; ~/.config/backup/config.toml if that is there.
	#[arg(long, global = true, value_name = "FILE", env = "BACKUP_CONFIG")]
	pub(crate) config: Option<PathBuf>,

	/// Secret to sign with. Deprecated: other users of this machine can see arguments.
	#[arg(
		long,
		global = true,
		hide = true,
		value_name = "SECRET",
		conflicts_with_all = ["suri_file", "suri_command"]
	)]
	pub(crate) suri: Option<String>,

	/// File with the secret to sign with: a phrase or 0x and 64 digits, with /paths. The variable
	/// BACKUP_SURI can hold it too.
	#[arg(long, global = true, value_name = "FILE", conflicts_with = "suri_command")]
	pub(crate) suri_file: Option<PathBuf>,

	/// Command whose first line of output is the secret, such as that of a password manager.
	#[arg(long, global = true, value_name = "COMMAND")]
	pub(crate) suri_command: Option<String>,

	/// Answer with JSON.
	#[arg(long, global = true)]
	pub(crate) json: bool,

	/// Wait until a transaction is final, not only in a block.
	#[arg(long, global = true)]
	pub(crate) finalized: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
	/// The owner's key: make one, or tell the chain which one backups are sealed to.
	#[command(subcommand)]
	Key(Key),
	/// List backups and their snapshots.
	Snapshots(Snapshots),
	/// Ask the node to write the image of a snapshot.
	RequestRestore {
		/// Root of the snapshot.
		#[arg(value_parser = parse_cid)]
		cid: Cid,
		/// Wait until the node has reported how it went.
		#[arg(long)]
		wait: bool,
		/// Longest wait, in seconds.
		#[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "wait")]
		timeout: u64,
	},
	/// Take away the record of a restore, or cancel one.
	CloseRestore {
		/// The restore.
		restore: u64,
	},
	/// Write the image of a snapshot here. Needs no chain: a root, a secret and blocks.
	Restore(Restore),
	/// List the machines of an account, and how they are backed up.
	Vms {
		/// Whose machines; the account of the secret if not given.
		#[arg(long, value_name = "ADDRESS")]
		owner: Option<String>,
	},
	/// Snapshots out of turn.
	#[command(subcommand)]
	Snapshot(Snapshot),
	/// Keep a snapshot until it is released, however old it gets.
	Hold {
		/// The request.
		request: u64,
		/// Its place in the history, as 'backup snapshots' prints it.
		sequence: u64,
	},
	/// Let a snapshot that is held go when its time comes.
	Release {
		/// The request.
		request: u64,
		/// Its place in the history.
		sequence: u64,
	},
	/// Delete a snapshot, or all of the backup of a request: blocks and records.
	Delete {
		/// The request.
		request: u64,
		/// Place of the snapshot in the history; all of them if not given.
		sequence: Option<u64>,
		/// Do not ask.
		#[arg(long)]
		yes: bool,
	},
	/// Take back a deletion, as long as it was not carried out.
	Keep {
		/// The request.
		request: u64,
		/// Place of the snapshot in the history; the whole backup if not given.
		sequence: Option<u64>,
	},
	/// Accept the backup that a node proposed for a machine.
	Approve {
		/// The request.
		request: u64,
	},
	/// Turn down the backup that a node proposed for a machine.
	Reject {
		/// The request.
		request: u64,
	},
	/// Let another account restore a machine.
	Grant {
		/// The request.
		request: u64,
		/// Who may.
		#[arg(long, value_name = "ADDRESS")]
		to: String,
		/// First block at which it may no more; until it is revoked if not given.
		#[arg(long, value_name = "BLOCK")]
		until: Option<u64>,
	},
	/// Let an account restore a machine no more.
	Revoke {
		/// The request.
		request: u64,
		/// Who may not.
		#[arg(long, value_name = "ADDRESS")]
		from: String,
	},
	/// List who may restore a machine besides its owner.
	Grants {
		/// The request.
		request: u64,
	},
	/// Say what the backups of an account take, and what is deposited for them.
	Cost {
		/// Whose backups; the account of the secret if not given.
		#[arg(long, value_name = "ADDRESS")]
		owner: Option<String>,
	},
	/// Print the root of a machine's newest snapshot.
	Root {
		/// The request.
		request: u64,
		/// The newest that was taken at this block or before.
		#[arg(long, value_name = "BLOCK")]
		at: Option<u64>,
	},
	/// Say what happens to backups, block by block, until Ctrl-C.
	Watch {
		/// Only what is about this request.
		request: Option<u64>,
	},
	/// Say what a root says of its snapshot: machine, time, disks. Needs no chain.
	Show(Unlock),
	/// Say whether a place has all of a snapshot. Needs no chain and no secret.
	Verify(Verify),
	/// List what a snapshot's disks hold: without a path their volumes, with one a folder of a file
	/// system. Reads what it needs, and restores nothing. Needs no chain.
	Ls(Ls),
	/// Write a file of a snapshot to standard output. Needs no chain.
	Cat(Cat),
	/// Write a file or folder of a snapshot here, without restoring its disk. Needs no chain.
	RestoreFile(RestoreFile),
	/// Serve the disks of a snapshot on a socket, as NBD, for reading only: for file systems that
	/// this command does not read. Needs no chain.
	ServeDisk(ServeDisk),
	/// Say what differs between two snapshots of a machine, and where. Reads no data of the disks.
	/// Needs no chain.
	Diff(Diff),
	/// Write a snapshot, sealed as it is, to a CAR file. Needs no chain and no secret.
	Export(Export),
	/// Let others open a snapshot: seal its read key to them. It opens this snapshot and nothing
	/// else, and cannot be taken back. Needs no chain.
	Envelope(Envelope),
	/// Put the snapshots of a CAR file into a block store. Needs no chain and no secret.
	Import(Import),
	/// Say how the chain, the backups and the agent are.
	Status {
		/// The request; all of the owner if not given.
		request: Option<u64>,
		/// Whose backups; the account of the secret if not given.
		#[arg(long, value_name = "ADDRESS")]
		owner: Option<String>,
		/// Address of an agent, to ask it too.
		#[arg(long, value_name = "URL")]
		agent: Option<String>,
	},
	/// Operators: register a node.
	#[command(subcommand)]
	Node(Node),
	/// Requests for machines: create, assign, fulfil, end.
	#[command(subcommand)]
	Request(Request),
	/// Enable backups for the account and pay for a number of periods.
	Subscribe {
		/// How many periods to pay for.
		#[arg(long)]
		periods: u32,
	},
	/// Begin the backups of a request that ran before its owner subscribed.
	Create {
		/// The request.
		request: u64,
		/// Words about it, 64 bytes at most. Everyone can read them.
		#[arg(long)]
		description: Option<String>,
	},
	/// Set the account's own cadence.
	#[command(alias = "frequency")]
	Cadence {
		/// Blocks from one snapshot to the next.
		blocks: u32,
	},
	/// Motions of the chain's council about backups.
	#[command(subcommand)]
	Governance(Governance),
	/// Print a script that completes this command's verbs and flags in a shell.
	Completions {
		/// The shell.
		#[arg(value_enum)]
		shell: Shell,
	},
	/// Write the manual pages of this command and its verbs.
	Man {
		/// Folder to write them to; made if it is not there.
		folder: PathBuf,
	},
	/// Pause, resume or keep more of the backups of a request.
	Settings {
		/// The request.
		request: u64,
		/// Take no snapshots.
		#[arg(long)]
		paused: bool,
		/// How many snapshots to keep; the chain's default if not given.
		#[arg(long, value_name = "NUMBER")]
		keep_last: Option<u32>,
	},
	/// Ask that all backups of the account are deleted, blocks and records.
	DeleteAll {
		/// Do not ask.
		#[arg(long)]
		yes: bool,
	},
}

impl Command {
	/// Whether it goes on until it is told to end, for which it listens itself.
	pub(crate) fn is_server(&self) -> bool {
		matches!(self, Self::ServeDisk(_))
	}
}

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

#[derive(Debug, ClapArgs)]
pub(crate) struct Snapshots {
	/// The request; all of the owner if not given.
	pub(crate) request: Option<u64>,
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
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Filter {
	/// Taken at this block or later.
	#[arg(long, value_name = "BLOCK")]
	pub(crate) since: Option<u64>,
	/// Taken at this block or before.
	#[arg(long, value_name = "BLOCK")]
	pub(crate) until: Option<u64>,
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
		/// The request.
		request: u64,
	},
}

#[derive(Debug, Subcommand)]
pub(crate) enum Governance {
	/// Propose a motion, as a member of the council.
	Propose {
		#[command(subcommand)]
		motion: Motion,
		/// How many members must say aye; more than half of them if not given.
		#[arg(long, value_name = "MEMBERS")]
		threshold: Option<u32>,
	},
	/// List the motions that are open.
	Motions,
	/// Vote on a motion, as a member of the council.
	#[command(group = clap::ArgGroup::new("word").required(true))]
	Vote {
		/// The motion's number.
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
		blocks: u32,
	},
	/// Change settings of the chain, such as keep_last=7; the others stay.
	Set {
		/// Name and number; can be given more than once.
		#[arg(value_name = "NAME=NUMBER", required = true, value_parser = parse_setting)]
		settings: Vec<(String, u64)>,
	},
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
	/// Root of the snapshot.
	#[arg(long, value_name = "CID", value_parser = parse_cid)]
	pub(crate) root: Cid,
	#[command(flatten)]
	pub(crate) from: From,
	/// Read every block and hash it, and not only ask for it.
	#[arg(long)]
	pub(crate) read: bool,
}

/// Where blocks are read from.
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("place").required(true))]
pub(crate) struct From {
	/// Folder of the block store of an agent that does not run.
	#[arg(long, value_name = "DIR", group = "place")]
	pub(crate) store: Option<PathBuf>,
	/// IPFS gateway that serves raw blocks; can be given more than once.
	#[arg(long, value_name = "URL", group = "place")]
	pub(crate) gateway: Vec<String>,
	/// CAR file.
	#[arg(long, value_name = "FILE", group = "place")]
	pub(crate) car: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
	/// Root of the snapshot.
	#[arg(long, value_name = "CID", value_parser = parse_cid)]
	pub(crate) root: Cid,
	#[command(flatten)]
	pub(crate) from: From,
	/// File to write. It appears when it is complete; an existing one is never overwritten.
	#[arg(long, value_name = "FILE")]
	pub(crate) output: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
	/// CAR file.
	#[arg(value_name = "FILE")]
	pub(crate) file: PathBuf,
	/// Folder of the block store; made if it is not there. Its agent must not run.
	#[arg(long, value_name = "DIR")]
	pub(crate) store: PathBuf,
}

/// A snapshot, what opens it, and where its blocks are.
#[derive(Debug, ClapArgs)]
pub(crate) struct Unlock {
	/// Root of the snapshot.
	#[arg(long, value_name = "CID", value_parser = parse_cid)]
	pub(crate) root: Cid,
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

#[derive(Debug, ClapArgs)]
pub(crate) struct Ls {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which volume, by name, such as vda1 or vg0/root; needed only if several can be read.
	#[arg(long, value_name = "NAME")]
	pub(crate) volume: Option<String>,
	/// List what is below the folder too.
	#[arg(long, short, requires = "path")]
	pub(crate) recursive: bool,
	/// The folder, or a file, from the top of the file system.
	pub(crate) path: Option<OsString>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Cat {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which volume, by name, such as vda1 or vg0/root; needed only if several can be read.
	#[arg(long, value_name = "NAME")]
	pub(crate) volume: Option<String>,
	/// The file, from the top of the file system.
	pub(crate) path: OsString,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RestoreFile {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which volume, by name, such as vda1 or vg0/root; needed only if several can be read.
	#[arg(long, value_name = "NAME")]
	pub(crate) volume: Option<String>,
	/// The file or folder, from the top of the file system.
	pub(crate) path: OsString,
	/// What to write. It appears when it is complete; nothing is ever overwritten.
	#[arg(long, value_name = "PATH")]
	pub(crate) output: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeDisk {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which disk, by name; all of them if not given.
	#[arg(long, value_name = "NAME")]
	pub(crate) disk: Option<String>,
	/// The socket to make. Only this user can connect to it.
	#[arg(long, value_name = "PATH")]
	pub(crate) socket: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Diff {
	/// Root of the earlier snapshot.
	#[arg(value_parser = parse_cid)]
	pub(crate) before: Cid,
	/// Root of the later snapshot.
	#[arg(value_parser = parse_cid)]
	pub(crate) after: Cid,
	/// File with the age identities of the owner or of the node. All of them are tried.
	#[arg(long, value_name = "FILE")]
	pub(crate) identity: PathBuf,
	#[command(flatten)]
	pub(crate) from: From,
	/// List the places that changed, and not only how much did.
	#[arg(long)]
	pub(crate) places: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Restore {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// File to write. It appears when it is complete; an existing one is never overwritten.
	#[arg(long, value_name = "FILE")]
	pub(crate) output: PathBuf,
	/// Form of the image.
	#[arg(long, value_enum, default_value_t = Format::Raw)]
	pub(crate) format: Format,
	/// Which disk, by name; needed only if there are several.
	#[arg(long, value_name = "NAME")]
	pub(crate) disk: Option<String>,
	/// Write what belongs to the machine beside its disks, by name, such as machine.toml.
	#[arg(long, value_name = "NAME", conflicts_with_all = ["disk", "format"])]
	pub(crate) blob: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Envelope {
	/// Root of the snapshot.
	#[arg(long, value_name = "CID", value_parser = parse_cid)]
	pub(crate) root: Cid,
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

/// Form of a restored image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
	/// The disk's bytes, holes left out.
	Raw,
	/// QEMU's own format.
	Qcow2,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
	/// Register a node with its authority key and its agent's recipient.
	Register {
		/// Id of the node, free to choose.
		#[arg(long)]
		id: u32,
		/// Secret of the node's authority key, to prove that it is there.
		#[arg(
			long,
			value_name = "SECRET",
			env = "BACKUP_AUTHORITY_SURI",
			hide_env_values = true,
			required_unless_present = "authority_suri_file"
		)]
		authority_suri: Option<String>,
		/// File with the secret of the node's authority key.
		#[arg(long, value_name = "FILE", conflicts_with = "authority_suri")]
		authority_suri_file: Option<PathBuf>,
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

fn parse_cid(text: &str) -> Result<Cid, String> {
	text.parse().map_err(|error: backup_primitives::cid::CidError| error.to_string())
}

fn parse_setting(text: &str) -> Result<(String, u64), String> {
	let wrong =
		|| "a name, an equals sign and a number are expected, such as keep_last=7".to_owned();
	let (name, number) = text.split_once('=').ok_or_else(wrong)?;
	Ok((name.to_owned(), number.parse().map_err(|_| wrong())?))
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
	text.parse().map_err(|error: backup_primitives::recipient::RecipientError| error.to_string())
}

#[cfg(test)]
mod tests {
	use super::*;
	use clap::CommandFactory;

	#[test]
	fn the_definition_is_consistent() {
		Args::command().debug_assert();
	}
}
