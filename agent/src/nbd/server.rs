//! A server on a unix socket, for reading only.

use super::connection::Connection;
use crate::{
	format::{Geometry, Object},
	repositories::BlockSource,
};
use rustix::net::{Shutdown, shutdown};
use std::{
	collections::BTreeMap,
	fmt, fs, io,
	os::unix::{
		fs::{FileTypeExt, PermissionsExt},
		net::{UnixListener, UnixStream},
	},
	path::{Path, PathBuf},
	sync::{Arc, Mutex, MutexGuard, PoisonError},
	thread::{self, JoinHandle},
	time::Duration,
};

/// Most clients at once. A machine has one for each disk.
const CLIENTS_MAX: usize = 64;

/// How long nobody is let in after somebody could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A disk of a snapshot, as it is served.
pub struct ServedDisk {
	/// Name of the export.
	pub name: String,
	/// Where blocks come from.
	pub repository: Arc<dyn BlockSource>,
	/// How the snapshot's trees are built.
	pub geometry: Geometry,
	/// The disk of the opened root.
	pub object: Object,
}

impl fmt::Debug for ServedDisk {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("ServedDisk").field("name", &self.name).finish_non_exhaustive()
	}
}

/// The connections that are open.
type Clients = Mutex<Connections>;

#[derive(Debug, Default)]
struct Connections {
	/// By number.
	open: BTreeMap<u64, UnixStream>,
	/// Whether no more are wanted.
	is_ending: bool,
}

/// A running server. Dropping it ends all connections and takes the socket away.
#[derive(Debug)]
pub struct NbdServer {
	socket: PathBuf,
	listener: UnixListener,
	clients: Arc<Clients>,
	thread: Option<JoinHandle<()>>,
}

impl NbdServer {
	/// Serve disks on a socket, which only this user can connect to. One that a killed server left
	/// is replaced.
	///
	/// # Errors
	/// Fails when the socket cannot be made, or its path names something else. A path has 107 bytes
	/// at most, and its folder's must leave room for seven more.
	pub fn start(socket: &Path, disks: Vec<ServedDisk>) -> io::Result<Self> {
		let listener = bind(socket)?;
		let clients = Arc::new(Clients::default());
		let (own, shared) = (listener.try_clone()?, Arc::clone(&clients));
		let thread = thread::Builder::new()
			.name("nbd-server".into())
			.spawn(move || accept(&own, &disks, &shared))?;
		Ok(Self { socket: socket.to_owned(), listener, clients, thread: Some(thread) })
	}
}

impl Drop for NbdServer {
	fn drop(&mut self) {
		let _ = fs::remove_file(&self.socket);
		lock(&self.clients).is_ending = true;
		// Wakes the thread that waits for clients; then no more come, and those that are there
		// find the connection closed.
		let _ = shutdown(&self.listener, Shutdown::Both);
		hang_up(&self.clients);
		if let Some(thread) = self.thread.take() {
			let _ = thread.join();
		}
	}
}

/// Listen on a socket that was never open to others, in place of one that nobody listens on.
fn bind(socket: &Path) -> io::Result<UnixListener> {
	match fs::symlink_metadata(socket) {
		Ok(there) if there.file_type().is_socket() => fs::remove_file(socket)?,
		Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
		Err(error) if error.kind() == io::ErrorKind::NotFound => (),
		Err(error) => return Err(error),
	}
	// The folder is private, and its path no longer than the socket's.
	let parent = socket.parent().unwrap_or(Path::new("."));
	let folder = tempfile::Builder::new().prefix(".").rand_bytes(4).tempdir_in(parent)?;
	let private = folder.path().join("s");
	let listener = UnixListener::bind(&private)?;
	fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
	fs::rename(&private, socket)?;
	Ok(listener)
}

fn accept(listener: &UnixListener, disks: &[ServedDisk], clients: &Clients) {
	let numbers = 0..;
	thread::scope(|scope| {
		for number in numbers {
			let stream = match listener.accept() {
				_ if lock(clients).is_ending => break,
				Ok((stream, _)) => stream,
				Err(error) => {
					// Of what the whole process has too little, there may be more later.
					tracing::warn!(%error, "an NBD client could not be let in");
					thread::sleep(ACCEPT_PAUSE);
					continue;
				}
			};
			if !admit(number, &stream, clients) {
				continue;
			}
			let serve = move || {
				if let Err(error) = Connection::new(stream).and_then(|client| client.run(disks)) {
					tracing::debug!(%error, "an NBD client was lost");
				}
				lock(clients).open.remove(&number);
			};
			if let Err(error) = thread::Builder::new().spawn_scoped(scope, serve) {
				tracing::warn!(%error, "an NBD client could not be served");
				lock(clients).open.remove(&number);
			}
		}
		// One may have been admitted while the server was told to end.
		hang_up(clients);
	});
}

/// Note down a client, so that it can be told to go. Too many are turned away.
fn admit(number: u64, stream: &UnixStream, clients: &Clients) -> bool {
	let mut clients = lock(clients);
	if clients.open.len() >= CLIENTS_MAX {
		tracing::warn!("an NBD client was turned away: {CLIENTS_MAX} are connected");
		return false;
	}
	stream.try_clone().map(|own| clients.open.insert(number, own)).is_ok()
}

/// Everybody's connection ends. Its thread sees that at its next word.
fn hang_up(clients: &Clients) {
	for client in lock(clients).open.values() {
		let _ = client.shutdown(std::net::Shutdown::Both);
	}
}

fn lock(clients: &Clients) -> MutexGuard<'_, Connections> {
	clients.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{
		nbd::protocol::{
			COMMAND_READ, COMMAND_WRITE, FIXED_NEWSTYLE, NO_ZEROES, OPTION_EXPORT_NAME,
			OPTION_MAGIC, REQUEST_MAGIC,
		},
		pipeline::{
			DiskReader,
			tests::fixture::{CHUNK, MemoryDisk, World, noise},
		},
		repositories::RepositoryError,
		sources::nbd::{AfterRead, NbdDisk},
	};
	use backup_primitives::Cid;
	use std::{
		io::{Read, Write},
		process::Command,
	};

	/// A disk with holes, and an end within a chunk.
	fn content() -> Vec<u8> {
		let mut bytes = noise(1, 100 * CHUNK + 512);
		bytes[3 * CHUNK..9 * CHUNK].fill(0);
		bytes[40 * CHUNK..90 * CHUNK].fill(0);
		bytes
	}

	struct Bench {
		folder: tempfile::TempDir,
		_server: NbdServer,
	}

	impl Bench {
		fn new() -> Self {
			Self::with(|store| store)
		}

		fn with(source: impl Fn(Arc<dyn BlockSource>) -> Arc<dyn BlockSource>) -> Self {
			let world = World::new();
			let (_, root) = world.keep(None, MemoryDisk::new(content()), None);
			let disk = |name: &str| ServedDisk {
				name: name.to_owned(),
				repository: source(Arc::new(world.store.clone())),
				geometry: root.geometry,
				object: root.disks[0].clone(),
			};
			let folder = tempfile::tempdir().unwrap();
			let socket = folder.path().join("nbd");
			let server = NbdServer::start(&socket, vec![disk("vda"), disk("vdb")]).unwrap();
			Self { folder, _server: server }
		}

		fn socket(&self) -> PathBuf {
			self.folder.path().join("nbd")
		}

		/// What a client of the old style may do: it knows no structure.
		fn old_client(&self) -> UnixStream {
			let mut stream = UnixStream::connect(self.socket()).unwrap();
			stream.read_exact(&mut [0; 18]).unwrap();
			let flags = u32::from(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes();
			let name =
				[&OPTION_EXPORT_NAME.to_be_bytes()[..], &3u32.to_be_bytes(), b"vda"].concat();
			stream.write_all(&[&flags[..], &OPTION_MAGIC.to_be_bytes(), &name].concat()).unwrap();
			let mut size = [0; 8];
			stream.read_exact(&mut size).unwrap();
			assert_eq!(u64::from_be_bytes(size), content().len() as u64);
			stream.read_exact(&mut [0; 2]).unwrap();
			stream
		}
	}

	fn request(command: u16, offset: u64, length: u32) -> Vec<u8> {
		let head = [&REQUEST_MAGIC.to_be_bytes()[..], &[0; 2], &command.to_be_bytes()].concat();
		[&head[..], &[7; 8], &offset.to_be_bytes(), &length.to_be_bytes()].concat()
	}

	/// The error of a simple reply.
	fn code(stream: &mut UnixStream) -> u32 {
		let mut reply = [0; 16];
		stream.read_exact(&mut reply).unwrap();
		assert_eq!(reply[8..], [7; 8]);
		u32::from_be_bytes(reply[4..8].try_into().unwrap())
	}

	#[test]
	fn a_client_reads_the_disk_and_learns_where_it_is_zero() {
		let bench = Bench::new();
		let mut disk = NbdDisk::connect(&bench.socket(), "vdb", AfterRead::Keep).unwrap();
		let (mut bytes, mut at, mut data) = (vec![0; content().len()], 0, 0);
		while let Some(extent) = disk.next_extent(at).unwrap() {
			let range = extent.start as usize..extent.end as usize;
			data += range.len();
			disk.read_at(extent.start, &mut bytes[range]).unwrap();
			at = extent.end;
		}
		assert!(bytes == content());
		assert_eq!(data, content().len() - 56 * CHUNK);
	}

	#[test]
	fn qemu_reads_the_same() {
		let bench = Bench::new();
		let (raw, expected) =
			(bench.folder.path().join("raw"), bench.folder.path().join("expected"));
		fs::write(&expected, content()).unwrap();
		let url = format!("nbd+unix:///vda?socket={}", bench.socket().display());
		let convert = ["convert", "-f", "raw", "-O", "raw", &url];
		let done = Command::new("qemu-img").args(convert).arg(&raw).status().unwrap();
		assert!(done.success() && fs::read(&raw).unwrap() == content());
		let listed = Command::new("qemu-nbd").args(["--list", "-k"]).arg(bench.socket()).output();
		let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
		assert!(listed.contains("vda") && listed.contains("vdb"), "{listed}");
	}

	#[test]
	fn an_unknown_export_is_refused() {
		let bench = Bench::new();
		let error = NbdDisk::connect(&bench.socket(), "vdc", AfterRead::Keep).unwrap_err();
		assert!(error.to_string().contains("vdc"), "{error}");
	}

	#[test]
	fn old_clients_read_and_nobody_writes() {
		let bench = Bench::new();
		let mut stream = bench.old_client();
		stream.write_all(&request(COMMAND_READ, 10, 5 * CHUNK as u32)).unwrap();
		assert_eq!(code(&mut stream), 0);
		let mut bytes = vec![0; 5 * CHUNK];
		stream.read_exact(&mut bytes).unwrap();
		assert!(bytes == content()[10..10 + 5 * CHUNK]);

		stream.write_all(&request(COMMAND_WRITE, 0, 4)).unwrap();
		stream.write_all(b"evil").unwrap();
		assert_eq!(code(&mut stream), 1);
		for (offset, length) in [(content().len() as u64, 1), (u64::MAX, 9), (0, 1 << 30)] {
			stream.write_all(&request(COMMAND_READ, offset, length)).unwrap();
			assert_eq!(code(&mut stream), 22);
		}
		stream.write_all(&request(99, 0, 0)).unwrap();
		assert_eq!(code(&mut stream), 22);
	}

	#[test]
	fn who_does_not_keep_to_the_protocol_loses_the_connection_and_no_one_else_does() {
		let bench = Bench::new();
		let mut good = bench.old_client();
		let mut bad = bench.old_client();
		bad.write_all(&[0; 28]).unwrap();
		assert_eq!(bad.read(&mut [0; 1]).unwrap(), 0);
		let mut bad = UnixStream::connect(bench.socket()).unwrap();
		bad.read_exact(&mut [0; 18]).unwrap();
		let flags = u32::from(FIXED_NEWSTYLE).to_be_bytes();
		let long = [&OPTION_EXPORT_NAME.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat();
		bad.write_all(&[&flags[..], &OPTION_MAGIC.to_be_bytes(), &long].concat()).unwrap();
		assert_eq!(bad.read(&mut [0; 1]).unwrap(), 0);
		good.write_all(&request(COMMAND_READ, 0, 1)).unwrap();
		assert_eq!(code(&mut good), 0);
	}

	#[test]
	fn a_server_that_ends_takes_clients_and_socket_with_it() {
		let bench = Bench::new();
		let mut client = bench.old_client();
		let socket = bench.socket();
		drop(bench._server);
		assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
		assert!(!socket.exists());
	}

	/// A store that has lost what is no node.
	struct Lossy(Arc<dyn BlockSource>);

	impl BlockSource for Lossy {
		fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
			let is_chunk = cid.codec() == backup_primitives::cid::BlockCodec::Raw;
			if is_chunk { Ok(None) } else { self.0.get(cid) }
		}
	}

	#[test]
	fn what_is_lost_is_an_error_and_what_is_zero_is_not() {
		let bench = Bench::with(|store| Arc::new(Lossy(store)));
		let mut stream = bench.old_client();
		stream.write_all(&request(COMMAND_READ, 0, 1)).unwrap();
		assert_eq!(code(&mut stream), 5);
		stream.write_all(&request(COMMAND_READ, 4 * CHUNK as u64, 2)).unwrap();
		assert_eq!(code(&mut stream), 0);
		stream.read_exact(&mut [1; 2]).unwrap();
		let mut disk = NbdDisk::connect(&bench.socket(), "vda", AfterRead::Keep).unwrap();
		let error = disk.read_at(0, &mut [0; 512]).unwrap_err();
		assert!(error.to_string().contains("os error 5"), "{error}");
	}
}
