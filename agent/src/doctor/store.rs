//! The block store, by what a snapshot does to it.

use super::{Case, Finding, agent::block_on};
use crate::{
	api::STORE_TRIAL_PATH,
	client::AgentClient,
	console::existing_store,
	repositories::{self, EmbeddedStore, Repository, RepositoryError, StoreOptions},
};
use anyhow::Result;
use indicatif::HumanBytes;

/// Room that must be left, in bytes.
const ROOM_BYTES_MIN: u64 = 1 << 30;

const DONE: &str = "a block was written, pinned, read back and unpinned";
const MEND: &str = "look at the disk below state_dir; stop the agent and run `backup-agent fsck`";

/// Try the store: through the agent if that runs, which has it locked, here if not.
pub(super) fn store(case: &Case) -> Vec<Finding> {
	match &case.running {
		Some(running) => {
			let tried = block_on(ask(case)).and_then(|answer| answer);
			let mut findings = vec![tried.map_or_else(
				|error| Finding::error("store", &error, MEND),
				|_| Finding::ok("store", format!("{DONE} by the agent")),
			)];
			findings.extend(running.findings());
			findings
		}
		None if case.is_foreign => vec![Finding::warning(
			"store",
			"not tried: what is written there by another user the agent could not use",
			"run it as the agent's user",
		)],
		None => open(case).unwrap_or_else(|error| vec![Finding::error("store", &error, MEND)]),
	}
}

async fn ask(case: &Case) -> Result<bool> {
	AgentClient::new(&case.config)?.order(STORE_TRIAL_PATH, &()).await
}

fn open(case: &Case) -> Result<Vec<Finding>> {
	let blocks = existing_store(&case.config)?;
	let store = match EmbeddedStore::open(&blocks, StoreOptions::V1) {
		Err(error @ RepositoryError::InUse { .. }) => {
			let mend = "end that process, or give the agent's --listen, so that it can be asked";
			return Ok(vec![Finding::failed("store", error.to_string(), mend)]);
		}
		store => store?,
	};
	let _hold = case.holds.begin()?;
	repositories::try_out(&store)?;
	let mut findings = vec![Finding::ok("store", DONE)];
	if store.pins_unconfirmed() {
		findings.push(Finding::warning(
			"pins",
			"some may have been lost, so nothing is collected",
			"start the agent and the node: pins are compared with the chain then",
		));
	}
	let free = store.usage()?.available_bytes;
	let left = format!("{} left", HumanBytes(free));
	findings.push(match free >= ROOM_BYTES_MIN {
		true => Finding::ok("room", left),
		false => Finding::failed(
			"room",
			left,
			"make room on the file system of state_dir, or move it to a larger one",
		),
	});
	Ok(findings)
}
