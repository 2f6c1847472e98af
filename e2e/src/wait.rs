//! Waiting: look again until it is so, or until a deadline that says what was missing.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Time between two looks.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Look until `look` finds something. `what` completes "waited in vain for …".
pub fn until<T>(
	what: &str,
	deadline: Duration,
	mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
	let end = Instant::now() + deadline;
	loop {
		if let Some(found) = look()? {
			return Ok(found);
		}
		if Instant::now() >= end {
			bail!("waited {} s in vain for {what}", deadline.as_secs());
		}
		std::thread::sleep(LOOK_INTERVAL);
	}
}

/// The same, for looks that take a round trip.
pub async fn until_async<T, Look, Fut>(what: &str, deadline: Duration, mut look: Look) -> Result<T>
where
	Look: FnMut() -> Fut,
	Fut: Future<Output = Result<Option<T>>>,
{
	let end = Instant::now() + deadline;
	loop {
		if let Some(found) = look().await? {
			return Ok(found);
		}
		if Instant::now() >= end {
			bail!("waited {} s in vain for {what}", deadline.as_secs());
		}
		tokio::time::sleep(LOOK_INTERVAL).await;
	}
}
