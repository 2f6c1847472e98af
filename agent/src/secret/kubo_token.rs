//! What a Kubo daemon wants to be shown before it does anything.

use super::{SecretError, read_private};
use reqwest::RequestBuilder;
use std::{fmt, path::Path, sync::Arc};
use zeroize::Zeroizing;

/// What stands in the `AuthSecret` of one of a daemon's `API.Authorizations`. Clones are the same.
#[derive(Clone)]
pub struct KuboToken(Arc<Zeroizing<String>>);

/// What is shown for it.
enum Shown<'a> {
	Bearer(&'a str),
	Basic { user: &'a str, password: &'a str },
}

impl KuboToken {
	/// Reads the token of a file: `bearer:TOKEN`, `basic:USER:PASSWORD`, or a token alone.
	pub fn load(path: &Path) -> Result<Self, SecretError> {
		Self::parse(&read_private(path)?)
			.ok_or_else(|| SecretError::NotAToken { path: path.to_owned() })
	}

	fn parse(text: &str) -> Option<Self> {
		let token = Self(Arc::new(Zeroizing::new(text.trim().to_owned())));
		token.shown().is_some().then_some(token)
	}

	fn shown(&self) -> Option<Shown<'_>> {
		let is_plain = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
		match self.0.strip_prefix("basic:") {
			Some(both) => {
				let (user, password) = both.split_once(':')?;
				(is_plain(user) && is_plain(password)).then_some(Shown::Basic { user, password })
			}
			None => {
				let token = self.0.strip_prefix("bearer:").unwrap_or(&self.0);
				is_plain(token).then_some(Shown::Bearer(token))
			}
		}
	}

	/// Adds it to a request.
	pub(crate) fn show(&self, request: RequestBuilder) -> RequestBuilder {
		match self.shown() {
			Some(Shown::Bearer(token)) => request.bearer_auth(token),
			Some(Shown::Basic { user, password }) => request.basic_auth(user, Some(password)),
			None => request,
		}
	}
}

impl fmt::Debug for KuboToken {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("KuboToken(***)")
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	/// The header that is shown.
	fn header(text: &str) -> Option<String> {
		let request = reqwest::Client::new().get("http://127.0.0.1");
		let request = KuboToken::parse(text)?.show(request).build().unwrap();
		let value = &request.headers()[reqwest::header::AUTHORIZATION];
		assert!(value.is_sensitive());
		Some(value.to_str().unwrap().to_owned())
	}

	#[test]
	fn what_stands_in_kubos_configuration_is_shown_as_kubo_wants_it() {
		assert_eq!(header("bearer:s3cret\n").unwrap(), "Bearer s3cret");
		assert_eq!(header("s3cret").unwrap(), "Bearer s3cret");
		assert_eq!(header("basic:user:pass").unwrap(), "Basic dXNlcjpwYXNz");
	}

	#[test]
	fn what_is_no_token_is_refused() {
		for wrong in
			["", "\n", "two words", "bearer:", "basic:", "basic:user", "basic::x", "\u{e9}"]
		{
			assert_eq!(header(wrong), None, "{wrong:?}");
		}
	}

	#[test]
	fn a_token_is_not_shown_to_people() {
		assert!(!format!("{:?}", KuboToken::parse("s3cret")).contains("s3cret"));
	}
}
