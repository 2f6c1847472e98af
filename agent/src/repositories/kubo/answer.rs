//! Answers of a daemon, read to their end: the trailer says whether it was a good one.

use super::KuboError;
use crate::{foreign::one_line, peers::causes};
use http_body_util::BodyExt;
use reqwest::{Body, Response};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Most bytes of a line, and of an answer that is one.
pub(super) const LINE_BYTES_MAX: u64 = 64 * 1024;

/// The least speed, in bytes a second.
const SPEED_MIN: u64 = 128 * 1024;

/// Beside the time for its bytes at that speed.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// Most characters of a daemon's words that are shown.
const SHOWN_CHARS_MAX: usize = 400;

/// Where a daemon says what failed after it had begun to answer.
const STREAM_ERROR: &str = "x-stream-error";

/// How a daemon says that something failed.
#[derive(Deserialize)]
pub(super) struct Said {
	#[serde(rename = "Message")]
	pub(super) message: String,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
	/// Until the next piece of its answer.
	pub(super) silence: Duration,
	/// As a whole.
	pub(super) total: Duration,
}

impl Limits {
	pub(super) fn within(time: Duration) -> Self {
		Self { silence: time, total: time }
	}

	/// For a request with so many bytes.
	pub(super) fn for_bytes(bytes: u64) -> Self {
		Self::within(REQUEST_TIME_MAX + Duration::from_secs(bytes / SPEED_MIN))
	}

	/// The same for the daemon, which would else search the network for ever.
	pub(super) fn query(&self) -> String {
		format!("timeout={}s", self.total.as_secs().max(1))
	}
}

/// All bytes of an answer.
pub(super) async fn bytes(
	answer: Response,
	bytes_max: u64,
	limits: Limits,
) -> Result<Vec<u8>, KuboError> {
	let mut bytes = Vec::new();
	frames(answer, bytes_max, limits, &mut |piece| {
		bytes.extend_from_slice(piece);
		Ok(())
	})
	.await?;
	Ok(bytes)
}

/// Each line of an answer, as it comes.
pub(super) async fn lines(
	answer: Response,
	bytes_max: u64,
	limits: Limits,
	on_line: &mut dyn FnMut(&[u8]) -> Result<(), KuboError>,
) -> Result<(), KuboError> {
	let mut rest = Vec::new();
	frames(answer, bytes_max, limits, &mut |piece| {
		for part in piece.split_inclusive(|byte| *byte == b'\n') {
			rest.extend_from_slice(part);
			if rest.len() as u64 > LINE_BYTES_MAX {
				return Err(KuboError::TooLong);
			}
			if rest.ends_with(b"\n") {
				let line = std::mem::take(&mut rest);
				if !line.trim_ascii().is_empty() {
					on_line(&line)?;
				}
			}
		}
		Ok(())
	})
	.await?;
	if rest.trim_ascii().is_empty() { Ok(()) } else { on_line(&rest) }
}

async fn frames(
	answer: Response,
	bytes_max: u64,
	limits: Limits,
	on_piece: &mut (dyn FnMut(&[u8]) -> Result<(), KuboError> + '_),
) -> Result<(), KuboError> {
	let mut body = Body::from(answer);
	let (began, mut read) = (Instant::now(), 0);
	loop {
		let left = limits.total.saturating_sub(began.elapsed()).min(limits.silence);
		let frame = tokio::time::timeout(left, body.frame()).await.map_err(|_| KuboError::Slow)?;
		let Some(frame) = frame else { return Ok(()) };
		let frame = frame.map_err(|error| unreachable(&error))?;
		if let Some(trailer) = frame.trailers_ref().and_then(|all| all.get(STREAM_ERROR)) {
			return Err(super::failure(&String::from_utf8_lossy(trailer.as_bytes())));
		}
		let Some(piece) = frame.data_ref() else { continue };
		read += piece.len() as u64;
		if read > bytes_max {
			return Err(KuboError::TooLong);
		}
		on_piece(piece)?;
	}
}

/// Why an answer did not come, without the address, which whoever reports it names.
pub(super) fn unreachable(error: &reqwest::Error) -> KuboError {
	if error.is_timeout() {
		return KuboError::Slow;
	}
	let words = causes(error);
	KuboError::Unreachable(words.map_or_else(|| "the connection broke".to_owned(), |it| shown(&it)))
}

/// A daemon's words as people may see them.
pub(super) fn shown(words: &str) -> String {
	one_line(words).chars().take(SHOWN_CHARS_MAX).collect()
}
