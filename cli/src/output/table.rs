//! Tables: columns as wide as their widest cell, and on a terminal no wider than that.
//!
//! Where a table does not fit its terminal, columns give way from the right: CIDs, keys, hashes and
//! addresses lose their middle, other words their end. Numbers, sizes and states stay whole. What goes into
//! a file or to another program is never shortened.

use super::Mood;
use rustix::termios::tcgetwinsize;
use std::{
	env,
	io::{IsTerminal, stdout},
};

/// What stands between two columns.
const GAP: &str = "  ";

/// What stands for what was left out.
const ELLIPSIS: char = '…';

/// No column is made narrower: numbers, sizes and states are not.
const SHORTENED_WIDTH_MIN: usize = 16;

/// From so many characters on, letters and digits without a space are something's identifier.
const IDENTIFIER_CHARS_MIN: usize = 32;

/// What stands in one place of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cell {
	text: String,
	/// How well it is what the text tells, if that is to be seen.
	mood: Option<Mood>,
}

impl Cell {
	pub(crate) fn new(text: impl Into<String>, mood: Option<Mood>) -> Self {
		Self { text: text.into(), mood }
	}

	fn chars(&self) -> usize {
		self.text.chars().count()
	}

	/// As it stands in a column of so many characters.
	fn render(&self, width: usize) -> String {
		let text = shortened(&self.text, width);
		let left = " ".repeat(width.saturating_sub(text.chars().count()));
		// Escapes take no room.
		let text = self.mood.map_or_else(|| text.clone(), |mood| mood.paint(&text));
		text + &left
	}
}

impl From<String> for Cell {
	fn from(text: String) -> Self {
		Self::new(text, None)
	}
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
	rows: Vec<Vec<Cell>>,
}

impl Table {
	pub(crate) fn new(head: &[&str]) -> Self {
		Self { rows: vec![head.iter().map(|cell| Cell::new(*cell, None)).collect()] }
	}

	pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
		self.rows.push(cells.into_iter().map(Into::into).collect());
	}

	/// The table as it fits where standard output goes.
	pub(crate) fn render(&self) -> String {
		self.render_within(terminal_width())
	}

	fn render_within(&self, width_max: Option<usize>) -> String {
		let widths = self.widths(width_max);
		let line = |row: &Vec<Cell>| {
			let cells = row.iter().zip(&widths).map(|(cell, width)| cell.render(*width));
			cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
		};
		self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
	}

	fn widths(&self, width_max: Option<usize>) -> Vec<usize> {
		let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
		let width = |column: usize| {
			let cells = self.rows.iter().filter_map(|row| row.get(column));
			cells.map(Cell::chars).max().unwrap_or(0)
		};
		let mut widths: Vec<usize> = (0..columns).map(width).collect();
		let Some(width_max) = width_max else { return widths };
		let total = widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1);
		let mut excess = total.saturating_sub(width_max);
		for width in widths.iter_mut().rev() {
			let cut = width.saturating_sub(SHORTENED_WIDTH_MIN).min(excess);
			*width -= cut;
			excess -= cut;
		}
		widths
	}
}

/// How many characters a line of the terminal has, if answers go to one. The variable `COLUMNS` can say
/// otherwise.
fn terminal_width() -> Option<usize> {
	if !stdout().is_terminal() {
		return None;
	}
	let said = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
	let found = || tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col));
	// A terminal that does not know its size says nought.
	said.or_else(found).filter(|width| *width > 0)
}

/// A cell within so many characters.
fn shortened(cell: &str, width: usize) -> String {
	let length = cell.chars().count();
	if length <= width {
		return cell.to_owned();
	}
	let kept = width.saturating_sub(1);
	// Identifiers of one kind begin alike, so that their ends tell more.
	let tail = if is_identifier(cell) { kept.div_ceil(2) } else { 0 };
	let head = cell.chars().take(kept - tail);
	head.chain([ELLIPSIS]).chain(cell.chars().skip(length - tail)).collect()
}

fn is_identifier(cell: &str) -> bool {
	cell.len() >= IDENTIFIER_CHARS_MIN && cell.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
	use super::*;

	const CID: &str = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

	fn table() -> Table {
		let mut table = Table::new(&["sequence", "root", "description"]);
		table.row(["12".to_owned(), CID.into(), "before the upgrade of the database".into()]);
		table
	}

	#[test]
	fn colours_take_no_room() {
		let table = |mood| {
			let mut table = Table::new(&["state", "root", "what"]);
			for state in ["late", "protected"] {
				table.row([Cell::new(state, mood), Cell::new(CID, mood), Cell::new("x", mood)]);
			}
			table
		};
		for width_max in [None, Some(44)] {
			let (plain, painted) = (table(None), table(Some(Mood::Bad)));
			let (plain, painted) =
				(plain.render_within(width_max), painted.render_within(width_max));
			assert!(painted != plain, "{painted:?}");
			assert_eq!(anstream::adapter::strip_str(&painted).to_string(), plain);
		}
	}

	#[test]
	fn columns_are_aligned() {
		let mut table = Table::new(&["a", "bb"]);
		table.row(["long".to_owned(), "x".into()]);
		assert_eq!(table.render_within(None), "a     bb\nlong  x");
	}

	#[test]
	fn boundary_a_table_that_just_fits_is_whole() {
		let whole = table().render_within(None);
		let width = whole.lines().last().unwrap().chars().count();
		assert_eq!(table().render_within(Some(width)), whole);
		let shorter = table().render_within(Some(width - 1));
		assert!(shorter.ends_with("before the upgrade of the databa…"), "{shorter}");
	}

	#[test]
	fn columns_give_way_from_the_right_words_at_their_end_and_identifiers_in_their_middle() {
		let shown = table().render_within(Some(80));
		assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
		let root = "bafyreigh2akiscaildcqabsy…u3fgpregiymsck7e7aqa4s52zy";
		assert!(shown.contains(&format!("{root}  before the upgr…")), "{shown}");
		let narrow = table().render_within(Some(44));
		assert!(narrow.lines().all(|line| line.chars().count() <= 44), "{narrow}");
		assert!(narrow.contains("12        bafyrei…qa4s52zy  before the upgr…"), "{narrow}");
	}

	#[test]
	fn what_is_short_stays_whole_on_a_terminal_that_is_too_narrow() {
		let mut table = Table::new(&["request", "state"]);
		table.row(["1".to_owned(), "waiting".into()]);
		assert_eq!(table.render_within(Some(5)), table.render_within(None));
	}

	#[test]
	fn characters_of_several_bytes_are_cut_whole() {
		assert_eq!(shortened("größtmöglicher Übermut", 16), "größtmöglicher …");
		assert_eq!(shortened(CID, 15), "bafyrei…a4s52zy");
		for width in 0..70 {
			assert!(shortened(CID, width).chars().count() <= width.max(1));
		}
	}
}
