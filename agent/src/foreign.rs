//! Words of others: of QEMU, libvirt, guests, servers, and whoever names a machine.

/// Words of others as a part of one line, for a terminal or a log that must not obey them: what breaks a
/// line or moves within it is a space, and what else is not seen is escaped.
pub(crate) fn one_line(words: &str) -> String {
	words.trim_end().chars().map(harmless).collect()
}

/// The same with a line that is coloured: colours stay, and the line's own end.
pub(crate) fn coloured_line(line: &str) -> String {
	let (mut rest, end) = match line.strip_suffix('\n') {
		Some(words) => (words, "\n"),
		None => (line, ""),
	};
	let mut shown = String::with_capacity(line.len());
	while let Some(c) = rest.chars().next() {
		let length = colour(rest);
		match length {
			Some(length) => shown.push_str(&rest[..length]),
			None => shown.push_str(&harmless(c)),
		}
		rest = &rest[length.unwrap_or(c.len_utf8())..];
	}
	shown + end
}

fn harmless(c: char) -> String {
	match c {
		c if c.is_whitespace() => " ".to_owned(),
		c if c.is_control() || is_unseen(c) => c.escape_unicode().to_string(),
		c => c.to_string(),
	}
}

/// How long the order for a colour is that words begin with.
fn colour(words: &str) -> Option<usize> {
	let order = words.strip_prefix("\u{1b}[")?;
	let length = order.find(|c: char| !c.is_ascii_digit() && c != ';')?;
	order[length..].starts_with('m').then_some("\u{1b}[".len() + length + "m".len())
}

/// Whether a character shows nothing itself, and may change how others look or in which order.
fn is_unseen(c: char) -> bool {
	matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_coloured_line_keeps_its_colours_and_its_end_and_nothing_else_that_is_obeyed() {
		for (line, expected) in [
			("\u{1b}[2m14:00\u{1b}[0m \u{1b}[1;32mINFO\u{1b}[0m up\n", None),
			(
				"said \u{1b}]0;title\u{7} \u{1b}[2J\n",
				Some("said \\u{1b}]0;title\\u{7} \\u{1b}[2J\n"),
			),
			("two\nlines\r\n", Some("two lines \n")),
			("cut off \u{1b}[", Some("cut off \\u{1b}[")),
			("", None),
		] {
			assert_eq!(coloured_line(line), expected.unwrap_or(line), "{line:?}");
		}
	}

	#[test]
	fn what_a_terminal_would_obey_is_shown_and_lines_are_one() {
		for (words, expected) in [
			("plain words, naïve \u{1f642} 名前", "plain words, naïve \u{1f642} 名前"),
			("it does not\nspeak\r\n", "it does not speak"),
			("two\tcolumns\u{2028}and lines\u{85}more", "two columns and lines more"),
			("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
			("\u{9b}31mred\u{7f}", "\\u{9b}31mred\\u{7f}"),
			("web\u{202e}gpj.exe", "web\\u{202e}gpj.exe"),
			("w\u{200b}eb\u{feff}", "w\\u{200b}eb\\u{feff}"),
			("  indented  ", "  indented"),
		] {
			assert_eq!(one_line(words), expected, "{words:?}");
		}
	}
}
