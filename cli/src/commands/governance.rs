//! `backup governance`: motions of the chain's council about backups: propose, vote, close.
//!
//! A motion is a call that is carried out when enough members said aye and somebody closes it.

use crate::{
	args::{Global, Governance, Motion},
	chain::{
		AtBlock, Chain,
		council::{self, COUNCIL},
		records::to_json,
		submit::Included,
	},
	commands::{keeping::deletion_target, session::Session},
	error::CliError,
	output::{Output, Table},
	progress::Bar,
	secret::parse_account,
	words,
};
use serde_json::json;
use subxt::{
	dynamic::Value,
	ext::scale_decode::{self, DecodeAsType},
};

/// More than any of these motions has, encoded. It counts for the fee alone.
const MOTION_BYTES_MAX: u32 = 4096;

/// More than any of these motions takes: ten milliseconds and as much proof as a large call.
const MOTION_REF_TIME: u128 = 10_000_000_000;
const MOTION_PROOF_BYTES: u128 = 262_144;

pub(crate) async fn run(verb: Governance, global: &Global, output: Output) -> Result<(), CliError> {
	match verb {
		Governance::Propose { motion, threshold } => {
			propose(&motion, threshold, global, output).await
		}
		Governance::Motions => motions(global, output).await,
		Governance::Vote { motion, aye, nay: _ } => vote(motion, aye, global, output).await,
		Governance::Close { motion } => close(motion, global, output).await,
	}
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct Proposed {
	proposal_index: u32,
}

async fn propose(
	motion: &Motion,
	threshold: Option<u32>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = match motion {
		// With a council of one there is no vote to think it over.
		Motion::Deregister { id, yes } => {
			let will = format!(
				"If the council approves, node {id} is taken off the chain, and its id is never given again."
			);
			Session::begin_after_asking(global, *yes, &will, "deregister").await?
		}
		Motion::Pause
		| Motion::Resume
		| Motion::Cadence { .. }
		| Motion::Admit { .. }
		| Motion::Dismiss { .. }
		| Motion::Hold { .. }
		| Motion::Release { .. }
		| Motion::Keep { .. }
		| Motion::Price { .. }
		| Motion::Set { .. } => Session::begin(global).await?,
	};
	let at = session.chain.best().await?;
	// More than half, which is what the reference runtime asks for.
	let members = council::members(&at).await?;
	let threshold = threshold.unwrap_or(members / 2 + 1);
	let call = call(motion, &at).await?;
	let arguments = vec![Value::u128(threshold.into()), call, Value::u128(MOTION_BYTES_MAX.into())];
	let included = session.submit(COUNCIL, "propose", arguments).await?;
	// With a threshold of one it is carried out at once, and there is nothing to vote on.
	let index = included.event::<Proposed>(COUNCIL, "Proposed").ok();
	let index = index.map(|proposed| proposed.proposal_index);
	let value = json!({
		"motion": index,
		"threshold": threshold,
		"members": members,
		"transaction": included.report,
	});
	if index.is_none() {
		ensure_carried_out(&session.chain, &included, "Executed").await?;
	}
	output.answer(&value, || match index {
		Some(index) => format!(
			"motion {index} is proposed and needs {threshold} of {members} members; its proposer \
			 votes too: 'backup governance vote {index} --aye'"
		),
		None => "the motion is carried out: one member is enough".into(),
	})
}

/// The call that a motion makes.
async fn call(motion: &Motion, at: &AtBlock) -> Result<Value, CliError> {
	let call = |pallet: &str, call: &str, fields: Vec<(&str, Value)>| {
		let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
		Value::unnamed_variant(pallet, [Value::named_variant(call, fields)])
	};
	let backup = |name: &str, fields| call("Backup", name, fields);
	let number = |number: u64| Value::u128(number.into());
	let node = |id: u32| vec![("node_id", number(id.into()))];
	let snapshot =
		|request, sequence| vec![("request_id", number(request)), ("sequence", number(sequence))];
	Ok(match motion {
		Motion::Pause => backup("set_paused", vec![("paused", Value::bool(true))]),
		Motion::Resume => backup("set_paused", vec![("paused", Value::bool(false))]),
		Motion::Cadence { blocks } => backup(
			"set_backup_offchain_worker_frequency",
			vec![("new_frequency", number((*blocks).into()))],
		),
		Motion::Admit { id } => backup("admit_storage_node", node(*id)),
		Motion::Dismiss { id } => backup("dismiss_storage_node", node(*id)),
		Motion::Deregister { id, yes: _ } => call("Compute", "deregister_node", node(*id)),
		Motion::Hold { request, sequence } => {
			backup("hold_snapshot", snapshot(*request, *sequence))
		}
		Motion::Release { request, sequence } => {
			backup("release_snapshot", snapshot(*request, *sequence))
		}
		Motion::Keep { request, sequence, account } => {
			let account = account.as_deref().map(parse_account).transpose()?;
			let target = deletion_target(*request, *sequence, account.map(|account| account.0));
			backup("cancel_deletion", vec![("target", target)])
		}
		Motion::Price { amount } => {
			call("Marketplace", "set_price", vec![("price", Value::u128(*amount))])
		}
		Motion::Set { settings } => {
			let settings = council::changed_settings(at, settings).await?;
			backup("set_settings", vec![("settings", settings)])
		}
	})
}

async fn motions(global: &Global, output: Output) -> Result<(), CliError> {
	let bar = Bar::waiting(output, "the chain");
	let at = Chain::connect(global).await?.best().await?;
	let motions = council::motions(&at).await?;
	let shown = motions.iter().map(|motion| {
		json!({
			"motion": motion.votes.index,
			"hash": motion.hash_text(),
			"threshold": motion.votes.threshold,
			"ayes": motion.votes.ayes.iter().map(ToString::to_string).collect::<Vec<_>>(),
			"nays": motion.votes.nays.iter().map(ToString::to_string).collect::<Vec<_>>(),
			"ends_at": motion.votes.end,
			"call": to_json(&motion.call),
		})
	});
	let shown: Vec<_> = shown.collect();
	let answer = json!({ "block": at.block_number(), "motions": shown });
	drop(bar);
	output.answer(&answer, || {
		if motions.is_empty() {
			return "no motions".into();
		}
		let mut table = Table::new(&["motion", "ayes", "nays", "needs", "ends at", "call"]);
		for motion in &motions {
			table.row([
				motion.votes.index.to_string(),
				motion.votes.ayes.len().to_string(),
				motion.votes.nays.len().to_string(),
				motion.votes.threshold.to_string(),
				motion.votes.end.to_string(),
				words::escape(to_json(&motion.call).to_string().as_bytes()),
			]);
		}
		table.render()
	})
}

async fn vote(index: u32, aye: bool, global: &Global, output: Output) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let motion = council::motion(&session.chain.best().await?, index).await?;
	let arguments =
		vec![Value::from_bytes(motion.hash), Value::u128(index.into()), Value::bool(aye)];
	let report = session.submit(COUNCIL, "vote", arguments).await?.report;
	let word = if aye { "aye" } else { "nay" };
	output.answer(&report, || {
		format!(
			"the vote on motion {index} is {word}; with enough, 'backup governance close {index}'"
		)
	})
}

async fn close(index: u32, global: &Global, output: Output) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let motion = council::motion(&session.chain.best().await?, index).await?;
	let weight = Value::named_composite([
		("ref_time", Value::u128(MOTION_REF_TIME)),
		("proof_size", Value::u128(MOTION_PROOF_BYTES)),
	]);
	let bytes = Value::u128(MOTION_BYTES_MAX.into());
	let arguments = vec![Value::from_bytes(motion.hash), Value::u128(index.into()), weight, bytes];
	let included = session.submit(COUNCIL, "close", arguments).await?;
	let is_approved = included.report.has(COUNCIL, "Approved");
	if is_approved {
		ensure_carried_out(&session.chain, &included, "Executed").await?;
	}
	let value = json!({
		"motion": index,
		"state": if is_approved { "executed" } else { "disapproved" },
		"transaction": included.report,
	});
	output.answer(&value, || match is_approved {
		true => format!("motion {index} is approved and carried out"),
		false => format!("motion {index} is turned down"),
	})
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct Executed {
	result: Value,
}

/// A motion can be approved and its call refused all the same.
async fn ensure_carried_out(
	chain: &Chain,
	included: &Included,
	event: &'static str,
) -> Result<(), CliError> {
	let executed: Executed = included.event(COUNCIL, event)?;
	let result = to_json(&executed.result);
	let Some(error) = result.get("Err") else { return Ok(()) };
	let at = chain.best().await?;
	let index = |value: &serde_json::Value| u8::try_from(value.as_u64()?).ok();
	// An error is the number of its pallet and four bytes, of which the first is its own.
	let module = &error[0]["Module"][0];
	let name =
		index(&module["index"]).zip(index(&module["error"][0])).and_then(|(pallet, error)| {
			let pallet = at.metadata_ref().pallet_by_error_index(pallet)?;
			let variant = pallet.error_variant_by_index(error)?;
			Some((format!("{}::{}", pallet.name(), variant.name), variant.docs.join(" ")))
		});
	let (error, docs) =
		name.unwrap_or_else(|| (words::escape(error.to_string().as_bytes()), String::new()));
	let docs = docs.trim().trim_end_matches('.');
	Err(CliError::MotionFailed { error, docs: docs.to_owned() })
}
