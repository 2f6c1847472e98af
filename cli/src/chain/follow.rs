//! Following the chain over a node that ends a subscription, or is away for a while.

use super::Chain;
use crate::{args::Global, error::CliError};
use std::time::{Duration, Instant};
use subxt::{PolkadotConfig, client::Blocks};

/// Longest wait for a block before it is looked all the same: a subscription may end unheard.
const LOOK_INTERVAL: Duration = Duration::from_secs(6);

/// For how long a node may be away before its error counts.
const AWAY_TIME_MAX: Duration = Duration::from_secs(60);

/// Time between two attempts to reach it again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A connection that is made anew when it breaks.
pub(crate) struct Follower<'a> {
	global: &'a Global,
	chain: Chain,
	blocks: Option<Blocks<PolkadotConfig>>,
	away_since: Option<Instant>,
}

impl<'a> Follower<'a> {
	/// Go on with a connection that stands.
	pub(crate) fn new(chain: Chain, global: &'a Global) -> Self {
		Self { global, chain, blocks: None, away_since: None }
	}

	pub(crate) fn chain(&self) -> &Chain {
		&self.chain
	}

	/// The chain was looked at: wait until there may be more to see.
	pub(crate) async fn wait(&mut self) {
		self.away_since = None;
		// Whatever is wrong with it shows when the chain is looked at.
		let _ = tokio::time::timeout(LOOK_INTERVAL, self.next_block()).await;
	}

	async fn next_block(&mut self) {
		if self.blocks.is_none() {
			self.blocks = self.chain.client.stream_best_blocks().await.ok();
		}
		let next = match &mut self.blocks {
			Some(blocks) => blocks.next().await,
			None => None,
		};
		if !matches!(next, Some(Ok(_))) {
			self.blocks = None;
			tokio::time::sleep(RETRY_INTERVAL).await;
		}
	}

	/// The chain could not be looked at: reach the node again. Gives the error back if that is of
	/// another kind, or the node is away for too long.
	pub(crate) async fn recover(&mut self, error: CliError) -> Result<(), CliError> {
		let since = *self.away_since.get_or_insert_with(Instant::now);
		let is_away = matches!(error, CliError::Chain { .. } | CliError::NodeUnreachable { .. });
		if !is_away || since.elapsed() > AWAY_TIME_MAX {
			return Err(error);
		}
		tokio::time::sleep(RETRY_INTERVAL).await;
		self.blocks = None;
		// If it is not there yet, the next look says so.
		if let Ok(Ok(chain)) =
			tokio::time::timeout(LOOK_INTERVAL, Chain::connect(self.global)).await
		{
			self.chain = chain;
		}
		Ok(())
	}
}
