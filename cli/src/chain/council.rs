//! The chain's council: its members, its motions, and the settings that they are about.

use super::{AtBlock, reads::value_at};
use crate::error::CliError;
use backup_agent::nearest::nearest;
use subxt::{
	dynamic::{self, Value},
	ext::{
		scale_decode::DecodeAsType,
		scale_value::{Composite, ValueDef},
	},
	utils::AccountId32,
};

/// The pallet, under the name that the reference runtime gives it.
pub(crate) const COUNCIL: &str = "Council";

/// Most motions that are read. A council has far fewer at once.
const MOTIONS_MAX: usize = 1_000;

/// Who said what, as the collective pallet keeps it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct Votes {
	pub(crate) index: u32,
	pub(crate) threshold: u32,
	pub(crate) ayes: Vec<AccountId32>,
	pub(crate) nays: Vec<AccountId32>,
	pub(crate) end: u64,
}

/// A motion that is open.
#[derive(Debug)]
pub(crate) struct Motion {
	pub(crate) hash: [u8; 32],
	pub(crate) votes: Votes,
	pub(crate) call: Value,
}

impl Motion {
	pub(crate) fn hash_text(&self) -> String {
		format!("0x{}", hex::encode(self.hash))
	}
}

/// How many members there are.
pub(crate) async fn members(at: &AtBlock) -> Result<u32, CliError> {
	if at.metadata_ref().pallet_by_name(COUNCIL).is_none() {
		return Err(CliError::ChainLacks { what: format!("pallet {COUNCIL}") });
	}
	let members: Option<Vec<AccountId32>> = value_at(at, COUNCIL, "Members", ()).await?;
	Ok(members.map_or(0, |members| u32::try_from(members.len()).unwrap_or(u32::MAX)))
}

/// The motions that are open, by their numbers.
pub(crate) async fn motions(at: &AtBlock) -> Result<Vec<Motion>, CliError> {
	members(at).await?;
	let hashes: Option<Vec<[u8; 32]>> = value_at(at, COUNCIL, "Proposals", ()).await?;
	let mut motions = Vec::new();
	for hash in hashes.unwrap_or_default().into_iter().take(MOTIONS_MAX) {
		let votes: Option<Votes> = value_at(at, COUNCIL, "Voting", (hash,)).await?;
		let call: Option<Value> = value_at(at, COUNCIL, "ProposalOf", (hash,)).await?;
		if let Some((votes, call)) = votes.zip(call) {
			motions.push(Motion { hash, votes, call });
		}
	}
	motions.sort_by_key(|motion| motion.votes.index);
	Ok(motions)
}

/// The open motion of a number.
pub(crate) async fn motion(at: &AtBlock, index: u32) -> Result<Motion, CliError> {
	let found = motions(at).await?.into_iter().find(|motion| motion.votes.index == index);
	found.ok_or(CliError::NoMotion { index })
}

/// The chain's settings with some of them changed, each by its name.
pub(crate) async fn changed_settings(
	at: &AtBlock,
	changes: &[(String, u64)],
) -> Result<Value, CliError> {
	let settings: Option<Value> = value_at(at, "Backup", "Settings", ()).await?;
	let lacks = || CliError::ChainLacks { what: "settings of backups".into() };
	let mut settings = settings.ok_or_else(lacks)?;
	let ValueDef::Composite(Composite::Named(fields)) = &mut settings.value else {
		return Err(lacks());
	};
	for (name, number) in changes {
		match fields.iter_mut().find(|(field, _)| field == name) {
			Some((_, value)) => *value = dynamic::Value::u128((*number).into()),
			None => {
				let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
				return Err(CliError::NoSetting {
					name: name.clone(),
					nearest: nearest(name, &names).map(str::to_owned),
					names: names.join(", "),
				});
			}
		}
	}
	Ok(settings)
}
