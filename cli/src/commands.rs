//! One file a verb.

mod access;
mod backups;
mod blocks;
mod cat;
mod confirm;
mod cost;
mod diff;
mod envelope;
mod export;
mod governance;
mod history;
mod import;
mod inside;
mod keeping;
mod key;
mod ls;
mod machines;
mod marketplace;
mod node;
mod request;
mod request_restore;
mod restore;
mod restore_file;
mod serve_disk;
mod shell;
mod snapshots;
mod status;
mod verify;
mod watch;

use crate::{
	args::{Args, Command, Global, Snapshot},
	chain::{Chain, signer, submit::Included},
	commands::keeping::Place,
	error::CliError,
	output::Output,
};
use subxt::ext::scale_encode::EncodeAsFields;

/// Carry out a command.
pub(crate) async fn run(args: Args, output: &Output) -> Result<(), CliError> {
	let Args { global, command } = args;
	let (global, output) = (&global, *output);
	match command {
		Command::Key(verb) => key::run(verb, global, output).await,
		Command::Snapshots(which) => snapshots::run(&which, global, output).await,
		Command::RequestRestore { cid, wait, timeout } => {
			let timeout = wait.then_some(timeout);
			request_restore::run(cid, timeout, global, output).await
		}
		Command::CloseRestore { restore } => request_restore::close(restore, global, output).await,
		Command::Restore(restore) => restore::run(restore, output).await,
		Command::Vms { owner } => machines::run(owner.as_deref(), global, output).await,
		Command::Snapshot(Snapshot::Now { request }) => {
			keeping::snapshot_now(request, global, output).await
		}
		Command::Hold { request, sequence } => {
			keeping::hold(Place { request, sequence }, global, output).await
		}
		Command::Release { request, sequence } => {
			keeping::release(Place { request, sequence }, global, output).await
		}
		Command::Delete { request, sequence, yes } => {
			keeping::delete(request, sequence, yes, global, output).await
		}
		Command::Keep { request, sequence } => {
			keeping::keep(request, sequence, global, output).await
		}
		Command::Approve { request } => keeping::approve(request, global, output).await,
		Command::Reject { request } => keeping::reject(request, global, output).await,
		Command::Grant { request, to, until } => {
			access::grant(request, &to, until, global, output).await
		}
		Command::Revoke { request, from } => access::revoke(request, &from, global, output).await,
		Command::Grants { request } => access::list(request, global, output).await,
		Command::Cost { owner } => cost::run(owner.as_deref(), global, output).await,
		Command::Root { request, at } => history::root(request, at, global, output).await,
		Command::Watch { request } => watch::run(request, global, output).await,
		Command::Governance(verb) => governance::run(verb, global, output).await,
		Command::Show(unlock) => history::show(unlock, output).await,
		Command::Verify(verify) => verify::run(verify, output).await,
		Command::Completions { shell } => shell::completions(shell),
		Command::Man { folder } => shell::man(&folder, output),
		Command::Ls(ls) => ls::run(ls, output).await,
		Command::Cat(cat) => cat::run(cat).await,
		Command::RestoreFile(restore) => restore_file::run(restore, output).await,
		Command::ServeDisk(serve) => serve_disk::run(serve, output).await,
		Command::Diff(diff) => diff::run(diff, output).await,
		Command::Export(export) => export::run(export, output).await,
		Command::Envelope(envelope) => envelope::run(envelope, output).await,
		Command::Import(import) => import::run(import, output).await,
		Command::Status { request, owner, agent } => {
			status::run(request, owner.as_deref(), agent.as_deref(), global, output).await
		}
		Command::Node(verb) => node::run(verb, global, output).await,
		Command::Request(verb) => request::run(verb, global, output).await,
		Command::Subscribe { periods } => marketplace::subscribe(periods, global, output).await,
		Command::DeleteAll { yes } => marketplace::delete_all(yes, global, output).await,
		Command::Create { request, description } => {
			backups::create(request, description, global, output).await
		}
		Command::Cadence { blocks } => backups::frequency(blocks, global, output).await,
		Command::Settings { request, paused, keep_last } => {
			backups::settings(request, paused, keep_last, global, output).await
		}
	}
}

/// Sign and send one call.
async fn submit(
	global: &Global,
	pallet: &str,
	call: &str,
	arguments: impl EncodeAsFields,
) -> Result<Included, CliError> {
	let signer = signer(global)?;
	let chain = Chain::connect(global).await?;
	chain.submit(&signer, pallet, call, arguments).await
}

/// Sign and send one call of which only the outcome is told.
async fn submit_and_answer(
	global: &Global,
	output: Output,
	pallet: &str,
	call: &str,
	arguments: impl EncodeAsFields,
	done: &str,
) -> Result<(), CliError> {
	let report = submit(global, pallet, call, arguments).await?.report;
	output.answer(&report, || format!("{done} (block {})", report.block))
}
