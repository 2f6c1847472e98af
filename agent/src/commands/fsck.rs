//! `backup-agent fsck`: the store of a stopped agent, compared with itself and repaired.
//!
//! A repair removes nothing. It notes what is damaged, so that the next backup stores it anew;
//! an index that is damaged is given up and made again from the packs.

use super::{Context, answer::Versioned, exit_code, runtime};
use crate::{
	config::{Config, Settings},
	console::{existing_store, spinner},
	repositories::{EmbeddedStore, RepositoryError, StoreOptions, StoreReport},
};
use anyhow::{Context as _, Result, bail};
use indicatif::HumanBytes;
use serde_json::json;
use std::{
	path::Path,
	process::ExitCode,
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
};

/// How often a repair begins again: an index is rebuilt once, and each turn notes a million
/// damaged blocks.
const TURNS_MAX: usize = 16;

#[derive(Debug, clap::Args)]
pub(super) struct Fsck {
	/// Note what is damaged, so that the next backup stores it anew; make a damaged index again.
	/// Nothing that is good is removed.
	#[arg(long)]
	repair: bool,
	/// Print one JSON object for what was found, and one for what is left after a repair.
	#[arg(long)]
	json: bool,
	#[command(flatten)]
	settings: Settings,
}

pub(super) fn run(context: &Context, arguments: Fsck) -> Result<ExitCode> {
	let Fsck { repair, json, settings } = arguments;
	let config = context.load(settings)?;
	runtime()?.block_on(check(&config, repair, json)).map(exit_code)
}

/// Checks the store, repairs it if that is wanted, prints what was found, and says whether all is
/// good: after a repair, whether it is good now.
async fn check(config: &Config, repair: bool, json: bool) -> Result<bool> {
	let blocks = existing_store(config)?;
	let stop = Arc::new(AtomicBool::new(false));
	let switch = stop.clone();
	let mut work = tokio::task::spawn_blocking(move || work(&blocks, repair, json, &switch));
	tokio::select! {
		result = &mut work => result?,
		_ = tokio::signal::ctrl_c() => {
			stop.store(true, Ordering::Relaxed);
			work.await??;
			bail!("interrupted; run it again to see where the store is");
		}
	}
}

fn work(blocks: &Path, repair: bool, json: bool, stop: &AtomicBool) -> Result<bool> {
	let store = open(blocks)?;
	let found = look(&store, stop, EmbeddedStore::check)?;
	print("found", &found, json)?;
	// Whose root may stand in a pack that is away is known only once somebody goes on without it.
	if store.pins_unconfirmed() && !(repair && store.waits_for_packs()?) {
		bail!(
			"pins may have been lost: start the agent, which takes from the chain what it has to keep"
		);
	}
	if !repair || found.is_good() || stop.load(Ordering::Relaxed) {
		return Ok(found.is_good());
	}
	mend(store, blocks, stop)?;
	let left = look(&open(blocks)?, stop, EmbeddedStore::check)?;
	print("left", &left, json)?;
	Ok(left.is_good())
}

fn open(blocks: &Path) -> Result<EmbeddedStore> {
	EmbeddedStore::open(blocks, StoreOptions::V1).map_err(|error| match error {
		RepositoryError::InUse { .. } => {
			anyhow::anyhow!("{error}: stop the agent; while it runs, `backup-agent verify` works")
		}
		other => anyhow::Error::new(other).context("failed to open the block store"),
	})
}

/// Repairs until a repair finds nothing new.
fn mend(mut store: EmbeddedStore, blocks: &Path, stop: &AtomicBool) -> Result<()> {
	for _ in 0..TURNS_MAX {
		let report = look(&store, stop, EmbeddedStore::repair).context("failed to repair")?;
		if report.is_index_suspect {
			// The next opening makes it again.
			drop(store);
			store = open(blocks)?;
		} else if report.unnoted == 0 || stop.load(Ordering::Relaxed) {
			return Ok(());
		}
	}
	bail!("the damage has no end; look at the disk under {}", blocks.display())
}

type Look = fn(
	&EmbeddedStore,
	&mut dyn FnMut(&StoreReport) -> bool,
) -> Result<StoreReport, RepositoryError>;

fn look(store: &EmbeddedStore, stop: &AtomicBool, look: Look) -> Result<StoreReport> {
	let bar = spinner("{spinner} {bytes}, {bytes_per_sec}");
	let report = look(store, &mut |report| {
		bar.set_position(report.good_bytes);
		!stop.load(Ordering::Relaxed)
	});
	bar.finish_and_clear();
	Ok(report?)
}

fn print(when: &str, report: &StoreReport, json: bool) -> Result<()> {
	let StoreReport {
		good_blocks,
		good_bytes,
		damaged_blocks,
		incomplete_nodes,
		bad_headers,
		unknown_bytes,
		is_index_suspect,
		is_finished,
		..
	} = report;
	let names = |cids: &[crate::format::Cid]| -> Vec<String> {
		cids.iter().map(ToString::to_string).collect()
	};
	if json {
		let value = json!({
			"when": when,
			"is_good": report.is_good(),
			"good_blocks": good_blocks,
			"good_bytes": good_bytes,
			"damaged_blocks": damaged_blocks,
			"damaged": names(&report.damaged),
			"incomplete_nodes": incomplete_nodes,
			"incomplete": names(&report.incomplete),
			"lost_roots": names(&report.lost_roots),
			"bad_headers": bad_headers,
			"unread_packs": report.unread_packs,
			"unknown_bytes": unknown_bytes,
			"is_index_suspect": is_index_suspect,
			"is_finished": is_finished,
		});
		println!("{}", Versioned::new(value).line()?);
		return Ok(());
	}
	println!("{when}: {good_blocks} good blocks, {}", HumanBytes(*good_bytes));
	let findings = [
		(*damaged_blocks, "damaged blocks"),
		(*incomplete_nodes, "nodes with something missing below them"),
		(*bad_headers, "good blocks with a damaged header"),
		(*unknown_bytes, "bytes that nobody needs"),
	];
	for (count, what) in findings.into_iter().filter(|(count, _)| *count > 0) {
		println!("  {count} {what}");
	}
	if *is_index_suspect {
		println!("  the index is damaged; the packs have everything");
	}
	if !is_finished {
		println!(
			"  not everything was looked at: what is damaged so far is noted by --repair first"
		);
	}
	for pack in &report.unread_packs {
		println!("  away      {pack}, or it could not be read: --repair goes on without it");
	}
	for root in &report.lost_roots {
		println!("  LOST      {root} cannot be restored in full from here");
	}
	for cid in &report.damaged {
		println!("  damaged   {cid}");
	}
	if report.is_good() {
		println!("  all is good");
	}
	Ok(())
}
