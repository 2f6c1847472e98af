//! How the values of flags read.

use backup_primitives::{Cid, Recipient};

pub(super) fn parse_cid(text: &str) -> Result<Cid, String> {
	text.parse().map_err(|error: backup_primitives::cid::CidError| error.to_string())
}

pub(super) fn parse_setting(text: &str) -> Result<(String, u64), String> {
	let wrong =
		|| "a name, an equals sign and a number are expected, such as keep_last=7".to_owned();
	let (name, number) = text.split_once('=').ok_or_else(wrong)?;
	Ok((name.to_owned(), number.parse().map_err(|_| wrong())?))
}

pub(super) fn parse_recipient(text: &str) -> Result<Recipient, String> {
	text.parse().map_err(|error: backup_primitives::recipient::RecipientError| error.to_string())
}
