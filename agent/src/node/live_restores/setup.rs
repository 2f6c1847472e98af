//! Making a machine that can be started, before anything is served.

use super::{
	LiveRestoreOrder,
	records::{Record, Records},
	unwritable,
};
use crate::{
	disk::remove_if_there,
	format::{Object, Root},
	jobs::JobError,
	node::{opened, restored, restores, written},
	peers::Everywhere,
	pipeline::{Cancel, Restore},
	sources::{DESCRIPTION_FILE, ImageFormat, Inventory, SourceError, Vm, filling},
	targets::{PartialFile, TargetError},
};
use backup_primitives::FailureReason;
use std::{
	fs,
	io::Write,
	num::NonZero,
	os::unix::fs::DirBuilderExt,
	path::{Path, PathBuf},
};

/// Most bytes of a machine's description.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a file beside the disks.
const FILE_BYTES_MAX: usize = 16 << 20;

/// What a socket's path may have at most, less what is in front of it for a moment.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// What a machine is set up from, and where.
pub(super) struct Setup<'a> {
	pub(super) order: &'a LiveRestoreOrder,
	pub(super) root: &'a Root,
	pub(super) source: &'a Everywhere,
	pub(super) vms_dir: &'a Path,
	pub(super) cancel: &'a Cancel,
}

impl<'a> Setup<'a> {
	/// The machine of this name, or the one that the snapshot describes.
	pub(super) fn machine(&self) -> Result<Vm, JobError> {
		let order = self.order;
		let is_new = order.folder.is_some() || order.qmp.is_some();
		match Inventory::at(self.vms_dir).find(order.vm.as_bytes()) {
			Ok(_) if is_new => Err(unwritable(format!(
				"this node has a machine {:?}, whose file says where its images are; leave folder and socket out, or choose another name",
				order.vm
			))),
			Err(SourceError::VmNotFound { .. }) => match &order.folder {
				Some(folder) => self.described(folder, order.qmp.as_deref()),
				None => Err(unwritable(format!(
					"this node has no machine {:?}; say in which folder it is to be set up",
					order.vm
				))),
			},
			found => found.map_err(opened),
		}
	}

	/// Put everything in its place: all of it is made before anything gets its name.
	pub(super) fn make(
		&self,
		vm: &Vm,
		disks: &[(&Object, PathBuf)],
		(record, records): (&Record, &Records),
	) -> Result<(), JobError> {
		let order = self.order;
		if let Some(folder) = &order.folder {
			let mut builder = fs::DirBuilder::new();
			builder.recursive(true).mode(0o700).create(folder).map_err(written)?;
		}
		let mut made = Vec::new();
		for (disk, image) in disks {
			let partial = PartialFile::create(image).map_err(untaken)?;
			let socket = &record.socket;
			filling::make_image(partial.partial(), disk.logical_bytes, socket, &disk.name)
				.map_err(opened)?;
			made.push(partial);
		}
		for file in &vm.files {
			let blob = self.root.blobs.iter().find(|blob| blob.name == file.name);
			if let Some(blob) = blob.filter(|_| order.folder.is_some()) {
				let bytes = self.restore(blob).run_to_memory(FILE_BYTES_MAX);
				let bytes = bytes.map_err(restored)?.ok_or_else(|| {
					unwritable(format!("the snapshot's {:?} is too long", blob.name))
				})?;
				made.push(with_bytes(&file.path, &bytes)?);
			}
		}
		if order.folder.is_some() {
			let file = self.vms_dir.join(format!("{}.toml", order.vm));
			made.push(with_bytes(&file, vm.describe().as_bytes())?);
		}
		records.write(&order.vm, record)?;
		let mut named: Vec<PathBuf> = Vec::new();
		for mut file in made {
			if let Err(error) = file.complete() {
				for path in &named {
					remove_if_there(path).map_err(written)?;
				}
				return Err(written(error));
			}
			named.push(file.path().to_owned());
		}
		Ok(())
	}

	/// Restores something small.
	fn restore(&self, object: &'a Object) -> Restore<'a> {
		Restore {
			repository: self.source,
			geometry: self.root.geometry,
			object,
			threads: NonZero::<usize>::MIN,
			on_progress: &|_| {},
			cancel: self.cancel,
		}
	}

	/// The machine as the snapshot describes it, with everything in a folder. Programs that were run
	/// around its backups are this node's operator's to choose.
	fn described(&self, folder: &Path, qmp: Option<&Path>) -> Result<Vm, JobError> {
		let wrong = |reason: String| {
			let detail = format!("the snapshot does not say what its machine is like: {reason}");
			JobError { reason: FailureReason::Unsupported, detail }
		};
		let blob = self.root.blobs.iter().find(|blob| blob.name == DESCRIPTION_FILE);
		let blob = blob.ok_or_else(|| wrong("write the machine's file first".into()))?;
		let bytes = self.restore(blob).run_to_memory(DESCRIPTION_BYTES_MAX);
		let bytes = bytes.map_err(restored)?.ok_or_else(|| wrong("too much is said".into()))?;
		let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
		let mut vm = Vm::parse(&text).map_err(wrong)?;
		for disk in vm.disks.iter_mut().filter(|disk| !disk.skip) {
			disk.image = folder.join(format!("{}.qcow2", disk.name));
			disk.format = ImageFormat::Qcow2;
		}
		for file in &mut vm.files {
			file.path = folder.join(&file.name);
		}
		vm.hooks = None;
		if let Some(qmp) = qmp {
			vm.qmp = Some(qmp.to_owned());
			(vm.guest_agent, vm.libvirt, vm.libvirt_uri) = (None, None, None);
		}
		Ok(vm)
	}
}

/// Each disk of a snapshot with its place on this node.
pub(super) fn pair<'r>(
	root: &'r Root,
	vm: &Vm,
	name: &str,
) -> Result<Vec<(&'r Object, PathBuf)>, JobError> {
	let places = root.disks.iter().map(|object| {
		let disk = vm.included().find(|disk| disk.name == object.name);
		let disk = disk.ok_or_else(|| restores::no_such_disk(name.as_bytes(), &object.name))?;
		match disk.format {
			ImageFormat::Qcow2 => Ok((object, disk.image.clone())),
			ImageFormat::Raw => Err(JobError {
				reason: FailureReason::Unsupported,
				detail: format!(
					"the disk {:?} is raw, and only qcow2 images can fill in; give a folder for new images, or restore in full",
					object.name
				),
			}),
		}
	});
	places.collect()
}

/// A name for a socket in the images' folder that nothing else has or had.
pub(super) fn socket_beside(images: &[PathBuf]) -> Result<PathBuf, JobError> {
	let folder = images.first().and_then(|image| image.parent());
	let folder = folder.ok_or_else(|| unwritable("the snapshot has no disks".into()))?;
	let socket = folder.join(format!("{:016x}.nbd", rand::random::<u64>()));
	match socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
		true => Ok(socket),
		false => Err(unwritable(format!(
			"the path {} is too long for a socket; choose a folder with a shorter one",
			folder.display()
		))),
	}
}

/// Remove the images of a live restore that its operator never heard of.
pub(super) fn remove_images(record: &Record) -> Result<(), JobError> {
	for image in &record.images {
		// No image of another live restore names this socket. What is not ours, or cannot be
		// told, stays.
		if matches!(filling::lacks(image, &record.socket), Ok(true)) {
			remove_if_there(image).map_err(written)?;
		}
	}
	Ok(())
}

/// A file that is complete but for its name.
fn with_bytes(path: &Path, bytes: &[u8]) -> Result<PartialFile, JobError> {
	let partial = PartialFile::create(path).map_err(untaken)?;
	partial.file().write_all(bytes).map_err(written)?;
	Ok(partial)
}

fn untaken(error: TargetError) -> JobError {
	match error {
		TargetError::Exists { path } => unwritable(format!(
			"{} is there already, and nothing is overwritten; move it away first",
			path.display()
		)),
		error => written(error.into()),
	}
}
