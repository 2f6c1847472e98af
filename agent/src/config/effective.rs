//! What is in force: every key with its value, where that came from, and what a reload changes.

use super::{Config, KuboSettings, Settings};
use clap::parser::ValueSource;
use std::{fmt::Write, num::NonZero};

/// The key whose value is a secret, and the one whose value may hold one.
const SECRET: &str = "webhook_url";
const NODE: &str = "node_rpc";

/// The one key that only a file can hold.
const KUBO: &str = "kubo";

/// Keys that may have no value.
const OPTIONAL: [&str; 3] = ["gateway_listen", SECRET, KUBO];

/// Keys whose change takes effect while the agent runs. All others need a restart.
const RELOADABLE: [&str; 15] = [
	"scratch_cap_bytes",
	"restore_format",
	"compression_level",
	"jobs_max",
	"threads",
	"read_bytes_per_second",
	"write_bytes_per_second",
	"copy_bytes_per_second",
	"unknown_root_grace_seconds",
	"sweep_seconds",
	"verify_presence_seconds",
	"verify_blocks_seconds",
	"verify_drill_seconds",
	"webhook_url",
	"log_filter",
];

impl Config {
	/// The settings that give this configuration, each key with its value, but for those that hold a
	/// secret.
	pub fn effective(&self) -> Settings {
		let seconds = |interval: Option<std::time::Duration>| interval.map_or(0, |i| i.as_secs());
		let speed = |limit: Option<NonZero<u64>>| Some(limit.map_or(0, NonZero::get));
		let Self { state_dir, listen, gateway_listen, gateway_open, verify, .. } = self;
		Settings {
			listen: Some(*listen),
			state_dir: Some(state_dir.clone()),
			vms_dir: Some(self.vms_dir.clone()),
			restore_dir: Some(self.restore_dir.clone()),
			scratch_dir: Some(self.scratch_dir.clone()),
			scratch_cap_bytes: Some(self.scratch_cap_bytes),
			node_rpc: (!self.node_rpc.is_secret()).then(|| self.node_rpc.to_string()),
			secret_file: Some(self.secret_file.clone()),
			identity_file: Some(self.identity_file.clone()),
			gateway_listen: *gateway_listen,
			gateway_open: Some(*gateway_open),
			peer_networks: Some(self.peer_networks.clone()),
			restore_format: Some(self.restore_format),
			compression_level: Some(self.compression.to_level()),
			jobs_max: Some(self.jobs_max),
			threads: u32::try_from(self.threads.get()).ok(),
			read_bytes_per_second: speed(self.read_bytes_per_second),
			write_bytes_per_second: speed(self.write_bytes_per_second),
			copy_bytes_per_second: speed(self.copy_bytes_per_second),
			unknown_root_grace_seconds: Some(self.unknown_root_grace.as_secs()),
			sweep_seconds: Some(self.sweep_interval.as_secs()),
			verify_presence_seconds: Some(seconds(verify.presence)),
			verify_blocks_seconds: Some(seconds(verify.blocks)),
			verify_drill_seconds: Some(seconds(verify.drill)),
			webhook_url: None,
			log_filter: Some(self.log_filter.to_string()),
			quorum: Some(self.quorum),
			kubo: self.kubo.iter().map(KuboSettings::from).collect(),
		}
	}
}

impl Config {
	/// What is shown of a key's value that holds a secret.
	fn secret(&self, key: &str) -> Option<String> {
		match key {
			SECRET => self.webhook.as_ref().map(ToString::to_string),
			NODE => self.node_rpc.is_secret().then(|| self.node_rpc.to_string()),
			_ => None,
		}
	}

	/// This configuration, with what of another one can take effect while the agent runs.
	pub(crate) fn reloaded(&self, wanted: Self) -> Self {
		Self {
			scratch_cap_bytes: wanted.scratch_cap_bytes,
			restore_format: wanted.restore_format,
			compression: wanted.compression,
			jobs_max: wanted.jobs_max,
			threads: wanted.threads,
			read_bytes_per_second: wanted.read_bytes_per_second,
			write_bytes_per_second: wanted.write_bytes_per_second,
			copy_bytes_per_second: wanted.copy_bytes_per_second,
			unknown_root_grace: wanted.unknown_root_grace,
			sweep_interval: wanted.sweep_interval,
			verify: wanted.verify,
			webhook: wanted.webhook,
			log_filter: wanted.log_filter,
			..self.clone()
		}
	}
}

/// A configuration as a file that gives the same again, each key with where its value came from.
#[derive(Debug)]
pub struct Printed<'a> {
	/// What is in force.
	pub config: &'a Config,
	/// What the file says by itself.
	pub file: &'a Settings,
	/// What it is called.
	pub file_name: &'a str,
	/// Which keys environment and flags have set.
	pub flags: &'a clap::ArgMatches,
}

impl Printed<'_> {
	/// The text. A secret is left out, and a key without a value; both stand there as comments.
	pub fn to_toml(&self) -> String {
		let (values, file) = (table(&self.config.effective()), table(self.file));
		let mut lines = Vec::new();
		for key in keys() {
			let origin = self.origin(&key, file.contains_key(&key));
			let line = match (values.get(&key), self.config.secret(&key)) {
				(Some(value), _) => format!("{key} = {value}"),
				(None, Some(url)) => format!("#{key} = \"{url}\""),
				(None, None) => format!("#{key} ="),
			};
			lines.push((line, origin));
		}
		let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
		let mut text = String::new();
		for (line, origin) in lines {
			// Writing to a string cannot fail.
			let _ = writeln!(text, "{line:width$}  # {origin}");
		}
		text
	}

	fn origin(&self, key: &str, is_in_file: bool) -> String {
		let given = if key == KUBO { None } else { self.flags.value_source(key) };
		let origin = match given {
			Some(ValueSource::CommandLine) => format!("--{}", key.replace('_', "-")),
			Some(ValueSource::EnvVariable) => format!("BACKUP_AGENT_{}", key.to_uppercase()),
			_ if is_in_file => self.file_name.to_owned(),
			_ if OPTIONAL.contains(&key) => "not set".to_owned(),
			_ => "default".to_owned(),
		};
		match self.config.secret(key).is_some() {
			true => format!("{origin}; a secret, so not printed"),
			false => origin,
		}
	}
}

/// What differs between two configurations, by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
	/// What can change while the agent runs.
	pub(crate) at_once: Vec<String>,
	/// What cannot.
	pub(crate) by_restart: Vec<String>,
}

impl Changes {
	pub(crate) fn between(before: &Config, after: &Config) -> Self {
		let (old, new) = (table(&before.effective()), table(&after.effective()));
		let has_changed = |key: &String| match key.as_str() {
			SECRET => before.webhook != after.webhook,
			NODE => before.node_rpc != after.node_rpc,
			key => old.get(key) != new.get(key),
		};
		let changed = keys().filter(has_changed);
		let (at_once, by_restart) = changed.partition(|key| RELOADABLE.contains(&key.as_str()));
		Self { at_once, by_restart }
	}
}

/// All keys, in the order of the documentation.
fn keys() -> impl Iterator<Item = String> {
	use clap::Args;
	let command = Settings::augment_args(clap::Command::new("settings"));
	let keys: Vec<String> = command.get_arguments().map(|key| key.get_id().to_string()).collect();
	keys.into_iter().chain([KUBO.to_owned()])
}

fn table(settings: &Settings) -> toml::Table {
	toml::Table::try_from(settings).expect("numbers, texts, paths and lists always serialize")
}

#[cfg(test)]
mod tests {
	use super::*;
	use clap::Args;
	use std::fs;

	/// Every key with a value that is not its default.
	const UNUSUAL: &str = r#"
		listen = "127.0.0.9:1"
		state_dir = "/a \" b"
		vms_dir = "/vms"
		restore_dir = "/r"
		scratch_dir = "/s"
		scratch_cap_bytes = 1048577
		node_rpc = "wss://x"
		secret_file = "/x"
		identity_file = "/i"
		gateway_listen = "[::]:7"
		gateway_open = true
		peer_networks = ["10.0.0.0/8", "fd00::/8"]
		restore_format = "raw"
		compression_level = 0
		jobs_max = 7
		threads = 251
		read_bytes_per_second = 1048577
		write_bytes_per_second = 1048578
		copy_bytes_per_second = 1048579
		unknown_root_grace_seconds = 61
		sweep_seconds = 2
		verify_presence_seconds = 0
		verify_blocks_seconds = 5
		verify_drill_seconds = 6
		webhook_url = "https://hooks.example/s3cret"
		log_filter = "warn"
		quorum = 2
		[[kubo]]
		name = "rack-2"
		url = "http://127.0.0.1:5001"
		token_file = "/t"
	"#;

	fn load(text: &str) -> Config {
		let file = tempfile::NamedTempFile::new().unwrap();
		fs::write(file.path(), text).unwrap();
		Config::load(Some(file.path()), Settings::default()).unwrap()
	}

	fn print(text: &str, arguments: &[&str]) -> (Config, String) {
		let file: Settings = toml::from_str(text).unwrap();
		let matches = Settings::augment_args(clap::Command::new("x"));
		let matches = matches.get_matches_from(["x"].iter().chain(arguments));
		let flags = <Settings as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
		let config = Config::check(flags.over(file.clone())).unwrap();
		let printed =
			Printed { config: &config, file: &file, file_name: "agent.toml", flags: &matches };
		let text = printed.to_toml();
		(config, text)
	}

	#[test]
	fn what_is_printed_gives_the_same_again() {
		for text in ["", UNUSUAL, "state_dir = \"/elsewhere\"\nthreads = 1\n"] {
			let (config, printed) = print(text, &[]);
			let again = load(&printed);
			// The secret is the one thing that is not in there.
			assert_eq!(Config { webhook: config.webhook.clone(), ..again }, config, "{printed}");
		}
	}

	#[test]
	fn every_key_is_there_with_its_origin_and_no_secret_is() {
		let (_, printed) = print(UNUSUAL, &["--jobs-max", "9"]);
		assert_eq!(printed.lines().count(), keys().count());
		let line = |key: &str| printed.lines().find(|line| line.contains(key)).unwrap();
		assert!(line("jobs_max").starts_with("jobs_max = 9 "), "{printed}");
		assert!(line("jobs_max").ends_with("# --jobs-max"), "{printed}");
		assert!(line("sweep_seconds").ends_with("# agent.toml"), "{printed}");
		assert!(line("webhook_url").starts_with("#webhook_url = \"https://hooks.example/***\""));
		assert!(!printed.contains("s3cret"), "{printed}");
		let (_, printed) = print("", &[]);
		let line = |key: &str| printed.lines().find(|line| line.contains(key)).unwrap();
		assert!(line("jobs_max").ends_with("# default"), "{printed}");
		assert!(line("webhook_url").ends_with("# not set"), "{printed}");
	}

	#[test]
	fn a_token_in_the_address_of_the_node_is_not_shown() {
		for secret in ["wss://me:s3cret@x", "wss://s3cret@x", "wss://x/s3cret", "wss://x?t=s3cret"]
		{
			let (config, printed) = print(&format!("node_rpc = {secret:?}\n"), &[]);
			let line = printed.lines().find(|line| line.contains("node_rpc")).unwrap();
			assert!(line.starts_with("#node_rpc = \"wss://x/***\""), "{line}");
			assert!(line.ends_with("# agent.toml; a secret, so not printed"), "{line}");
			assert!(!format!("{printed}{config:?}").contains("s3cret"), "{config:?}");
			assert_eq!(config.node_rpc.expose(), secret);
			let changes = Changes::between(&load("node_rpc = \"wss://x/other\"\n"), &config);
			assert_eq!(changes.by_restart, [NODE]);
		}
		for plain in ["ws://127.0.0.1:9944", "wss://node.example/", "ws://[::1]:9944"] {
			let (_, printed) = print(&format!("node_rpc = {plain:?}\n"), &[]);
			assert!(printed.contains(&format!("\nnode_rpc = {plain:?}")), "{printed}");
		}
		let wrong = Settings { node_rpc: Some("https://x/s3cret".into()), ..Settings::default() };
		let error = Config::check(wrong).unwrap_err().to_string();
		assert!(error.contains("node_rpc") && !error.contains("s3cret"), "{error}");
	}

	#[test]
	fn each_key_that_changes_is_told_and_either_takes_effect_or_needs_a_restart() {
		let changes = Changes::between(&load(""), &load(UNUSUAL));
		let mut all = [changes.at_once.clone(), changes.by_restart.clone()].concat();
		all.sort();
		let mut expected: Vec<_> = keys().collect();
		expected.sort();
		assert_eq!(all, expected, "{UNUSUAL} has every key");
		assert_eq!(changes.at_once.len(), RELOADABLE.len());
		assert_eq!(Changes::between(&load(UNUSUAL), &load(UNUSUAL)), Changes::default());
	}

	#[test]
	fn a_reload_takes_over_all_that_can_take_effect_and_nothing_else() {
		let (before, wanted) = (load(""), load(UNUSUAL));
		let after = before.reloaded(wanted.clone());
		let taken = Changes::between(&before, &after);
		assert_eq!(taken.at_once, RELOADABLE);
		assert!(taken.by_restart.is_empty(), "{taken:?}");
		assert!(Changes::between(&after, &wanted).at_once.is_empty());
	}
}
