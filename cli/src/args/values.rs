//! How the values of flags read.

use super::numbers::{SNAPSHOT, number};
use backup_agent::chain::NodeUrl;
use backup_primitives::{Cid, Recipient};
use jiff::{Span, Timestamp, civil::DateTime, tz::TimeZone};
use std::{fmt, str::FromStr};

/// A machine, as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
	/// By the number of its request.
	Request(u64),
	/// By the name that its node knows it by.
	Name(String),
}

impl FromStr for Machine {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
		match text.parse() {
			Ok(request) if !text.starts_with('+') => Ok(Self::Request(request)),
			_ if !text.is_empty() && text.chars().all(is_name) => Ok(Self::Name(text.to_owned())),
			_ => Err("a machine is the number of its request, or a name of letters, digits, \
			               '-', '_' and '.'"
				.into()),
		}
	}
}

impl fmt::Display for Machine {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Request(request) => write!(f, "request {request}"),
			Self::Name(name) => write!(f, "machine {name}"),
		}
	}
}

/// A gateway as people name it: its address, and behind a `#` its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayAddress {
	pub(crate) url: String,
	/// What its node registered. A pass is made for this key.
	pub(crate) key: Option<Recipient>,
}

impl GatewayAddress {
	/// Whether this is its address, however it is written at its end.
	pub(crate) fn is_at(&self, url: &str) -> bool {
		self.url.trim_end_matches('/') == url.trim_end_matches('/')
	}
}

impl FromStr for GatewayAddress {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		match text.split_once('#') {
			None => Ok(Self { url: text.to_owned(), key: None }),
			Some((url, key)) => Ok(Self { url: url.to_owned(), key: Some(parse_recipient(key)?) }),
		}
	}
}

impl fmt::Display for GatewayAddress {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match &self.key {
			None => f.write_str(&self.url),
			Some(key) => write!(f, "{}#{key}", self.url),
		}
	}
}

/// How many snapshots of a backup are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepLast {
	/// As many as the chain keeps of any backup.
	Default,
	/// So many.
	Number(u32),
}

impl FromStr for KeepLast {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		match (text, text.parse()) {
			("default", _) => Ok(Self::Default),
			(_, Ok(number)) if number > 0 => Ok(Self::Number(number)),
			_ => Err("it is a number of snapshots above 0, or `default`".into()),
		}
	}
}

/// What a node is asked to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Restorable {
	/// A snapshot, by its root.
	Root(Cid),
	/// A machine.
	Machine(Machine),
}

impl FromStr for Restorable {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		/// How the roots of snapshots begin, and no name that anybody would give to a machine.
		const ROOT: &str = "bafy";
		match text.starts_with(ROOT) {
			true => parse_cid(text).map(Self::Root),
			false => text.parse().map(Self::Machine),
		}
	}
}

/// A snapshot among those of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revision {
	/// By its root.
	Root(Cid),
	/// By its place in the history.
	Sequence(u64),
}

impl FromStr for Revision {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		match text.bytes().all(|byte| byte.is_ascii_digit()) {
			true => number(SNAPSHOT)(text).map(Self::Sequence),
			false => parse_cid(text).map(Self::Root),
		}
	}
}

/// A time of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
	/// The time of a block.
	Block(u64),
	/// Milliseconds since 1970.
	Time(i64),
}

impl When {
	/// So long before now, by the calendar of UTC.
	fn ago(age: Span, now: Timestamp) -> Result<Self, String> {
		let then = now.to_zoned(TimeZone::UTC).checked_sub(age.abs());
		let then = then.map_err(|error| error.to_string())?;
		Ok(Self::Time(then.timestamp().as_millisecond()))
	}

	/// The last time before it.
	pub(crate) fn before(self) -> Self {
		match self {
			Self::Block(block) => Self::Block(block.saturating_sub(1)),
			Self::Time(ms) => Self::Time(ms.saturating_sub(1)),
		}
	}
}

impl FromStr for When {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		if let Ok(block) = text.parse() {
			return Ok(Self::Block(block));
		}
		if let Ok(age) = text.parse() {
			// Minutes by the parser, months to whoever comes from other backup tools.
			let mut units = text.split(|c: char| !c.is_ascii_alphabetic());
			if units.any(|unit| unit == "m") {
				return Err("'m' may be minutes or months; write 'min' or 'mo'".into());
			}
			return Self::ago(age, Timestamp::now());
		}
		// With an offset as RFC 3339 has it; without one it is UTC, as all times that are shown.
		let time = text.parse::<Timestamp>().or_else(|_| {
			let civil: DateTime = text.parse()?;
			Ok(civil.to_zoned(TimeZone::UTC)?.timestamp())
		});
		// What stands in brackets, the name of a zone, would be passed over.
		let time = time.and_then(|time| match text.contains('[') {
			true => Err(jiff::Error::from_args(format_args!("a zone's name"))),
			false => Ok(time),
		});
		let wrong = |_: jiff::Error| {
			"a block is a number; a date is written as 2026-05-01, 2026-05-01 12:30, or \
			 2026-05-01T12:30:00Z; an age as 30d, 12h or 2w 3d"
				.to_owned()
		};
		Ok(Self::Time(time.map_err(wrong)?.as_millisecond()))
	}
}

impl fmt::Display for When {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Block(block) => write!(f, "block {block}"),
			Self::Time(ms) => write!(f, "{} UTC", crate::words::time(ms.div_euclid(1000))),
		}
	}
}

/// The address of a node. What else is taken for one would be told only when it does not answer.
pub(crate) fn parse_node(text: &str) -> Result<String, String> {
	match text.parse::<NodeUrl>() {
		Ok(_) => Ok(text.to_owned()),
		Err(()) => {
			Err("a node's address begins with ws:// or wss://, such as ws://127.0.0.1:9944".into())
		}
	}
}

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

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_machine_is_a_number_or_a_name() {
		assert_eq!("7".parse(), Ok(Machine::Request(7)));
		assert_eq!("web-1".parse(), Ok(Machine::Name("web-1".into())));
		assert_eq!("7b".parse(), Ok(Machine::Name("7b".into())));
		for wrong in ["", "+7", "web 1", "a/b", "\u{1b}[2J"] {
			assert!(wrong.parse::<Machine>().is_err(), "{wrong:?}");
		}
	}

	#[test]
	fn a_root_is_told_from_a_machine() {
		let root = Cid::dag_cbor([7; 32]);
		assert_eq!(root.to_string().parse(), Ok(Restorable::Root(root)));
		assert_eq!("7".parse(), Ok(Restorable::Machine(Machine::Request(7))));
		assert!("bafyrei".parse::<Restorable>().unwrap_err().contains("59"));
	}

	#[test]
	fn a_snapshot_is_a_root_or_a_number() {
		let root = Cid::dag_cbor([7; 32]);
		assert_eq!(root.to_string().parse(), Ok(Revision::Root(root)));
		assert_eq!("12".parse(), Ok(Revision::Sequence(12)));
		for wrong in ["", "-1", "12x", "bafyrei", "99999999999999999999"] {
			assert!(wrong.parse::<Revision>().is_err(), "{wrong}");
		}
	}

	#[test]
	fn a_gateway_may_come_with_its_key() {
		let plain: GatewayAddress = "http://node-3.example:9956/".parse().unwrap();
		assert_eq!((plain.key, plain.is_at("http://node-3.example:9956")), (None, true));
		let key = Recipient([9; 32]);
		let text = format!("http://node-3.example:9956#{key}");
		let keyed: GatewayAddress = text.parse().unwrap();
		assert_eq!((keyed.key, keyed.to_string()), (Some(key), text));
		assert!("http://node-3.example#nonsense".parse::<GatewayAddress>().is_err());
	}

	#[test]
	fn a_zone_in_brackets_is_not_passed_over() {
		for text in ["2026-05-01T12:30:00+02:00[Europe/Berlin]", "2026-05-01T12:30[Europe/Berlin]"]
		{
			let error = text.parse::<When>().unwrap_err();
			assert!(error.contains("2026-05-01T12:30:00Z"), "{text}: {error}");
		}
	}

	#[test]
	fn a_time_is_a_block_or_a_date() {
		let first_of_may = 1_777_593_600_000;
		for (text, expected) in [
			("20260501", When::Block(20_260_501)),
			("2026-05-01", When::Time(first_of_may)),
			("2026-05-01 12:30", When::Time(first_of_may + 45_000_000)),
			("2026-05-01T12:30:00Z", When::Time(first_of_may + 45_000_000)),
			("2026-05-01T14:30:00+02:00", When::Time(first_of_may + 45_000_000)),
		] {
			assert_eq!(text.parse(), Ok(expected), "{text}");
		}
		for wrong in ["", "yesterday", "-1", "2026-13-01", "2026-05-01 25:00", "12:30"] {
			assert!(wrong.parse::<When>().is_err(), "{wrong}");
		}
		assert_eq!(When::Time(first_of_may).to_string(), "2026-05-01 00:00:00 UTC");
	}

	#[test]
	fn a_time_is_also_an_age() {
		let now: Timestamp = "2026-05-31T12:00:00Z".parse().unwrap();
		for (age, expected) in [
			("30d", "2026-05-01T12:00:00Z"),
			("1mo", "2026-04-30T12:00:00Z"),
			("2w 3h", "2026-05-17T09:00:00Z"),
			("90 minutes ago", "2026-05-31T10:30:00Z"),
			("PT1S", "2026-05-31T11:59:59Z"),
		] {
			let then: Timestamp = expected.parse().unwrap();
			let when = When::ago(age.parse().unwrap(), now);
			assert_eq!(when, Ok(When::Time(then.as_millisecond())), "{age}");
		}
		assert!(matches!("30d".parse(), Ok(When::Time(_))));
		assert!("19000y".parse::<When>().is_err(), "it is before all dates");
		assert!("30 yonks".parse::<When>().is_err());
		for ambiguous in ["6m", "1y 6 m", "6m ago"] {
			let told = ambiguous.parse::<When>().unwrap_err();
			assert!(told.contains("'min' or 'mo'"), "{ambiguous}: {told}");
		}
		for clear in ["6min", "6mo", "PT6M", "6 months", "500ms"] {
			assert!(clear.parse::<When>().is_ok(), "{clear}");
		}
	}
}
