//! Numbers, each with what it counts: whoever writes something else is told what is expected.

use std::{
	num::{IntErrorKind, ParseIntError},
	str::FromStr,
};

pub(super) const BLOCKS: &str = "a number of blocks, such as 14400";
pub(super) const SECONDS: &str = "a number of seconds, such as 600";
pub(super) const PERIODS: &str = "a number of periods, such as 3";
pub(super) const COUNT: &str = "a number, such as 5";
pub(super) const SNAPSHOT: &str = "a snapshot's number, as 'backup snapshots' shows it";
pub(super) const REQUEST: &str = "the number of a request, as 'backup vms' shows it";
pub(super) const RESTORE: &str = "the number of a restore, as 'backup status' shows it";
pub(super) const NODE: &str = "the id of a node, a number such as 1";
pub(super) const MOTION: &str = "a motion's number, as 'backup governance motions' shows it";
pub(super) const MEMBERS: &str = "a number of members, such as 2";
pub(super) const AMOUNT: &str =
	"an amount in the smallest unit of the chain's money, such as 1000000";

/// What reads a number, and says what is expected of one that is none.
pub(super) fn number<N: FromStr<Err = ParseIntError>>(
	expected: &'static str,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static {
	move |text| {
		text.parse().map_err(|error: ParseIntError| match error.kind() {
			IntErrorKind::PosOverflow => format!("it is too large; expected is {expected}"),
			_ => format!("expected is {expected}"),
		})
	}
}

/// Bytes: a number of them, or one with a unit.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
	const UNITS: [(char, u32); 4] = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];
	let wrong = || {
		"expected is a size in bytes, or with a unit of 1024: 67108864, 64M, 64MiB, 10G, 1T"
			.to_owned()
	};
	let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
	let unit = text[digits.len()..].trim_start().to_ascii_lowercase();
	let letter = unit.strip_suffix("ib").unwrap_or(&unit);
	let shift = match letter {
		"" if unit.is_empty() => 0,
		_ => UNITS.iter().find(|(name, _)| letter == name.to_string()).ok_or_else(wrong)?.1,
	};
	let count: u64 = digits.parse().map_err(|_| wrong())?;
	count.checked_mul(1 << shift).ok_or_else(|| "it is more than any disk can hold".to_owned())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn who_writes_no_number_is_told_what_is_expected() {
		let blocks = number::<u32>(BLOCKS);
		assert_eq!(blocks("14400"), Ok(14_400));
		for wrong in ["1d", "", "x", "-1", "1.5"] {
			let words = blocks(wrong).unwrap_err();
			assert!(words.ends_with("a number of blocks, such as 14400"), "{wrong}: {words}");
		}
		assert_eq!(blocks("4294967295"), Ok(u32::MAX));
		assert!(blocks("4294967296").unwrap_err().starts_with("it is too large"));
	}

	#[test]
	fn a_size_may_have_a_unit() {
		for (text, bytes) in [
			("67108864", 64 << 20),
			("64M", 64 << 20),
			("64m", 64 << 20),
			("64MiB", 64 << 20),
			("64 MiB", 64 << 20),
			("10GiB", 10 << 30),
			("1T", 1 << 40),
			("3k", 3 << 10),
			("0", 0),
		] {
			assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
		}
		for wrong in ["", "M", "MB", "64MB", "64iB", "1.5G", "-1", "64 M B", "x64", "64Mi", "9é"] {
			assert!(parse_bytes(wrong).unwrap_err().contains("64M"), "{wrong}");
		}
		assert_eq!(parse_bytes("18446744073709551615"), Ok(u64::MAX));
		for large in ["16777216T", "18446744073709551615k"] {
			assert!(parse_bytes(large).unwrap_err().contains("more than"), "{large}");
		}
	}
}
