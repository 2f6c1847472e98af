//! Slips: which name was meant by one that is not known.

/// The name that was most likely meant, if any is near.
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
	const ALIKE_MIN: f64 = 0.7;
	const SLIP_MIN: usize = 3;
	// Of short names a letter that is wrong or in the wrong place is much.
	let is_slip = |known: &str| known.len() >= SLIP_MIN && strsim::osa_distance(name, known) == 1;
	let alike = |known: &str| if is_slip(known) { 1.0 } else { strsim::jaro(name, known) };
	let alike = names.iter().map(|known| (alike(known), *known));
	let best = alike.max_by(|one, other| one.0.total_cmp(&other.0))?;
	(best.0 > ALIKE_MIN).then_some(best.1)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_name_that_is_near_is_suggested() {
		let names = ["frequency", "keep_last", "min_age"];
		assert_eq!(nearest("keeplast", &names), Some("keep_last"));
		assert_eq!(nearest("frequenzy", &names), Some("frequency"));
		assert_eq!(nearest("zzz", &names), None);
		assert_eq!(nearest("x", &[]), None);
		assert_eq!(nearest("wbe", &["db", "web", "mail"]), Some("web"));
		assert_eq!(nearest("x", &["a", "b"]), None);
	}
}
