//! What the audience sees.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
	fmt::Display,
	io::{IsTerminal, Write},
	time::{Duration, Instant},
};

/// Says what happens: with a line that moves on a terminal, with plain lines elsewhere.
pub(crate) struct Narrator {
	bar: Option<ProgressBar>,
	is_terminal: bool,
	began: Instant,
}

impl Narrator {
	pub(crate) fn new() -> Self {
		Self { bar: None, is_terminal: std::io::stdout().is_terminal(), began: Instant::now() }
	}

	/// Something begins that may take a while.
	pub(crate) fn begin(&mut self, words: impl Display) {
		self.settle();
		if self.is_terminal {
			let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})")
				.expect("the template is a constant");
			let bar = ProgressBar::new_spinner().with_style(style).with_message(words.to_string());
			bar.enable_steady_tick(Duration::from_millis(120));
			self.bar = Some(bar);
		}
	}

	/// What began goes on like this.
	pub(crate) fn update(&self, words: String) {
		if let Some(bar) = &self.bar {
			bar.set_message(words);
		}
	}

	/// What began is done.
	pub(crate) fn end(&mut self, words: impl Display) {
		self.settle();
		println!("{:>5} s  {words}", self.began.elapsed().as_secs());
		// Nobody is served by an error about a closed pipe.
		let _ = std::io::stdout().flush();
	}

	pub(crate) fn settle(&mut self) {
		if let Some(bar) = self.bar.take() {
			bar.finish_and_clear();
		}
	}
}
