//! The folder of a run: everything is below it, and it goes with the run.
//!
//! When a test fails, the end of every log is printed before the folder goes. With
//! `BACKUP_E2E_KEEP=1` the folder stays.

use anyhow::{Context, Result};
use std::{
	fs,
	net::{Ipv4Addr, TcpListener},
	ops::Range,
	path::{Path, PathBuf},
	process,
	sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;

/// Lines of each log that are printed when a run fails.
const LOG_LINES_SHOWN: usize = 60;

/// What ports are chosen from: below those that the system gives to whoever names none, so that
/// nobody takes one between its being chosen and its use, or while its program is restarted.
const PORTS: Range<u16> = 30_000..32_700;

/// How far the first ports of two processes with neighbouring ids lie apart, more than one uses.
const PORTS_APART: u32 = 331;

/// The folder of a run.
#[derive(Debug)]
pub struct Lab {
	folder: Option<TempDir>,
	path: PathBuf,
}

impl Lab {
	/// Make a folder of its own in the temporary folder of the system.
	pub fn new(name: &str) -> Result<Self> {
		let folder = tempfile::Builder::new()
			.prefix(&format!("backup-{name}-"))
			.tempdir()
			.context("failed to make a folder for the run")?;
		let path = folder.path().to_owned();
		fs::create_dir(path.join("logs")).context("failed to make the folder of logs")?;
		let folder = match std::env::var_os("BACKUP_E2E_KEEP") {
			Some(_) => {
				eprintln!("the folder of this run stays: {}", folder.keep().display());
				None
			}
			None => Some(folder),
		};
		Ok(Self { folder, path })
	}

	/// The folder.
	pub fn path(&self) -> &Path {
		&self.path
	}

	/// Where the log of a program goes.
	pub fn log(&self, program: &str) -> PathBuf {
		self.path.join("logs").join(format!("{program}.log"))
	}

	/// The end of every log.
	pub fn logs(&self) -> String {
		let mut text = String::new();
		let entries = fs::read_dir(self.path.join("logs")).into_iter().flatten().flatten();
		let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
		paths.sort();
		for path in paths {
			let log = fs::read(&path).unwrap_or_default();
			let log = String::from_utf8_lossy(&log);
			let lines: Vec<_> = log.lines().collect();
			let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
			text.push_str(&format!("--- {}\n{}\n", path.display(), lines[from..].join("\n")));
		}
		text
	}
}

impl Drop for Lab {
	fn drop(&mut self) {
		if std::thread::panicking() && self.folder.is_some() {
			eprintln!("{}", self.logs());
		}
	}
}

/// A port on the loopback interface that nobody uses now, and that no other lab of this process is
/// given: a program may end and come back to it.
pub fn free_port() -> Result<u16> {
	static GIVEN: AtomicU32 = AtomicU32::new(0);
	let all = u32::from(PORTS.end - PORTS.start);
	// Two processes that run beside each other begin in different places.
	let first = process::id().wrapping_mul(PORTS_APART);
	let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
	let next = |_| {
		let place = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % all;
		u16::try_from(place).ok().map(|place| PORTS.start + place)
	};
	(0..all).filter_map(next).find(is_free).context("no free port")
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::collections::BTreeSet;

	#[test]
	fn a_port_is_given_once_and_no_outgoing_connection_gets_it() {
		let given: BTreeSet<_> = (0..200).map(|_| free_port().unwrap()).collect();
		assert_eq!(given.len(), 200, "a port was given twice");
		let outgoing = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
		let first: u16 = outgoing.split_whitespace().next().unwrap().parse().unwrap();
		assert!(given.iter().all(|port| *port < first), "{given:?} are not below {first}");
	}
}
