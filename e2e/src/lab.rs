//! The folder of a run: everything is below it, and it goes with the run.
//!
//! When a test fails, the end of every log is printed before the folder goes. With
//! `BACKUP_E2E_KEEP=1` the folder stays.

use anyhow::{Context, Result};
use std::{
	fs,
	net::{Ipv4Addr, TcpListener},
	path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Lines of each log that are printed when a run fails.
const LOG_LINES_SHOWN: usize = 60;

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

/// A port on the loopback interface that nobody uses now.
pub fn free_port() -> Result<u16> {
	let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
	Ok(listener.local_addr().context("no free port")?.port())
}
