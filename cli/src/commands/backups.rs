//! `backup create`, `backup cadence` and `backup settings`: what owners set.

use crate::{
	args::{Global, KeepLast, Machine, SettingsChange},
	chain::{reads, records::BackupSettings},
	commands::session::Session,
	error::CliError,
	output::Output,
};
use serde_json::json;

pub(crate) async fn create(
	machine: Machine,
	description: Option<String>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let arguments = (session.request(&machine).await?, description.map(String::into_bytes));
	let done = format!("backups of {machine} begin");
	session.carry_out(output, "create_backup", arguments, &done).await
}

pub(crate) async fn frequency(
	blocks: u32,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let call = "set_backup_offchain_worker_frequency";
	let done = format!("a snapshot every {blocks} blocks");
	session.carry_out(output, call, (blocks,), &done).await
}

/// Show what is set for a backup, or change what is named; the rest stays.
pub(crate) async fn settings(
	machine: Machine,
	change: SettingsChange,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let request = session.request(&machine).await?;
	let at = session.chain.best().await?;
	let settings = reads::settings(&at, request).await?;
	let Some(changed) = changed(settings, change) else {
		// What the chain's default is just now.
		let kept = reads::lineage(&at, request).await?.keep_last;
		let answer = json!({ "request": request, "settings": settings });
		return output.answer(&answer, || settings_words(settings, kept));
	};
	let done = format!("the settings of {machine} are changed");
	session.carry_out(output, "set_backup_settings", (request, changed), &done).await
}

/// The settings as they will be; nothing if no change is named.
fn changed(settings: BackupSettings, change: SettingsChange) -> Option<BackupSettings> {
	let SettingsChange { pause, resume, keep_last } = change;
	let is_named = pause || resume || keep_last.is_some();
	is_named.then_some(BackupSettings {
		paused: pause || (settings.paused && !resume),
		keep_last: match keep_last {
			None => settings.keep_last,
			Some(KeepLast::Default) => None,
			Some(KeepLast::Number(number)) => Some(number),
		},
	})
}

fn settings_words(settings: BackupSettings, kept: u32) -> String {
	let paused = if settings.paused { "paused" } else { "snapshots are taken when they are due" };
	let whose = if settings.keep_last.is_some() { "" } else { ", as the chain has it by default" };
	format!("{paused}\nthe newest {kept} are kept{whose}")
}

#[cfg(test)]
mod tests {
	use super::*;

	const UNNAMED: SettingsChange = SettingsChange { pause: false, resume: false, keep_last: None };

	#[test]
	fn settings_that_are_not_named_stay() {
		let paused = BackupSettings { paused: true, keep_last: Some(5) };
		let number = Some(KeepLast::Number(7));
		assert_eq!(changed(paused, UNNAMED), None);
		assert_eq!(
			changed(paused, SettingsChange { keep_last: number, ..UNNAMED }),
			Some(BackupSettings { paused: true, keep_last: Some(7) })
		);
		assert_eq!(
			changed(paused, SettingsChange { resume: true, ..UNNAMED }),
			Some(BackupSettings { paused: false, keep_last: Some(5) })
		);
		assert_eq!(
			changed(paused, SettingsChange { keep_last: Some(KeepLast::Default), ..UNNAMED }),
			Some(BackupSettings { paused: true, keep_last: None })
		);
		let taken = BackupSettings { paused: false, keep_last: None };
		assert_eq!(
			changed(taken, SettingsChange { pause: true, ..UNNAMED }),
			Some(BackupSettings { paused: true, keep_last: None })
		);
	}
}
