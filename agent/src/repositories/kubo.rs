//! A Kubo daemon, spoken to over its RPC.
//!
//! Kubo is no [`Repository`](super::Repository) of ours: it keeps nodes without their children, and
//! says yes to a pin in ways that are none. So this offers what a replica is made of, and checks
//! each answer for what Kubo is known to hide:
//! 1. A pin that failed is a success by its status; the reason stands in `PinErrorMsg`.
//! 2. What fails in the middle of an answer stands in the trailer `X-Stream-Error`, or the answer
//!    breaks off.
//! 3. An import says how many blocks it took, which must be as many as were sent.
//! 4. A block that is missing makes a daemon search the network without an end. Blocks are looked
//!    for with `offline=true`, which pins do not heed: every request carries a `timeout` beside our
//!    own, and a pin that stands still is given up.
//! 5. Blocks that are not pinned may be collected at any time. Those of a [`Batch`] are pinned by
//!    the import itself, see there.
//! 6. A block that is believed to be there is not written again, however bad it is; and it is not
//!    removed while a pin needs it. How one is replaced all the same, see [`Kubo::replace`].
//!
//! Redirects and proxies are not followed, every answer has a largest size and a longest time, and
//! what a daemon says is shown without control characters and shortened.
//! See <https://docs.ipfs.tech/reference/kubo/rpc/>. All calls block, and none may be made by
//! asynchronous code.

mod answer;
mod batch;
#[cfg(test)]
mod tests;

pub use batch::Batch;

use crate::{
	format::{BLOCK_BYTES_MAX, digest},
	repositories::{BlockSource, RepositoryError},
	secret::KuboToken,
};
use answer::{Limits, Said};
use backup_primitives::{Cid, cid::BlockCodec};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde::Deserialize;
use std::{fmt, time::Duration};
use tokio::runtime::Handle;

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a look-up or one block may take.
const LOOK_UP_TIME_MAX: Duration = Duration::from_secs(30);

/// How long the list of pins may take. A daemon may have millions that are not ours.
const LIST_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a daemon may take for what differs between two roots. Where that is much, or something
/// is missing, all below the new root has to be walked, which shows how far it is.
const UPDATE_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a pin may stand still that walks all below a root, which may take hours.
const PIN_SILENCE_MAX: Duration = Duration::from_secs(120);

/// The longest that it may take all the same.
const PIN_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long after it was asked a daemon may be at an import at most, though nobody waits for it any
/// more: it was told to give up before.
pub const IMPORT_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a daemon may take to remove a block: it walks all its pins before, to see if one needs it.
const REMOVE_TIME_MAX: Duration = Duration::from_secs(120);

/// Blocks that are asked for at once.
const AT_ONCE: usize = 16;

/// What a daemon says of a block that it hashes when it is read, and finds damaged.
const OTHER_HASH: &str = "different hash than requested";

/// Most bytes of the name of a pin that Kubo takes.
pub const PIN_NAME_BYTES_MAX: usize = 255;

/// Most pins that are looked at, whoever's they are, by the bytes of their list. None is kept here.
const LIST_BYTES_MAX: u64 = 1 << 30;

/// Why a daemon was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KuboError {
	/// It could not be reached, or the connection broke.
	#[error("it cannot be reached: {0}")]
	Unreachable(String),
	/// It wants another token, or one at all.
	#[error(
		"it does not let us in ({0}): token_file has to hold what stands in its API.Authorizations"
	)]
	Refused(u16),
	/// No RPC answers there.
	#[error("it answered with HTTP status {0}: is this the address of its RPC, port 5001?")]
	Status(u16),
	/// It said why not.
	#[error("it failed: {0}")]
	Failed(String),
	/// It lacks a block.
	#[error("it lacks blocks: {0}")]
	Missing(String),
	/// It sent something else than the block that was asked for: its bytes are damaged.
	#[error("block {cid} is damaged there")]
	Damaged {
		/// The block.
		cid: Cid,
	},
	/// It does not answer in time.
	#[error("it took too long")]
	Slow,
	/// Its answer has no end.
	#[error("its answer has more bytes than any that is right")]
	TooLong,
	/// Its answer is none that Kubo gives.
	#[error("its answer is of no use: {0}")]
	Malformed(&'static str),
	/// It took fewer blocks, or more, than were sent.
	#[error("it took {taken} blocks of {sent}")]
	Incomplete {
		/// How many it says to have taken.
		taken: u64,
		/// How many were sent.
		sent: u64,
	},
}

impl From<KuboError> for RepositoryError {
	fn from(error: KuboError) -> Self {
		match error {
			KuboError::Damaged { cid } => Self::Corrupt { cid },
			error => Self::Backend { source: Box::new(error), can_retry: true },
		}
	}
}

/// A daemon. Clones are the same.
#[derive(Clone)]
pub struct Kubo {
	client: Client,
	handle: Handle,
	url: String,
	token: Option<KuboToken>,
}

impl Kubo {
	/// The daemon whose RPC is at this address, as [`Reach::check`](crate::peers::Reach) gives it.
	///
	/// # Errors
	/// If the system's certificates cannot be read.
	pub fn new(
		url: String,
		token: Option<KuboToken>,
		handle: Handle,
	) -> Result<Self, reqwest::Error> {
		let client = Client::builder()
			.connect_timeout(CONNECT_TIME_MAX)
			.redirect(Policy::none())
			.no_proxy()
			.build()?;
		Ok(Self { client, handle, url, token })
	}

	/// Its address.
	pub fn url(&self) -> &str {
		&self.url
	}

	/// A block, checked against its CID; nothing if this daemon has not got it.
	pub fn block(&self, cid: &Cid) -> Result<Option<Vec<u8>>, KuboError> {
		self.block_within(cid, LOOK_UP_TIME_MAX)
	}

	/// The same, within a time that may be shorter than what a block may take else.
	pub fn block_within(&self, cid: &Cid, time: Duration) -> Result<Option<Vec<u8>>, KuboError> {
		let found = self.handle.block_on(async {
			let limits = Limits::within(time.min(LOOK_UP_TIME_MAX));
			let answer = self.ask("block/get", &look_up(cid, limits), None, limits).await?;
			answer::bytes(answer, BLOCK_BYTES_MAX as u64, limits).await
		});
		match absent(found) {
			Ok(Some(block)) if digest(&block) == cid.digest() => Ok(Some(block)),
			Ok(Some(_)) => Err(KuboError::Damaged { cid: *cid }),
			Ok(None) => Ok(None),
			// One with `Datastore.HashOnRead` has looked itself.
			Err(error) if is_damage(&error) => Err(KuboError::Damaged { cid: *cid }),
			Err(error) => Err(error),
		}
	}

	/// Those of these blocks that this daemon has not got. Their bytes are not looked at.
	pub fn absent(&self, cids: &[Cid]) -> Result<Vec<Cid>, KuboError> {
		let limits = Limits::within(LOOK_UP_TIME_MAX);
		let look = |cid: Cid| async move {
			let answer = self.ask("block/stat", &look_up(&cid, limits), None, limits).await;
			let said = match answer {
				Ok(answer) => answer::bytes(answer, answer::LINE_BYTES_MAX, limits).await,
				Err(error) => Err(error),
			};
			match absent(said) {
				Err(error) if is_damage(&error) => Ok(None),
				said => Ok::<_, KuboError>(said?.is_none().then_some(cid)),
			}
		};
		// With the first failure it ends: a daemon that is silent would be waited for again and again.
		let asked = stream::iter(cids.iter().copied()).map(look).buffered(AT_ONCE);
		let found: Vec<Option<Cid>> = self.handle.block_on(asked.try_collect())?;
		Ok(found.into_iter().flatten().collect())
	}

	/// Has a daemon take the blocks of a batch, and keep them until [`unpin`](Self::unpin) of the
	/// batch's root.
	pub fn import(&self, batch: Batch) -> Result<Cid, KuboError> {
		let packed = batch.pack();
		let limits = Limits::for_bytes(packed.body.len() as u64);
		let query = format!("pin-roots=true&stats=true&{}", limits.query());
		let (root, sent) = (packed.root, packed.blocks);
		let mut is_pinned = false;
		let mut taken = None;
		self.handle.block_on(async {
			let body = Some((packed.content_type, packed.body));
			let answer = self.ask("dag/import", &query, body, limits).await?;
			answer::lines(answer, answer::LINE_BYTES_MAX, limits, &mut |line| {
				let said: Imported = parse(line)?;
				if let Some(pin) = said.root {
					if !pin.error.is_empty() {
						return Err(failure(&pin.error));
					}
					is_pinned |= pin.cid.cid == root.to_string();
				}
				taken = said.stats.map(|stats| stats.blocks).or(taken);
				Ok(())
			})
			.await
		})?;
		match (is_pinned, taken) {
			(true, Some(taken)) if taken == sent => Ok(root),
			(_, Some(taken)) if taken != sent => Err(KuboError::Incomplete { taken, sent }),
			(true, _) => Err(KuboError::Malformed("it does not say how many blocks it took")),
			(false, _) => Err(KuboError::Malformed("it does not say whether the batch is pinned")),
		}
	}

	/// Hands over the root and the name of each recursive pin whose name begins so, as they come: how
	/// many there are is for the daemon to say.
	pub fn pins(&self, prefix: &str, on_pin: &mut dyn FnMut(Cid, &str)) -> Result<(), KuboError> {
		let limits = Limits::within(LIST_TIME_MAX);
		let query =
			format!("type=recursive&names=true&stream=true&name={prefix}&{}", limits.query());
		self.handle.block_on(async {
			let answer = self.ask("pin/ls", &query, None, limits).await?;
			answer::lines(answer, LIST_BYTES_MAX, limits, &mut |line| {
				let pin: Listed = parse(line)?;
				// An older daemon lists all. CIDs of other kinds are none of ours.
				if let Ok(root) = pin.cid.parse()
					&& pin.name.starts_with(prefix)
				{
					on_pin(root, &pin.name);
				}
				Ok(())
			})
			.await
		})
	}

	/// The name of a recursive pin, which may be empty; nothing if the root is not pinned.
	pub fn pin_name(&self, root: &Cid) -> Result<Option<String>, KuboError> {
		let limits = Limits::within(LOOK_UP_TIME_MAX);
		let query = format!("arg={root}&type=recursive&names=true&{}", limits.query());
		let said = self.handle.block_on(async {
			let answer = self.ask("pin/ls", &query, None, limits).await?;
			answer::bytes(answer, answer::LINE_BYTES_MAX, limits).await
		});
		let said = match said {
			Err(KuboError::Failed(words)) if words.contains("not pinned") => return Ok(None),
			said => said?,
		};
		let Keys { mut keys } = parse(&said)?;
		keys.remove(&root.to_string())
			.map(|pin| Some(pin.name))
			.ok_or(KuboError::Malformed("it does not say whether the root is pinned"))
	}

	/// Pins a root by what differs from one that is pinned, which stays so.
	pub fn pin_update(&self, from: &Cid, to: &Cid) -> Result<(), KuboError> {
		let limits = Limits::within(UPDATE_TIME_MAX);
		let query = format!("arg={from}&arg={to}&unpin=false&{}", limits.query());
		self.pin_with("pin/update", &query, to, limits)
	}

	/// Pins a root by all below it, under a name of at most [`PIN_NAME_BYTES_MAX`], which has to be
	/// made of letters that an address takes as they are.
	pub fn pin_add(&self, root: &Cid, name: &str) -> Result<(), KuboError> {
		let limits = Limits { silence: PIN_SILENCE_MAX, total: PIN_TIME_MAX };
		let query =
			format!("arg={root}&recursive=true&progress=true&name={name}&{}", limits.query());
		self.pin_with("pin/add", &query, root, limits)
	}

	fn pin_with(
		&self,
		verb: &str,
		query: &str,
		root: &Cid,
		limits: Limits,
	) -> Result<(), KuboError> {
		let mut is_pinned = false;
		let mut stall = Stall::default();
		self.handle.block_on(async {
			let answer = self.ask(verb, query, None, limits).await?;
			answer::lines(answer, LIST_BYTES_MAX, limits, &mut |line| {
				let said: Pinned = parse(line)?;
				is_pinned |= said.pins.contains(&root.to_string());
				stall.note(said.progress, limits.silence)
			})
			.await
		})?;
		match is_pinned {
			true => Ok(()),
			false => Err(KuboError::Malformed("it does not say that the root is pinned")),
		}
	}

	/// Removes a recursive pin. Says whether there was one; the blocks stay until Kubo collects.
	pub fn unpin(&self, root: &Cid) -> Result<bool, KuboError> {
		let limits = Limits::within(LOOK_UP_TIME_MAX);
		let query = format!("arg={root}&recursive=true&{}", limits.query());
		let said = self.handle.block_on(async {
			let answer = self.ask("pin/rm", &query, None, limits).await?;
			answer::bytes(answer, answer::LINE_BYTES_MAX, limits).await
		});
		match said {
			Ok(_) => Ok(true),
			Err(KuboError::Failed(words)) if words.contains("not pinned") => Ok(false),
			Err(error) => Err(error),
		}
	}

	/// Has a sound block, whose hash the caller has checked, take the place of one that is damaged
	/// there. Where this breaks off the block is missing, so the caller has it sent again.
	///
	/// Kubo guards pinned blocks by their CIDs, and keeps them by their hashes alone. So it is the
	/// other CID of the same hash that is removed, which no pin names: what goes with it is nothing
	/// but the damaged bytes. Before that, Kubo walks all its pins; if one of their nodes cannot be
	/// read, it refuses.
	pub fn replace(&self, cid: &Cid, block: &[u8]) -> Result<(), KuboError> {
		self.remove(&other_kind(cid))?;
		self.put(cid, block)
	}

	/// Removes a block that may be gone already.
	fn remove(&self, cid: &Cid) -> Result<(), KuboError> {
		let limits = Limits::within(REMOVE_TIME_MAX);
		let query = format!("arg={cid}&force=true&{}", limits.query());
		self.handle.block_on(async {
			let answer = self.ask("block/rm", &query, None, limits).await?;
			answer::lines(answer, answer::LINE_BYTES_MAX, limits, &mut |line| {
				let said: Removed = parse(line)?;
				if said.error.is_empty() { Ok(()) } else { Err(failure(&said.error)) }
			})
			.await
		})
	}

	/// Has a daemon take one block, which no pin of its own keeps.
	fn put(&self, cid: &Cid, block: &[u8]) -> Result<(), KuboError> {
		let limits = Limits::for_bytes(block.len() as u64);
		let codec = match cid.codec() {
			BlockCodec::Raw => "raw",
			BlockCodec::DagCbor => "dag-cbor",
		};
		let query = format!("cid-codec={codec}&mhtype=sha2-256&pin=false&{}", limits.query());
		let form = batch::form("data", block);
		let said = self.handle.block_on(async {
			let answer = self.ask("block/put", &query, Some(form), limits).await?;
			answer::bytes(answer, answer::LINE_BYTES_MAX, limits).await
		})?;
		let Put { key } = parse(&said)?;
		match key == cid.to_string() {
			true => Ok(()),
			false => Err(KuboError::Malformed("it took the block for another one")),
		}
	}

	async fn ask(
		&self,
		verb: &str,
		query: &str,
		body: Option<(String, Vec<u8>)>,
		limits: Limits,
	) -> Result<Response, KuboError> {
		let url = format!("{}/api/v0/{verb}?{query}", self.url);
		let mut request = self.client.post(url).timeout(limits.total);
		request = match &self.token {
			Some(token) => token.show(request),
			None => request,
		};
		if let Some((content_type, body)) = body {
			request = request.header(reqwest::header::CONTENT_TYPE, content_type).body(body);
		}
		// Until its answer begins a daemon may be as silent as later, and no longer.
		let sent = tokio::time::timeout(limits.silence, request.send()).await;
		let answer = sent.map_err(|_| KuboError::Slow)?;
		let answer = answer.map_err(|error| answer::unreachable(&error))?;
		match answer.status() {
			StatusCode::OK => Ok(answer),
			status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
				Err(KuboError::Refused(status.as_u16()))
			}
			StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_REQUEST => {
				let said = answer::bytes(answer, answer::LINE_BYTES_MAX, limits).await?;
				let Said { message } = parse(&said)?;
				Err(failure(&message))
			}
			other => Err(KuboError::Status(other.as_u16())),
		}
	}
}

impl BlockSource for Kubo {
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		Ok(self.absent(&[*cid])?.is_empty())
	}

	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		Ok(self.block(cid)?)
	}
}

impl fmt::Debug for Kubo {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Kubo").field("url", &self.url).finish_non_exhaustive()
	}
}

/// Asks for a block that the daemon itself has.
fn look_up(cid: &Cid, limits: Limits) -> String {
	format!("arg={cid}&offline=true&{}", limits.query())
}

/// The CID by which the same bytes would be something else.
fn other_kind(cid: &Cid) -> Cid {
	match cid.codec() {
		BlockCodec::Raw => Cid::dag_cbor(cid.digest()),
		BlockCodec::DagCbor => Cid::raw(cid.digest()),
	}
}

/// What a daemon's words mean.
fn failure(words: &str) -> KuboError {
	let shown = answer::shown(words);
	// As they stand in what Kubo has said over its versions.
	if words.contains("context deadline exceeded") {
		return KuboError::Slow;
	}
	let is_missing = ["could not find", "key not found", "block not found", "merkledag: not found"];
	match is_missing.iter().any(|said| words.contains(said)) {
		true => KuboError::Missing(shown),
		false => KuboError::Failed(shown),
	}
}

/// A block that is missing is no failure of a look-up.
fn absent<T>(found: Result<T, KuboError>) -> Result<Option<T>, KuboError> {
	match found {
		Ok(found) => Ok(Some(found)),
		Err(KuboError::Missing(_)) => Ok(None),
		Err(error) => Err(error),
	}
}

/// Whether a daemon that hashes what it reads has found a block damaged.
fn is_damage(error: &KuboError) -> bool {
	matches!(error, KuboError::Failed(words) if words.contains(OTHER_HASH))
}

fn parse<'a, T: Deserialize<'a>>(said: &'a [u8]) -> Result<T, KuboError> {
	serde_json::from_slice(said).map_err(|_| KuboError::Malformed("it is not what Kubo says"))
}

/// Whether a pin goes on: a daemon says how far it is even while it waits for a block.
struct Stall {
	progress: u64,
	since: std::time::Instant,
}

impl Default for Stall {
	fn default() -> Self {
		Self { progress: 0, since: std::time::Instant::now() }
	}
}

impl Stall {
	fn note(&mut self, progress: u64, silence: Duration) -> Result<(), KuboError> {
		if progress > self.progress {
			*self = Self { progress, since: std::time::Instant::now() };
		}
		if self.since.elapsed() > silence { Err(KuboError::Slow) } else { Ok(()) }
	}
}

/// A line of what `dag/import` says.
#[derive(Deserialize)]
struct Imported {
	#[serde(rename = "Root")]
	root: Option<ImportedRoot>,
	#[serde(rename = "Stats")]
	stats: Option<ImportStats>,
}

#[derive(Deserialize)]
struct ImportedRoot {
	#[serde(rename = "Cid")]
	cid: Link,
	#[serde(rename = "PinErrorMsg", default)]
	error: String,
}

#[derive(Deserialize)]
struct Link {
	#[serde(rename = "/")]
	cid: String,
}

#[derive(Deserialize)]
struct ImportStats {
	#[serde(rename = "BlockCount")]
	blocks: u64,
}

/// A line of what `pin/ls` says as a stream.
#[derive(Deserialize)]
struct Listed {
	#[serde(rename = "Cid")]
	cid: String,
	#[serde(rename = "Name", default)]
	name: String,
}

/// What it says of one root.
#[derive(Deserialize)]
struct Keys {
	#[serde(rename = "Keys")]
	keys: std::collections::HashMap<String, Named>,
}

#[derive(Deserialize)]
struct Named {
	#[serde(rename = "Name", default)]
	name: String,
}

/// A line of what `pin/add` and `pin/update` say.
#[derive(Deserialize)]
struct Pinned {
	#[serde(rename = "Pins", default)]
	pins: Vec<String>,
	#[serde(rename = "Progress", default)]
	progress: u64,
}

/// A line of what `block/rm` says.
#[derive(Deserialize)]
struct Removed {
	#[serde(rename = "Error", default)]
	error: String,
}

/// What `block/put` says.
#[derive(Deserialize)]
struct Put {
	#[serde(rename = "Key")]
	key: String,
}
