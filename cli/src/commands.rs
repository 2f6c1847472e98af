//! One file a verb.

mod access;
mod backups;
mod blocks;
mod cat;
mod confirm;
mod copies;
mod cost;
mod delete;
mod diff;
mod drill;
mod envelope;
mod export;
mod governance;
mod history;
mod import;
mod inside;
mod keeping;
mod key;
mod listing;
mod locate;
mod ls;
mod machines;
mod marketplace;
mod node;
mod patience;
mod request;
mod request_restore;
mod restore;
mod restore_file;
mod serve_disk;
mod session;
mod shell;
mod snapshots;
mod status;
mod upkeep;
mod verify;
mod watch;
mod words_of_key;

use crate::{
	args::{Args, Command, Snapshot},
	commands::{keeping::Place, request_restore::Wanted},
	error::CliError,
	output::Output,
};

/// Carry out a command.
pub(crate) async fn run(args: Args, output: &Output) -> Result<(), CliError> {
	let Args { global, command } = args;
	let (global, output) = (&global, *output);
	match command {
		Command::Key(verb) => key::run(verb, global, output).await,
		Command::Snapshots(which) => snapshots::run(&which, global, output).await,
		Command::RequestRestore {
			what,
			sequence,
			at,
			replace,
			onto,
			envelope,
			yes,
			wait,
			timeout,
		} => {
			let wanted = Wanted { what, sequence, at, replace, onto, envelope, yes };
			let timeout = wait.then_some(timeout);
			request_restore::run(&wanted, timeout, global, output).await
		}
		Command::Drill(drill) => drill::run(drill, global, output).await,
		Command::Copies { machine } => copies::run(&machine, global, output).await,
		Command::Unsubscribe { yes } => marketplace::unsubscribe(yes, global, output).await,
		Command::Upkeep(verb) => upkeep::run(verb, global, output).await,
		Command::CloseRestore { restore } => request_restore::close(restore, global, output).await,
		Command::Restore(restore) => restore::run(restore, global, output).await,
		Command::Vms { owner } => machines::run(owner.as_deref(), global, output).await,
		Command::Snapshot(Snapshot::Now { machine }) => {
			keeping::snapshot_now(machine, global, output).await
		}
		Command::Hold { machine, sequence } => {
			keeping::hold(Place { machine, sequence }, global, output).await
		}
		Command::Release { machine, sequence } => {
			keeping::release(Place { machine, sequence }, global, output).await
		}
		Command::Delete(wanted) => delete::run(&wanted, global, output).await,
		Command::Keep { machine, sequence, all: _ } => {
			keeping::keep(machine, sequence, global, output).await
		}
		Command::Approve { machine } => keeping::approve(machine, global, output).await,
		Command::Reject { machine } => keeping::reject(machine, global, output).await,
		Command::Grant { machine, to, until, key } => {
			access::grant(&machine, &to, (until, key), global, output).await
		}
		Command::Revoke { machine, from } => access::revoke(&machine, &from, global, output).await,
		Command::Grants { machine } => access::list(&machine, global, output).await,
		Command::Cost { owner } => cost::run(owner.as_deref(), global, output).await,
		Command::Root { machine, at } => history::print_root(&machine, at, global, output).await,
		Command::Watch { machine } => watch::run(machine.as_ref(), global, output).await,
		Command::Governance(verb) => governance::run(verb, global, output).await,
		Command::Show(unlock) => history::show(unlock, global, output).await,
		Command::Verify(verify) => verify::run(verify, global, output).await,
		Command::Completions { shell } => shell::completions(shell),
		Command::Man { folder } => shell::man(&folder, output),
		Command::Ls(ls) => ls::run(ls, global, output).await,
		Command::Cat(cat) => cat::run(cat, global, output).await,
		Command::RestoreFile(restore) => restore_file::run(restore, global, output).await,
		Command::ServeDisk(serve) => serve_disk::run(serve, global, output).await,
		Command::Diff(diff) => diff::run(diff, global, output).await,
		Command::Export(export) => export::run(export, global, output).await,
		Command::Envelope(envelope) => envelope::run(envelope, global, output).await,
		Command::Import(import) => import::run(import, output).await,
		Command::Status { machine, owner, agent } => {
			status::run(machine.as_ref(), owner.as_deref(), agent.as_deref(), global, output).await
		}
		Command::Node(verb) => node::run(verb, global, output).await,
		Command::Request(verb) => request::run(verb, global, output).await,
		Command::Subscribe { periods } => marketplace::subscribe(periods, global, output).await,
		Command::DeleteAll { yes } => marketplace::delete_all(yes, global, output).await,
		Command::Create { machine, description } => {
			backups::create(machine, description, global, output).await
		}
		Command::Cadence { blocks } => backups::frequency(blocks, global, output).await,
		Command::Settings { machine, change } => {
			backups::settings(machine, change, global, output).await
		}
	}
}
