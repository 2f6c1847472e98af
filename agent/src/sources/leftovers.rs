//! Machines that did not let go of a backup: tried again until they did.
//!
//! A guest may stand still, or a filter may lie over its disk, because QEMU did not answer in
//! time. Nothing is lost by that, but it must not last until the next backup. One that does not
//! answer keeps neither the others waiting nor those who want to go on: it is waited for so long,
//! and its thread goes on alone.

use super::{SourceError, Vm};
use std::{
	collections::BTreeMap,
	fmt,
	sync::{
		Arc, Condvar, Mutex, MutexGuard, PoisonError,
		mpsc::{self, RecvTimeoutError, Sender},
	},
	thread,
	time::{Duration, Instant},
};

/// How many machines are cleaned up at a time.
const AT_ONCE: usize = 8;

/// How long a machine is waited for until the next one has its place.
const TIME_MAX: Duration = Duration::from_secs(20);

/// How a machine is cleaned up.
type Work = Arc<dyn Fn(&Vm) -> Result<(), SourceError> + Send + Sync>;

/// The machines that are to be cleaned up. Clones are the same set.
#[derive(Clone, Default)]
pub struct Leftovers {
	shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
	/// By how they are reached: there may be two descriptions of one machine.
	machines: Mutex<BTreeMap<String, Leftover>>,
	/// A machine is not worked on any more.
	is_released: Condvar,
}

struct Leftover {
	vm: Vm,
	/// Whether a thread works on it.
	is_busy: bool,
}

impl Leftovers {
	/// Clean up a machine until that succeeds.
	pub fn add(&self, vm: &Vm) {
		let leftover = Leftover { vm: vm.clone(), is_busy: false };
		let mut machines = self.lock();
		machines.entry(key(vm)).and_modify(|known| known.vm = vm.clone()).or_insert(leftover);
	}

	/// A backup cleans up by itself before it begins. Says whether there is need to, and waits
	/// while the machine is cleaned up here, since QEMU hears one client at a time.
	pub(super) fn take_over(&self, vm: &Vm) -> bool {
		let key = key(vm);
		let mut machines = self.lock();
		while machines.get(&key).is_some_and(|leftover| leftover.is_busy) {
			let released = self.shared.is_released.wait(machines);
			machines = released.unwrap_or_else(PoisonError::into_inner);
		}
		machines.remove(&key).is_some()
	}

	/// Try each machine once, and say how many are left.
	pub fn retry(&self) -> usize {
		let recover = |vm: &Vm| {
			vm.recover()
				.inspect(|()| tracing::info!(machine = key(vm), "the machine is clean again"))
		};
		self.clean_up(Arc::new(recover), TIME_MAX);
		self.lock().len()
	}

	/// Look after these machines as after those that did not let go, in this way. Those that fail,
	/// or take long, are gone back to.
	pub(crate) fn look_after(
		&self,
		machines: impl IntoIterator<Item = Vm>,
		work: impl Fn(&Vm) -> Result<(), SourceError> + Send + Sync + 'static,
	) {
		machines.into_iter().for_each(|vm| self.add(&vm));
		self.clean_up(Arc::new(work), TIME_MAX);
	}

	/// Work on all machines that nobody works on, a few at a time, and wait for each so long.
	fn clean_up(&self, work: Work, time_max: Duration) {
		let idle = |(key, leftover): (&String, &Leftover)| (!leftover.is_busy).then(|| key.clone());
		let mut waiting: Vec<String> = self.lock().iter().filter_map(idle).rev().collect();
		let (ended, ends) = mpsc::channel();
		// When each has taken so long that the next one has its place.
		let mut deadlines = BTreeMap::new();
		loop {
			while deadlines.len() < AT_ONCE
				&& let Some(key) = waiting.pop()
			{
				if self.start(&key, &work, &ended) {
					deadlines.insert(key, Instant::now() + time_max);
				}
			}
			let Some(next) = deadlines.values().min().copied() else { return };
			match ends.recv_timeout(next.saturating_duration_since(Instant::now())) {
				Ok(key) => drop(deadlines.remove(&key)),
				Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
					deadlines.retain(|machine, deadline| {
						let is_late = *deadline <= Instant::now();
						if is_late {
							tracing::warn!(
								machine,
								"the machine does not answer; nobody waits for it"
							);
						}
						!is_late
					});
				}
			}
		}
	}

	/// Begin to work on a machine, and say whether it is there and nobody else does.
	fn start(&self, key: &str, work: &Work, ended: &Sender<String>) -> bool {
		let vm = match self.lock().get_mut(key) {
			Some(leftover) if !leftover.is_busy => {
				leftover.is_busy = true;
				leftover.vm.clone()
			}
			Some(_) | None => return false,
		};
		let release =
			Release { leftovers: self.clone(), key: key.to_owned(), ended: ended.clone() };
		let work = Arc::clone(work);
		thread::spawn(move || release.after(work(&vm)));
		true
	}

	fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Leftover>> {
		self.shared.machines.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

/// A machine that is worked on. Dropping it says that this is over, however it ended.
struct Release {
	leftovers: Leftovers,
	key: String,
	ended: Sender<String>,
}

impl Release {
	fn after(self, result: Result<(), SourceError>) {
		let machine = &self.key;
		match result {
			// A domain that libvirt does not know any more has nothing of ours either.
			Ok(()) | Err(SourceError::Vanished | SourceError::DomainNotFound { .. }) => {
				self.leftovers.lock().remove(machine);
			}
			Err(error) => tracing::warn!(%error, machine, "the machine is not clean yet"),
		}
	}
}

impl Drop for Release {
	fn drop(&mut self) {
		if let Some(leftover) = self.leftovers.lock().get_mut(&self.key) {
			leftover.is_busy = false;
		}
		self.leftovers.shared.is_released.notify_all();
		// Nobody may wait for it any more.
		let _ = self.ended.send(std::mem::take(&mut self.key));
	}
}

impl fmt::Debug for Leftovers {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_set().entries(self.lock().keys()).finish()
	}
}

/// What tells machines apart: how they are reached, and of those that are never reached their tag.
fn key(vm: &Vm) -> String {
	vm.control().unwrap_or_else(|| vm.uuid.to_string())
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::sync::atomic::{AtomicUsize, Ordering};

	const LONG: Duration = Duration::from_secs(60);

	fn vm(number: u64) -> Vm {
		let text = format!(
			"uuid = \"c0ffee00-0000-8000-8000-{number:012x}\"\nqmp = \"/nowhere/{number}\"\n\
			[[disk]]\nname = \"vda\"\nimage = \"/nowhere/{number}.img\"\nformat = \"raw\"\n"
		);
		Vm::parse(&text).unwrap()
	}

	fn leftovers(count: u64) -> Leftovers {
		let leftovers = Leftovers::default();
		(0..count).for_each(|number| leftovers.add(&vm(number)));
		leftovers
	}

	#[test]
	fn each_machine_is_tried_once_and_those_that_fail_stay() {
		let leftovers = leftovers(3 * AT_ONCE as u64);
		let tries = Arc::new(AtomicUsize::new(0));
		let work = {
			let tries = tries.clone();
			move |machine: &Vm| {
				tries.fetch_add(1, Ordering::SeqCst);
				match *machine == vm(5) {
					true => Err(SourceError::Running),
					false => Ok(()),
				}
			}
		};
		leftovers.clean_up(Arc::new(work), LONG);
		assert_eq!(tries.load(Ordering::SeqCst), 3 * AT_ONCE);
		assert_eq!(leftovers.lock().keys().cloned().collect::<Vec<_>>(), ["/nowhere/5"]);
	}

	/// More machines hang than are cleaned up at a time.
	#[test]
	fn machines_that_hang_keep_neither_the_others_nor_their_backups_waiting() {
		let leftovers = leftovers(2 * AT_ONCE as u64);
		let stuck: Vec<Vm> = (0..=AT_ONCE as u64).map(vm).collect();
		let count = stuck.len();
		let (release, released) = mpsc::channel::<()>();
		let released = Mutex::new(released);
		let work = move |machine: &Vm| {
			if stuck.contains(machine) {
				// Fails when it is released.
				let _ = released.lock().unwrap().recv();
			}
			Ok(())
		};
		leftovers.clean_up(Arc::new(work), Duration::from_millis(50));
		let deadline = Instant::now() + LONG;
		while leftovers.lock().len() > count {
			assert!(Instant::now() < deadline, "the others are not done");
			thread::yield_now();
		}
		// Those that hang are not begun again beside it.
		leftovers.clean_up(Arc::new(|_: &Vm| panic!("it is worked on")), LONG);
		assert_eq!(leftovers.lock().len(), count);
		// The backup of one that hangs waits for it.
		let waits = {
			let leftovers = leftovers.clone();
			thread::spawn(move || leftovers.take_over(&vm(0)))
		};
		drop(release);
		assert!(!waits.join().unwrap(), "it was cleaned up meanwhile");
	}

	#[test]
	fn a_machine_whose_thread_fails_is_tried_again() {
		let leftovers = leftovers(1);
		leftovers.clean_up(Arc::new(|_: &Vm| panic!("for the test")), LONG);
		assert!(leftovers.take_over(&vm(0)));
	}
}
