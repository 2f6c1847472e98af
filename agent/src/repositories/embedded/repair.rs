//! Noting what is damaged, so that nobody relies on it any more.
//!
//! A damaged block counts as absent from then on, and a node above it is no longer taken for
//! one. So the next backup stores the block anew, puts the nodes above it again, and the tree is
//! whole; what only the old snapshot has stays lost until the same bytes come from elsewhere.
//!
//! Nothing is removed. Bytes that are good stay, also below a pinned root that is lost, for as
//! long as it is pinned: much of a machine may be better than nothing. Such a root keeps its
//! pin. Only a root of which the index knows nothing at all loses it: the pin would hold
//! nothing, and stop every collection.
//!
//! Damage of the index itself is told from that of the packs by its checksums. Then nothing is
//! noted: the packs have everything, and the next start reads them. Nobody can use the index
//! while its checksums are looked at, which takes about as long as copying it.

use crate::repositories::{
	RepositoryError,
	embedded::{
		Shared, StoreReport,
		check::inspect,
		collect::{Running, shut},
		entry::{Entry, Flaw, Outlook},
		findings::{Findings, nodes_from},
		lock,
		verdict::header_of,
	},
};
use std::sync::atomic::Ordering;

pub(crate) fn repair(
	store: &Shared,
	proceed: &mut dyn FnMut(&StoreReport) -> bool,
) -> Result<StoreReport, RepositoryError> {
	let _running = Running::begin(store)?;
	// Everything older is in the index after the commit, so the check sees it.
	let first_young = lock(&store.writer).next_id();
	// Before anything is written: what redb copies gets a checksum that fits.
	let is_sound = store.index.is_sound()?;
	if !is_sound {
		tracing::error!(target: "store", "the index is damaged, the next start rebuilds it");
		store.index.condemn()?;
		return Ok(StoreReport { is_index_suspect: true, ..StoreReport::default() });
	}
	store.commit()?;
	let mut found = inspect(store, proceed)?;
	found.report.is_index_suspect = false;
	if !found.report.is_finished && !found.has_more {
		return Ok(found.report);
	}
	if found.has_more {
		// Nodes were not looked at yet.
		let Findings { report, damaged, nodes, .. } = &mut found;
		nodes.begin(store, damaged)?;
		if !nodes.look_at_all(store, &mut || proceed(report))? {
			return Ok(found.report);
		}
		damaged.extend(nodes.damaged.drain());
	}
	mend_headers(store, &found)?;
	note(store, &mut found, first_young, Outlook::GivenUp)?;
	Ok(found.report)
}

/// Writes the headers anew without which a rebuild would miss good blocks.
fn mend_headers(store: &Shared, found: &Findings) -> Result<(), RepositoryError> {
	for (name, listed) in &found.bad_headers {
		let _gate = store.enter();
		let entry = store.index.get(name)?.filter(|entry| entry.is_at(listed));
		let Some(entry) = entry else { continue };
		let file = store.packs.file(entry.pack)?;
		file.write_at(entry.offset.into(), &header_of(name, &entry).encode(&[]))
			.and_then(|()| file.sync())
			.map_err(RepositoryError::io("write a pack"))?;
	}
	Ok(())
}

/// Takes the findings into the index, in one commit, while nobody looks anything up.
pub(crate) fn note(
	store: &Shared,
	found: &mut Findings,
	first_young: u64,
	outlook: Outlook,
) -> Result<(), RepositoryError> {
	let _shut = shut(store);
	store.commit()?;
	// What was stored meanwhile may stand on what is broken, and what was put again may be whole.
	// What is older cannot have got worse.
	let unseen = found.nodes.nodes.len();
	let mut again = put_again_since(store, found)?;
	again.extend(nodes_from(store, first_young)?);
	for (name, _) in again.iter().filter(|(name, _)| !found.damaged.contains_key(name)) {
		found.nodes.broken.remove(name);
	}
	found.nodes.nodes.extend(again);
	while (unseen..found.nodes.nodes.len()).try_fold(false, |any, at| {
		Ok::<_, RepositoryError>(any | found.nodes.look_at(store, at)?)
	})? {}
	found.damaged.extend(found.nodes.damaged.drain());
	let (notes, is_worse) = notes(store, found, outlook)?;
	match outlook {
		Outlook::MayComeBack => store.index.note(&notes)?,
		Outlook::GivenUp => store.index.note_and_give_up(&notes)?,
	}
	if is_worse {
		tracing::error!(target: "store", blocks = found.damaged.len(), "damage was found");
		// Before sessions end: who wonders why one did finds it.
		store.times_noted.fetch_add(1, Ordering::AcqRel);
		if is_relied_on(store, &notes) {
			lock(&store.writer).end_sessions();
		}
		store.has_garbage.store(true, Ordering::Release);
	}
	for root in &found.absent_roots {
		if store.look_up(&root.digest())?.is_none() {
			tracing::error!(target: "store", %root, "a pinned root is gone");
			lock(&store.pins).unpin(root)?;
		}
	}
	Ok(())
}

/// Nodes that something was wrong with when they were listed, and that a backup put since.
fn put_again_since(store: &Shared, found: &Findings) -> Result<Vec<Note>, RepositoryError> {
	let mut again = Vec::new();
	for (name, _) in found.nodes.nodes.iter().filter(|(_, listed)| listed.flaw.is_some()) {
		let entry = store.index.get(name)?;
		again.extend(entry.filter(|entry| entry.flaw.is_none()).map(|entry| (*name, entry)));
	}
	Ok(again)
}

/// Whether an open session was told that something is there of which this is no longer so. Needs
/// the gate to be shut.
fn is_relied_on(store: &Shared, notes: &[Note]) -> bool {
	let sessions: Vec<_> = lock(&store.sessions).all().cloned().collect();
	let mut worse = notes.iter().filter(|(_, entry)| entry.flaw.is_some());
	worse.any(|(_, entry)| sessions.iter().any(|session| session.protects(entry.id)))
}

type Note = ([u8; 32], Entry);

/// What changes in the index, and whether anything is there no longer.
fn notes(
	store: &Shared,
	found: &Findings,
	outlook: Outlook,
) -> Result<(Vec<Note>, bool), RepositoryError> {
	let mut notes: Vec<_> = found
		.damaged
		.iter()
		.map(|(name, entry)| {
			// Below a chunk is nothing that could be missed.
			let outlook = if entry.counts_as_node() { outlook } else { Outlook::GivenUp };
			(*name, Entry { is_node: false, flaw: Some(Flaw::Damaged(outlook)), ..*entry })
		})
		.collect();
	let mut is_worse = !notes.is_empty();
	// As nodes they are looked at by the next repair, with all that stands on them.
	notes.extend(found.good_again.iter().copied());
	for (name, listed) in &found.nodes.nodes {
		let is_broken = found.nodes.broken.contains(name);
		if !is_broken && listed.flaw.is_none() || found.damaged.contains_key(name) {
			continue;
		}
		// A backup may have put it again since it was listed.
		let Some(entry) = store.index.get(name)? else { continue };
		if is_broken == entry.is_incomplete() {
			continue;
		}
		is_worse |= is_broken;
		let flaw = is_broken.then_some(Flaw::Incomplete(outlook));
		notes.push((*name, Entry { is_node: !is_broken, flaw, ..entry }));
	}
	notes.sort_unstable_by_key(|(name, _)| *name);
	Ok((notes, is_worse))
}
