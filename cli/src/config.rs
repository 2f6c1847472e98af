//! The configuration file: chains by name, each with a node and a place of the secret.
//!
//! ```toml
//! chain = "main"                          # which one of several, if --chain does not say
//!
//! [chains.main]
//! node = "wss://node.example.org"
//! secret_file = "owner.secret"             # or: secret_command = "pass show backup"
//! ```
//!
//! Flags count before the environment, the environment before the file. A chain that is chosen by flag
//! brings its node and its secret, which count before the environment then. Paths are relative to the
//! file's folder. No secret stands in it.

use crate::{
	args::{Global, Typed, parse_node},
	error::CliError,
	secret,
};
use backup_agent::nearest::nearest;
use serde::Deserialize;
use std::{
	collections::BTreeMap,
	env, fs,
	io::{ErrorKind, Read},
	path::{Path, PathBuf},
};

/// The node that is meant if nothing says otherwise.
const NODE: &str = "ws://127.0.0.1:9944";

/// Most bytes of a file.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
	chain: Option<String>,
	#[serde(default)]
	chains: BTreeMap<String, Chain>,
}

/// What is known of a chain.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
	node: Option<String>,
	#[serde(alias = "suri_file")]
	secret_file: Option<PathBuf>,
	#[serde(alias = "suri_command")]
	secret_command: Option<String>,
}

impl File {
	/// The name of a chain that is alone.
	fn only(&self) -> Option<String> {
		let mut names = self.chains.keys();
		names.next().filter(|_| names.next().is_none()).cloned()
	}
}

impl Global {
	/// Address of the node that is meant.
	pub(crate) fn address(&self) -> Result<&str, CliError> {
		self.ensure_chosen()?;
		Ok(self.node.as_deref().unwrap_or(NODE))
	}

	/// Ensure that it is known which chain is meant.
	pub(crate) fn ensure_chosen(&self) -> Result<(), CliError> {
		match self.unchosen.is_empty() {
			true => Ok(()),
			false => Err(CliError::ChainUnchosen { names: self.unchosen.join(", ") }),
		}
	}
}

/// Fill in what neither flags nor environment say.
pub(crate) fn complete(global: &mut Global) -> Result<(), CliError> {
	let Some((path, mut file)) = read(global.config.as_deref())? else {
		return match &global.chain {
			None => Ok(()),
			Some(name) => Err(no_chain(name, &File::default())),
		};
	};
	let Some(name) = global.chain.clone().or(file.chain.take()).or(file.only()) else {
		// Verbs that need no chain need no choice.
		if global.node.is_none() {
			global.unchosen = file.chains.into_keys().collect();
		}
		return Ok(());
	};
	let chain = match file.chains.remove(&name) {
		Some(chain) => chain,
		None => return Err(no_chain(&name, &file)),
	};
	if chain.secret_file.is_some() && chain.secret_command.is_some() {
		let reason =
			format!("chain {name} has secret_file and secret_command, and takes one of them");
		return Err(CliError::BadConfig { path, reason });
	}
	if let Some(Err(wrong)) = chain.node.as_deref().map(parse_node) {
		return Err(CliError::BadConfig {
			path,
			reason: format!("the node of chain {name}: {wrong}"),
		});
	}
	let Typed { node: is_node_typed, chain: is_chain_typed } = global.typed;
	let node = global.node.take();
	global.node = match is_chain_typed && !is_node_typed {
		true => chain.node.or(node),
		false => node.or(chain.node),
	};
	let has_secret = global.secret_file.is_some()
		|| global.secret_command.is_some()
		|| (!is_chain_typed && secret::from_environment().is_some());
	if !has_secret {
		let folder = path.parent().unwrap_or(Path::new("."));
		global.secret_file = chain.secret_file.map(|file| folder.join(file));
		global.secret_command = chain.secret_command;
	}
	Ok(())
}

/// The file that is named, or the one in its usual place if there is one.
fn read(named: Option<&Path>) -> Result<Option<(PathBuf, File)>, CliError> {
	let Some(path) = named.map(Path::to_owned).or_else(usual_path) else { return Ok(None) };
	let mut text = String::new();
	let opened = fs::File::open(&path);
	match opened.and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
		Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => return Ok(None),
		Err(source) => return Err(CliError::FileRead { path, source }),
		Ok(_) => (),
	}
	match toml::from_str(&text) {
		Ok(file) => Ok(Some((path, file))),
		Err(error) => {
			let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
			let reason = format!("line {line}: {}", error.message());
			Err(CliError::BadConfig { path, reason })
		}
	}
}

fn usual_path() -> Option<PathBuf> {
	Some(own_folder("XDG_CONFIG_HOME", ".config")?.join("config.toml"))
}

/// Where it is kept how far restores to devices are, if the user has any such place.
pub(crate) fn restores_folder() -> Option<PathBuf> {
	Some(own_folder("XDG_STATE_HOME", ".local/state")?.join("restores"))
}

/// The command's folder in the one that a variable names, or else in one of the user's home.
fn own_folder(variable: &str, usual: &str) -> Option<PathBuf> {
	let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
	let folder = set(variable).or_else(|| Some(set("HOME")?.join(usual)))?;
	Some(folder.join("backup"))
}

fn no_chain(name: &str, file: &File) -> CliError {
	let names: Vec<&str> = file.chains.keys().map(String::as_str).collect();
	CliError::NoChain {
		name: name.to_owned(),
		nearest: nearest(name, &names).map(str::to_owned),
		names: names.join(", "),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::args::Args;

	const TEXT: &str = "chain = \"main\"\n[chains.main]\nnode = \"wss://main\"\nsecret_file = \"key\"\n\
		[chains.test]\nnode = \"ws://test\"\nsecret_command = \"pass show\"\n";

	/// What a call with these arguments and this file comes to.
	fn global(text: &str, arguments: &str) -> Result<Global, CliError> {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("config.toml");
		fs::write(&path, text).unwrap();
		let call = format!("backup snapshots {arguments} --config {}", path.display());
		let mut global = Args::read(call.split_whitespace()).unwrap().global;
		complete(&mut global)?;
		global.secret_file = global.secret_file.map(|file| file.file_name().unwrap().into());
		Ok(global)
	}

	#[test]
	fn a_chain_has_its_node_and_its_secret() {
		let main = global(TEXT, "").unwrap();
		assert_eq!(main.node.as_deref(), Some("wss://main"));
		assert_eq!(main.secret_file.as_deref(), Some(Path::new("key")));
		let test = global(TEXT, "--chain test").unwrap();
		assert_eq!(test.node.as_deref(), Some("ws://test"));
		assert_eq!(test.secret_command.as_deref(), Some("pass show"));
		assert_eq!(test.secret_file, None);
	}

	#[test]
	fn flags_count_before_the_file() {
		let other = global(TEXT, "--node ws://other --secret-file mine").unwrap();
		assert_eq!(other.node.as_deref(), Some("ws://other"));
		assert_eq!(other.secret_file.as_deref(), Some(Path::new("mine")));
		let other = global(TEXT, "--chain test --secret-file mine").unwrap();
		assert_eq!((other.secret_command, other.node.as_deref()), (None, Some("ws://test")));
	}

	#[test]
	fn a_chain_among_several_has_to_be_chosen_by_whoever_needs_one() {
		let (_, several) = TEXT.split_once('\n').unwrap();
		let error = global(several, "").unwrap().address().unwrap_err();
		assert_eq!(error.exit_code(), 2);
		assert!(error.hint().contains("main, test"), "{}", error.hint());
		let named = global(several, "--node ws://other").unwrap();
		assert_eq!(named.address().unwrap(), "ws://other");
		assert_eq!(global(several, "--chain test").unwrap().address().unwrap(), "ws://test");
		let (one, _) = several.split_once("[chains.test]").unwrap();
		assert_eq!(global(one, "").unwrap().address().unwrap(), "wss://main");
		assert_eq!(global("", "").unwrap().address().unwrap(), NODE);
	}

	#[test]
	fn a_wrong_name_suggests_the_nearest() {
		let error = global(TEXT, "--chain tets").unwrap_err();
		assert!(error.to_string().contains("did you mean 'test'"), "{error}");
		assert!(error.hint().contains("main, test"), "{}", error.hint());
		assert!(matches!(global("", "--chain main"), Err(CliError::NoChain { .. })));
		assert_eq!(global("", "").unwrap().node, None);
	}

	#[test]
	fn what_is_wrong_in_a_file_is_told_with_its_line() {
		for (text, words) in [
			("chain = \"main\"\n[chains.main]\nnod = \"x\"", "line 3: unknown field `nod`"),
			("chain = ", "line 1"),
			("[chains.a]\nnode = \"http://x\"", "begins with ws:// or wss://"),
			("chain = \"a\"\n[chains.a]\nsecret_file = \"x\"\nsecret_command = \"y\"", "takes one"),
		] {
			let error = global(text, "").unwrap_err();
			assert!(matches!(error, CliError::BadConfig { .. }));
			assert!(error.to_string().contains(words), "{error}");
		}
	}
}
