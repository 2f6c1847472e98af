//! Histories of machines, which the runtime gives page by page, the newest snapshot first.

use super::{
	AtBlock,
	pages::{Listed, Page, all_pages, ask},
	reads,
	records::{Lineage, Snapshot, SnapshotRecord},
};
use crate::error::CliError;

/// Most snapshots of a machine that are read.
const SNAPSHOTS_MAX: usize = 100_000;

/// What is answered to the question for a snapshot as of a block: its place, or where to go on.
type AsOf = (Option<u64>, Option<u64>);

/// The newest snapshots of a lineage, as many as are wanted, oldest first.
pub(crate) async fn snapshots(
	at: &AtBlock,
	lineage: &Lineage,
	newest: usize,
) -> Result<Listed<Snapshot>, CliError> {
	let read = async |before: Option<u64>, limit: u32| {
		ask(at, "BackupApi", "snapshots", (lineage.request, before, limit)).await
	};
	newest_of(lineage.kept as usize, newest, read).await
}

/// The newest snapshots of so many, from pages.
async fn newest_of(
	kept: usize,
	newest: usize,
	mut read: impl AsyncFnMut(Option<u64>, u32) -> Result<Page<(u64, SnapshotRecord), u64>, CliError>,
) -> Result<Listed<Snapshot>, CliError> {
	let wanted = newest.min(SNAPSHOTS_MAX).min(kept);
	// One more, whose root is the parent of the oldest.
	let mut left = kept.min(wanted.saturating_add(1));
	let pages = all_pages(async |before| {
		if left == 0 {
			return Ok((Vec::new(), None));
		}
		let (page, next) = read(before, u32::try_from(left).unwrap_or(u32::MAX)).await?;
		left = left.saturating_sub(page.len());
		Ok((page, next.filter(|_| left > 0)))
	});
	let Listed { mut items, truncated } = pages.await?;
	items.sort_unstable_by_key(|(sequence, _)| *sequence);
	items.dedup_by_key(|(sequence, _)| *sequence);
	let mut snapshots = Snapshot::chain(items);
	snapshots.drain(..snapshots.len().saturating_sub(wanted));
	let is_cut = newest > wanted && kept > wanted;
	Ok(Listed { items: snapshots, truncated: truncated || is_cut })
}

/// A snapshot of a request. Of one that is not there it is told with the nearest that is.
pub(crate) async fn snapshot(
	at: &AtBlock,
	request: u64,
	sequence: u64,
) -> Result<Snapshot, CliError> {
	if let Some(snapshot) = reads::snapshot(at, request, sequence).await? {
		return Ok(snapshot);
	}
	let lineage = reads::lineage(at, request).await?;
	let kept = snapshots(at, &lineage, usize::MAX).await?.items;
	let places = kept.iter().map(|snapshot| snapshot.sequence);
	let nearest = places.min_by_key(|place| place.abs_diff(sequence));
	Err(CliError::NoSuchSnapshot { request, sequence, nearest })
}

/// Sequence of the newest snapshot of a request that was taken at a block or before.
pub(crate) async fn snapshot_as_of(
	at: &AtBlock,
	request: u64,
	block: u64,
) -> Result<Option<u64>, CliError> {
	let read = async |before: Option<u64>| {
		let arguments = (request, block, before);
		let (found, next) = ask::<_, AsOf>(at, "BackupApi", "snapshot_as_of", arguments).await?;
		Ok((found.into_iter().collect(), next.filter(|_| found.is_none())))
	};
	Ok(all_pages(read).await?.complete("places of snapshots")?.pop())
}

#[cfg(test)]
mod tests {
	use super::*;

	/// What is listed of a history without gaps, and what was asked for: pages of at most ten.
	async fn listed(kept: u64, newest: usize) -> (Listed<Snapshot>, Vec<(Option<u64>, u32)>) {
		let mut asked = Vec::new();
		let read = async |before: Option<u64>, limit: u32| {
			asked.push((before, limit));
			let end = before.unwrap_or(kept);
			let start = end.saturating_sub(u64::from(limit.min(10)));
			let page = (start..end).rev().map(|place| (place, SnapshotRecord::example(place)));
			Ok((page.collect(), Some(start).filter(|start| *start > 0)))
		};
		let listed = newest_of(kept as usize, newest, read).await.unwrap();
		(listed, asked)
	}

	fn places(listed: &Listed<Snapshot>) -> Vec<u64> {
		listed.items.iter().map(|snapshot| snapshot.sequence).collect()
	}

	#[tokio::test]
	async fn a_whole_history_comes_page_by_page_oldest_first() {
		let (all, asked) = listed(25, usize::MAX).await;
		assert_eq!(places(&all), (0..25).collect::<Vec<_>>());
		assert_eq!(asked, [(None, 25), (Some(15), 15), (Some(5), 5)]);
		assert!(!all.truncated);
		assert!(all.items[0].parent.is_none());
		assert!(all.items.windows(2).all(|pair| pair[1].parent.as_ref() == Some(&pair[0].cid)));
	}

	#[tokio::test]
	async fn no_more_is_asked_for_than_the_newest_and_the_parent_of_the_oldest_of_them() {
		let (two, asked) = listed(25, 2).await;
		assert_eq!((places(&two), asked), (vec![23, 24], vec![(None, 3)]));
		assert!(two.items[0].parent.is_some() && !two.truncated);
		let (one, asked) = listed(1, 1).await;
		assert_eq!((places(&one), asked), (vec![0], vec![(None, 1)]));
		let (none, asked) = listed(25, 0).await;
		assert_eq!((places(&none), asked), (vec![], vec![(None, 1)]));
	}

	#[tokio::test]
	async fn of_an_empty_history_no_page_is_asked_for() {
		let (none, asked) = listed(0, usize::MAX).await;
		assert_eq!((places(&none), asked), (vec![], vec![]));
		assert!(!none.truncated);
	}

	#[tokio::test]
	async fn boundary_of_a_history_that_is_too_long_the_newest_are_listed_and_it_is_told() {
		let most = SNAPSHOTS_MAX as u64;
		for (kept, newest, is_cut) in
			[(most, usize::MAX, false), (most + 1, usize::MAX, true), (most + 1, 5, false)]
		{
			let wanted = newest.min(SNAPSHOTS_MAX);
			let read = async |before: Option<u64>, _| {
				let end = before.unwrap_or(kept);
				let page = (end - 1_000.min(end)..end).rev();
				let next = end - 1_000.min(end);
				let page = page.map(|place| (place, SnapshotRecord::example(place))).collect();
				Ok((page, Some(next).filter(|next| *next > 0)))
			};
			let listed = newest_of(kept as usize, newest, read).await.unwrap();
			assert_eq!((listed.items.len(), listed.truncated), (wanted, is_cut));
			assert_eq!(listed.items.last().unwrap().sequence, kept - 1);
		}
	}

	#[tokio::test]
	async fn a_node_that_repeats_itself_makes_no_snapshot_twice() {
		let page = || vec![(4, SnapshotRecord::example(4)), (4, SnapshotRecord::example(4))];
		let listed = newest_of(9, 9, async |_, _| Ok((page(), Some(4)))).await.unwrap();
		assert_eq!(places(&listed), [4]);
	}
}
