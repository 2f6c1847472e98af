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
		Arc,
		atomic::{AtomicU64, AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::{runtime::Handle, task::AbortHandle};

/// What is over sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two pictures of what turns while nothing can be counted.
const TURN_INTERVAL: Duration = Duration::from_millis(120);

/// How far it is. Shared by the threads that do the work.
pub(crate) struct Bar {
	bar: ProgressBar,
	/// Bytes that went by, where it is a walk that is measured.
	walked_bytes: Arc<AtomicU64>,
	/// Draws it, also while nothing happens.
	drawing: Option<AbortHandle>,
}

/// What it is that is shown.
enum Measured {
	Bytes,
	Walk(Arc<AtomicU64>),
	Waiting(&'static str),
}

impl Bar {
	/// Of so many bytes.
	pub(crate) fn new(output: Output, total_bytes: u64) -> Self {
		let template =
			"{bar:40} {percent:>3}% {bytes} of {total_bytes}, {bytes_per_sec}, {left} left";
		Self::begin(output, Some(total_bytes), style(template), Measured::Bytes)
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
		let style = style.with_key("went_by", went_by);
		let measured = Measured::Walk(Arc::clone(&bytes));
		let mut bar = Self::begin(output, Some(WHOLE), style, measured);
		bar.walked_bytes = bytes;
		bar
	}

	/// Of something that cannot be counted, such as the next block. It is shown until this is
	/// dropped.
	pub(crate) fn waiting(output: Output, what: &'static str) -> Self {
		let style = style("{spinner} waiting for {msg}, {elapsed}");
		let bar = Self::begin(output, None, style, Measured::Waiting(what));
		bar.bar.set_message(what);
		bar
	}

	fn begin(output: Output, total: Option<u64>, style: ProgressStyle, measured: Measured) -> Self {
		let hidden = ProgressDrawTarget::hidden();
		let bar = ProgressBar::with_draw_target(total, hidden).with_style(style);
		let runtime = Handle::try_current().ok().filter(|_| !output.is_for_programs());
		let drawing = runtime.map(|runtime| runtime.spawn(draw(bar.clone(), measured, output)));
		let drawing = drawing.map(|drawing| drawing.abort_handle());
		Self { bar, walked_bytes: Arc::default(), drawing }
	}

	/// So many bytes are done.
	pub(crate) fn set(&self, bytes: u64) {
		self.bar.set_position(bytes);
	}

	/// So many bytes more are done.
	pub(crate) fn add(&self, bytes: u64) {
		self.bar.inc(bytes);
	}

	/// So many bytes more went by on a walk, which has come no further by that.
	pub(crate) fn pass(&self, bytes: u64) {
		self.walked_bytes.fetch_add(bytes, Ordering::Relaxed);
	}

	/// A walk has come so far, of [`WHOLE`], and so many bytes went by.
	pub(crate) fn set_walked(&self, walked: u64, bytes: u64) {
		self.walked_bytes.store(bytes, Ordering::Relaxed);
		self.set(walked);
	}

	/// Take it away: what was to be done is done.
	pub(crate) fn finish(&self) {
		if let Some(drawing) = &self.drawing {
			drawing.abort();
		}
		self.bar.finish_and_clear();
	}
}

/// Draw a bar when it has taken longer than a moment, and again and again, whether anything happens or not.
async fn draw(bar: ProgressBar, measured: Measured, output: Output) {
	let begun = Instant::now();
	if io::stderr().is_terminal() {
		tokio::time::sleep(PATIENCE).await;
		while Quiet::is_kept() {
			tokio::time::sleep(TURN_INTERVAL).await;
		}
		bar.set_draw_target(ProgressDrawTarget::stderr());
		loop {
			if !Quiet::is_kept() {
				bar.tick();
			}
			tokio::time::sleep(TURN_INTERVAL).await;
		}
	}
	loop {
		tokio::time::sleep(LINE_INTERVAL).await;
		output.note(measured.line(&bar, begun.elapsed()));
	}
}

impl Measured {
	/// The same as the bar tells, in one line.
	fn line(&self, bar: &ProgressBar, elapsed: Duration) -> String {
		let (done, total) = (bar.position(), bar.length().unwrap_or_default());
		match self {
			Self::Bytes => line(done, total, elapsed),
			Self::Walk(bytes) => walk_line(done, bytes.load(Ordering::Relaxed), elapsed),
			Self::Waiting(what) => format!("waiting for {what}, {}", seconds(elapsed.as_secs())),
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
		// What failed leaves no half bar above its error.
		self.finish();
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
