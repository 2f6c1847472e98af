//! Restores: a snapshot's disks on their way back to images.

use super::{
	NodeExecutor, PARTIAL_PREFIX, create_private, opened, remove_folder, restored, written,
};
use crate::{
	format::{
		Object, Root, RootError,
		envelope::{EnvelopeError, open_read_key},
	},
	jobs::{JobContext, JobError},
	pipeline::{OnProgress, Progress, Restore, RestoreTarget, open_root},
	repositories::BlockSource,
	sources::{Disk, ImageFormat, Vm},
	stage::{self, Stage},
	targets::{Qcow2Target, RawTarget, TargetError},
};
use backup_primitives::{
	Cid, FailureReason, VmTag,
	job::{JobId, RestoreOrder},
};
use std::{
	fs,
	io::{self, Write},
	path::{Path, PathBuf},
	time::SystemTime,
};

/// The file in a folder that tells by which order it is made.
const ORDER_FILE: &str = ".order";

impl NodeExecutor {
	/// A root of this node, with whichever of its identities it was sealed to.
	pub(super) fn open(&self, source: &dyn BlockSource, cid: &Cid) -> Result<Root, JobError> {
		let block = open_root(source, cid).map_err(restored)?;
		block.open_with_identities(self.identities.expose()).map_err(|error| match error {
			RootError::Envelope(EnvelopeError::WrongIdentity) => self.unopened(cid),
			error => restored(error.into()),
		})
	}

	/// A root that its owner has sealed to this node afterwards.
	fn open_by_envelope(
		&self,
		source: &dyn BlockSource,
		cid: &Cid,
		envelope: &[u8],
	) -> Result<Root, JobError> {
		let block = open_root(source, cid).map_err(restored)?;
		let refused = |error: &dyn std::error::Error| {
			let detail = format!("the envelope for the root {cid} is of no use: {error}");
			JobError { reason: FailureReason::KeyRejected, detail }
		};
		let identities = self.identities.expose();
		let key = open_read_key(envelope, identities).map_err(|error| refused(&error))?;
		block.open_with_read_key(&key).map_err(|error| match error {
			RootError::Open(_) => refused(&error),
			error => restored(error.into()),
		})
	}

	fn unopened(&self, cid: &Cid) -> JobError {
		let detail = format!(
			"none of the {} identities of this agent opens the root {cid}; put the one that was this node's when it was sealed back into the identity file, below the newest",
			self.identities.count()
		);
		JobError { reason: FailureReason::KeyRejected, detail }
	}

	/// The root that an order names.
	fn ordered_root(
		&self,
		order: &RestoreOrder,
		source: &dyn BlockSource,
	) -> Result<Root, JobError> {
		match &order.envelope {
			Some(envelope) => self.open_by_envelope(source, &order.cid, envelope),
			None => self.open(source, &order.cid),
		}
	}

	/// Write images into a folder of their own.
	pub(super) fn restore_aside(
		&self,
		order: &RestoreOrder,
		source: &dyn BlockSource,
		context: &JobContext,
	) -> Result<PathBuf, JobError> {
		let (partial, complete) = self.restore_names(order);
		// Only a complete folder ever gets its name, so one that is there is done.
		if complete.exists() {
			return ensure_restored_by(context.id, &complete).map(|()| complete);
		}
		// What a killed agent or one that ended left of this very order is gone on with.
		if ensure_restored_by(context.id, &partial).is_err() {
			remove_folder(&partial).map_err(written)?;
			create_private(&partial).map_err(written)?;
			write_order(context.id, &partial).map_err(written)?;
		}
		let result = self.write_folder(order, source, &partial, context).and_then(|()| {
			fs::rename(&partial, &complete).map_err(written)?;
			fs::File::open(&self.restore_dir).and_then(|dir| dir.sync_all()).map_err(written)
		});
		if let Err(error) = result {
			if !context.agent_ends.is_cancelled()
				&& let Err(error) = remove_folder(&partial)
			{
				tracing::error!(%error, path = %partial.display(), "failed to remove a partial restore");
			}
			return Err(error);
		}
		Ok(complete)
	}

	fn write_folder(
		&self,
		order: &RestoreOrder,
		source: &dyn BlockSource,
		folder: &Path,
		context: &JobContext,
	) -> Result<(), JobError> {
		let root = {
			let _open = stage::enter(Stage::Open);
			self.ordered_root(order, source)?
		};
		let format: ImageFormat = self.in_force.borrow().restore_format.into();
		let ending = format.driver();
		self.write_disks((&root, source), context, |disk| {
			let image = folder.join(format!("{}.{ending}", disk.name));
			// What has its name is complete.
			if image.exists() { Ok(None) } else { create(format, &image).map(Some) }
		})?;
		for blob in &root.blobs {
			let path = folder.join(&blob.name);
			if !path.exists() {
				let mut target = create(ImageFormat::Raw, &path)?;
				let from = (&root, source);
				self.write(from, blob, target.as_mut(), &|_| {}, context, false)?;
			}
		}
		Ok(())
	}

	/// Put the disks of a snapshot in the places of a machine's, which must be off and stays so
	/// meanwhile. All are replaced, or none is.
	pub(super) fn replace(
		&self,
		order: &RestoreOrder,
		source: &dyn BlockSource,
		name: &[u8],
		tag: VmTag,
		context: &JobContext,
	) -> Result<PathBuf, JobError> {
		let vm: Vm = self.inventory.find(name).map_err(opened)?;
		let id = hex::encode(context.id.0);
		let first = vm.disks.first().map(|disk| disk.image.clone()).unwrap_or_default();
		if self.replacements.is_done(&id) {
			self.replacements
				.tidy(vm.disks.iter().map(|disk| disk.image.as_path()), SystemTime::now());
			return Ok(first);
		}
		let _exclusion = self.live_restores.exclude(&String::from_utf8_lossy(name))?;
		let mut held = vm.hold(tag, &self.open.scratch_dir).map_err(opened)?;
		let root = self.ordered_root(order, source)?;
		let places = root.disks.iter().map(|object| {
			let disk = vm.disks.iter().find(|disk| disk.name == object.name);
			disk.ok_or_else(|| no_such_disk(name, &object.name)).and_then(replaceable)
		});
		let places = places.collect::<Result<Vec<Disk>, JobError>>()?;
		let disks = places.iter().cloned();
		let replacement = self.replacements.begin(&id, disks).map_err(written)?;
		let result = self.write_disks((&root, source), context, |object| {
			let disk = places.iter().find(|disk| disk.name == object.name);
			let new =
				disk.and_then(|disk| Some((disk.format, replacement.new_image(&disk.image)?)));
			let (format, new) = new.ok_or_else(|| no_such_disk(name, &object.name))?;
			// What has its name is complete.
			if new.exists() { Ok(None) } else { create(format, new).map(Some) }
		});
		if let Err(error) = result {
			if context.agent_ends.is_cancelled() {
				replacement.leave();
			}
			return Err(error);
		}
		let _replace = stage::enter(Stage::Replace);
		held.ensure_held().map_err(opened)?;
		replacement.commit().map_err(written)?;
		Ok(first)
	}

	/// Write all disks of a snapshot, each to its target if it has one.
	fn write_disks(
		&self,
		from @ (root, _): (&Root, &dyn BlockSource),
		context: &JobContext,
		target: impl Fn(&Object) -> Result<Option<Box<dyn RestoreTarget>>, JobError>,
	) -> Result<(), JobError> {
		let _write = stage::enter(Stage::Write);
		let total: u64 = root.disks.iter().map(|disk| disk.logical_bytes).sum();
		let mut before = 0;
		for disk in &root.disks {
			let show = |progress: Progress| {
				context.progress.set(before + progress.done_bytes, total);
			};
			if let Some(mut target) = target(disk)? {
				self.write(from, disk, target.as_mut(), &show, context, true)?;
			}
			before += disk.logical_bytes;
		}
		Ok(())
	}

	fn write(
		&self,
		(root, repository): (&Root, &dyn BlockSource),
		object: &Object,
		target: &mut dyn RestoreTarget,
		on_progress: OnProgress<'_>,
		context: &JobContext,
		is_resumable: bool,
	) -> Result<(), JobError> {
		let restore = Restore {
			repository,
			geometry: root.geometry,
			object,
			threads: self.in_force.borrow().threads,
			on_progress,
			cancel: &context.cancel,
		};
		let written = restore.run(&mut self.write_pace.limit(&mut *target));
		let result = written.map(drop).map_err(restored);
		if result.is_err() && is_resumable && context.agent_ends.is_cancelled() {
			target.leave();
		}
		result
	}

	fn restore_names(&self, order: &RestoreOrder) -> (PathBuf, PathBuf) {
		let name =
			format!("request-{}-{}-{}", order.lineage.request, order.sequence, order.restore);
		(self.restore_dir.join(format!("{PARTIAL_PREFIX}{name}")), self.restore_dir.join(name))
	}
}

fn create(format: ImageFormat, path: &Path) -> Result<Box<dyn RestoreTarget>, JobError> {
	let target: Result<Box<dyn RestoreTarget>, TargetError> = match format {
		ImageFormat::Qcow2 => Qcow2Target::create(path).map(|target| Box::new(target) as _),
		ImageFormat::Raw => RawTarget::create(path).map(|target| Box::new(target) as _),
	};
	target.map_err(|error| {
		let reason = match error.is_disk_full() {
			true => FailureReason::TargetFull,
			false => FailureReason::TargetUnwritable,
		};
		JobError::new(reason, &error)
	})
}

/// A disk with the file that is its image, behind all symbolic links. A file can be given another
/// one's name; anything else would be lost by that.
fn replaceable(disk: &Disk) -> Result<Disk, JobError> {
	let image = match fs::canonicalize(&disk.image) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => disk.image.clone(),
		image => image.map_err(written)?,
	};
	match fs::symlink_metadata(&image) {
		Ok(found) if !found.is_file() => {
			let detail = format!(
				"{} is no file, and only files can be replaced; restore aside and copy the image there",
				image.display()
			);
			Err(JobError { reason: FailureReason::Unsupported, detail })
		}
		_ => Ok(Disk { image, ..disk.clone() }),
	}
}

pub(super) fn no_such_disk(vm: &[u8], disk: &str) -> JobError {
	let detail = format!(
		"the machine {:?} has no disk {disk:?}, which the snapshot has; name the disks alike in its file",
		String::from_utf8_lossy(vm)
	);
	JobError { reason: FailureReason::TargetUnwritable, detail }
}

/// Note in a folder whose images it holds.
fn write_order(id: JobId, folder: &Path) -> io::Result<()> {
	let mut file = fs::File::create_new(folder.join(ORDER_FILE))?;
	file.write_all(hex::encode(id.0).as_bytes())?;
	file.sync_all()?;
	fs::File::open(folder)?.sync_all()
}

/// After a re-org another restore may have the same numbers. The images of the first are not
/// what it asks for, and not ours to remove.
fn ensure_restored_by(id: JobId, folder: &Path) -> Result<(), JobError> {
	match fs::read_to_string(folder.join(ORDER_FILE)) {
		Ok(found) if found == hex::encode(id.0) => Ok(()),
		Ok(_) | Err(_) => {
			let detail = format!(
				"{} holds the images of another restore; move it away, then restore again",
				folder.display()
			);
			Err(JobError { reason: FailureReason::TargetUnwritable, detail })
		}
	}
}
