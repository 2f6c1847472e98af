//! Writes 4 KiB to a file and syncs it, again and again for some seconds, and prints how long that
//! took: the median, what 99 of 100 stay below, and the longest, in microseconds, then how often.
//!
//! Built by itself, without crates, for the guest.

use std::{
	env,
	error::Error,
	fs::OpenOptions,
	os::unix::fs::FileExt,
	time::{Duration, Instant},
};

/// The file is overwritten in turn, so that it does not grow.
const PLACES: u64 = 256;

fn main() -> Result<(), Box<dyn Error>> {
	let mut arguments = env::args().skip(1);
	let path = arguments.next().ok_or("say which file")?;
	let seconds = arguments.next().ok_or("say how many seconds")?.parse()?;
	let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
	let end = Instant::now() + Duration::from_secs(seconds);
	let mut took = Vec::new();
	let mut block = [0; 4096];
	while Instant::now() < end {
		let number = took.len() as u64;
		block[..8].copy_from_slice(&number.to_le_bytes());
		let begin = Instant::now();
		file.write_all_at(&block, number % PLACES * block.len() as u64)?;
		file.sync_all()?;
		took.push(begin.elapsed().as_micros());
	}
	took.sort_unstable();
	let last = took.len().checked_sub(1).ok_or("there was no time")?;
	println!("{} {} {} {}", took[last / 2], took[last * 99 / 100], took[last], took.len());
	Ok(())
}
