//! Machines by their names.

use super::{
	AtBlock,
	pages::Listed,
	reads::{AT_ONCE, lineages_of, request, requests_of},
	records::RequestState,
};
use crate::{
	args::{Global, Machine},
	error::CliError,
	secret,
};
use backup_agent::nearest::nearest;
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
		Machine::Name(name) => match secret::account(None, global).await {
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
	// Those with backups are asked for one by one; for the others the runtime has to look through all
	// requests of the chain, a page at a time.
	let lineages = lineages_of(at, owner).await?;
	let machines = stream::iter(lineages).map(|lineage| async move {
		let record = request(at, lineage.request).await?;
		Ok::<_, CliError>((lineage.request, record.state.into()))
	});
	let machines: Vec<(u64, RequestState)> = machines.buffered(AT_ONCE).try_collect().await?;
	if let Some(request) = named(&machines, name)? {
		return Ok(request);
	}
	let listed = requests_of(at, owner).await?;
	let truncated = listed.truncated;
	let machines: Vec<_> =
		listed.items.into_iter().map(|(request, record)| (request, record.state.into())).collect();
	if let Some(request) = named(&machines, name)? {
		return Ok(request);
	}
	// It may be among those that were not read.
	Listed { items: machines, truncated }.complete("requests").and_then(|machines| {
		let names: Vec<&str> = machines.iter().filter_map(|(_, state)| name_of(state)).collect();
		Err(CliError::NoMachine {
			name: name.to_owned(),
			nearest: nearest(name, &names).map(str::to_owned),
			names: names.join(", "),
		})
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

#[cfg(test)]
mod tests {
	use super::*;

	fn running(vm: &str) -> RequestState {
		RequestState::Running { node: 1, vm: vm.into() }
	}

	#[test]
	fn a_name_that_two_machines_share_means_neither() {
		let machines = [
			(3, running("web")),
			(5, running("mail")),
			(8, running("web")),
			(9, RequestState::Ended),
		];
		let error = named(&machines, "web").unwrap_err();
		assert_eq!(error.to_string(), "several machines are called 'web': requests 3, 8");
		assert_eq!(error.exit_code(), crate::error::exit::USAGE);
		assert_eq!(named(&machines, "mail").unwrap(), Some(5));
		assert_eq!(named(&machines, "db").unwrap(), None);
	}
}
