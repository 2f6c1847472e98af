//! Signed transactions: sent, followed into a block, and their outcome in names.

use super::Chain;
use super::records::to_json;
use crate::{error::CliError, progress::Bar};
use serde::Serialize;
use subxt::{
	PolkadotConfig,
	client::OnlineClientAtBlockImpl,
	config::DefaultExtrinsicParamsBuilder,
	dynamic::{self, Value},
	error::{DispatchError, TransactionEventsError},
	ext::{scale_decode::DecodeAsFields, scale_encode::EncodeAsFields},
	extrinsics::ExtrinsicEvents,
	transactions::{TransactionInBlock, TransactionProgress, TransactionStatus},
};
use subxt_signer::sr25519::Keypair;

/// How many blocks before the newest one a transaction is born. The pool of a node that has just told of a
/// block may not have come to it yet, and takes what is born there for a forgery.
const BORN_BEFORE_BLOCKS: u64 = 8;

/// For how many blocks from then on it can get into one.
const LIFE_BLOCKS: u64 = 64;

type Online = OnlineClientAtBlockImpl<PolkadotConfig>;

/// A transaction that is in a block and succeeded.
#[derive(Debug)]
pub(crate) struct Included {
	pub(crate) report: Transaction,
	events: ExtrinsicEvents<PolkadotConfig>,
}

/// What is shown of a transaction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Transaction {
	pub(crate) extrinsic_hash: String,
	pub(crate) block: u64,
	pub(crate) block_hash: String,
	pub(crate) finalized: bool,
	pub(crate) events: Vec<Event>,
}

/// An event that a transaction caused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
	pub(crate) pallet: String,
	pub(crate) event: String,
	pub(crate) fields: serde_json::Value,
}

impl Transaction {
	/// Whether it caused an event.
	pub(crate) fn has(&self, pallet: &str, name: &str) -> bool {
		self.events.iter().any(|event| event.pallet == pallet && event.event == name)
	}
}

impl Event {
	pub(crate) fn read(event: &subxt::events::Event<'_, PolkadotConfig>) -> Result<Self, CliError> {
		let fields = event
			.decode_fields_unchecked_as::<subxt::ext::scale_value::Composite<()>>()
			.map_err(subxt::Error::from)?;
		Ok(Self {
			pallet: event.pallet_name().to_owned(),
			event: event.event_name().to_owned(),
			fields: to_json(&Value { value: fields.into(), context: () }),
		})
	}
}

impl Included {
	/// The fields of the event with this name.
	pub(crate) fn event<E: DecodeAsFields>(
		&self,
		pallet: &str,
		name: &'static str,
	) -> Result<E, CliError> {
		for event in self.events.iter() {
			let event = event.map_err(subxt::Error::from)?;
			if event.pallet_name() == pallet && event.event_name() == name {
				return Ok(event.decode_fields_unchecked_as().map_err(subxt::Error::from)?);
			}
		}
		Err(CliError::EventMissing { event: name })
	}
}

impl Chain {
	/// Sign a call, send it, and wait until it is in a best block, or final if the caller
	/// asked for that.
	pub(crate) async fn submit(
		&self,
		signer: &Keypair,
		pallet: &str,
		call: &str,
		arguments: impl EncodeAsFields,
	) -> Result<Included, CliError> {
		let _bar = Bar::waiting(self.output, "a block");
		let at = self.best().await?;
		let born_at = at.block_number().saturating_sub(BORN_BEFORE_BLOCKS);
		let born = self.rpc.chain_get_block_hash(Some(born_at.into())).await;
		let born = born.map_err(subxt::Error::from)?;
		let born = born.ok_or_else(|| CliError::ChainLacks { what: format!("block {born_at}") })?;
		let life = DefaultExtrinsicParamsBuilder::new()
			.mortal_from_unchecked(LIFE_BLOCKS, born_at, born)
			.build();
		let call = dynamic::transaction(pallet, call, arguments);
		let progress = at
			.transactions()
			.sign_and_submit_then_watch(&call, signer, life)
			.await
			.map_err(|error| CliError::NotAccepted { reason: error.to_string() })?;
		let included = self.follow(progress).await?;
		let events = included.wait_for_success().await.map_err(refusal)?;
		let at = included.at().await.map_err(subxt::Error::from)?;
		let report = Transaction {
			extrinsic_hash: format!("{:?}", included.extrinsic_hash()),
			block: at.block_number(),
			block_hash: format!("{:?}", included.block_hash()),
			finalized: self.wait_for_finality,
			events: shown(&events)?,
		};
		Ok(Included { report, events })
	}

	async fn follow(
		&self,
		mut progress: TransactionProgress<PolkadotConfig, Online>,
	) -> Result<TransactionInBlock<PolkadotConfig, Online>, CliError> {
		while let Some(status) = progress.next().await {
			match status.map_err(subxt::Error::from)? {
				TransactionStatus::InFinalizedBlock(included) => return Ok(included),
				TransactionStatus::InBestBlock(included) if !self.wait_for_finality => {
					return Ok(included);
				}
				TransactionStatus::Validated
				| TransactionStatus::Broadcasted
				| TransactionStatus::NoLongerInBestBlock
				| TransactionStatus::InBestBlock(_) => (),
				TransactionStatus::Error { message }
				| TransactionStatus::Invalid { message }
				| TransactionStatus::Dropped { message } => {
					return Err(CliError::NotAccepted { reason: message });
				}
			}
		}
		Err(CliError::SentAndLost)
	}
}

/// The events of a transaction, without those of fees and weights that nobody asked for.
fn shown(events: &ExtrinsicEvents<PolkadotConfig>) -> Result<Vec<Event>, CliError> {
	let mut list = Vec::new();
	for event in events.iter() {
		let event = event.map_err(subxt::Error::from)?;
		if matches!(event.pallet_name(), "System" | "TransactionPayment" | "Balances") {
			continue;
		}
		list.push(Event::read(&event)?);
	}
	Ok(list)
}

/// The name of what the chain's rules forbid, with the words of its documentation.
fn refusal(error: TransactionEventsError) -> CliError {
	match error {
		TransactionEventsError::ExtrinsicFailed(DispatchError::Module(module)) => {
			let docs = module.details().map(|details| details.variant.docs.join(" "));
			CliError::Dispatch {
				error: module.details_string(),
				docs: docs.unwrap_or_default().trim().trim_end_matches('.').to_owned(),
			}
		}
		TransactionEventsError::ExtrinsicFailed(DispatchError::BadOrigin) => {
			CliError::Dispatch { error: "BadOrigin".into(), docs: String::new() }
		}
		TransactionEventsError::ExtrinsicFailed(other) => {
			CliError::Dispatch { error: other.to_string(), docs: String::new() }
		}
		other => subxt::Error::from(other).into(),
	}
}
