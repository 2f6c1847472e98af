//! What can go wrong, what would be right instead, and with which code the command exits.

use crate::args::When;
use backup_primitives::{Cid, FailureReason};
use std::{io, net::IpAddr, path::PathBuf};
use thiserror::Error;

/// Exit codes, as `docs/cli.md` lists them. Code 2 is that of the parser of arguments, too.
pub(crate) mod exit {
	pub(crate) const UNEXPECTED: u8 = 1;
	pub(crate) const USAGE: u8 = 2;
	pub(crate) const UNREACHABLE: u8 = 3;
	pub(crate) const REFUSED: u8 = 4;
	pub(crate) const NOT_FOUND: u8 = 5;
	pub(crate) const KEY: u8 = 6;
	pub(crate) const BLOCKS: u8 = 7;
	pub(crate) const FILE: u8 = 8;
	pub(crate) const LATE: u8 = 9;
	pub(crate) const FAILED: u8 = 10;
	pub(crate) const UNREADABLE: u8 = 11;
	pub(crate) const NOT_ALLOWED: u8 = 12;
	pub(crate) const INTERRUPTED: u8 = 130;
}

/// Why a command did not do what was asked. Messages say what was wrong, [`CliError::hint`]
/// says what would be right.
#[derive(Debug, Error)]
pub(crate) enum CliError {
	#[error("the runtime of the program could not be started: {source}")]
	Runtime { source: io::Error },
	#[error("the answer could not be written: {source}")]
	Answer { source: io::Error },
	#[error("interrupted")]
	Interrupted,
	/// The parser of arguments turned the command line down.
	#[error("{message}")]
	Usage { message: String, hint: String },
	#[error("{path} was not written to its end: {reason}")]
	DeviceUnfinished { path: PathBuf, reason: String, exit: u8 },
	#[error("several machines are called '{name}': requests {requests}")]
	AmbiguousMachine { name: String, requests: String },
	#[error("no node answers at {url}: {reason}")]
	NodeUnreachable { url: String, reason: String },
	#[error("the chain has no {what}")]
	ChainLacks { what: String },
	#[error("the node's answer could not be read: {source}")]
	Chain { source: Box<subxt::Error> },
	#[error("the node went away after the transaction was sent")]
	SentAndLost,
	#[error("the transaction was not accepted: {reason}")]
	NotAccepted { reason: String },
	#[error("the chain refused: {error}{}", docs_suffix(.docs))]
	Dispatch { error: String, docs: String },
	#[error("the motion was approved, and its call failed: {error}{}", docs_suffix(.docs))]
	MotionFailed { error: String, docs: String },
	#[error("the transaction succeeded without the event {event}")]
	EventMissing { event: &'static str },
	#[error("no key to sign with")]
	NoSigner,
	#[error("no secret of the node's authority")]
	NoAuthority,
	#[error("the secret to sign with cannot be read: {reason}")]
	BadSigner { reason: String },
	#[error("the command for the secret failed: {reason}")]
	SecretCommand { reason: String },
	#[error("the configuration file {path} cannot be used: {reason}")]
	BadConfig { path: PathBuf, reason: String },
	#[error("the configuration file has no chain '{name}'{}", meant(.nearest))]
	NoChain { name: String, nearest: Option<String>, names: String },
	#[error("the configuration file has several chains, and none of them was chosen")]
	ChainUnchosen { names: String },
	#[error("no account was named")]
	NoAccount,
	#[error("'{text}' is not an account: {reason}")]
	BadAccount { text: String, reason: String },
	#[error("there is no request {request}")]
	RequestNotFound { request: u64 },
	#[error("request {request} has no backup")]
	NoBackup { request: u64 },
	#[error("request {request} has no snapshot that was taken at {when} or before")]
	NoSnapshot { request: u64, when: When },
	#[error(
		"request {request} has no snapshot of {when} or before that is neither held nor to be deleted already"
	)]
	NothingToDelete { request: u64, when: When },
	#[error("request {request} has no snapshot {sequence}{}", meant(&.nearest.map(|place| place.to_string())))]
	NoSuchSnapshot { request: u64, sequence: u64, nearest: Option<u64> },
	#[error("no machine '{name}'{}", meant(.nearest))]
	NoMachine { name: String, nearest: Option<String>, names: String },
	#[error("whose machine '{name}' is, is not known")]
	WhoseMachine { name: String },
	#[error("the node does not tell the time of block {block}")]
	NoTime { block: u64 },
	#[error("the node has forgotten the blocks of {when}: its oldest is {block}, of {oldest}")]
	TimeForgotten { when: When, block: u64, oldest: When },
	#[error("{when} is over: the newest block, {block}, is of {now}")]
	TimeOver { when: When, block: u64, now: When },
	#[error("{when} is to come: the newest block is {block}")]
	TimeToCome { when: When, block: u64 },
	#[error("the question could not be asked: {source}")]
	Question { source: io::Error },
	#[error("there is no open motion {index}")]
	NoMotion { index: u32 },
	#[error("the chain has no setting '{name}'{}", meant(.nearest))]
	NoSetting { name: String, nearest: Option<String>, names: String },
	#[error("the restore failed on the node: {}", crate::words::failure(.reason))]
	RestoreFailed { reason: FailureReason },
	#[error("restore {restore} has expired: the node did not report in time")]
	RestoreExpired { restore: u64 },
	#[error("restore {restore} is not on the chain any more")]
	RestoreGone { restore: u64 },
	#[error("waited {seconds} s for {what}")]
	Late { what: String, seconds: u64 },
	#[error("{path} exists already")]
	FileExists { path: PathBuf },
	#[error("{path} could not be written: {source}")]
	FileWrite { path: PathBuf, source: io::Error },
	#[error("{path} could not be read: {source}")]
	FileRead { path: PathBuf, source: io::Error },
	#[error("{path} holds no age identity: {reason}")]
	BadIdentity { path: PathBuf, reason: String },
	#[error("these are not the words of an identity: {reason}")]
	BadWords { reason: String },
	#[error("{path} is no envelope of a snapshot: {reason}")]
	BadEnvelope { path: PathBuf, reason: String },
	#[error("nothing was confirmed")]
	NotConfirmed,
	#[error("nothing was confirmed, and nobody can be asked: standard input is no terminal")]
	NobodyToAsk,
	#[error("the agent at {url} did not answer: {reason}")]
	AgentUnreachable { url: String, reason: String },
	#[error("'{url}' is not a gateway: {reason}")]
	GatewayUnusable { url: String, reason: String },
	#[error("'{url}' is not asked: {address} is not public")]
	GatewayNotPublic { url: String, address: IpAddr },
	#[error("{urls}: only whom the chain knows is let in, and {reason}")]
	GatewayClosed { urls: String, reason: String },
	#[error("the chain names no gateway of a node that has request {request}")]
	NoHolder { request: u64 },
	#[error("how a node restores can be said of a machine, and not of a root")]
	RootAlone,
	#[error("two snapshots are named by their roots, or with --machine by their numbers")]
	Revisions,
	#[error("no place with the blocks was named")]
	NoPlace,
	#[error("the chain has more {what} than are looked through")]
	TooMany { what: &'static str },
	#[error("{path} is no CAR file that can be used: {reason}")]
	BadCar { path: PathBuf, reason: String },
	#[error("{path} holds no block store")]
	NoStore { path: PathBuf },
	#[error("the block store {path} is in use by another process")]
	StoreInUse { path: PathBuf },
	#[error("the block store {path} could not be opened: {reason}")]
	BadStore { path: PathBuf, reason: String },
	#[error("the snapshot {root} could not be {verb}: {reason}")]
	Snapshot { root: Cid, verb: &'static str, reason: String, exit: u8, hint: &'static str },
}

fn docs_suffix(docs: &str) -> String {
	match docs.is_empty() {
		true => String::new(),
		false => format!(": {docs}"),
	}
}

pub(crate) fn meant(nearest: &Option<String>) -> String {
	nearest.as_ref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

impl CliError {
	/// The documented exit code.
	pub(crate) fn exit_code(&self) -> u8 {
		match self {
			Self::Runtime { .. }
			| Self::Answer { .. }
			| Self::Question { .. }
			| Self::Chain { .. }
			| Self::TooMany { .. }
			| Self::EventMissing { .. } => exit::UNEXPECTED,
			Self::Usage { .. }
			| Self::NoAccount
			| Self::WhoseMachine { .. }
			| Self::NoSetting { .. }
			| Self::NoChain { .. }
			| Self::ChainUnchosen { .. }
			| Self::BadConfig { .. }
			| Self::BadAccount { .. }
			| Self::NotConfirmed
			| Self::NobodyToAsk
			| Self::AmbiguousMachine { .. }
			| Self::GatewayUnusable { .. }
			| Self::GatewayNotPublic { .. }
			| Self::RootAlone
			| Self::Revisions
			| Self::TimeOver { .. }
			| Self::TimeToCome { .. }
			| Self::NoPlace => exit::USAGE,
			Self::GatewayClosed { .. } => exit::NOT_ALLOWED,
			Self::NodeUnreachable { .. }
			| Self::ChainLacks { .. }
			| Self::SentAndLost
			| Self::AgentUnreachable { .. } => exit::UNREACHABLE,
			Self::NotAccepted { .. } => exit::REFUSED,
			Self::Dispatch { error, .. } | Self::MotionFailed { error, .. } => refusal(error),
			Self::RequestNotFound { .. }
			| Self::NoBackup { .. }
			| Self::NoSnapshot { .. }
			| Self::NothingToDelete { .. }
			| Self::NoSuchSnapshot { .. }
			| Self::NoMachine { .. }
			| Self::NoTime { .. }
			| Self::TimeForgotten { .. }
			| Self::NoMotion { .. }
			| Self::NoHolder { .. }
			| Self::RestoreGone { .. } => exit::NOT_FOUND,
			Self::NoSigner
			| Self::NoAuthority
			| Self::BadSigner { .. }
			| Self::SecretCommand { .. }
			| Self::BadIdentity { .. }
			| Self::BadWords { .. }
			| Self::BadEnvelope { .. } => exit::KEY,
			Self::FileExists { .. }
			| Self::FileWrite { .. }
			| Self::FileRead { .. }
			| Self::NoStore { .. }
			| Self::StoreInUse { .. }
			| Self::BadStore { .. } => exit::FILE,
			Self::BadCar { .. } => exit::BLOCKS,
			Self::Late { .. } | Self::RestoreExpired { .. } => exit::LATE,
			Self::RestoreFailed { .. } => exit::FAILED,
			Self::Snapshot { exit, .. } | Self::DeviceUnfinished { exit, .. } => *exit,
			Self::Interrupted => exit::INTERRUPTED,
		}
	}

	/// A word for programs.
	pub(crate) fn code(&self) -> &'static str {
		match self.exit_code() {
			exit::USAGE => "usage",
			exit::UNREACHABLE => "unreachable",
			exit::REFUSED => "refused",
			exit::NOT_FOUND => "not-found",
			exit::KEY => "key",
			exit::BLOCKS => "blocks",
			exit::FILE => "file",
			exit::LATE => "late",
			exit::FAILED => "failed",
			exit::UNREADABLE => "unreadable",
			exit::NOT_ALLOWED => "not-allowed",
			exit::INTERRUPTED => "interrupted",
			_ => "unexpected",
		}
	}

	/// What would be right.
	pub(crate) fn hint(&self) -> String {
		match self {
			Self::Runtime { .. } => "check the limits of this user (ulimit -a)".into(),
			Self::Answer { .. } => "check where standard output goes".into(),
			Self::Interrupted => "no unfinished file was left behind; what was already sent to the chain may still happen: look with 'backup status'".into(),
			Self::DeviceUnfinished { .. } => {
				"what was on it is lost and the disk is not all there: run the same restore again before it is used"
					.into()
			}
			Self::AmbiguousMachine { .. } => "name the one that is meant by its request".into(),
			Self::NodeUnreachable { .. } => {
				"start a node, or name one with --node ws://HOST:PORT (wss:// beyond this machine)"
					.into()
			}
			Self::ChainLacks { .. } => {
				"use --node with a chain that has the backup, compute and marketplace pallets"
					.into()
			}
			Self::Chain { .. } => "check that node and command are of the same release".into(),
			Self::NotAccepted { .. } => {
				"check the account's balance, and that no other transaction of it is under way"
					.into()
			}
			Self::Dispatch { error, .. } | Self::MotionFailed { error, .. } => {
				crate::words::dispatch_hint(error).into()
			}
			Self::EventMissing { .. } => {
				"check that node and command are of the same release".into()
			}
			Self::NoSigner => {
				"give --secret-file FILE or --secret-command COMMAND, or set BACKUP_SECRET".into()
			}
			Self::NoAuthority => {
				"give --authority-secret-file FILE, or set BACKUP_AUTHORITY_SECRET".into()
			}
			Self::BadSigner { .. } => {
				"a secret is a phrase of 12 or 24 words, or 0x and 64 digits, with /paths".into()
			}
			Self::SecretCommand { .. } => {
				"run it by hand: its first line is to be the secret".into()
			}
			Self::BadConfig { .. } => "docs/cli.md shows what the file may say".into(),
			Self::NoChain { names, .. } if names.is_empty() => {
				"add it as [chains.NAME] to the file, or give --node".into()
			}
			Self::NoChain { names, .. } => format!("its chains are {names}"),
			Self::ChainUnchosen { names } => {
				format!("give --chain with one of {names}, or say chain = \"NAME\" in the file")
			}
			Self::NoAccount => "give --owner ADDRESS, or a key to sign with".into(),
			Self::BadAccount { .. } => "an account is an SS58 address or 0x and 64 digits".into(),
			Self::RequestNotFound { .. } | Self::NoBackup { .. } => {
				"list the requests of an account with 'backup snapshots --owner ADDRESS'".into()
			}
			Self::NoSnapshot { .. } | Self::NothingToDelete { .. } | Self::NoSuchSnapshot { .. } => "see what there is with 'backup snapshots REQUEST'".into(),
			Self::NoMachine { names, .. } if names.is_empty() => {
				"the account has no machine that runs; others are named by their requests".into()
			}
			Self::NoMachine { names, .. } => format!("its machines are {names}"),
			Self::WhoseMachine { .. } => {
				"give a key to sign with, or name the machine by the number of its request".into()
			}
			Self::NoTime { .. } | Self::TimeForgotten { .. } => {
				"name a block instead of a date, or a node that keeps old blocks".into()
			}
			Self::TimeOver { .. } => "give a date that is to come, or none".into(),
			Self::TimeToCome { .. } => "give a block or a time that is over; a date is written as 2026-05-01".into(),
			Self::Question { .. } => "check the terminal, or give what is asked for by flag".into(),
			Self::NoMotion { .. } => "list the open ones with 'backup governance motions'".into(),
			Self::NoSetting { names, .. } => format!("its settings are {names}"),
			Self::RestoreFailed { reason } => crate::words::failure_hint(reason).into(),
			Self::RestoreExpired { .. } => {
				"check that the node and its agent run, close it and ask again".into()
			}
			Self::RestoreGone { .. } => "it was closed; ask again".into(),
			Self::Late { .. } => "it may still happen: look with 'backup status'".into(),
			Self::SentAndLost => {
				"it may be carried out all the same: look with 'backup status' before you ask again"
					.into()
			}
			Self::FileExists { .. } => "nothing was overwritten; choose another name".into(),
			Self::FileWrite { .. } => "check the folder, its permissions and free space".into(),
			Self::FileRead { .. } => "check the path and its permissions".into(),
			Self::BadIdentity { .. } => {
				"an identity is a line AGE-SECRET-KEY-1…, as 'backup key new' writes it".into()
			}
			Self::BadWords { .. } => {
				"type all 24 in their order, as 'backup key words' printed them".into()
			}
			Self::BadEnvelope { .. } => "an envelope is what 'backup envelope' writes".into(),
			Self::NotConfirmed => "answer with the word it asks for, or give --yes".into(),
			Self::NobodyToAsk => "give --yes if it is to be done without being asked".into(),
			Self::AgentUnreachable { .. } => {
				"start backup-agent, or name its address with --agent http://HOST:PORT".into()
			}
			Self::GatewayUnusable { .. } => {
				"a gateway is an address such as http://127.0.0.1:8080".into()
			}
			Self::GatewayNotPublic { .. } => {
				"name it with --gateway, or its network with --peer-network".into()
			}
			Self::GatewayClosed { .. } => "give the owner's --identity, with a key that was registered \
			                               and --node, or with --owner and the gateway's key"
				.into(),
			Self::NoHolder { .. } => {
				"see who has copies with 'backup copies', and name one with --gateway".into()
			}
			Self::RootAlone => "name the machine, and the place of the snapshot in its history".into(),
			Self::Revisions => {
				"as in 'backup diff --machine web-1 3 4', with numbers of 'backup snapshots web-1'".into()
			}
			Self::NoPlace => {
				"give --store, --gateway or --car; with --machine the chain's holders are asked".into()
			}
			Self::TooMany { .. } => "ask for less at once, such as one machine by its number".into(),
			Self::BadCar { .. } => {
				"a CAR file is what 'backup export' writes; take another copy of it".into()
			}
			Self::NoStore { .. } => {
				"name the folder with the files *.pack, of a stopped agent".into()
			}
			Self::StoreInUse { .. } => {
				"its agent runs: use --gateway with the agent's address, or stop it".into()
			}
			Self::BadStore { .. } => "check the folder, its permissions and free space".into(),
			Self::Usage { hint, .. } => hint.clone(),
			Self::Snapshot { hint, .. } => (*hint).into(),
		}
	}
}

/// The code of what the chain's rules forbid, by the error's name: what is not there, who may not,
/// and all else.
fn refusal(error: &str) -> u8 {
	let name = error.rsplit("::").next().unwrap_or(error);
	match name {
		"BadOrigin" | "NotAuthorized" | "NotBackupOwner" | "NotMember" | "NotOperator"
		| "NotOwner" => exit::NOT_ALLOWED,
		name if name.ends_with("NotFound") => exit::NOT_FOUND,
		_ => exit::REFUSED,
	}
}

impl From<subxt::Error> for CliError {
	fn from(source: subxt::Error) -> Self {
		Self::Chain { source: Box::new(source) }
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_second_line_of_a_refusal_belongs_to_its_name() {
		let error =
			CliError::Dispatch { error: "Backup::SnapshotNotFound".into(), docs: String::new() };
		assert!(error.hint().contains("backup snapshots"));
	}

	#[test]
	fn a_refusal_tells_what_is_not_there_from_who_may_not() {
		for (error, code, word) in [
			("Backup::SnapshotNotFound", 5, "not-found"),
			("Backup::NotBackupOwner", 12, "not-allowed"),
			("BadOrigin", 12, "not-allowed"),
			("Backup::TooSoon", 4, "refused"),
		] {
			let error = CliError::Dispatch { error: error.into(), docs: String::new() };
			assert_eq!((error.exit_code(), error.code()), (code, word));
		}
	}
}
