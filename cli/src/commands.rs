//! One file a verb.

mod backups;
mod blocks;
mod cat;
mod diff;
mod envelope;
mod export;
mod import;
mod inside;
mod key;
mod ls;
mod marketplace;
mod node;
mod request;
mod request_restore;
mod restore;
mod restore_file;
mod serve_disk;
mod snapshots;
mod status;

use crate::{
	args::{Args, Command, Global},
	chain::{Chain, signer, submit::Included},
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
		Command::Snapshots { request, owner } => {
			snapshots::run(request, owner.as_deref(), global, output).await
		}
		Command::RequestRestore { cid, wait, timeout } => {
			let timeout = wait.then_some(timeout);
			request_restore::run(cid, timeout, global, output).await
		}
		Command::CloseRestore { restore } => request_restore::close(restore, global, output).await,
		Command::Restore(restore) => restore::run(restore, output).await,
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
		Command::Frequency { blocks } => backups::frequency(blocks, global, output).await,
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
