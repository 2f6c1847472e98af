//! `backup-agent doctor`: everything that a backup needs, tried.

use super::Context;
use crate::{
	config::Settings,
	doctor::{self, Verdict},
	log::LogFilter,
};
use anyhow::Result;
use std::process::ExitCode;

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
	let report = doctor::examine(&context.source(settings));
	match json {
		true => println!("{}", serde_json::to_string(&report)?),
		false => print!("{}", report.to_text()),
	}
	Ok(match report.verdict {
		Verdict::Ok | Verdict::Warning => ExitCode::SUCCESS,
		Verdict::Failed => ExitCode::FAILURE,
	})
}
