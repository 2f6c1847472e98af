//! Pages of long maps: a read looks at so many entries and no more, gives those that are asked for, and
//! says behind which key the next read goes on.
//!
//! A map stands in the order of its hashed keys, which does not change: whoever goes on until no key is
//! named has seen each entry that was there all the time, once. Entries that came or went meanwhile may
//! be among them or not.

use alloc::vec::Vec;

/// Entries of a map of the whole chain that one read looks at, where few of them are asked for.
pub const ENTRIES_MAX: usize = 4_096;

/// Entries of a map, and the key to go on behind if there may be more.
pub type Page<Key, Value> = (Vec<(Key, Value)>, Option<Key>);

/// What a read has found, and from where to go on where it has not.
pub type Search<Place> = (Option<Place>, Option<Place>);

/// Of the next `limit` entries of a map those that are asked for, and the key to go on behind if there
/// may be more.
pub fn page<Key: Clone, Value>(
	entries: impl Iterator<Item = (Key, Value)>,
	limit: usize,
	is_wanted: impl Fn(&Value) -> bool,
) -> Page<Key, Value> {
	let (mut wanted, mut last, mut seen) = (Vec::new(), None, 0);
	for (key, value) in entries.take(limit) {
		last = Some(key.clone());
		seen += 1;
		if is_wanted(&value) {
			wanted.push((key, value));
		}
	}
	(wanted, last.filter(|_| seen == limit))
}

#[cfg(test)]
mod tests {
	use super::*;

	/// All pages of these entries, where a page goes on behind a key.
	fn pages(entries: &[(u32, char)], limit: usize) -> Vec<Vec<u32>> {
		let (mut all, mut after) = (Vec::new(), None);
		loop {
			let behind = entries.iter().copied().filter(|(key, _)| Some(*key) > after);
			let (found, next) = page(behind, limit, |value| *value == 'x');
			all.push(found.into_iter().map(|(key, _)| key).collect());
			match next {
				None => return all,
				Some(_) => after = next,
			}
		}
	}

	#[test]
	fn a_page_has_what_is_asked_for_among_as_many_entries_as_it_looks_at() {
		let entries = [(1, 'x'), (2, '-'), (3, 'x'), (4, '-'), (5, '-'), (6, 'x'), (7, 'x')];
		assert_eq!(pages(&entries, 3), [vec![1, 3], vec![6], vec![7]]);
		assert_eq!(pages(&entries, 2), [vec![1], vec![3], vec![6], vec![7]]);
		assert_eq!(pages(&entries, 100), [vec![1, 3, 6, 7]]);
	}

	#[test]
	fn boundary_a_list_that_ends_with_a_page_is_asked_for_once_more() {
		assert_eq!(pages(&[(1, 'x'), (2, 'x')], 2), [vec![1, 2], vec![]]);
		assert_eq!(pages(&[], 2), [vec![0; 0]]);
	}

	#[test]
	fn a_page_without_what_is_asked_for_says_where_to_go_on() {
		let entries = (0..10).map(|key| (key, '-'));
		assert_eq!(page(entries, 4, |value| *value == 'x'), (vec![], Some(3)));
	}
}
