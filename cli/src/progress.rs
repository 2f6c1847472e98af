//! How far something is that takes longer than a moment: a bar with rate and time left on a terminal,
//! a line now and then where standard error goes elsewhere, nothing for programs.

use crate::{output::Output, words};
use backup_agent::walk::WHOLE;
use indicatif::{
	HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use std::{
	fmt,
	io::{self, IsTerminal},
	sync::{
		Arc, Mutex, PoisonError,
		atomic::{AtomicU64, AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::task::AbortHandle;

/// What is over sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two pictures of what turns while nothing can be counted.
const TURN_INTERVAL: Duration = Duration::from_millis(120);

/// How far it is. Shared by the threads that do the work.
pub(crate) struct Bar {
	bar: ProgressBar,
	output: Output,
	begun: Instant,
	/// When something has to be shown next, if anybody looks.
	next: Mutex<Instant>,
	to_terminal: bool,
	/// Bytes that went by, where it is a walk that is measured.
	walked_bytes: Option<Arc<AtomicU64>>,
	/// Shows that there is nothing yet.
	waiting: Option<AbortHandle>,
}

impl Bar {
	/// Of so many bytes.
	pub(crate) fn new(output: Output, total_bytes: u64) -> Self {
		let template =
			"{bar:40} {percent:>3}% {bytes} of {total_bytes}, {bytes_per_sec}, {left} left";
		Self::hidden(output, Some(total_bytes), style(template))
	}

	/// Of a walk over snapshots whose bytes nobody can tell beforehand, of which it is known how much of
	/// the [`WHOLE`] was gone through.
	pub(crate) fn walk(output: Output) -> Self {
		let bytes = Arc::new(AtomicU64::new(0));
		let counted = Arc::clone(&bytes);
		let went_by = move |state: &ProgressState, out: &mut dyn fmt::Write| {
			let done = counted.load(Ordering::Relaxed);
			let speed = rate(done, state.elapsed());
			// What is lost of a picture comes with the next.
			let _ = write!(out, "{}, {}/s", HumanBytes(done), HumanBytes(speed));
		};
		let style = style("{bar:40} {percent:>3}% {went_by}, {left} left");
		let mut bar = Self::hidden(output, Some(WHOLE), style.with_key("went_by", went_by));
		bar.walked_bytes = Some(bytes);
		bar
	}

	/// Of something that cannot be counted, such as the next block. It is shown until this is
	/// dropped.
	pub(crate) fn waiting(output: Output, what: &'static str) -> Self {
		let mut bar = Self::hidden(output, None, style("{spinner} waiting for {msg}, {elapsed}"));
		bar.bar.set_message(what);
		let (drawn, to_terminal, begun) = (bar.bar.clone(), bar.to_terminal, bar.begun);
		let show = tokio::spawn(async move {
			if to_terminal {
				tokio::time::sleep(PATIENCE).await;
				while Quiet::is_kept() {
					tokio::time::sleep(TURN_INTERVAL).await;
				}
				drawn.set_draw_target(ProgressDrawTarget::stderr());
				loop {
					if !Quiet::is_kept() {
						drawn.tick();
					}
					tokio::time::sleep(TURN_INTERVAL).await;
				}
			}
			loop {
				tokio::time::sleep(LINE_INTERVAL).await;
				let waited = seconds(begun.elapsed().as_secs());
				output.note(format_args!("waiting for {what}, {waited}"));
			}
		});
		bar.waiting = Some(show.abort_handle());
		bar
	}

	fn hidden(output: Output, total: Option<u64>, style: ProgressStyle) -> Self {
		let hidden = ProgressDrawTarget::hidden();
		let begun = Instant::now();
		let to_terminal = io::stderr().is_terminal() && !output.is_for_programs();
		let first = begun + if to_terminal { PATIENCE } else { LINE_INTERVAL };
		Self {
			bar: ProgressBar::with_draw_target(total, hidden).with_style(style),
			output,
			begun,
			next: Mutex::new(first),
			to_terminal,
			walked_bytes: None,
			waiting: None,
		}
	}

	/// So many bytes are done.
	pub(crate) fn set(&self, bytes: u64) {
		self.bar.set_position(bytes);
		self.show(Instant::now());
	}

	/// So many bytes more are done.
	pub(crate) fn add(&self, bytes: u64) {
		self.bar.inc(bytes);
		self.show(Instant::now());
	}

	/// So many bytes more went by on a walk, which has come no further by that.
	pub(crate) fn pass(&self, bytes: u64) {
		if let Some(counted) = &self.walked_bytes {
			counted.fetch_add(bytes, Ordering::Relaxed);
		}
		self.show(Instant::now());
	}

	/// A walk has come so far, of [`WHOLE`], and so many bytes went by.
	pub(crate) fn set_walked(&self, walked: u64, bytes: u64) {
		if let Some(counted) = &self.walked_bytes {
			counted.store(bytes, Ordering::Relaxed);
		}
		self.set(walked);
	}

	/// Take it away: what was to be done is done.
	pub(crate) fn finish(&self) {
		self.bar.finish_and_clear();
	}

	/// Show it, if it is time for that.
	fn show(&self, now: Instant) {
		let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
		if now < *next {
			return;
		}
		if self.to_terminal {
			// From now on it draws itself.
			*next = now + Duration::from_secs(u32::MAX.into());
			self.bar.set_draw_target(ProgressDrawTarget::stderr());
		} else {
			*next = now + LINE_INTERVAL;
			self.output.note(self.line(now - self.begun));
		}
	}
}

impl Bar {
	/// The same as the bar tells, in one line.
	fn line(&self, elapsed: Duration) -> String {
		let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
		match &self.walked_bytes {
			Some(bytes) => walk_line(done, bytes.load(Ordering::Relaxed), elapsed),
			None => line(done, total, elapsed),
		}
	}
}

fn style(template: &str) -> ProgressStyle {
	let style = ProgressStyle::with_template(template).expect("the template is a constant");
	style.with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
		// What is lost of a picture comes with the next.
		let _ = match state.pos() {
			0 => write!(out, "unknown"),
			_ => write!(out, "{:#}", HumanDuration(state.eta())),
		};
	})
}

impl Drop for Bar {
	fn drop(&mut self) {
		if let Some(waiting) = &self.waiting {
			waiting.abort();
		}
		// What failed leaves no half bar above its error.
		self.bar.finish_and_clear();
	}
}

/// While somebody may be asked something at the terminal, nothing else is drawn there. Ends with this.
pub(crate) struct Quiet(());

/// How many of those there are.
static ASKING: AtomicUsize = AtomicUsize::new(0);

impl Quiet {
	pub(crate) fn keep() -> Self {
		ASKING.fetch_add(1, Ordering::Relaxed);
		Self(())
	}

	fn is_kept() -> bool {
		ASKING.load(Ordering::Relaxed) > 0
	}
}

impl Drop for Quiet {
	fn drop(&mut self) {
		ASKING.fetch_sub(1, Ordering::Relaxed);
	}
}

/// Bytes a second.
fn rate(done: u64, elapsed: Duration) -> u64 {
	(done as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}

/// Of bytes, in one line.
fn line(done: u64, total: u64, elapsed: Duration) -> String {
	let rate = rate(done, elapsed);
	let speed = format!("{}/s", words::bytes(rate));
	let percent = percent(done, total);
	let left = total.saturating_sub(done).checked_div(rate);
	let left = left.map_or_else(|| "unknown".to_owned(), seconds);
	let (done, total) = (words::bytes(done), words::bytes(total));
	format!("{percent} %, {done} of {total}, {speed}, {left} left")
}

/// Of a walk, in one line.
fn walk_line(walked: u64, bytes: u64, elapsed: Duration) -> String {
	let speed = words::bytes(rate(bytes, elapsed));
	let left = elapsed.as_secs_f64() * (WHOLE.saturating_sub(walked) as f64 / walked as f64);
	let left = if walked == 0 { "unknown".to_owned() } else { seconds(left as u64) };
	format!("{} %, {}, {speed}/s, {left} left", percent(walked, WHOLE), words::bytes(bytes))
}

fn percent(done: u64, total: u64) -> u128 {
	match total {
		// All of nothing is done at once.
		0 => 100,
		total => u128::from(done.min(total)) * 100 / u128::from(total),
	}
}

fn seconds(seconds: u64) -> String {
	match seconds {
		0..60 => format!("{seconds} s"),
		60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
		_ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_line_has_rate_and_time_left() {
		let ten = Duration::from_secs(10);
		assert_eq!(line(1 << 30, 4 << 30, ten), "25 %, 1.0 GiB of 4.0 GiB, 102.3 MiB/s, 30 s left");
		assert_eq!(line(0, 100, ten), "0 %, 0 B of 100 B, 0 B/s, unknown left");
		assert_eq!(line(0, 0, Duration::ZERO), "100 %, 0 B of 0 B, 0 B/s, unknown left");
	}

	#[test]
	fn a_walk_has_rate_and_time_left_though_nobody_knows_its_bytes() {
		let ten = Duration::from_secs(10);
		assert_eq!(walk_line(WHOLE / 4, 50 << 20, ten), "25 %, 50.0 MiB, 5.0 MiB/s, 30 s left");
		assert_eq!(walk_line(0, 0, ten), "0 %, 0 B, 0 B/s, unknown left");
		assert_eq!(walk_line(WHOLE, 5 << 20, ten), "100 %, 5.0 MiB, 512.0 KiB/s, 0 s left");
	}

	#[test]
	fn times_are_told_in_their_units() {
		assert_eq!(seconds(59), "59 s");
		assert_eq!(seconds(61), "1 min 1 s");
		assert_eq!(seconds(7_261), "2 h 1 min");
	}

	#[test]
	fn nothing_is_shown_of_what_is_over_soon() {
		let bar = Bar::new(Output::new(true), 10);
		bar.set(5);
		assert!(bar.bar.is_hidden());
		assert_eq!(bar.bar.position(), 5);
	}
}
