//! Histories, read from the newest snapshot down: place by place, for in storage they stand by their
//! hashes, and whoever wants a few would have to go through all of them.

use crate::{
	ClockFor, Config, Lineages, Pallet, SnapshotOf, Snapshots,
	pages::{ENTRIES_MAX, Page, Search},
};
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Most snapshots that one read returns: more than the reference chain keeps of a machine, and
/// about 80 kB.
pub(crate) const SNAPSHOTS_PAGE: u32 = 512;

impl<T: Config> Pallet<T> {
	pub(crate) fn view_snapshots(
		request_id: &T::RequestId,
		before: Option<u64>,
		limit: u32,
	) -> Page<u64, SnapshotOf<T>> {
		// A page of nothing would never come to an end.
		let limit = limit.clamp(1, SNAPSHOTS_PAGE) as usize;
		let mut page = Vec::new();
		let next = Self::go_back(request_id, before, |sequence, record| {
			page.push((sequence, record));
			if page.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
		});
		(page, next)
	}

	pub(crate) fn view_snapshot_as_of(
		request_id: &T::RequestId,
		at: ClockFor<T>,
		before: Option<u64>,
	) -> Search<u64> {
		let mut found = None;
		let next = Self::go_back(request_id, before, |sequence, record| {
			// They were taken in the order of their places.
			if record.taken_at > at {
				return ControlFlow::Continue(());
			}
			found = Some(sequence);
			ControlFlow::Break(())
		});
		(found, next.filter(|_| found.is_none()))
	}

	/// Visits the snapshots of a request from before a place on, or from the newest on, until one is
	/// enough. Returns the place to go on before, if there may be more.
	///
	/// Looks at [`ENTRIES_MAX`] places, and at none behind the oldest snapshot: held ones leave gaps
	/// behind them, but the lineage counts what it keeps.
	fn go_back(
		request_id: &T::RequestId,
		before: Option<u64>,
		mut visit: impl FnMut(u64, SnapshotOf<T>) -> ControlFlow<()>,
	) -> Option<u64> {
		let lineage = Lineages::<T>::get(request_id)?;
		let end = before.map_or(lineage.next, |before| before.min(lineage.next));
		let start = end.saturating_sub(ENTRIES_MAX as u64);
		let mut left = lineage.kept;
		for place in (start..end).rev() {
			if left == 0 {
				return None;
			}
			let Some(record) = Snapshots::<T>::get(request_id, place) else { continue };
			left = left.saturating_sub(1);
			if visit(place, record).is_break() {
				return Some(place).filter(|place| *place > 0 && left > 0);
			}
		}
		Some(start).filter(|start| *start > 0 && left > 0)
	}
}
