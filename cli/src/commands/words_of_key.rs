//! `backup key words` and `backup key recover`: an identity on paper.
//!
//! The 32 bytes of an X25519 identity are 24 words of BIP 39
//! (<https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki>), of which the last one tells
//! whether a word was misread. They stand for the bytes themselves; nothing is derived from them.

use crate::{
	commands::key::{read_identities, recipient_of, write_new},
	error::CliError,
	output::Output,
	terminal,
};
use age::{secrecy::ExposeSecret, x25519::Identity};
use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};
use bip39::{Language, Mnemonic};
use serde_json::json;
use std::path::Path;
use zeroize::Zeroizing;

/// How identities begin as text.
const HRP: Hrp = Hrp::parse_unchecked("age-secret-key-");

/// Words of one identity.
const WORDS: usize = 24;

/// Words in a line on paper.
const WORDS_IN_A_LINE: usize = 6;

/// Print the words of each identity in a file.
pub(super) fn print(path: &Path, output: Output) -> Result<(), CliError> {
	let bad =
		|reason: &str| CliError::BadIdentity { path: path.to_owned(), reason: reason.to_owned() };
	let words = |identity: &Identity| {
		let words = words_of(identity).ok_or_else(|| bad("it is no X25519 identity"))?;
		Ok((recipient_of(identity).to_string(), words))
	};
	let keys: Vec<_> = read_identities(path)?.iter().map(words).collect::<Result<_, CliError>>()?;
	let value: Vec<_> = keys
		.iter()
		.map(|(recipient, words)| json!({ "recipient": recipient, "words": words }))
		.collect();
	output.answer(&json!({ "keys": value }), || {
		let shown = keys.iter().map(|(recipient, words)| {
			let lines = words.chunks(WORDS_IN_A_LINE).map(|line| line.join(" "));
			format!("# recipient: {recipient}\n{}", lines.collect::<Vec<_>>().join("\n"))
		});
		shown.collect::<Vec<_>>().join("\n\n")
	})
}

/// Ask for the words, and write the identity that they stand for.
pub(super) async fn recover(path: &Path, output: Output) -> Result<(), CliError> {
	let typed = Zeroizing::new(terminal::ask_lines("the 24 words: ", WORDS).await?);
	let identity = identity_of(&typed).map_err(|reason| CliError::BadWords { reason })?;
	let recipient = recipient_of(&identity).to_string();
	let secret = identity.to_string();
	let text = format!("# recipient: {recipient}\n{}\n", secret.expose_secret());
	write_new(path, text.as_bytes())?;
	output.answer(&json!({ "recipient": recipient, "path": path }), || recipient)
}

fn words_of(identity: &Identity) -> Option<Vec<&'static str>> {
	let text = identity.to_string();
	let parsed = CheckedHrpstring::new::<Bech32>(text.expose_secret()).ok()?;
	let bytes = Zeroizing::new(parsed.byte_iter().collect::<Vec<u8>>());
	let mnemonic = Mnemonic::from_entropy_in(Language::English, &bytes).ok()?;
	let words: Vec<_> = mnemonic.words().collect();
	(parsed.hrp() == HRP && words.len() == WORDS).then_some(words)
}

/// The error tells what is wrong, and no word that is right.
fn identity_of(typed: &str) -> Result<Identity, String> {
	let words: Vec<String> = typed.split_whitespace().map(str::to_lowercase).collect();
	if words.len() != WORDS {
		return Err(format!("there are {} words, and 24 are needed", words.len()));
	}
	let text = Zeroizing::new(words.join(" "));
	let mnemonic = Mnemonic::parse_in_normalized(Language::English, &text);
	let mnemonic = mnemonic.map_err(|error| match error {
		bip39::Error::UnknownWord(place) => format!("word {} is none of the list", place + 1),
		_ => "a word is wrong, or two have changed places".to_owned(),
	})?;
	let (bytes, length) = mnemonic.to_entropy_array();
	let bytes = Zeroizing::new(bytes);
	let secret = bech32::encode_upper::<Bech32>(HRP, &bytes[..length]);
	let secret = Zeroizing::new(secret.map_err(|error| error.to_string())?);
	secret.parse().map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn words_stand_for_the_identity_that_they_are_of() {
		for _ in 0..8 {
			let identity = Identity::generate();
			let words = words_of(&identity).unwrap();
			// As somebody types them.
			let typed = words.join("\n ").to_uppercase();
			let found = identity_of(&typed).unwrap();
			assert_eq!(found.to_string().expose_secret(), identity.to_string().expose_secret());
		}
	}

	/// The vector of the standard for 32 bytes of 0x7f.
	#[test]
	fn words_are_those_of_the_standard() {
		let secret = bech32::encode_upper::<Bech32>(HRP, &[0x7f; 32]).unwrap();
		let words = words_of(&secret.parse().unwrap()).unwrap().join(" ");
		assert_eq!(
			words,
			"legal winner thank year wave sausage worth useful legal winner thank year wave sausage \
			 worth useful legal winner thank year wave sausage worth title"
		);
	}

	#[test]
	fn what_was_misread_is_told() {
		let words = words_of(&Identity::generate()).unwrap();
		let error = identity_of(&words[1..].join(" ")).err().unwrap();
		assert_eq!(error, "there are 23 words, and 24 are needed");
		let mut unknown = words.clone();
		unknown[4] = "backup";
		assert_eq!(identity_of(&unknown.join(" ")).err().unwrap(), "word 5 is none of the list");
		let mut other = words.clone();
		// The last bit of the first word is one that the checksum is of.
		other[0] = if words[0] == "zoo" { "zone" } else { "zoo" };
		assert!(identity_of(&other.join(" ")).is_err_and(|error| error.contains("wrong")));
	}
}
