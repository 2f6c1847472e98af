//! What a process needs of memory.

use std::fs;

/// The most MiB that a process had so far, by its id or as `self`.
pub(crate) fn peak_mib(process: &str) -> u64 {
	let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
	let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
	let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
	kib.unwrap_or(0) / 1024
}
