//! Going on with what an earlier run of the agent left, and with records that are of no use.

use super::{
	LiveRestore, LiveRestoreView, LiveRestores, lock,
	records::{self, Record, Unusable},
};
use crate::{disk::remove_if_there, jobs::JobError, node::written, sources::Filling};
use std::{
	io,
	path::{Path, PathBuf},
};

impl LiveRestores {
	/// Serve again what an earlier run of the agent served.
	pub(in crate::node) fn resume(&self) -> io::Result<()> {
		for (vm, path) in self.records.all()? {
			self.resume_from(&vm, &path);
		}
		Ok(())
	}

	/// Go on with a record, or note that it is of no use.
	fn resume_from(&self, vm: &str, path: &Path) {
		let resumed = records::read(path).and_then(|record| self.resume_one(vm, record));
		let Err(error) = resumed else {
			lock(&self.unusable).remove(vm);
			return;
		};
		let unusable = Unusable::new(path, &error);
		let mut all = lock(&self.unusable);
		if all.get(vm) != Some(&unusable) {
			tracing::error!(vm, "a live restore does not go on: {unusable}");
		}
		all.insert(vm.to_owned(), unusable);
	}

	fn resume_one(&self, vm: &str, record: Record) -> io::Result<()> {
		if !record.is_ready {
			tracing::info!(vm, "a live restore that was not set up is given up");
			return self.give_up(vm, &record).map_err(io::Error::other);
		}
		let (filling, served) = match self.serving.again(&record) {
			Ok(served) => {
				tracing::info!(vm, "the disks of a machine go on filling in");
				(Ok(Filling::Off), Some(served))
			}
			Err(error) => {
				tracing::error!(vm, %error, "a live restore cannot go on; it is tried again");
				(Err(error.to_string()), None)
			}
		};
		lock(&self.all).insert(vm.to_owned(), LiveRestore { record, filling, served });
		Ok(())
	}

	/// Look at records again that were of no use: their operator may have put them right, or away.
	pub(super) fn look_again(&self) {
		let noted: Vec<(String, PathBuf)> = lock(&self.unusable)
			.iter()
			.map(|(vm, unusable)| (vm.clone(), unusable.path.clone()))
			.collect();
		for (vm, path) in noted {
			let _turn = lock(&self.turn);
			// It may have been ended meanwhile.
			if !lock(&self.unusable).contains_key(&vm) {
				continue;
			}
			match path.symlink_metadata() {
				Err(error) if error.kind() == io::ErrorKind::NotFound => {
					tracing::info!(vm, "a live restore is over: its record was taken away");
					lock(&self.unusable).remove(&vm);
				}
				_ => self.resume_from(&vm, &path),
			}
		}
	}

	/// End a live restore whose record is of no use. Says whether there was one.
	pub(super) fn end_unusable(&self, vm: &str) -> Result<bool, JobError> {
		let _turn = lock(&self.turn);
		let Some(unusable) = lock(&self.unusable).get(vm).cloned() else { return Ok(false) };
		remove_if_there(&unusable.path).map_err(written)?;
		lock(&self.unusable).remove(vm);
		Ok(true)
	}
}

impl Unusable {
	pub(super) fn view(&self, vm: &str) -> LiveRestoreView {
		LiveRestoreView {
			vm: vm.to_owned(),
			root: self.root,
			images: Vec::new(),
			state: "stuck".into(),
			done_bytes: 0,
			total_bytes: 0,
			problem: Some(self.to_string()),
		}
	}
}
