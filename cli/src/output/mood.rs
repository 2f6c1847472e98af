//! Colours, for whoever reads at a glance: how well it is what a word tells.
//!
//! They stand in text as escapes. [`super::Output`] leaves them out where the text goes to no terminal, or where the
//! environment says so (`NO_COLOR`, `CLICOLOR`, `TERM`), as the parser of arguments does with its own words.

use clap::builder::styling::{AnsiColor, Style};

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
	/// As it should be: green.
	Good,
	/// Not as it might be expected, by somebody's will or for now: yellow.
	Careful,
	/// Somebody has to look after it: red.
	Bad,
}

impl Mood {
	/// Words in its colour.
	pub(crate) fn paint(self, words: &str) -> String {
		let style = match self {
			Self::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
			Self::Careful => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
			Self::Bad => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
		};
		format!("{style}{words}{style:#}")
	}

	/// A sentence of which what comes before the first colon or semicolon has its colour.
	pub(crate) fn paint_head(self, sentence: &str) -> String {
		let (head, rest) = sentence.split_at(sentence.find([':', ';']).unwrap_or(sentence.len()));
		format!("{}{rest}", self.paint(head))
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_head_of_a_sentence_is_what_is_painted() {
		for (sentence, head, rest) in [
			("NOT PROTECTED: on its own node", "NOT PROTECTED", ": on its own node"),
			("up to 2; the newest: not", "up to 2", "; the newest: not"),
			("paused", "paused", ""),
		] {
			let painted = Mood::Bad.paint_head(sentence);
			assert_eq!(painted, format!("{}{rest}", Mood::Bad.paint(head)));
			let bare = anstream::adapter::strip_str(&painted).to_string();
			assert!(bare == sentence && painted != sentence, "{painted:?}");
		}
	}
}
