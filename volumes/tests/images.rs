//! Disks as the usual tools make them: `mkfs.ext4`, `sfdisk`, `debugfs`.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use backup_volumes::{Area, Content, FileError, FileSystem, Kind, Layout, ReadAt, join, scan};
use std::{
	fs,
	io::{self, Write},
	os::unix::fs::{FileExt, PermissionsExt, symlink},
	path::{Path, PathBuf},
	process::{Command, Stdio},
};
use tempfile::TempDir;

struct Image(fs::File);

impl ReadAt for Image {
	fn bytes(&self) -> u64 {
		self.0.metadata().unwrap().len()
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		self.0.read_exact_at(buffer, offset)
	}
}

struct Memory(Vec<u8>);

impl ReadAt for Memory {
	fn bytes(&self) -> u64 {
		self.0.len() as u64
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let offset = offset as usize;
		buffer.copy_from_slice(&self.0[offset..offset + buffer.len()]);
		Ok(())
	}
}

/// The tools of administrators are not in everybody's path.
fn tool(name: &str) -> Command {
	let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
	let mut command = Command::new(name);
	command.env("PATH", path).stdout(Stdio::null());
	command
}

fn run(command: &mut Command) {
	let status = command.status().unwrap();
	assert!(status.success(), "{command:?}");
}

/// A folder with some of everything, and a file system made of it.
struct World {
	folder: TempDir,
}

impl World {
	fn new() -> Self {
		let world = Self { folder: tempfile::tempdir().unwrap() };
		let tree = world.path("tree");
		fs::create_dir_all(tree.join("etc/deep/er")).unwrap();
		fs::create_dir(tree.join("many")).unwrap();
		fs::write(tree.join("etc/passwd"), "root:x:0:0\n").unwrap();
		fs::set_permissions(tree.join("etc/passwd"), fs::Permissions::from_mode(0o640)).unwrap();
		fs::write(tree.join("empty"), "").unwrap();
		fs::write(tree.join("ümlaut \u{202e}"), "name").unwrap();
		symlink("/etc/passwd", tree.join("link")).unwrap();
		symlink("etc", tree.join("folder-link")).unwrap();
		symlink("loop", tree.join("loop")).unwrap();
		fs::write(tree.join("large"), large()).unwrap();
		// A file with a hole, and a folder that needs an index.
		let sparse = fs::File::create(tree.join("sparse")).unwrap();
		sparse.write_all_at(b"end", 3 << 20).unwrap();
		for number in 0..500 {
			let name = format!("many/file-with-a-rather-long-name-{number:04}");
			fs::write(tree.join(name), number.to_string()).unwrap();
		}
		world
	}

	fn path(&self, name: &str) -> PathBuf {
		self.folder.path().join(name)
	}

	/// A file system of 16 MiB with the folder's content.
	fn file_system(&self, options: &[&str]) -> PathBuf {
		let image = self.path("ext");
		let mut make = tool("mkfs.ext4");
		make.args(["-q", "-F", "-d"]).arg(self.path("tree")).args(options).arg(&image).arg("16M");
		run(&mut make);
		image
	}

	/// A disk of 64 MiB with a table that `sfdisk` makes of a script.
	fn disk(&self, script: &str) -> PathBuf {
		let disk = self.path("disk");
		fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
		let mut command = tool("sfdisk");
		let mut child = command.arg("--quiet").arg(&disk).stdin(Stdio::piped()).spawn().unwrap();
		child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
		assert!(child.wait().unwrap().success());
		disk
	}
}

fn large() -> Vec<u8> {
	(0..2_000_001u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn put(image: &Path, disk: &Path, sector: u64) {
	let disk = fs::OpenOptions::new().write(true).open(disk).unwrap();
	disk.write_all_at(&fs::read(image).unwrap(), sector * 512).unwrap();
}

fn layout(disk: &Path) -> Layout {
	let area = Area::whole(Image(fs::File::open(disk).unwrap()));
	scan(&[("vda".to_owned(), area)]).unwrap()
}

fn read(files: &FileSystem, path: &[u8]) -> Result<Vec<u8>, FileError> {
	let mut file = files.file(path)?;
	let mut bytes = vec![0; file.bytes() as usize + 10];
	let read = file.read(&mut bytes)?;
	bytes.truncate(read);
	Ok(bytes)
}

fn assert_files(files: &FileSystem) {
	let names: Vec<_> = files.folder(b"/").unwrap().into_iter().map(|entry| entry.name).collect();
	let expected = [
		"empty",
		"etc",
		"folder-link",
		"large",
		"link",
		"loop",
		"lost+found",
		"many",
		"sparse",
		"ümlaut \u{202e}",
	];
	assert_eq!(names, expected.map(|name| name.as_bytes().to_vec()));
	assert_eq!(read(files, b"/etc/passwd").unwrap(), b"root:x:0:0\n");
	assert_eq!(read(files, b"/folder-link/passwd").unwrap(), b"root:x:0:0\n");
	assert!(read(files, b"/large").unwrap() == large());
	assert_eq!(read(files, b"/empty").unwrap(), b"");
	match read(files, b"/sparse") {
		Ok(sparse) => {
			assert!(sparse.len() == (3 << 20) + 3 && sparse.ends_with(b"\0end") && sparse[5] == 0);
		}
		// Without extents, the reader knows no hole that spans a block of pointers, and says so.
		Err(error) => assert!(error.to_string().contains("/sparse") && !error.is_disk()),
	}
	assert_eq!(files.folder(b"/many").unwrap().len(), 500);
	assert_eq!(read(files, b"/many/file-with-a-rather-long-name-0499").unwrap(), b"499");
	let passwd = files.entry(b"/etc/passwd").unwrap();
	assert_eq!((passwd.kind, passwd.mode, passwd.bytes), (Kind::File, 0o640, 11));
	assert_eq!(passwd.name, b"passwd");
	assert_eq!(files.entry(b"/link").unwrap().kind, Kind::Symlink);
	assert_eq!(files.link(b"/link").unwrap(), b"/etc/passwd");
}

#[test]
fn files_of_every_family_member_are_read() {
	let world = World::new();
	for options in [
		&[][..],
		&["-b", "1024"],
		&["-O", "^metadata_csum,^64bit"],
		&["-O", "^has_journal,^extents,^64bit"],
		&["-t", "ext2"],
	] {
		let image = world.file_system(options);
		let area = Area::whole(Image(fs::File::open(&image).unwrap()));
		assert_files(&FileSystem::open(&area).unwrap());
	}
}

#[test]
fn what_is_not_there_or_something_else_is_told() {
	let world = World::new();
	let image = world.file_system(&[]);
	let files = FileSystem::open(&Area::whole(Image(fs::File::open(image).unwrap()))).unwrap();
	assert!(matches!(read(&files, b"/no"), Err(FileError::NotFound { path }) if path == "/no"));
	assert!(matches!(read(&files, b"/etc"), Err(FileError::IsAFolder { .. })));
	assert!(matches!(files.folder(b"/empty"), Err(FileError::NotAFolder { .. })));
	assert!(matches!(files.folder(b"etc"), Err(FileError::BadPath { .. })));
	assert!(matches!(files.entry(b""), Err(FileError::BadPath { .. })));
	let endless = read(&files, b"/loop").unwrap_err();
	assert!(!endless.is_disk(), "{endless}");
	assert!(files.link(b"/empty").is_err());
}

#[test]
fn partitions_of_both_kinds_of_table_are_found() {
	let world = World::new();
	let image = world.file_system(&[]);
	let gpt =
		"label: gpt\nstart=2048, size=4096, type=U, name=boot\nstart=8192, name=\"the root\"\n";
	let mbr =
		"label: dos\nstart=2048, size=4096, type=c\nstart=8192, type=5\nstart=10240, size=36864\n";
	for (script, sector, name) in [(gpt, 8192, "vda2"), (mbr, 10_240, "vda5")] {
		let disk = world.disk(script);
		put(&image, &disk, sector);
		let layout = layout(&disk);
		assert!(layout.problems.is_empty(), "{:?}", layout.problems);
		assert_eq!(layout.volumes.len(), 2, "{layout:?}");
		assert_eq!(layout.volumes[0].content, Content::Empty);
		let volume = layout.volume(name).unwrap();
		assert_eq!(volume.content, Content::Ext);
		assert_files(&FileSystem::open(&volume.area).unwrap());
	}
}

#[test]
fn a_disk_without_a_table_is_one_volume() {
	let world = World::new();
	let layout = layout(&world.file_system(&[]));
	assert_eq!(layout.volumes.len(), 1);
	assert_eq!((layout.volumes[0].name.as_str(), layout.volumes[0].content), ("vda", Content::Ext));
}

#[test]
fn what_waits_in_the_journal_counts_as_written() {
	let world = World::new();
	let image = world.file_system(&[]);
	// As after a power cut: a new mode of a file is in the journal only.
	let script = world.path("script");
	fs::write(&script, "set_inode_field /empty mode 0100604\n").unwrap();
	run(tool("debugfs").args(["-w", "-f"]).arg(&script).arg(&image).stderr(Stdio::null()));
	let table = |image: &Path| {
		let mut command = tool("debugfs");
		command.args(["-R", "imap /empty"]).arg(image).stdout(Stdio::piped());
		let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
		let after = text.split("located at block ").nth(1).unwrap();
		after.split(',').next().unwrap().trim().parse::<u64>().unwrap()
	};
	// Journal the block as it is with another mode, and take that mode back on the disk.
	let block = table(&image);
	let bytes = fs::read(&image).unwrap();
	let size = 1024usize << u32::from_le_bytes(bytes[1048..1052].try_into().unwrap());
	let journaled = bytes[block as usize * size..(block as usize + 1) * size].to_vec();
	fs::write(world.path("block"), journaled).unwrap();
	fs::write(&script, "set_inode_field /empty mode 0100600\n").unwrap();
	run(tool("debugfs").args(["-w", "-f"]).arg(&script).arg(&image).stderr(Stdio::null()));
	let write = format!(
		"journal_open -c -v 3\njournal_write -b {block} {}\njournal_close\n",
		world.path("block").display()
	);
	fs::write(&script, write).unwrap();
	run(tool("debugfs").args(["-w", "-f"]).arg(&script).arg(&image).stderr(Stdio::null()));
	let area = Area::whole(Image(fs::File::open(&image).unwrap()));
	let files = FileSystem::open(&area).unwrap();
	assert_eq!(files.entry(b"/empty").unwrap().mode, 0o604);
	assert_files(&files);
}

/// Numbers that look random and follow from the last one.
fn next(state: &mut u64) -> u64 {
	*state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
	*state >> 33
}

/// Read all there is, as far as it goes; nothing but returning is asked for.
fn read_everything(bytes: Vec<u8>) {
	let Ok(layout) = scan(&[("vda".to_owned(), Area::whole(Memory(bytes)))]) else { return };
	for volume in layout.volumes {
		let Ok(files) = FileSystem::open(&volume.area) else { continue };
		let mut pending = vec![b"/".to_vec()];
		for _ in 0..60 {
			let Some(path) = pending.pop() else { break };
			let Ok(entries) = files.folder(&path) else { continue };
			for entry in entries.into_iter().take(20) {
				let path = join(&path, &entry.name);
				let _ = files.link(&path);
				if let Ok(mut file) = files.file(&path) {
					let _ = file.read(&mut [0; 20_000]);
				}
				pending.push(path);
			}
		}
	}
}

#[test]
fn damaged_disks_are_errors_and_never_more() {
	let world = World::new();
	fs::remove_dir_all(world.path("tree/many")).unwrap();
	for options in
		[&["-O", "^metadata_csum", "-b", "1024"][..], &["-O", "^metadata_csum,^extents,^64bit"]]
	{
		let image = world.file_system(options);
		let disk = world.disk("label: dos\nstart=2048, size=32768\n");
		put(&image, &disk, 2048);
		let whole = fs::read(&disk).unwrap();
		// Where there is something to damage: the table, and what the file system says of itself.
		let start = 2048 * 512;
		let places: Vec<usize> = (0..whole.len())
			.filter(|at| whole[*at] != 0)
			.filter(|at| *at < 512 || (start..start + (1 << 20)).contains(at))
			.collect();
		let mut state = 7;
		for _ in 0..150 {
			let mut bytes = whole[..start + (16 << 20)].to_vec();
			for _ in 0..=next(&mut state) % 12 {
				let place = places[next(&mut state) as usize % places.len()];
				bytes[place] = next(&mut state) as u8;
			}
			// Now and then in the superblock, which says the most.
			if next(&mut state).is_multiple_of(2) {
				bytes[start + 1024 + next(&mut state) as usize % 0x170] = next(&mut state) as u8;
			}
			if next(&mut state).is_multiple_of(8) {
				bytes.truncate(next(&mut state) as usize % bytes.len());
			}
			read_everything(bytes);
		}
	}
}
