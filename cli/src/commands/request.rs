//! `backup request`: machines that owners ask for and nodes run.

use crate::{
	args::{Global, Request},
	chain::{Chain, reads},
	commands::session::Session,
	error::CliError,
	output::Output,
	progress::Bar,
};
use backup_primitives::{OpaqueId, VmTag};
use serde_json::json;
use subxt::ext::{
	scale_decode::{self, DecodeAsType},
	scale_encode::EncodeAsFields,
};

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct RequestCreated {
	request_id: u64,
}

pub(crate) async fn run(verb: Request, global: &Global, output: Output) -> Result<(), CliError> {
	match verb {
		Request::Create { disk_bytes } => create(disk_bytes, global, output).await,
		Request::Assign { request, to } => {
			let done = format!("request {request} is assigned to node {to}");
			operate(global, output, "assign_request", (request, to), &done).await
		}
		Request::Fulfil { request, vm } => {
			let done = format!("request {request} is fulfilled with machine {vm}");
			let arguments = (request, vm.into_bytes());
			operate(global, output, "fulfil_request", arguments, &done).await
		}
		Request::Tag { request } => tag(request, global, output).await,
		Request::Release { machine } => {
			let session = Session::begin(global).await?;
			let request = session.request(&machine).await?;
			let report = session.submit("Compute", "release_request", (request,)).await?.report;
			output.answer(&report, || {
				format!("request {request} is open for another node (block {})", report.block)
			})
		}
		Request::End { request } => {
			let done = format!("request {request} has ended");
			operate(global, output, "end_request", (request,), &done).await
		}
	}
}

/// Sign and send one call, of which only the outcome is told.
async fn operate(
	global: &Global,
	output: Output,
	call: &str,
	arguments: impl EncodeAsFields,
	done: &str,
) -> Result<(), CliError> {
	let report = Session::begin(global).await?.submit("Compute", call, arguments).await?.report;
	output.answer(&report, || format!("{done} (block {})", report.block))
}

async fn create(disk_bytes: u64, global: &Global, output: Output) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let included = session.submit("Compute", "create_request", (disk_bytes,)).await?;
	let event: RequestCreated = included.event("Compute", "RequestCreated")?;
	let value = json!({ "request": event.request_id, "transaction": included.report });
	output.answer(&value, || format!("request {} is created", event.request_id))
}

/// The UUID follows from genesis, request and owner; nobody chooses it.
async fn tag(request: u64, global: &Global, output: Output) -> Result<(), CliError> {
	let bar = Bar::waiting(output, "the chain");
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let owner = reads::request(&at, request).await?.owner;
	drop(bar);
	let tag = VmTag::derive(&chain.genesis(), &opaque(&request), &opaque(&owner.0));
	let value = json!({ "request": request, "owner": owner.to_string(), "uuid": tag.to_string() });
	output.answer(&value, || tag.to_string())
}

fn opaque(id: &impl codec::Encode) -> OpaqueId {
	OpaqueId::of(id).expect("numbers and accounts have 32 bytes at most")
}
