//! The operator's commands, speaking to the agent that runs.

use crate::{config::Config, jobs::now_ms, secret::SharedSecret};
use anyhow::{Context, Result, anyhow, bail};
use backup_primitives::auth::{Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER, request_mac};
use reqwest::{Client, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::{path::PathBuf, time::Duration};

/// How long a running agent may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long it may take to do something. It may have to wait for a machine.
const ORDER_TIME_MAX: Duration = Duration::from_secs(180);

/// Knows where the agent is, and what it shares with it.
pub(crate) struct AgentClient {
	client: Client,
	url: String,
	secret_file: PathBuf,
}

impl AgentClient {
	pub(crate) fn new(config: &Config) -> Result<Self> {
		Ok(Self {
			client: Client::builder().timeout(ANSWER_TIME_MAX).no_proxy().build()?,
			url: format!("http://{}", config.listen),
			secret_file: config.secret_file.clone(),
		})
	}

	/// A view of the agent's.
	pub(crate) async fn view<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
		let answer = self.client.get(format!("{}{path}", self.url)).send().await;
		let answer = answer.with_context(|| self.unreachable())?.error_for_status()?;
		Ok(answer.json().await?)
	}

	/// Have the agent do something, and prove that the caller can read its secret.
	pub(crate) async fn order<T: DeserializeOwned>(
		&self,
		path: &str,
		order: &impl Serialize,
	) -> Result<T> {
		let secret = SharedSecret::load(&self.secret_file)?;
		let body = serde_json::to_vec(order)?;
		let mut nonce = [0; 16];
		aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow!("the system has no randomness"))?;
		let freshness = Freshness { nonce, time_ms: now_ms() };
		let mac = request_mac(secret.expose(), &freshness, &body);
		let call = self
			.client
			.post(format!("{}{path}", self.url))
			.header(NONCE_HEADER, hex::encode(nonce))
			.header(TIME_HEADER, freshness.time_ms.to_string())
			.header(MAC_HEADER, hex::encode(mac))
			.timeout(ORDER_TIME_MAX)
			.body(body);
		let answer = call.send().await.with_context(|| self.unreachable())?;
		match answer.status() {
			status if status.is_success() => Ok(answer.json().await?),
			StatusCode::UNAUTHORIZED => {
				bail!(
					"the agent refused: its secret is another than {}",
					self.secret_file.display()
				)
			}
			status => bail!("the agent refused ({status}): {}", answer.text().await?),
		}
	}

	fn unreachable(&self) -> String {
		format!("no agent answers at {}; does it run?", self.url)
	}
}
