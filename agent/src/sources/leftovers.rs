//! Machines that did not let go of a backup: tried again until they did.
//!
//! A guest may stand still, or a filter may lie over its disk, because QEMU did not answer in
//! time. Nothing is lost by that, but it must not last until the next backup.

use super::{SourceError, Vm};
use std::{
	collections::BTreeMap,
	sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The machines that are to be cleaned up. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
	/// By how they are reached: there may be two descriptions of one machine.
	machines: Arc<Mutex<BTreeMap<String, Vm>>>,
}

impl Leftovers {
	/// Clean up a machine until that succeeds.
	pub fn add(&self, vm: &Vm) {
		if let Some(control) = vm.control() {
			self.lock().insert(control, vm.clone());
		}
	}

	/// A backup cleans up by itself before it begins. Says whether there is need to, and waits
	/// while the machine is cleaned up here, since QEMU hears one client at a time.
	pub(super) fn take_over(&self, vm: &Vm) -> bool {
		vm.control().is_some_and(|control| self.lock().remove(&control).is_some())
	}

	/// Try each machine once, and say how many are left.
	pub fn retry(&self) -> usize {
		let controls: Vec<String> = self.lock().keys().cloned().collect();
		for control in &controls {
			// Locked for one machine, so that no backup of it begins meanwhile.
			let mut machines = self.lock();
			let Some(vm) = machines.get(control) else { continue };
			match vm.recover() {
				// A domain that libvirt does not know any more has nothing of ours either.
				Ok(()) | Err(SourceError::Vanished | SourceError::DomainNotFound { .. }) => {
					tracing::info!(machine = control, "the machine is clean again");
					machines.remove(control);
				}
				Err(error) => {
					tracing::warn!(%error, machine = control, "the machine is not clean yet");
				}
			}
		}
		self.lock().len()
	}

	fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vm>> {
		self.machines.lock().unwrap_or_else(PoisonError::into_inner)
	}
}
