//! The block store, by what a snapshot does to it.

use super::{Case, Finding, agent::block_on};
use crate::{
	api::STORE_TRIAL_PATH,
	client::AgentClient,
	console::existing_store,
	repositories::{
		self, EmbeddedStore, Obstacle, Obstacles, Repository, RepositoryError, StoreOptions,
	},
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
			findings.extend(freeing(&running.obstacles));
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
	match store.pins_unconfirmed() {
		true => {
			findings.push(Finding::warning(
				"pins",
				"some may have been lost, so nothing is collected",
				"start the agent and the node: pins are compared with the chain then",
			));
			findings.extend(packs(&store.obstacles()));
		}
		false => findings.extend(freeing(&store.look_for_obstacles()?)),
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

/// Why no blocks are freed, or no deletion is told.
fn freeing(obstacles: &Obstacles) -> impl Iterator<Item = Finding> {
	nodes(obstacles).into_iter().chain(packs(obstacles))
}

/// Packs because of which no deletion is told, if there are any.
fn packs(obstacles: &Obstacles) -> Option<Finding> {
	let (first, others) = obstacles.unread_packs.split_first()?;
	let others = if others.is_empty() { "" } else { ", and others" };
	Some(Finding::warning(
		"packs",
		format!("no deletion is told to the chain: {first} is away or cannot be read{others}"),
		"bring back the disk or the file, and start the agent anew; if neither is to come, stop it and run \
		 `backup-agent fsck --repair`, which goes on without",
	))
}

/// Nodes because of which no blocks are freed, if there are any.
fn nodes(obstacles: &Obstacles) -> Option<Finding> {
	let Obstacle { node, root } = obstacles.named.first()?;
	let of = root.map_or_else(String::new, |root| format!(" of snapshot {root}"));
	let others = match obstacles.count {
		0 | 1 => String::new(),
		count => format!(", and {} more", count - 1),
	};
	Some(Finding::warning(
		"freeing",
		format!("no blocks are freed: node {node}{of} is missing or damaged{others}"),
		"back that machine up, or bring back the disk or pack that it was on; if neither helps, stop \
		 the agent and run `backup-agent fsck --repair`, which goes on without it",
	))
}

#[cfg(test)]
mod tests {
	use super::*;
	use backup_primitives::Cid;

	#[test]
	fn what_keeps_blocks_from_being_freed_is_named_with_what_mends_it() {
		assert_eq!(freeing(&Obstacles::default()).count(), 0);
		let (node, root) = (Cid::dag_cbor([1; 32]), Cid::dag_cbor([2; 32]));
		let named = vec![Obstacle { node, root: Some(root) }];
		let unread_packs = vec!["00000007.pack".to_owned()];
		let obstacles = Obstacles { count: 3, named, unread_packs, has_dead_roots: true };
		let findings: Vec<_> = freeing(&obstacles).collect();
		let [nodes, packs] = &findings[..] else { panic!("{findings:?}") };
		for word in [&node.to_string(), &root.to_string(), "and 2 more"] {
			assert!(nodes.found.contains(word), "{}", nodes.found);
		}
		assert!(packs.found.contains("00000007.pack"), "{}", packs.found);
		for finding in &findings {
			assert!(finding.mend.as_ref().unwrap().contains("fsck --repair"));
		}
	}
}
