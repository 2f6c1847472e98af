//! What commands print for programs: one JSON object a line, which begins with the version of its shape.

use anyhow::Result;
use serde::Serialize;

/// Changes when a field goes or means something else.
const VERSION: u32 = 1;

/// An answer with its version.
#[derive(Debug, Serialize)]
pub(super) struct Versioned<T> {
	version: u32,
	#[serde(flatten)]
	answer: T,
}

impl<T: Serialize> Versioned<T> {
	pub(super) fn new(answer: T) -> Self {
		Self { version: VERSION, answer }
	}

	/// Its one line.
	pub(super) fn line(&self) -> Result<String> {
		Ok(serde_json::to_string(self)?)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	#[test]
	fn an_answer_begins_with_the_version_of_its_shape() {
		let line = Versioned::new(json!({ "machines": [] })).line().unwrap();
		assert_eq!(line, r#"{"version":1,"machines":[]}"#);
	}
}
