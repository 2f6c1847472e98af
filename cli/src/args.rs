//! The command line: verbs, flags, and how their values read.

mod accounts;
mod blocks;
mod council;
mod examples;
mod history;
mod numbers;
mod restore;
mod values;

pub(crate) use accounts::{Key, Node, Request};
pub(crate) use blocks::{Diff, Envelope, Export, From, Import, Unlock, Verify, Which};
pub(crate) use council::{Governance, Motion};
pub(crate) use history::{Delete, Filter, SettingsChange, Snapshot, Snapshots, Upkeep};
pub(crate) use restore::{Cat, Drill, Format, Ls, Restore, RestoreFile, ServeDisk};
pub(crate) use values::{
	GatewayAddress, KeepLast, Machine, Restorable, Revision, When, parse_node,
};

use backup_primitives::Recipient;
use clap::{
	Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource,
};
use clap_complete::Shell;
use numbers::{BLOCKS, PERIODS, RESTORE, SECONDS, SNAPSHOT, number};
use std::{ffi::OsString, path::PathBuf};
use values::parse_recipient;

/// Back up virtual machines of a compute chain, and bring them back.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 3 node or agent unreachable, 4 refused by the
/// chain, 5 not found, 6 wrong or missing key, 7 block missing or damaged, 8 file, 9 waited
/// too long, 10 failed on the node, 11 a disk holds what cannot be read, 12 not allowed, 130
/// interrupted.
#[derive(Debug, Parser)]
#[command(name = "backup", version, max_term_width = 100)]
pub(crate) struct Args {
	#[command(flatten)]
	pub(crate) global: Global,
	#[command(subcommand)]
	pub(crate) command: Command,
}

/// The definition of the command, with all that its help tells.
pub(crate) fn command() -> clap::Command {
	examples::with_examples(Args::command())
}

impl Args {
	/// Read a call, of which the first word is the program's.
	pub(crate) fn read(
		words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
	) -> Result<Self, clap::Error> {
		let mut command = command();
		let matches = command.try_get_matches_from_mut(words)?;
		let args = Self::from_arg_matches(&matches);
		let mut args = args.map_err(|error| error.format(&mut command))?;
		let is_typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
		args.global.typed = Typed { node: is_typed("node"), chain: is_typed("chain") };
		Ok(args)
	}
}

/// What stands in the call itself, and not in the environment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Typed {
	pub(crate) node: bool,
	pub(crate) chain: bool,
}

/// What every verb understands.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
	/// Address of a node of the chain; ws://127.0.0.1:9944 if nothing says otherwise.
	#[arg(
		long,
		global = true,
		value_name = "URL",
		env = "BACKUP_NODE",
		hide_env_values = true,
		value_parser = parse_node
	)]
	pub(crate) node: Option<String>,

	/// Which chain of the configuration file.
	#[arg(long, global = true, value_name = "NAME", env = "BACKUP_CHAIN")]
	pub(crate) chain: Option<String>,

	/// Configuration file; ~/.config/backup/config.toml if that is there.
	#[arg(long, global = true, value_name = "FILE", env = "BACKUP_CONFIG")]
	pub(crate) config: Option<PathBuf>,

	/// File with the secret to sign with: a phrase or 0x and 64 digits, with /paths. The variable
	/// BACKUP_SECRET can hold it too; on a terminal it is asked for.
	#[arg(
		long,
		global = true,
		alias = "suri-file",
		value_name = "FILE",
		conflicts_with = "secret_command"
	)]
	pub(crate) secret_file: Option<PathBuf>,

	/// Command whose first line of output is the secret, such as that of a password manager.
	#[arg(long, global = true, alias = "suri-command", value_name = "COMMAND")]
	pub(crate) secret_command: Option<String>,

	/// Answer with JSON.
	#[arg(long, global = true)]
	pub(crate) json: bool,

	/// Wait until a transaction is final, not only in a block.
	#[arg(long, global = true)]
	pub(crate) finalized: bool,

	#[arg(skip)]
	pub(crate) typed: Typed,

	/// Chains of the configuration file among which nobody chose.
	#[arg(skip)]
	pub(crate) unchosen: Vec<String>,
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
		/// Root of a snapshot of one's own; or a machine, also one that another owner has opened to
		/// this account, by the number of its request.
		#[arg(value_name = "CID|MACHINE")]
		what: Restorable,
		/// Of a machine: place of the snapshot in its history; the newest if not given.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: Option<u64>,
		/// Of a machine: the newest that was taken at this block or time, or before.
		#[arg(long, value_name = "BLOCK|DATE|AGE", conflicts_with = "sequence")]
		at: Option<When>,
		/// Have the disks of the machine replaced, which must be stopped. Without it the image is
		/// written beside them.
		#[arg(long)]
		replace: bool,
		/// Have it done by the node of another machine of one's own.
		#[arg(long, value_name = "MACHINE")]
		onto: Option<Machine>,
		/// File with an envelope for the node that does it, where that is not the node that sealed
		/// the snapshot; 'backup envelope' writes it.
		#[arg(long, value_name = "FILE")]
		envelope: Option<PathBuf>,
		/// Do not ask before disks are replaced.
		#[arg(long, requires = "replace")]
		yes: bool,
		/// Wait until the node has reported how it went.
		#[arg(long)]
		wait: bool,
		/// Longest wait, in seconds.
		#[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "wait", value_parser = number::<u64>(SECONDS))]
		timeout: u64,
	},
	/// Restore a snapshot whole and keep nothing of it: whether it can be done, and how long it takes.
	/// With --root it needs no chain.
	Drill(Drill),
	/// Take away the record of a restore, or cancel one.
	CloseRestore {
		/// The restore.
		#[arg(value_parser = number::<u64>(RESTORE))]
		restore: u64,
	},
	/// Write the image of a snapshot here. With --root it needs no chain.
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
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Its place in the history, as 'backup snapshots' prints it.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: u64,
	},
	/// Let a snapshot that is held go when its time comes.
	Release {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Its place in the history.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: u64,
	},
	/// Delete snapshots, or all of the backup of a request: blocks and records.
	Delete(Delete),
	/// Take back a deletion, as long as it was not carried out.
	#[command(group = clap::ArgGroup::new("kept").required(true))]
	Keep {
		/// The machine: its name, or the number of its request.
		#[arg(group = "kept")]
		machine: Option<Machine>,
		/// Place of the snapshot in the history; the whole backup if not given.
		#[arg(value_parser = number::<u64>(SNAPSHOT))]
		sequence: Option<u64>,
		/// Take back 'backup delete-all'.
		#[arg(long, group = "kept")]
		all: bool,
	},
	/// Accept the backup that a node proposed for a machine.
	Approve {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
	/// Turn down the backup that a node proposed for a machine.
	Reject {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
	/// List the nodes that have a machine's snapshots, with their gateways.
	Copies {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
	/// Let another account restore a machine.
	Grant {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Who may.
		#[arg(long, value_name = "ADDRESS")]
		to: String,
		/// First block at which it may no more, or a date in UTC, whose block is reckoned from how fast
		/// blocks have come; until it is revoked if not given.
		#[arg(long, value_name = "BLOCK|DATE")]
		until: Option<When>,
		/// Its own key: with it nodes serve it the sealed blocks, too, and an envelope for that key
		/// opens them.
		#[arg(long, value_name = "age1…", value_parser = parse_recipient)]
		key: Option<Recipient>,
	},
	/// Let an account restore a machine no more.
	Revoke {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Who may not.
		#[arg(long, value_name = "ADDRESS")]
		from: String,
	},
	/// List who may restore a machine besides its owner.
	Grants {
		/// The machine: its name, or the number of its request.
		machine: Machine,
	},
	/// Say what the backups of an account take, and what is deposited for them.
	Cost {
		/// Whose backups; the account of the secret if not given.
		#[arg(long, value_name = "ADDRESS")]
		owner: Option<String>,
	},
	/// Print the root of a machine's newest snapshot.
	Root {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// The newest that was taken at this time or before: a block, a date in UTC, or an age such as 30d.
		#[arg(long, value_name = "BLOCK|DATE|AGE")]
		at: Option<When>,
	},
	/// Say what happens to backups, block by block, until Ctrl-C.
	Watch {
		/// Only what is about this machine.
		machine: Option<Machine>,
	},
	/// Say what a root says of its snapshot: machine, time, disks. With --root it needs no chain.
	Show(Unlock),
	/// Say whether a place has all of a snapshot. With --root it needs no chain, and no secret.
	Verify(Verify),
	/// List what a snapshot's disks hold: without a path their volumes, with one a folder of a file
	/// system. Reads what it needs, and restores nothing. With --root it needs no chain.
	Ls(Ls),
	/// Write a file of a snapshot to standard output. With --root it needs no chain.
	Cat(Cat),
	/// Write a file or folder of a snapshot here, without restoring its disk. With --root it needs
	/// no chain.
	RestoreFile(RestoreFile),
	/// Serve the disks of a snapshot on a socket, as NBD, for reading only: for file systems that
	/// this command does not read. With --root it needs no chain.
	ServeDisk(ServeDisk),
	/// Say what differs between two snapshots of a machine, and where. Reads no data of the disks.
	/// With roots it needs no chain.
	Diff(Diff),
	/// Write a snapshot, sealed as it is, to a CAR file. With --root it needs no chain, and no secret.
	Export(Export),
	/// Let others open a snapshot: seal its read key to them. It opens this snapshot and nothing
	/// else, and cannot be taken back. With --root it needs no chain.
	Envelope(Envelope),
	/// Put the snapshots of a CAR file into a block store. Needs no chain and no secret.
	Import(Import),
	/// Say how the chain, the backups and the agent are.
	Status {
		/// The machine, by its name or the number of its request; all of the owner if not given.
		machine: Option<Machine>,
		/// Whose backups; the account of the secret if not given.
		#[arg(long, value_name = "ADDRESS")]
		owner: Option<String>,
		/// Address of an agent, to ask it too.
		#[arg(long, value_name = "URL")]
		agent: Option<String>,
	},
	/// Operators: register a node, rotate its keys, or take it off the chain.
	#[command(subcommand)]
	Node(Node),
	/// Requests for machines: create, assign, fulfil, end.
	#[command(subcommand)]
	Request(Request),
	/// Enable backups for the account and pay for a number of periods.
	Subscribe {
		/// How many periods to pay for.
		#[arg(long, value_parser = number::<u32>(PERIODS))]
		periods: u32,
	},
	/// Disable backups for the account. What is stored stays; what was paid is not paid back.
	Unsubscribe {
		/// Do not ask.
		#[arg(long)]
		yes: bool,
	},
	/// What the chain does by itself sooner or later, done now.
	#[command(subcommand)]
	Upkeep(Upkeep),
	/// Begin the backups of a request that ran before its owner subscribed.
	Create {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		/// Words about it, 64 bytes at most. Everyone can read them.
		#[arg(long)]
		description: Option<String>,
	},
	/// Set the account's own cadence.
	#[command(alias = "frequency")]
	Cadence {
		/// Blocks from one snapshot to the next.
		#[arg(value_parser = number::<u32>(BLOCKS))]
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
	/// Show the settings of a machine's backup, or change those that are named.
	Settings {
		/// The machine: its name, or the number of its request.
		machine: Machine,
		#[command(flatten)]
		change: SettingsChange,
	},
	/// Ask that all backups of the account are deleted, blocks and records.
	DeleteAll {
		/// Do not ask.
		#[arg(long)]
		yes: bool,
	},
}

impl Command {
	/// Whether it goes on until it is told to end, which is a good end.
	pub(crate) fn is_endless(&self) -> bool {
		matches!(self, Self::ServeDisk(_) | Self::Watch { .. })
	}
}

#[cfg(test)]
#[path = "../../agent/tests/fixtures/book.rs"]
mod book;

#[cfg(test)]
mod tried;

#[cfg(test)]
mod refusals;

#[cfg(test)]
mod tests {
	use super::*;
	use clap::CommandFactory;

	#[test]
	fn the_definition_is_consistent() {
		Args::command().debug_assert();
	}

	#[test]
	fn every_call_in_the_book_is_one_that_is_understood() {
		book::assert_understood::<Args>("backup", &["backup VERB --help"], 100);
	}

	/// One that had would be read as the other.
	#[test]
	fn no_argument_of_a_verb_has_the_name_of_one_that_all_have() {
		fn check(verb: &clap::Command, global: &[&clap::Id]) {
			for verb in verb.get_subcommands() {
				for argument in verb.get_arguments() {
					assert!(
						!global.contains(&argument.get_id()),
						"{}: {argument}",
						verb.get_name()
					);
				}
				check(verb, global);
			}
		}
		let command = Args::command();
		let global: Vec<_> = command.get_arguments().map(clap::Arg::get_id).collect();
		assert!(global.iter().any(|id| *id == "node"));
		check(&command, &global);
	}
}
