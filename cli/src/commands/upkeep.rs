//! `backup upkeep`: what the chain does by itself sooner or later, and anybody may have it do now; and
//! what is left over afterwards.

use crate::{
	args::{Global, Upkeep},
	commands::session::Session,
	error::CliError,
	output::Output,
};

pub(super) async fn run(verb: Upkeep, global: &Global, output: Output) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	match verb {
		Upkeep::Prune { machine, places } => {
			let request = session.request(&machine).await?;
			let done = format!("what the history of {machine} has too much is evicted");
			session.carry_out(output, "prune", (request, places), &done).await
		}
		Upkeep::CloseDeletion { machine, sequence } => {
			let request = session.request(&machine).await?;
			let done = format!("the deletion for {machine} is carried out, as far as it is due");
			session.carry_out(output, "close_deletion", (request, sequence), &done).await
		}
		Upkeep::ReplaceHolders { machine } => {
			let request = session.request(&machine).await?;
			let done =
				format!("other nodes are chosen for copies of {machine}; see 'backup copies'");
			session.carry_out(output, "replace_holders", (request,), &done).await
		}
		Upkeep::ReclaimDeposit { request } => {
			let done = format!("the deposit for the history of request {request} is returned");
			session.carry_out(output, "reclaim_deposit", (request,), &done).await
		}
	}
}
