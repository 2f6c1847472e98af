//! Snapshots give way to everybody else, guests above all.

use std::process::Command;

/// Of processor time, the last.
const NICE: i32 = 19;

/// Have this thread, and those that it starts, come last: for the processor, and for disks whose
/// scheduler knows priorities. What the system does not allow is left out.
pub(super) fn give_way() {
	if let Err(error) = rustix::process::setpriority_process(None, NICE) {
		tracing::debug!(%error, "the job runs at the priority of all others");
	}
	let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
	// There is no safe call for it. The program is of the same package as `setpriv`.
	let idle = Command::new("ionice").args(["--class", "idle", "--pid", &thread]).output();
	match idle {
		Ok(output) if output.status.success() => (),
		Ok(output) => {
			let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
			tracing::debug!(words, "the job's disk access has the priority of all others");
		}
		Err(error) => {
			tracing::debug!(%error, "the job's disk access has the priority of all others");
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::thread;

	#[test]
	fn threads_that_a_job_starts_come_last_too_and_others_do_not() {
		let class = || {
			let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
			let output = Command::new("ionice").args(["--pid", &thread]).output().unwrap();
			String::from_utf8(output.stdout).unwrap().trim().to_owned()
		};
		let before = class();
		let child = thread::spawn(move || {
			give_way();
			thread::spawn(class).join().unwrap()
		});
		assert_eq!(child.join().unwrap(), "idle");
		assert_eq!(class(), before);
		assert_ne!(before, "idle");
	}
}
