//! What was found, for people and for programs.

use crate::foreign::one_line;
use serde::Serialize;
use std::fmt::Write;

/// Version of the report, as programs read it.
const VERSION: u32 = 1;

/// What was found, check by check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
	/// Version of this form: 1.
	pub version: u32,
	/// The worst verdict of all.
	pub verdict: Verdict,
	/// Each check.
	pub checks: Vec<Finding>,
}

/// How a check went, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
	/// As it should.
	Ok,
	/// Backups go well, but not as well as they could, or not for long.
	Warning,
	/// Backups fail.
	Failed,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
	/// What was tried: `store`, `qmp` and so on.
	pub check: &'static str,
	/// The machine, if it was one.
	pub machine: Option<String>,
	/// How it went.
	pub verdict: Verdict,
	/// What was found.
	pub found: String,
	/// What to do about it, if it is not good.
	pub mend: Option<String>,
}

impl Finding {
	pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
		Self { check, machine: None, verdict: Verdict::Ok, found: found.into(), mend: None }
	}

	pub(super) fn warning(
		check: &'static str,
		found: impl Into<String>,
		mend: impl Into<String>,
	) -> Self {
		let verdict = Verdict::Warning;
		Self { verdict, mend: Some(mend.into()), ..Self::ok(check, found) }
	}

	pub(super) fn failed(
		check: &'static str,
		found: impl Into<String>,
		mend: impl Into<String>,
	) -> Self {
		Self { verdict: Verdict::Failed, ..Self::warning(check, found, mend) }
	}

	/// An error whose own words end in what to do, or which is mended like this.
	pub(super) fn error(check: &'static str, error: &anyhow::Error, mend: &str) -> Self {
		let words = chain(error);
		// Only what is said last is about all of it.
		match words.rsplit_once("; ").filter(|_| error.root_cause().to_string().contains("; ")) {
			Some((found, mend)) => Self::failed(check, found, mend),
			None => Self::failed(check, words, mend),
		}
	}

	pub(super) fn of(self, machine: &str) -> Self {
		Self { machine: Some(machine.to_owned()), ..self }
	}

	fn label(&self) -> String {
		match &self.machine {
			Some(machine) => format!("{machine}: {}", self.check),
			None => self.check.to_owned(),
		}
	}
}

impl Report {
	pub(super) fn of(checks: Vec<Finding>) -> Self {
		let verdict = checks.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
		Self { version: VERSION, verdict, checks }
	}

	/// A line for each check, one more for what is to be done, and how many there are.
	pub fn to_text(&self) -> String {
		let width =
			self.checks.iter().map(|finding| one_line(&finding.label()).chars().count()).max();
		let width = width.unwrap_or(0);
		let mut text = String::new();
		for finding in &self.checks {
			let verdict = word(finding.verdict);
			let (label, found) = (one_line(&finding.label()), one_line(&finding.found));
			// Writing to a string cannot fail.
			let _ = writeln!(text, "{verdict:7}  {label:width$}  {found}");
			if let Some(mend) = &finding.mend {
				let _ = writeln!(text, "{:7}  {:width$}  → {}", "", "", one_line(mend));
			}
		}
		let count = |verdict| self.checks.iter().filter(|one| one.verdict == verdict).count();
		let [ok, warnings, failed] = [Verdict::Ok, Verdict::Warning, Verdict::Failed].map(count);
		let _ = writeln!(text, "\n{ok} ok, {warnings} to look at, {failed} failed");
		text
	}
}

/// An error and its causes, each once: some tell theirs in their own words.
fn chain(error: &anyhow::Error) -> String {
	error.chain().map(ToString::to_string).fold(String::new(), |words, cause| match words {
		words if words.is_empty() => cause,
		words if words.contains(&cause) => words,
		words => format!("{words}: {cause}"),
	})
}

fn word(verdict: Verdict) -> &'static str {
	match verdict {
		Verdict::Ok => "ok",
		Verdict::Warning => "warning",
		Verdict::Failed => "FAILED",
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn each_check_is_one_line_and_what_fails_says_how_to_mend_it() {
		let report = Report::of(vec![
			Finding::ok("tools", "qemu-img 7.2.22"),
			Finding::failed("qmp", "it does not\nspeak", "start it").of("web"),
			Finding::warning("clock", "it is late", "set it"),
		]);
		let expected = "\
ok       tools     qemu-img 7.2.22
FAILED   web: qmp  it does not speak
                   → start it
warning  clock     it is late
                   → set it

1 ok, 1 to look at, 1 failed
";
		assert_eq!(report.to_text(), expected);
		let json = serde_json::to_value(&report).unwrap();
		assert_eq!((&json["version"], &json["verdict"]), (&1.into(), &"failed".into()));
		assert_eq!(json["checks"][1]["machine"], "web");
		assert_eq!(json["checks"][0]["mend"], serde_json::Value::Null);
	}

	#[test]
	fn the_worst_verdict_is_that_of_all() {
		let ok = || Finding::ok("a", "");
		assert_eq!(Report::of(vec![ok()]).verdict, Verdict::Ok);
		let warning = Finding::warning("a", "", "");
		assert_eq!(Report::of(vec![warning, ok()]).verdict, Verdict::Warning);
	}

	#[test]
	fn the_words_of_an_error_are_told_from_what_mends_it() {
		let error = anyhow::anyhow!("no such file; write it").context("open the door");
		let finding = Finding::error("door", &error, "knock");
		assert_eq!(
			(finding.found.as_str(), finding.mend.as_deref()),
			("open the door: no such file", Some("write it"))
		);
		let finding = Finding::error("door", &anyhow::anyhow!("it is stuck"), "knock");
		assert_eq!(finding.mend.as_deref(), Some("knock"));
		let inner = std::io::Error::other("it is stuck");
		let error = anyhow::Error::new(inner).context("open the door: it is stuck");
		assert_eq!(Finding::error("door", &error, "").found, "open the door: it is stuck");
		let error = anyhow::anyhow!("it is stuck").context("open the door; is it locked?");
		assert_eq!(Finding::error("door", &error, "knock").mend.as_deref(), Some("knock"));
	}
}
