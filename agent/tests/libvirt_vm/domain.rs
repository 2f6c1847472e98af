//! A domain without a guest system, whose disks are written through its monitor as a guest would.

use crate::daemon::{Daemon, open_to_all};
use backup_agent::{
	pipeline::DiskReader,
	sources::{
		Checkpoint, Disk, ImageFormat, Leftovers, OpenDisk, OpenOptions, OpenVm, SourceError, Vm,
	},
};
use backup_primitives::VmTag;
use std::{
	fs,
	ops::Range,
	path::{Path, PathBuf},
	process::Command,
	sync::Arc,
	time::{Duration, Instant},
};

pub(crate) const DISK_BYTES: u64 = 64 << 20;
pub(crate) const MIB: u64 = 1 << 20;

/// A running domain with one disk for each format: `vda`, `vdb` and so on.
pub(crate) struct Domain {
	pub(crate) daemon: Arc<Daemon>,
	pub(crate) tag: VmTag,
	pub(crate) name: String,
	formats: Vec<ImageFormat>,
	pub(crate) folder: tempfile::TempDir,
}

/// Run a test on a domain with these disks, if there can be one.
pub(crate) fn with_domain(formats: &[ImageFormat], test: impl FnOnce(&Domain)) {
	with_domain_of("", formats, test);
}

/// The same, with an attribute in each disk's driver.
pub(crate) fn with_domain_of(driver: &str, formats: &[ImageFormat], test: impl FnOnce(&Domain)) {
	let Some(daemon) = Daemon::shared() else { return };
	let domain = Domain::define(daemon, driver, formats);
	domain.start();
	test(&domain);
}

impl Domain {
	fn define(daemon: Arc<Daemon>, driver: &str, formats: &[ImageFormat]) -> Self {
		let folder = tempfile::tempdir().unwrap();
		// QEMU's user passes on the way to images and scratch.
		open_to_all(folder.path(), 0o711);
		let scratch = folder.path().join("scratch");
		fs::create_dir(&scratch).unwrap();
		open_to_all(&scratch, 0o711);
		let vnc = folder.path().join("vnc");
		fs::create_dir(&vnc).unwrap();
		open_to_all(&vnc, 0o777);
		let tag = VmTag(rand_bytes());
		let name = format!("web {tag}");
		let domain = Self { daemon, tag, name, formats: formats.to_vec(), folder };
		for (index, format) in formats.iter().enumerate() {
			let raw = domain.folder.path().join("content");
			fs::write(&raw, pattern(index as u8)).unwrap();
			let arguments = ["convert", "-O", format.driver(), text(&raw)];
			let image = domain.image(index);
			let mut convert = Command::new("qemu-img");
			assert!(convert.args(arguments).arg(image).status().unwrap().success());
			fs::remove_file(raw).unwrap();
		}
		let definition = domain.folder.path().join("definition");
		fs::write(&definition, domain.definition(driver)).unwrap();
		domain.daemon.virsh(&["define", text(&definition)]);
		domain
	}

	fn definition(&self, driver: &str) -> String {
		let disks = self.formats.iter().enumerate().map(|(index, format)| {
			format!(
				"<disk type='file' device='disk'><driver name='qemu' type='{}' {driver}/>\
				<source file='{}'/><target dev='{}' bus='virtio'/></disk>",
				format.driver(),
				text(&self.image(index)),
				disk_name(index)
			)
		});
		format!(
			"<domain type='qemu'><name>{}</name><uuid>{}</uuid>\
			<memory unit='MiB'>64</memory><vcpu>1</vcpu><iothreads>1</iothreads>\
			<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>\
			<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{}\
			<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>\
			<controller type='usb' model='none'/><memballoon model='none'/>\
			<graphics type='vnc' socket='{}' passwd='hunter2'/></devices></domain>",
			self.name,
			self.tag,
			disks.collect::<String>(),
			text(&self.folder.path().join("vnc/socket")),
		)
	}

	pub(crate) fn start(&self) {
		self.daemon.virsh(&["start", &self.uuid()]);
	}

	/// Power it off.
	pub(crate) fn stop(&self) {
		self.daemon.virsh(&["destroy", &self.uuid()]);
	}

	/// End its QEMU as a crash does, and wait until libvirt has seen it.
	pub(crate) fn crash(&self) {
		let process = rustix::process::Pid::from_raw(self.daemon.process_of(&self.uuid()) as i32);
		rustix::process::kill_process(process.unwrap(), rustix::process::Signal::KILL).unwrap();
		let deadline = Instant::now() + Duration::from_secs(60);
		while self.daemon.virsh(&["domstate", &self.uuid()]).trim() != "shut off" {
			assert!(Instant::now() < deadline, "libvirt did not see the end of its QEMU");
		}
	}

	pub(crate) fn uuid(&self) -> String {
		self.tag.to_string()
	}

	pub(crate) fn image(&self, index: usize) -> PathBuf {
		self.folder.path().join(format!("{index}.img"))
	}

	pub(crate) fn vm(&self) -> Vm {
		let disks = self.formats.iter().enumerate().map(|(index, format)| Disk {
			name: disk_name(index),
			image: self.image(index),
			format: *format,
			skip: false,
		});
		Vm {
			uuid: self.tag,
			qmp: None,
			guest_agent: None,
			libvirt: Some(self.name.clone()),
			libvirt_uri: Some(self.daemon.uri()),
			disks: disks.collect(),
			files: Vec::new(),
			hooks: None,
		}
	}

	pub(crate) fn options(&self) -> OpenOptions {
		OpenOptions {
			scratch_dir: self.folder.path().join("scratch"),
			scratch_bytes_max: 128 << 20,
			freeze_time_max: Duration::from_secs(1),
			leftovers: Leftovers::default(),
		}
	}

	pub(crate) fn open(&self, known: &[Checkpoint]) -> Result<OpenVm, SourceError> {
		self.vm().open(self.tag, known, &self.options())
	}

	/// Write as the guest's driver would.
	pub(crate) fn write(&self, disk: usize, byte: u8, offset: u64, length: u64) {
		let device = format!("/machine/peripheral/virtio-disk{disk}/virtio-backend");
		let line = format!("qemu-io -d {device} \"write -P {byte} {offset} {length}\"");
		let answer = self.daemon.virsh(&["qemu-monitor-command", &self.uuid(), "--hmp", &line]);
		assert!(!answer.contains("rror"), "the guest's write failed: {answer}");
	}

	pub(crate) fn is_running(&self) -> bool {
		self.daemon.virsh(&["domstate", &self.uuid()]).trim() == "running"
	}

	pub(crate) fn checkpoints(&self) -> Vec<String> {
		let names = self.daemon.virsh(&["checkpoint-list", &self.uuid(), "--name"]);
		names.split_whitespace().map(str::to_owned).collect()
	}

	pub(crate) fn has_job(&self) -> bool {
		!self.daemon.virsh(&["domjobinfo", &self.uuid()]).contains("None")
	}

	pub(crate) fn scratch(&self) -> Vec<PathBuf> {
		let entries = fs::read_dir(self.folder.path().join("scratch")).unwrap();
		entries.map(|entry| entry.unwrap().path()).collect()
	}

	/// Check that the domain runs as if nobody had ever read it.
	pub(crate) fn assert_clean(&self) {
		assert!(self.is_running());
		assert!(!self.has_job());
		assert_eq!(self.scratch(), [""; 0].map(PathBuf::from));
	}
}

impl Drop for Domain {
	fn drop(&mut self) {
		let uuid = self.uuid();
		let _ = self.daemon.try_virsh(&["destroy", &uuid]);
		let _ = self.daemon.try_virsh(&["undefine", &uuid, "--checkpoints-metadata"]);
	}
}

fn rand_bytes() -> [u8; 16] {
	// A random UUID is what a checkpoint is made of, too.
	hex::decode(Checkpoint::new().to_string()).unwrap().try_into().unwrap()
}

fn disk_name(index: usize) -> String {
	format!("vd{}", char::from(b'a' + index as u8))
}

pub(crate) fn text(path: &Path) -> &str {
	path.to_str().unwrap()
}

/// The content of a disk: data in most places, zeros in every third MiB.
pub(crate) fn pattern(seed: u8) -> Vec<u8> {
	let mut bytes = vec![0; DISK_BYTES as usize];
	for (index, block) in bytes.chunks_mut(4096).enumerate() {
		if (index / 256) % 3 != 2 {
			block.fill((index % 251) as u8 ^ seed | 1);
		}
	}
	bytes
}

/// Read a disk as a whole.
pub(crate) fn read(disk: &mut OpenDisk) -> std::io::Result<Vec<u8>> {
	let size = disk.reader.logical_bytes();
	let mut bytes = vec![0; size as usize];
	let whole = 0..size;
	read_ranges(disk.reader.as_mut(), std::slice::from_ref(&whole), &mut bytes)?;
	Ok(bytes)
}

/// Read parts of a disk into what it held before.
pub(crate) fn read_ranges(
	reader: &mut dyn DiskReader,
	ranges: &[Range<u64>],
	bytes: &mut [u8],
) -> std::io::Result<()> {
	reader.restrict(ranges);
	for range in ranges {
		for at in (range.start..range.end).step_by(256 << 10) {
			let end = (at + (256 << 10)).min(range.end);
			reader.next_extent(at)?;
			reader.read_at(at, &mut bytes[at as usize..end as usize])?;
			reader.release(at..end);
		}
	}
	Ok(())
}
