//! `backup-agent doctor`: everything that a backup needs, tried.

use super::Context;
use crate::{
	config::Settings,
	doctor::{self, Verdict},
	log::LogFilter,
	sources::Holds,
};
use anyhow::{Context as _, Result};
use std::{
	io::{self, Write},
	process::{self, ExitCode},
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
	thread,
	time::Duration,
};
use tokio::{
	runtime,
	signal::unix::{SignalKind, signal},
};

/// How long it is waited for what was put up to be taken away again.
const END_TIME_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
	/// Print one JSON object.
	#[arg(long)]
	json: bool,
	#[command(flatten)]
	settings: Settings,
}

pub(super) fn run(context: &Context, arguments: Doctor) -> Result<ExitCode> {
	let Doctor { json, settings } = arguments;
	// What is tried logs what goes wrong, too; here it is told once, in its place.
	if let Ok(errors) = "error".parse::<LogFilter>() {
		context.log.show(&errors);
	}
	let holds = Holds::default();
	let told = end_in_order(&holds)?;
	let report = doctor::examine(&context.source(settings), &holds);
	// What was given up may still be about to let go.
	holds.end(END_TIME_MAX);
	if told.load(Ordering::Acquire) {
		// Whoever listens for signals ends the program, and says by which.
		loop {
			thread::park();
		}
	}
	match json {
		true => println!("{}", serde_json::to_string(&report)?),
		false => print!("{}", report.to_text()),
	}
	Ok(match report.verdict {
		Verdict::Ok | Verdict::Warning => ExitCode::SUCCESS,
		Verdict::Failed => ExitCode::FAILURE,
	})
}

/// When told to end, end with nothing left in machines, which would be a guest's burden. What is
/// returned says whether that was so.
fn end_in_order(holds: &Holds) -> Result<Arc<AtomicBool>> {
	let context = "failed to listen for signals";
	let runtime = runtime::Builder::new_current_thread().enable_io().build().context(context)?;
	let guard = runtime.enter();
	let listen = |kind| signal(kind).context(context);
	let mut interrupt = listen(SignalKind::interrupt())?;
	let mut terminate = listen(SignalKind::terminate())?;
	let mut hang_up = listen(SignalKind::hangup())?;
	drop(guard);
	let holds = holds.clone();
	let told = Arc::new(AtomicBool::new(false));
	let is_told = told.clone();
	let wait = move || {
		let kind = runtime.block_on(async {
			tokio::select! {
				_ = interrupt.recv() => SignalKind::interrupt(),
				_ = terminate.recv() => SignalKind::terminate(),
				_ = hang_up.recv() => SignalKind::hangup(),
			}
		});
		is_told.store(true, Ordering::Release);
		// A terminal that hung up hears nothing.
		let _ = writeln!(io::stderr(), "doctor ends as soon as nothing of it is left in machines");
		holds.end(END_TIME_MAX);
		process::exit(128 + kind.as_raw_value());
	};
	thread::Builder::new().name("signals".to_owned()).spawn(wait).context(context)?;
	Ok(told)
}
