//! The log on standard error, and which lines of it are shown.
//!
//! `RUST_LOG`, where it is set, decides for as long as the program runs. Otherwise the configuration
//! does, and may do so anew while the agent runs.

use crate::{foreign::coloured_line, job_log::JobLog};
use clap::ValueEnum;
use std::{
	fmt,
	io::{self, Write},
	str::FromStr,
	sync::Arc,
};
use tracing_subscriber::{
	EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
	/// For people.
	Text,
	/// For machines.
	Json,
}

/// Which lines are shown: `info`, or `info,backup_agent::peers=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
	fn default() -> Self {
		Self("info".to_owned())
	}
}

impl FromStr for LogFilter {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		match EnvFilter::builder().parse(text) {
			Ok(_) if !text.trim().is_empty() => Ok(Self(text.to_owned())),
			Ok(_) => Err("it is empty".to_owned()),
			Err(error) => Err(error.to_string()),
		}
	}
}

impl fmt::Display for LogFilter {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(&self.0)
	}
}

/// The log of this process. Clones are the same log.
#[derive(Clone)]
pub struct Log {
	show: Arc<dyn Fn(EnvFilter) + Send + Sync>,
	/// Whether the environment has decided already.
	is_decided: bool,
}

impl Log {
	/// Show these lines from now on, unless the environment has decided.
	pub fn show(&self, filter: &LogFilter) {
		if !self.is_decided {
			(self.show)(EnvFilter::new(&filter.0));
		}
	}
}

impl fmt::Debug for Log {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Log").field("is_decided", &self.is_decided).finish_non_exhaustive()
	}
}

/// Begin to log, once in a process.
pub fn start(format: LogFormat, job_log: &JobLog) -> Log {
	let decided = EnvFilter::try_from_default_env().ok();
	let is_decided = decided.is_some();
	let filter = decided.unwrap_or_else(|| EnvFilter::new(LogFilter::default().0));
	let (filter, handle) = reload::Layer::new(filter);
	let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines(io::stderr()));
	let lines = match format {
		LogFormat::Text => lines.boxed(),
		LogFormat::Json => lines.json().boxed(),
	};
	tracing_subscriber::registry()
		.with(lines.with_filter(filter))
		.with(job_log.clone().with_filter(LevelFilter::INFO))
		.init();
	let show = move |filter| {
		if let Err(error) = handle.reload(filter) {
			tracing::error!(%error, "the log's filter stays as it was");
		}
	};
	Log { show: Arc::new(show), is_decided }
}

/// Takes the log line by line, and lets a terminal obey nothing but its colours. What makes the lines
/// does so itself from `tracing-subscriber` 0.3.20 on, which the node's SDK does not admit yet.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
	fn write(&mut self, line: &[u8]) -> io::Result<usize> {
		self.0.write_all(coloured_line(&String::from_utf8_lossy(line)).as_bytes())?;
		Ok(line.len())
	}

	fn flush(&mut self) -> io::Result<()> {
		self.0.flush()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::sync::{Mutex, PoisonError};

	/// What a log has been told.
	#[derive(Clone, Default)]
	struct Told(Arc<Mutex<Vec<u8>>>);

	impl Write for Told {
		fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
			self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
		}

		fn flush(&mut self) -> io::Result<()> {
			Ok(())
		}
	}

	#[test]
	fn words_of_others_in_the_log_are_not_obeyed() {
		let told = Told::default();
		let writer = told.clone();
		let lines = tracing_subscriber::fmt::layer().with_writer(move || Lines(writer.clone()));
		let log = tracing_subscriber::registry().with(lines);
		tracing::subscriber::with_default(log, || {
			let error = "no such\u{1b}[2J disk\n2026-01-01 INFO all is well";
			tracing::error!(%error, "failed");
		});
		let text = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
		assert!(text.contains("no such\\u{1b}[2J disk 2026-01-01 INFO all is well"), "{text:?}");
		assert_eq!(text.matches('\n').count(), 1, "{text:?}");
	}

	#[test]
	fn a_filter_is_of_levels_and_targets() {
		for good in ["info", "warn,backup_agent::peers=debug", "off"] {
			assert_eq!(good.parse::<LogFilter>().unwrap().to_string(), good);
		}
		for wrong in ["", " ", "backup_agent=loud", "a=b=c"] {
			assert!(wrong.parse::<LogFilter>().is_err(), "{wrong}");
		}
	}
}
