//! The processes that a command of the user's has started, which end with whoever waits for them.
//!
//! They stay in our own process group, where they may ask the person at the terminal and Ctrl-C reaches them.
//! So they are found by who started them. One whose parent has ended becomes a child of ours, and none is
//! lost on the way. A daemon has begun a session of its own, as the agents of password managers do: it serves
//! others too, and stays.

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use std::{
	collections::{HashMap, HashSet},
	fs,
	path::Path,
};

/// How often it is looked for processes that were started while others were told to end.
const LOOKS_MAX: usize = 16;

/// What this process starts from a moment on, and what that starts. Dropped, all of it is told to end.
pub(crate) struct Descendants {
	/// What was there before, and is none of ours.
	others: Option<HashSet<Pid>>,
}

impl Descendants {
	pub(crate) fn from_now() -> Self {
		// Where that is not possible, those that are left alone are not found.
		let _ = set_child_subreaper(Some(getpid()));
		Self { others: Some(descendants()) }
	}

	/// They may go on.
	pub(crate) fn let_go(mut self) {
		self.others = None;
	}
}

impl Drop for Descendants {
	fn drop(&mut self) {
		let Some(mut known) = self.others.take() else { return };
		for _ in 0..LOOKS_MAX {
			let found: Vec<Pid> = descendants().difference(&known).copied().collect();
			if found.is_empty() {
				return;
			}
			for pid in found {
				// It may have ended by itself.
				let _ = kill_process(pid, Signal::TERM);
				known.insert(pid);
			}
		}
	}
}

/// All processes below this one that are in its session, as far as the system tells.
fn descendants() -> HashSet<Pid> {
	let Some((_, own)) = parent_and_session_of(Path::new("/proc/self")) else {
		return HashSet::new();
	};
	let mut children: HashMap<i32, Vec<Pid>> = HashMap::new();
	for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
		let name = entry.file_name();
		let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
		else {
			continue;
		};
		match parent_and_session_of(&entry.path()) {
			Some((parent, session)) if session == own => {
				children.entry(parent).or_default().push(pid);
			}
			_ => (),
		}
	}
	let (mut found, mut open) = (HashSet::new(), vec![getpid()]);
	while let Some(parent) = open.pop() {
		let new = children.remove(&parent.as_raw_nonzero().get()).unwrap_or_default();
		open.extend(&new);
		found.extend(new);
	}
	found
}

/// What the process of a folder below `/proc` says. It may be gone by now.
fn parent_and_session_of(process: &Path) -> Option<(i32, i32)> {
	parent_and_session_in(&fs::read_to_string(process.join("stat")).ok()?)
}

/// The parent and the session that a line of `/proc/PID/stat` names, behind state and group. A program's name
/// may hold anything. Either is 0 if it is outside of the container that we run in: the session often is,
/// and the system's call for it answers with a 0 that is no identifier.
fn parent_and_session_in(stat: &str) -> Option<(i32, i32)> {
	let (_, behind_name) = stat.rsplit_once(')')?;
	let mut numbers = behind_name.split_whitespace().skip(1).map(|number| number.parse().ok());
	let (parent, _group, session) = (numbers.next()??, numbers.next()??, numbers.next()??);
	Some((parent, session))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn parent_and_session_are_read_whatever_the_program_is_called() {
		assert_eq!(parent_and_session_in("12 (sh) S 7 12 9 0"), Some((7, 9)));
		assert_eq!(parent_and_session_in("12 (a) R 3 (b)) S 7 12 9 0"), Some((7, 9)));
		assert_eq!(
			parent_and_session_in("1 (sh) S 0 0 0 0"),
			Some((0, 0)),
			"the first of a container"
		);
		for stat in ["", "12 (sh", "12 (sh) S", "12 (sh) S 7 12", "12 (sh) S 7 12 ninety"] {
			assert_eq!(parent_and_session_in(stat), None, "{stat}");
		}
	}
}
