//! The text in which LVM2 writes its metadata: sections, and values of three kinds.
//!
//! ```text
//! vg {
//!     extent_size = 8192              # sectors
//!     status = ["RESIZEABLE", "READ"]
//!     logical_volumes { … }
//! }
//! ```

use std::collections::BTreeMap;

/// Deepest nesting that is read. The tools write five levels.
const DEPTH_MAX: usize = 16;

/// Why a text is no metadata.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of its metadata is malformed")]
pub(crate) struct TextError {
	line: usize,
}

#[derive(Debug)]
enum Value {
	Number(u64),
	Text(String),
	List(Vec<Value>),
	Section(Section),
}

/// Named values.
#[derive(Debug, Default)]
pub(crate) struct Section(BTreeMap<String, Value>);

impl Section {
	pub(crate) fn number(&self, name: &str) -> Option<u64> {
		match self.0.get(name)? {
			Value::Number(number) => Some(*number),
			Value::Text(_) | Value::List(_) | Value::Section(_) => None,
		}
	}

	pub(crate) fn text(&self, name: &str) -> Option<&str> {
		match self.0.get(name)? {
			Value::Text(text) => Some(text),
			Value::Number(_) | Value::List(_) | Value::Section(_) => None,
		}
	}

	pub(crate) fn section(&self, name: &str) -> Option<&Self> {
		match self.0.get(name)? {
			Value::Section(section) => Some(section),
			Value::Number(_) | Value::Text(_) | Value::List(_) => None,
		}
	}

	/// All sections in this one, with their names.
	pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
		self.0.iter().filter_map(|(name, value)| match value {
			Value::Section(section) => Some((name.as_str(), section)),
			Value::Number(_) | Value::Text(_) | Value::List(_) => None,
		})
	}

	/// The words of a list.
	pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
		let list = match self.0.get(name) {
			Some(Value::List(list)) => list.as_slice(),
			Some(Value::Number(_) | Value::Text(_) | Value::Section(_)) | None => &[],
		};
		list.iter().filter_map(|value| match value {
			Value::Text(word) => Some(word.as_str()),
			Value::Number(_) | Value::List(_) | Value::Section(_) => None,
		})
	}

	/// The first physical volume and extent of a segment.
	pub(crate) fn stripe(&self) -> Option<(&str, u64)> {
		match self.0.get("stripes")? {
			Value::List(list) => match list.as_slice() {
				[Value::Text(name), Value::Number(extent), ..] => Some((name, *extent)),
				_ => None,
			},
			Value::Number(_) | Value::Text(_) | Value::Section(_) => None,
		}
	}
}

/// Read a whole text.
pub(crate) fn parse(text: &str) -> Result<Section, TextError> {
	let mut reader = Reader { text, at: 0 };
	let section = reader.section(0)?;
	match reader.peek() {
		None => Ok(section),
		Some(_) => Err(reader.error()),
	}
}

struct Reader<'a> {
	text: &'a str,
	at: usize,
}

impl<'a> Reader<'a> {
	fn error(&self) -> TextError {
		let before = &self.text.as_bytes()[..self.at];
		TextError { line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
	}

	/// The next byte that is neither space nor comment.
	fn peek(&mut self) -> Option<u8> {
		let bytes = self.text.as_bytes();
		while let Some(byte) = bytes.get(self.at) {
			match byte {
				b'#' => {
					let rest = &bytes[self.at..];
					let line = rest.iter().position(|byte| *byte == b'\n');
					self.at += line.unwrap_or(rest.len());
				}
				byte if byte.is_ascii_whitespace() => self.at += 1,
				byte => return Some(*byte),
			}
		}
		None
	}

	fn expect(&mut self, byte: u8) -> Result<(), TextError> {
		match self.peek() == Some(byte) {
			true => {
				self.at += 1;
				Ok(())
			}
			false => Err(self.error()),
		}
	}

	/// A run of bytes of a kind, at least one.
	fn run(&mut self, is_part: impl Fn(u8) -> bool) -> Result<&'a str, TextError> {
		let rest = &self.text.as_bytes()[self.at..];
		let length = rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len());
		if length == 0 {
			return Err(self.error());
		}
		let run = self.text.get(self.at..self.at + length).ok_or_else(|| self.error())?;
		self.at += length;
		Ok(run)
	}

	/// What stands in a section, up to the brace that closes it, or to the end of the text.
	fn section(&mut self, depth: usize) -> Result<Section, TextError> {
		if depth > DEPTH_MAX {
			return Err(self.error());
		}
		let mut section = Section::default();
		while let Some(byte) = self.peek() {
			if byte == b'}' {
				break;
			}
			let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte);
			let name = self.run(is_name)?.to_owned();
			let value = match self.peek() {
				Some(b'{') => {
					self.at += 1;
					let inner = self.section(depth + 1)?;
					self.expect(b'}')?;
					Value::Section(inner)
				}
				_ => {
					self.expect(b'=')?;
					self.value(depth)?
				}
			};
			section.0.insert(name, value);
		}
		Ok(section)
	}

	fn value(&mut self, depth: usize) -> Result<Value, TextError> {
		match self.peek() {
			Some(b'"') => self.quoted().map(Value::Text),
			Some(b'[') if depth < DEPTH_MAX => self.list(depth + 1).map(Value::List),
			Some(_) => {
				// Some numbers are below zero, and none that is used here.
				let digits = self.run(|byte| byte.is_ascii_digit() || byte == b'-')?;
				match digits.parse::<i64>() {
					Ok(number) => Ok(Value::Number(u64::try_from(number).unwrap_or(0))),
					Err(_) => digits.parse().map(Value::Number).map_err(|_| self.error()),
				}
			}
			None => Err(self.error()),
		}
	}

	fn quoted(&mut self) -> Result<String, TextError> {
		self.expect(b'"')?;
		let mut text = String::new();
		loop {
			let rest = self.text.get(self.at..).ok_or_else(|| self.error())?;
			let mut chars = rest.chars();
			let next = chars.next().ok_or_else(|| self.error())?;
			self.at += next.len_utf8();
			match next {
				'"' => return Ok(text),
				'\\' => {
					let escaped = chars.next().ok_or_else(|| self.error())?;
					self.at += escaped.len_utf8();
					text.push(escaped);
				}
				other => text.push(other),
			}
		}
	}

	fn list(&mut self, depth: usize) -> Result<Vec<Value>, TextError> {
		self.expect(b'[')?;
		let mut list = Vec::new();
		while self.peek() != Some(b']') {
			if !list.is_empty() {
				self.expect(b',')?;
			}
			if self.peek() == Some(b']') {
				break;
			}
			list.push(self.value(depth)?);
		}
		self.expect(b']')?;
		Ok(list)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn sections_numbers_texts_and_lists_are_read() {
		let text = "# by hand\nvg {\n\tseqno = 7 # times\n\tid = \"a\\\"b\"\n\tstatus = [\"READ\", \"WRITE\"]\n\t\
			empty = []\n\tsegment1 { stripes = [\n\"pv0\", 12\n] }\n}\nversion = 1\nlow = -1\n";
		let parsed = parse(text).unwrap();
		assert_eq!(parsed.number("version"), Some(1));
		let group = parsed.section("vg").unwrap();
		assert_eq!(group.number("seqno"), Some(7));
		assert_eq!(group.text("id"), Some("a\"b"));
		assert_eq!(group.words("status").collect::<Vec<_>>(), ["READ", "WRITE"]);
		assert_eq!(group.words("empty").count(), 0);
		assert_eq!(group.section("segment1").unwrap().stripe(), Some(("pv0", 12)));
		assert_eq!(parsed.sections().map(|(name, _)| name).collect::<Vec<_>>(), ["vg"]);
		assert_eq!(
			(group.number("id"), group.text("seqno"), group.number("none")),
			(None, None, None)
		);
	}

	#[test]
	fn what_is_malformed_names_its_line() {
		for (text, line) in [
			("a", 1),
			("a = ", 1),
			("a {\n b = 1\n", 3),
			("}", 1),
			("a = \"never ends\n\n", 3),
			("\n\na = [1, 2", 3),
			("a = [1 2]", 1),
			("a = 99999999999999999999999", 1),
			("a = \"\\", 1),
			("ü = 1", 1),
			("a = ü", 1),
		] {
			assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
		}
	}

	#[test]
	fn boundary_nesting_ends_somewhere() {
		let nested = |depth: usize| format!("{}{}", "a {".repeat(depth), "}".repeat(depth));
		assert!(parse(&nested(DEPTH_MAX)).is_ok());
		assert!(parse(&nested(DEPTH_MAX + 1)).is_err());
		let lists = format!("a = {}", "[".repeat(100_000));
		assert!(parse(&lists).is_err());
	}
}
