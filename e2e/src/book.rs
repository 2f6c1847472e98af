//! The commands of the book's pages, typed as they stand there.
//!
//! - [`mod@page`]: which blocks of a page are commands, and what is said of them.
//! - [`script`]: a page as one script, and what came of it.
//! - [`shown`]: whether output is what a page shows.
//!
//! A page is played on a computer of its own, as far as its commands can tell: in namespaces in which
//! every port is free, in an empty home folder, with `/etc`, `/run` and `/var/lib` to write to. What is
//! written there is gone afterwards. Whatever a page starts ends with it.

pub mod page;
pub mod script;
pub mod shown;

use crate::{
	lab::Lab,
	node::raw_spec,
	process::{Process, built},
	script as nodejs,
};
use anyhow::{Context, Result, bail, ensure};
use page::Page;
use script::Script;
use std::{
	env, fs,
	os::unix::fs::MetadataExt,
	path::{Path, PathBuf},
	process::Command,
	time::Duration,
};

/// How long a page may take.
const PAGE_TIME_MAX: Duration = Duration::from_secs(600);

/// The programs that commands of the book are made of, where they are this project's.
const PROGRAMS: [&str; 3] = ["backup", "backup-agent", "backup-node"];

/// The page that stands in front of the book, in the root of the repository.
pub const README: &str = "README";

/// The folder of the book's pages.
pub fn pages() -> PathBuf {
	Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// A page, named without its ending.
pub fn page(name: &str) -> Result<Page> {
	let folder = match name {
		README => Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
		_ => pages(),
	};
	Page::read(&folder.join(format!("{name}.md")))
}

/// Type the commands of a page, named without its ending, in their order, and compare exit codes and
/// output with what it says. `NAME.before.sh` makes what the page begins with, `NAME.after.sh` looks at
/// what it leaves behind.
pub fn play(name: &str) -> Result<()> {
	let page = page(name)?;
	let lab = Lab::new(name)?;
	let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("book");
	let stage = |when: &str| {
		let path = stages.join(format!("{name}.{when}.sh"));
		path.is_file().then_some(path)
	};
	let script = Script::of(&page, stage("before"), stage("after"));
	let folder = lab.path().join("played");
	script.write(&folder)?;
	let played = run(&lab, &folder);
	if let Err(error) = played.and_then(|()| script.compare(&folder)) {
		bail!("{name}: {error:#}\n{}\n{}", script.failure(&folder), lab.logs());
	}
	println!("{}", page.summary());
	Ok(())
}

/// Run the script in namespaces of its own.
fn run(lab: &Lab, folder: &Path) -> Result<()> {
	let here = Path::new(env!("CARGO_MANIFEST_DIR"));
	let home = lab.path().join("home");
	fs::create_dir(&home).context("failed to make a home folder")?;
	let node = built("backup-node")?;
	let mut command = Command::new("unshare");
	command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
	if fs::metadata("/proc/self").context("no /proc")?.uid() != 0 {
		command.arg("--map-root-user");
	}
	command.arg("bash").arg(here.join("book/room.sh")).arg(folder);
	command.arg("bash").arg(folder.join("script.sh"));
	command
		.current_dir(&home)
		.env("HOME", &home)
		.env("PATH", path_with_programs()?)
		.env("LC_ALL", "C.UTF-8")
		.env("NO_COLOR", "1")
		.env("LOGS", lab.path().join("logs"))
		.env("DEV_CHAIN", raw_spec(&node, "dev")?)
		.env("LOCAL_CHAIN", raw_spec(&node, "local")?)
		.env("REPOSITORY", here.join(".."));
	// What would have programs look elsewhere.
	for (name, _) in env::vars_os() {
		if ["BACKUP_", "XDG_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
			command.env_remove(name);
		}
	}
	let mut process = Process::start("unshare", command, &lab.log("script"))?;
	let status = process.wait(PAGE_TIME_MAX)?;
	ensure!(status.success(), "its commands did not come to their end: {status}");
	Ok(())
}

/// The search path, with our programs before all others and nothing else of the build's folder.
fn path_with_programs() -> Result<std::ffi::OsString> {
	let folder =
		built("backup-node")?.parent().context("a program is in a folder")?.join("book-bin");
	fs::create_dir_all(&folder).context("failed to make a folder for programs")?;
	for name in PROGRAMS {
		let link = folder.join(name);
		if !link.exists() {
			// Another page may have made it meanwhile.
			let _ = std::os::unix::fs::symlink(built(name)?, &link);
		}
		ensure!(link.exists(), "{} leads nowhere", link.display());
	}
	let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
	let polkadotjs = Path::new(env!("CARGO_MANIFEST_DIR")).join("polkadotjs/node_modules/.bin");
	// Its scripts look for `node`, which a machine may have in another place.
	let folders =
		[folder, polkadotjs, nodejs::programs()?].into_iter().chain(system.map(PathBuf::from));
	env::join_paths(folders).context("a folder's name has a colon")
}
