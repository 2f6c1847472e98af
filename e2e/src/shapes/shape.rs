//! A shape as the page writes it: JSON with the names of fields and, where it matters, what they hold.
//!
//! `"name"` is a field with anything, `"name": {"a"}` one with these fields, `"names": [{"a"}]` a list, and
//! `[disk and "places"]` a list of what is defined elsewhere and has another field. `…` stands for further
//! fields. What else stands behind a colon is for people.

use serde_json::Value as Json;
use std::{collections::BTreeMap, iter::Peekable, str::Chars, str::FromStr};

/// Shapes by their names.
pub(super) type Definitions = BTreeMap<String, Shape>;

/// What stands for a value and has no shape. Any other name is that of a definition.
const WORDS: [&str; 3] = ["24 words", "CID", "words"];

/// What an answer, or a part of it, looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
	Anything,
	/// A list of these.
	List(Box<Shape>),
	Object {
		/// Whose fields it has besides, if that is defined.
		like: Option<String>,
		fields: BTreeMap<String, Shape>,
		/// Whether it may have others.
		is_open: bool,
	},
}

impl Shape {
	/// Whether a value has this shape. Anything within may be null.
	///
	/// # Errors
	///
	/// Where it has not, in words.
	pub(super) fn fits(&self, value: &Json, definitions: &Definitions) -> Result<(), String> {
		match (self, value) {
			(Self::Anything, _) => Ok(()),
			(Self::List(item), Json::Array(values)) => {
				values.iter().try_for_each(|value| item.fits(value, definitions))
			}
			(Self::List(_), other) => Err(format!("{other} is no list")),
			(Self::Object { like: Some(name), fields, .. }, _)
				if fields.is_empty() && WORDS.contains(&name.as_str()) =>
			{
				Ok(())
			}
			(Self::Object { .. }, Json::Object(values)) => {
				let (fields, is_open) = self.all_fields(definitions)?;
				for (name, shape) in &fields {
					let value = values.get(*name).ok_or(format!("\"{name}\" is missing"))?;
					if !value.is_null() {
						shape.fits(value, definitions).map_err(|why| format!("{name}: {why}"))?;
					}
				}
				let more = values.keys().find(|name| !fields.contains_key(name.as_str()));
				match more {
					Some(name) if !is_open => Err(format!("\"{name}\" is not told")),
					_ => Ok(()),
				}
			}
			(Self::Object { .. }, other) => Err(format!("{other} is no object")),
		}
	}

	/// Its own fields and those of what it is like, and whether there may be others.
	fn all_fields<'a>(
		&'a self,
		definitions: &'a Definitions,
	) -> Result<(BTreeMap<&'a str, &'a Shape>, bool), String> {
		let Self::Object { like, fields, is_open } = self else {
			return Err("what is defined is no object".into());
		};
		let own = fields.iter().map(|(name, shape)| (name.as_str(), shape));
		let Some(like) = like else { return Ok((own.collect(), *is_open)) };
		let defined = definitions.get(like).ok_or(format!("*{like}* is not defined"))?;
		let (mut all, is_also_open) = defined.all_fields(definitions)?;
		all.extend(own);
		Ok((all, *is_open || is_also_open))
	}
}

impl FromStr for Shape {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		let mut reader = Reader { left: text.chars().peekable() };
		let shape = reader.shape().map_err(|why| format!("{why}: {text}"))?;
		match reader.next() {
			None => Ok(shape),
			Some(more) => Err(format!("'{more}' is one too many: {text}")),
		}
	}
}

struct Reader<'a> {
	left: Peekable<Chars<'a>>,
}

impl Reader<'_> {
	/// The next character that is no space, which stays.
	fn next(&mut self) -> Option<char> {
		while self.left.next_if(|c| c.is_whitespace()).is_some() {}
		self.left.peek().copied()
	}

	/// All up to one of these, which stays.
	fn until(&mut self, ends: &[char]) -> String {
		let mut text = String::new();
		while let Some(c) = self.left.next_if(|c| !ends.contains(c)) {
			text.push(c);
		}
		text
	}

	fn shape(&mut self) -> Result<Shape, String> {
		match self.next() {
			Some('{') => {
				self.left.next();
				self.fields('}', None)
			}
			Some('[') => {
				self.left.next();
				let item = self.item()?;
				match self.left.next() {
					Some(']') => Ok(Shape::List(Box::new(item))),
					_ => Err("a list has no end".into()),
				}
			}
			// Values, of which one is meant.
			Some('"') => {
				self.string()?;
				while self.next() == Some('o') {
					self.until(&['"']);
					self.string()?;
				}
				Ok(Shape::Anything)
			}
			_ => {
				let name = self.until(&[',', '}', ']']).trim().to_owned();
				Ok(Shape::Object { like: Some(name), fields: BTreeMap::new(), is_open: false })
			}
		}
	}

	/// What a list holds: a shape, or something that is defined and has other fields.
	fn item(&mut self) -> Result<Shape, String> {
		if matches!(self.next(), Some('{' | '[' | '"')) {
			return self.shape();
		}
		let words = self.until(&[']', '"']);
		match words.trim().strip_suffix(" and") {
			Some(name) => {
				let shape = self.fields(']', Some(name.to_owned()))?;
				Ok(shape)
			}
			None => Ok(Shape::Object {
				like: Some(words.trim().to_owned()),
				fields: BTreeMap::new(),
				is_open: false,
			}),
		}
	}

	/// Fields up to an end, which is taken if it is that of an object.
	fn fields(&mut self, end: char, like: Option<String>) -> Result<Shape, String> {
		let (mut fields, mut is_open) = (BTreeMap::new(), false);
		loop {
			match self.next() {
				Some(c) if c == end => break,
				Some(',') => {
					self.left.next();
				}
				Some('…') => {
					self.left.next();
					is_open = true;
				}
				Some('"') => {
					let name = self.string()?;
					let shape = match self.next() {
						Some(':') => {
							self.left.next();
							self.shape()?
						}
						_ => Shape::Anything,
					};
					fields.insert(name, shape);
				}
				Some(other) => return Err(format!("'{other}' is not expected")),
				None => return Err(format!("'{end}' is missing")),
			}
		}
		if end == '}' {
			self.left.next();
		}
		Ok(Shape::Object { like, fields, is_open })
	}

	fn string(&mut self) -> Result<String, String> {
		self.left.next();
		let text = self.until(&['"']);
		match self.left.next() {
			Some(_) => Ok(text),
			None => Err("a name has no end".into()),
		}
	}
}
