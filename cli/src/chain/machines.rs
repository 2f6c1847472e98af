//! Machines by their names.

use super::{
	AtBlock,
	reads::{AT_ONCE, lineages_of, request, requests_of},
	records::RequestState,
};
use crate::{
	args::{Global, Machine},
	error::CliError,
	secret,
	words::nearest,
};
use futures::{StreamExt, TryStreamExt, stream};
use subxt::utils::AccountId32;

/// The request that a verb without a key means. A name is one of the account's that is known.
pub(crate) async fn find(
	at: &AtBlock,
	machine: &Machine,
	global: &Global,
) -> Result<u64, CliError> {
	match machine {
		Machine::Request(request) => Ok(*request),
		Machine::Name(name) => match secret::account(None, global) {
			Ok(owner) => request_of(at, name, &owner).await,
			Err(CliError::NoAccount) => Err(CliError::WhoseMachine { name: name.clone() }),
			Err(error) => Err(error),
		},
	}
}

/// The request of an account's machine with this name.
pub(crate) async fn request_of(
	at: &AtBlock,
	name: &str,
	owner: &AccountId32,
) -> Result<u64, CliError> {
	// Those with backups are asked for one by one; for the others all requests of the chain have to
	// be looked through.
	let lineages = lineages_of(at, owner).await?;
	let machines = stream::iter(lineages).map(|lineage| async move {
		let record = request(at, lineage.request).await?;
		Ok::<_, CliError>((lineage.request, record.state.into()))
	});
	let machines: Vec<(u64, RequestState)> = machines.buffered(AT_ONCE).try_collect().await?;
	if let Some(request) = named(&machines, name)? {
		return Ok(request);
	}
	let requests = requests_of(at, owner).await?;
	let machines: Vec<_> =
		requests.into_iter().map(|(request, record)| (request, record.state.into())).collect();
	named(&machines, name)?.ok_or_else(|| {
		let names: Vec<&str> = machines.iter().filter_map(|(_, state)| name_of(state)).collect();
		CliError::NoMachine {
			name: name.to_owned(),
			nearest: nearest(name, &names).map(str::to_owned),
			names: names.join(", "),
		}
	})
}

/// The one machine with a name. Nodes name their machines, so two of them can have one name.
fn named(machines: &[(u64, RequestState)], name: &str) -> Result<Option<u64>, CliError> {
	let found = machines.iter().filter(|(_, state)| name_of(state) == Some(name));
	match *found.map(|(request, _)| *request).collect::<Vec<u64>>() {
		[] => Ok(None),
		[only] => Ok(Some(only)),
		ref several => Err(CliError::AmbiguousMachine {
			name: name.to_owned(),
			requests: several.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
		}),
	}
}

/// A machine has a name as long as it runs.
fn name_of(state: &RequestState) -> Option<&str> {
	match state {
		RequestState::Running { vm, .. } => Some(vm),
		RequestState::Open | RequestState::Assigned { .. } | RequestState::Ended => None,
	}
}
