//! Whether output is what a page shows. `…` stands for anything within a line, and alone on a line for
//! any number of lines.

/// Whether `output` is what is `shown`.
pub fn is_shown(shown: &str, output: &str) -> bool {
	let shown: Vec<_> = shown.lines().map(str::trim_end).collect();
	let output: Vec<_> = output.lines().map(str::trim_end).collect();
	lines_match(&shown, &output)
}

fn lines_match(shown: &[&str], output: &[&str]) -> bool {
	match shown {
		[] => output.is_empty(),
		["…", rest @ ..] => {
			(0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..]))
		}
		[line, rest @ ..] => output
			.split_first()
			.is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others)),
	}
}

fn line_matches(shown: &str, line: &str) -> bool {
	let Some((start, rest)) = shown.split_once('…') else {
		return shown == line;
	};
	let Some(mut line) = line.strip_prefix(start) else {
		return false;
	};
	let mut parts: Vec<_> = rest.split('…').collect();
	let end = parts.pop().unwrap_or_default();
	for part in parts {
		match line.split_once(part) {
			Some((_, behind)) => line = behind,
			None => return false,
		}
	}
	line.ends_with(end)
}

#[cfg(test)]
mod tests {
	use super::is_shown;

	#[test]
	fn an_ellipsis_is_anything_within_a_line_or_any_lines() {
		assert!(is_shown("block …, …x\n", "block 7, 0x\n"));
		assert!(is_shown("a\n…\nd\n", "a\nb\nc\nd\n"));
		assert!(is_shown("a\n…\n", "a\n"));
		assert!(is_shown("", ""));
	}

	#[test]
	fn everything_else_must_be_as_shown() {
		assert!(!is_shown("block …, x\n", "block 7\n"));
		assert!(!is_shown("a\n…\nd\n", "a\nb\nc\n"));
		assert!(!is_shown("a\n", "a\nb\n"));
		assert!(!is_shown("a…a\n", "a\n"));
		assert!(!is_shown("a\n", ""));
	}
}
