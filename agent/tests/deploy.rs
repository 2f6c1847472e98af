//! What `deploy/` ships fits this agent: its configuration file names every key, with the value that
//! holds without it, and containers set nothing that the agent does not know.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use backup_agent::config::{Config, Settings};
use clap::{Args, Command};
use std::{collections::BTreeSet, fs, path::Path};

/// Keys that have no value of their own. The file shows an example of each.
const WITHOUT_DEFAULT: [&str; 8] = [
	"gateway_listen",
	"peer_networks",
	"threads",
	"webhook_url",
	// A table, and what is in it.
	"[[kubo]]",
	"name",
	"url",
	"token_file",
];

/// Keys that can be set in the file alone.
const FILE_ONLY: [&str; 1] = ["kubo"];

fn shipped(name: &str) -> String {
	fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)).unwrap()
}

fn page(name: &str) -> String {
	fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// The words in the first column of a page's table that are code, without labels.
fn first_column(page: &str, head: &str) -> BTreeSet<String> {
	let rows = page.split_once(head).unwrap().1.lines().skip(2);
	let rows = rows.take_while(|line| line.starts_with('|'));
	let cells = rows.map(|row| row.trim_start_matches('|').split(" | ").next().unwrap());
	let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
	words.map(|word| word.split('{').next().unwrap().to_owned()).collect()
}

fn settings() -> Command {
	Settings::augment_args(Command::new("settings"))
}

/// The line without its comment sign, if it sets a key or begins a table. Prose has a space behind the sign.
fn commented_out(line: &str) -> Option<&str> {
	line.strip_prefix('#')
		.filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

/// The file with all keys in force but these.
fn in_force(text: &str, but: &[&str]) -> String {
	let keys = text.lines().filter_map(commented_out);
	let is_meant = |line: &&str| !but.contains(&line.split(' ').next().unwrap());
	keys.filter(is_meant).collect::<Vec<_>>().join("\n")
}

fn load(text: &str) -> Config {
	let file = tempfile::NamedTempFile::new().unwrap();
	fs::write(file.path(), text).unwrap();
	Config::load(Some(file.path()), Settings::default()).unwrap()
}

#[test]
fn the_shipped_configuration_names_every_key() {
	let all = in_force(&shipped("agent.toml"), &[]);
	let table: toml::Table = all.parse().unwrap();
	let named: BTreeSet<String> = table.keys().cloned().collect();
	let command = settings();
	let flags = command.get_arguments().map(|flag| flag.get_id().to_string());
	let keys: BTreeSet<String> = flags.chain(FILE_ONLY.map(str::to_owned)).collect();
	assert!(keys.len() > 20, "{keys:?}");
	assert_eq!(named, keys);
	// Every example is one that is accepted.
	load(&all);
}

#[test]
fn the_shipped_configuration_changes_nothing_and_shows_what_holds_without_it() {
	let without = Config::load(None, Settings::default()).unwrap();
	let text = shipped("agent.toml");
	assert_eq!(load(&text), without);
	assert_eq!(load(&in_force(&text, &WITHOUT_DEFAULT)), without);
}

#[test]
fn containers_set_nothing_that_the_agent_does_not_know() {
	let command = settings();
	let settings = command.get_arguments().filter_map(|flag| flag.get_env()?.to_str());
	// The file itself is no setting.
	let known: BTreeSet<&str> = settings.chain(["BACKUP_AGENT_CONFIG"]).collect();
	for file in ["docker/Dockerfile", "docker/compose.yaml", "kubernetes/agent.yaml"] {
		let text = shipped(file);
		let is_word = |c: char| c.is_ascii_uppercase() || c == '_';
		for (start, _) in text.match_indices("BACKUP_AGENT_") {
			let name = text[start..].split(|c| !is_word(c)).next().unwrap();
			assert!(known.contains(name), "{file} sets {name}");
		}
	}
	assert!(shipped("docker/compose.yaml").contains("BACKUP_AGENT_NODE_RPC"));
}

#[test]
fn every_alert_is_told_in_the_book() {
	let alerts = shipped("monitoring/alerts.yml");
	let alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
	let alerts: BTreeSet<String> = alerts.map(str::to_owned).collect();
	assert!(alerts.len() > 10, "{alerts:?}");
	assert_eq!(first_column(&page("operations.md"), "| alert | when | severity |"), alerts);
}

#[test]
fn what_alerts_and_dashboard_ask_for_is_told_in_the_book() {
	const PREFIX: &str = "backup_agent_";
	let told = first_column(&page("operations.md"), "| metric | what |");
	for file in ["monitoring/alerts.yml", "monitoring/dashboard.json"] {
		let text = shipped(file);
		let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
		let names: BTreeSet<&str> = text
			.match_indices(PREFIX)
			.map(|(start, _)| text[start + PREFIX.len()..].split(|c| !is_word(c)).next().unwrap())
			.collect();
		assert!(names.len() > 5, "{file}: {names:?}");
		for name in names {
			// A histogram is several series.
			let ends = ["_bucket", "_count", "_sum"];
			let series = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
			assert!(
				told.contains(series),
				"{file} asks for {series}, which the book does not tell"
			);
		}
	}
}

#[test]
fn the_agent_in_containers_has_the_daemons_there_for_replicas() {
	let config = load(&shipped("docker/agent.toml"));
	let compose = shipped("docker/compose.yaml");
	assert_eq!((config.kubo.len(), config.quorum), (2, 2));
	for daemon in &config.kubo {
		assert!(compose.contains(&format!("\n  {}:", daemon.name)), "{}", daemon.name);
		let port = daemon.url.strip_prefix("http://127.0.0.1:").unwrap();
		let published = format!("ports: [\"127.0.0.1:{port}:5001\"]");
		assert!(compose.contains(&published), "{published}");
		let secret = format!("file: {}\n", daemon.token_file.as_ref().unwrap().display());
		assert!(compose.contains(&secret), "{secret}");
	}
	assert!(compose.contains("./agent.toml:/etc/backup-agent/agent.toml:ro"));
	assert!(compose.contains("BACKUP_AGENT_CONFIG: /etc/backup-agent/agent.toml"));
}
