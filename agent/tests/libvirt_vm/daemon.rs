//! A libvirt of the tests' own.
//!
//! It lives in a mount and a process namespace: its folders lie over the host's, so that it neither
//! sees nor disturbs another libvirt, and when its first process ends all others end, too, every
//! QEMU among them.

use std::{
	env, fs,
	os::unix::fs::PermissionsExt,
	path::{Path, PathBuf},
	process::{Child, Command, Stdio},
	sync::{
		Arc, Mutex, PoisonError, Weak,
		mpsc::{self, Sender},
	},
	thread::{self, JoinHandle},
	time::{Duration, Instant},
};

/// The daemon of all tests that run now.
static DAEMON: Mutex<Weak<Daemon>> = Mutex::new(Weak::new());

/// QEMU's user, as in Debian.
const USER: u32 = 64055;

const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Folders of libvirt's, by what they are called in ours.
const FOLDERS: [(&str, &str); 5] = [
	("etc", "/etc/libvirt"),
	("run", "/run/libvirt"),
	("lib", "/var/lib/libvirt"),
	("cache", "/var/cache/libvirt"),
	("log", "/var/log/libvirt"),
];

const QEMU_CONF: &str = r#"
user = "libvirt-qemu"
group = "libvirt-qemu"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
security_driver = "none"
"#;

const LIBVIRTD_CONF: &str = r#"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"#;

/// The shell stays, since somebody has to take notice of processes that end. An
/// accelerator that is there and does not work would have libvirt ask QEMU what it can do again and
/// again, so there is none.
const START: &str = r#"
set -e
mount --bind passwd /etc/passwd
mount --bind group /etc/group
if [ -e /dev/kvm ]; then
	mount --bind kvm /dev/kvm
	mount -o remount,bind,ro /dev/kvm
fi
while read -r ours theirs; do
	mkdir -p "$theirs"
	mount --bind "$ours" "$theirs"
done < folders
libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirt/pid &
wait $!
"#;

pub(crate) struct Daemon {
	folder: tempfile::TempDir,
	/// Dropped to end it.
	alive: Option<Sender<()>>,
	thread: Option<JoinHandle<()>>,
}

impl Daemon {
	/// The one that runs, or a new one. Nothing where there can be none.
	pub(crate) fn shared() -> Option<Arc<Self>> {
		let mut shared = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
		if let Some(daemon) = shared.upgrade() {
			return Some(daemon);
		}
		let is_ci = env::var_os("CI").is_some();
		assert!(!is_ci || is_installed(), "libvirt is not installed, and must be in CI");
		if let Err(missing) = ensure_possible() {
			println!("SKIPPED: {missing}");
			return None;
		}
		let daemon = Arc::new(Self::start());
		*shared = Arc::downgrade(&daemon);
		Some(daemon)
	}

	fn start() -> Self {
		let folder = tempfile::tempdir().unwrap();
		prepare(folder.path());
		let (alive, end) = mpsc::channel();
		let path = folder.path().to_owned();
		// What is started here dies with its thread, so that lives as long as the daemon.
		let thread = thread::spawn(move || {
			let mut child = spawn(&path);
			let _ = end.recv();
			let _ = child.kill();
			let _ = child.wait();
		});
		let daemon = Self { folder, alive: Some(alive), thread: Some(thread) };
		let deadline = Instant::now() + START_TIME_MAX;
		while daemon.try_virsh(&["list"]).is_err() {
			assert!(Instant::now() < deadline, "libvirt did not start: {}", daemon.log());
			thread::sleep(Duration::from_millis(10));
		}
		daemon
	}

	pub(crate) fn uri(&self) -> String {
		let socket = self.folder.path().join("run/libvirt-sock");
		format!("qemu+unix:///system?socket={}", socket.display())
	}

	/// Have it do something, and return what it says.
	pub(crate) fn virsh(&self, arguments: &[&str]) -> String {
		self.try_virsh(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
	}

	pub(crate) fn try_virsh(&self, arguments: &[&str]) -> Result<String, String> {
		let output = Command::new("virsh")
			.args(["--quiet", "--connect", &self.uri()])
			.args(arguments)
			.stdin(Stdio::null())
			.output()
			.unwrap();
		match output.status.success() {
			true => Ok(String::from_utf8(output.stdout).unwrap()),
			false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
		}
	}

	/// The process of a domain's QEMU, as this host counts.
	pub(crate) fn process_of(&self, uuid: &str) -> u32 {
		let is_it = |process: &u32| {
			let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
			let mut words = words.split(|byte| *byte == 0);
			words.next().is_some_and(|program| program.ends_with(b"qemu-system-x86_64"))
				&& words.any(|word| word == uuid.as_bytes())
		};
		let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
		let processes = names.filter_map(|name| name.to_str().and_then(|name| name.parse().ok()));
		processes.into_iter().find(is_it).expect("it runs")
	}

	fn log(&self) -> String {
		let read = |name: &str| fs::read_to_string(self.folder.path().join(name));
		["out", "log/libvirtd.log"].map(|name| read(name).unwrap_or_default()).concat()
	}
}

impl Drop for Daemon {
	fn drop(&mut self) {
		self.alive.take();
		let _ = self.thread.take().map(JoinHandle::join);
	}
}

fn is_installed() -> bool {
	let is_there = |name| {
		let folders = env::var_os("PATH").unwrap_or_default();
		env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|f| f.join(name).exists())
	};
	is_there("libvirtd") && is_there("virsh")
}

fn ensure_possible() -> Result<(), &'static str> {
	if !rustix::process::geteuid().is_root() {
		return Err("libvirt's tests need root");
	}
	if !is_installed() {
		return Err("libvirt's daemon or its client is not installed");
	}
	let namespace = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
	match namespace.is_ok_and(|status| status.success()) {
		true => Ok(()),
		false => Err("this host allows no namespaces"),
	}
}

fn prepare(folder: &Path) {
	// QEMU's user passes on the way to its sockets.
	open_to_all(folder, 0o711);
	for (name, _) in FOLDERS {
		fs::create_dir(folder.join(name)).unwrap();
	}
	let folders = FOLDERS.map(|(ours, theirs)| match ours {
		// What a QEMU can do is asked once, which takes seconds.
		"cache" => format!("{} {theirs}\n", cache().display()),
		ours => format!("{ours} {theirs}\n"),
	});
	let system = |name: &str| fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
	let user = format!("libvirt-qemu:x:{USER}:{USER}::/nonexistent:/usr/sbin/nologin\n");
	let groups = format!("libvirt-qemu:x:{USER}:\nkvm:x:{}:\n", USER + 1);
	for (name, text) in [
		("folders", folders.concat()),
		("passwd", system("passwd") + &user),
		("group", system("group") + &groups),
		("etc/qemu.conf", QEMU_CONF.to_owned()),
		("etc/libvirtd.conf", LIBVIRTD_CONF.to_owned()),
		("start", START.to_owned()),
		("kvm", String::new()),
	] {
		fs::write(folder.join(name), text).unwrap();
	}
	open_to_all(&folder.join("kvm"), 0o600);
}

fn cache() -> PathBuf {
	let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libvirt-cache");
	fs::create_dir_all(&cache).unwrap();
	cache
}

pub(crate) fn open_to_all(path: &Path, mode: u32) {
	fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn spawn(folder: &Path) -> Child {
	let out = fs::File::create(folder.join("out")).unwrap();
	Command::new("setpriv")
		.args(["--pdeathsig", "KILL"])
		.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
		.args(["sh", "start"])
		.current_dir(folder)
		.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
		.stdin(Stdio::null())
		.stdout(out.try_clone().unwrap())
		.stderr(out)
		.spawn()
		.unwrap()
}
