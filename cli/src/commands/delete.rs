//! `backup delete`: snapshots of a machine, one by one or by their age, or all of its backup.

use crate::{
	args::{Delete, Global, Machine, When},
	chain::{AtBlock, histories, reads, records::Snapshot},
	commands::{
		confirm::{confirm, ensure_person},
		session::Session,
	},
	error::CliError,
	output::Output,
	progress::Bar,
	secret, words,
};
use jiff::Timestamp;
use subxt::dynamic::Value;

pub(crate) async fn run(wanted: &Delete, global: &Global, output: Output) -> Result<(), CliError> {
	// Whoever cannot sign is told before being asked.
	let signer = secret::signer(global).await?;
	if !wanted.yes {
		ensure_person()?;
	}
	let session = Session::of(signer, global).await?;
	let request = session.request(&wanted.machine).await?;
	let snapshots = snapshots(&session, request, wanted).await?;
	if !wanted.yes {
		let whose = match &wanted.machine {
			Machine::Request(_) => wanted.machine.to_string(),
			Machine::Name(name) => format!("request {request} ({name})"),
		};
		let what = match &*snapshots {
			[] => format!("The backup of {whose}, with all its snapshots,"),
			[one] => {
				let facts = session.facts(one).await?;
				format!("Snapshot {} of {whose}, {facts},", one.sequence)
			}
			[first, .., last] => many(&snapshots, &whose, [first, last]),
		};
		let which = wanted.until.map_or_else(String::new, |when| {
			format!(" That is all that was taken at {when} or before, and that nobody holds.")
		});
		let will = format!("{what} will be deleted, blocks and records, on every node.{which}");
		confirm(&will, "delete").await?;
	}
	let number = |number: u64| Value::u128(number.into());
	let (pallet, call, arguments) = match &*snapshots {
		[] => ("Backup", "delete_backup", vec![number(request)]),
		[one] => ("Backup", "delete_snapshot", vec![number(request), number(one.sequence)]),
		// All of them or none.
		_ => ("Utility", "batch_all", vec![Value::unnamed_composite(calls(request, &snapshots))]),
	};
	let report = session.submit(pallet, call, arguments).await?.report;
	let undo = undo(request, &snapshots);
	output.answer(&report, || {
		let what = wanted.until.map_or_else(String::new, |when| {
			format!(" of {} snapshots, all of {when} or before,", snapshots.len())
		});
		format!(
			"the deletion{what} was asked for; until it is carried out, {undo} (block {})",
			report.block
		)
	})
}

/// The snapshots that are meant, oldest first; none if it is the whole backup.
async fn snapshots(
	session: &Session,
	request: u64,
	wanted: &Delete,
) -> Result<Vec<Snapshot>, CliError> {
	let Some(when) = wanted.until else {
		let mut sequences = wanted.sequences.clone();
		sequences.sort_unstable();
		sequences.dedup();
		let mut snapshots = Vec::with_capacity(sequences.len());
		for sequence in sequences {
			snapshots.push(session.snapshot(request, sequence).await?);
		}
		return Ok(snapshots);
	};
	let _bar = Bar::waiting(session.chain.output, "the list of snapshots");
	let at = session.chain.best().await?;
	ensure_over(when, at.block_number())?;
	let lineage = reads::lineage(&at, request).await?;
	let listed = histories::snapshots(&at, &lineage, usize::MAX).await?;
	let mut snapshots = listed.complete("snapshots of a machine")?;
	snapshots.truncate(session.chain.taken_by(&at, &snapshots, when).await?);
	let snapshots = free(&at, request, snapshots).await?;
	match snapshots.is_empty() {
		// Nobody who says until when means everything.
		true => Err(CliError::NothingToDelete { request, when }),
		false => Ok(snapshots),
	}
}

/// A slip would otherwise mean everything, as a date does that is written without its hyphens.
fn ensure_over(when: When, best: u64) -> Result<(), CliError> {
	let is_over = match when {
		When::Block(block) => block <= best,
		When::Time(ms) => ms <= Timestamp::now().as_millisecond(),
	};
	if is_over { Ok(()) } else { Err(CliError::TimeToCome { when, block: best }) }
}

/// Those that nobody holds, and that are not to be deleted already.
async fn free(
	at: &AtBlock,
	request: u64,
	snapshots: Vec<Snapshot>,
) -> Result<Vec<Snapshot>, CliError> {
	let places = snapshots.iter().map(|snapshot| snapshot.sequence);
	let is_free = reads::are_free(at, request, places).await?;
	Ok(snapshots.into_iter().zip(is_free).filter_map(|(one, is)| is.then_some(one)).collect())
}

fn many(snapshots: &[Snapshot], whose: &str, [first, last]: [&Snapshot; 2]) -> String {
	let logical: u64 = snapshots.iter().map(|snapshot| snapshot.logical_bytes).sum();
	format!(
		"{} snapshots of {whose}, from {} to {}, taken from block {} to block {}, {} in all,",
		snapshots.len(),
		first.sequence,
		last.sequence,
		first.taken_at,
		last.taken_at,
		words::bytes(logical)
	)
}

fn calls(request: u64, snapshots: &[Snapshot]) -> Vec<Value> {
	let call = |snapshot: &Snapshot| {
		let fields = [("request_id", request), ("sequence", snapshot.sequence)];
		let fields = fields.map(|(name, number)| (name, Value::u128(number.into())));
		Value::unnamed_variant("Backup", [Value::named_variant("delete_snapshot", fields)])
	};
	snapshots.iter().map(call).collect()
}

fn undo(request: u64, snapshots: &[Snapshot]) -> String {
	match snapshots {
		[] => format!("'backup keep {request}' takes it back"),
		[one] => format!("'backup keep {request} {}' takes it back", one.sequence),
		_ => format!("'backup keep {request} SEQUENCE' takes it back for each of them"),
	}
}
