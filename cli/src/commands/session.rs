//! What a signed verb works with: the key, the chain, and the machine that is meant.

use crate::{
	args::{Global, Machine},
	chain::{Chain, histories, machines, records::Snapshot, submit::Included},
	commands::confirm::confirm,
	error::CliError,
	output::Output,
	progress::Bar,
	secret, words,
};
use subxt::{ext::scale_encode::EncodeAsFields, utils::AccountId32};
use subxt_signer::sr25519::Keypair;

/// What a person knows a snapshot by, where the time of its block is known or not.
pub(super) fn facts(snapshot: &Snapshot, taken_ms: Option<i64>) -> String {
	let Snapshot { taken_at, logical_bytes, .. } = snapshot;
	let time = taken_ms.map(|ms| format!(", {} UTC", words::time(ms.div_euclid(1_000))));
	let bytes = words::bytes(*logical_bytes);
	format!("{bytes}, taken at block {taken_at}{}", time.unwrap_or_default())
}

/// A key, and a connection to the chain.
pub(super) struct Session {
	signer: Keypair,
	pub(super) chain: Chain,
}

impl Session {
	/// Find the key, then the chain: who cannot sign need not wait for a node.
	pub(super) async fn begin(global: &Global) -> Result<Self, CliError> {
		Self::of(secret::signer(global).await?, global).await
	}

	/// The same with a key that was found before.
	pub(super) async fn of(signer: Keypair, global: &Global) -> Result<Self, CliError> {
		let bar = Bar::waiting(Output::new(global.json), "the chain");
		let chain = Chain::connect(global).await?;
		drop(bar);
		Ok(Self { signer, chain })
	}

	/// The same once the person at the terminal has said yes to what will happen, unless that was
	/// said on the command line. Who cannot sign is told before being asked.
	pub(super) async fn begin_after_asking(
		global: &Global,
		yes: bool,
		will: &str,
		word: &str,
	) -> Result<Self, CliError> {
		let signer = secret::signer(global).await?;
		if !yes {
			confirm(will, word).await?;
		}
		Self::of(signer, global).await
	}

	/// The account of the key.
	pub(super) fn account(&self) -> AccountId32 {
		AccountId32(self.signer.public_key().0)
	}

	/// The request of a machine, which belongs to the key's account if it is named.
	pub(super) async fn request(&self, machine: &Machine) -> Result<u64, CliError> {
		match machine {
			Machine::Request(request) => Ok(*request),
			Machine::Name(name) => {
				// The chain may have many.
				let _bar = Bar::waiting(self.chain.output, "the list of machines");
				machines::request_of(&self.chain.best().await?, name, &self.account()).await
			}
		}
	}

	/// A snapshot of a request. Of one that is not there it is told before anything is paid for.
	pub(super) async fn snapshot(&self, request: u64, sequence: u64) -> Result<Snapshot, CliError> {
		let _bar = Bar::waiting(self.chain.output, "the list of snapshots");
		histories::snapshot(&self.chain.best().await?, request, sequence).await
	}

	/// What a person knows a snapshot by: how large it is, and when it was taken.
	pub(super) async fn facts(&self, snapshot: &Snapshot) -> Result<String, CliError> {
		let at = self.chain.best().await?;
		// A node may have forgotten when the block was made.
		let taken_ms = self.chain.time_of(&at, snapshot.taken_at).await?;
		Ok(facts(snapshot, taken_ms))
	}

	/// Sign and send one call.
	pub(super) async fn submit(
		&self,
		pallet: &str,
		call: &str,
		arguments: impl EncodeAsFields,
	) -> Result<Included, CliError> {
		self.chain.submit(&self.signer, pallet, call, arguments).await
	}

	/// Sign and send one call of the backup pallet, of which only the outcome is told.
	pub(super) async fn carry_out(
		&self,
		output: Output,
		call: &str,
		arguments: impl EncodeAsFields,
		done: &str,
	) -> Result<(), CliError> {
		let report = self.submit("Backup", call, arguments).await?.report;
		output.answer(&report, || format!("{done} (block {})", report.block))
	}
}
