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

/// A file of the repository.
fn file(path: &str) -> String {
	fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

fn shipped(name: &str) -> String {
	file(&format!("deploy/{name}"))
}

fn page(name: &str) -> String {
	file(&format!("docs/{name}"))
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

/// A build of the image sees nothing but what `.dockerignore` lets in.
#[test]
fn the_image_is_built_from_every_member_of_the_workspace_with_the_pinned_compiler() {
	let ignored = file(".dockerignore");
	let let_in: BTreeSet<&str> =
		ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
	assert_eq!(ignored.lines().next(), Some("*"), "all but what is named stays outside");
	let workspace: toml::Table = file("Cargo.toml").parse().unwrap();
	let members = workspace["workspace"]["members"].as_array().unwrap();
	let members = members.iter().map(|member| member.as_str().unwrap());
	// The root is a package, too.
	for path in members.chain(["Cargo.toml", "Cargo.lock", ".cargo", "src"]) {
		let top = path.split('/').next().unwrap();
		assert!(let_in.contains(top), "{path} is missing where the image is built");
	}
	let toolchain: toml::Table = file("rust-toolchain.toml").parse().unwrap();
	let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
	let release = channel.rsplit_once('.').unwrap().0;
	let builder = format!("FROM rust:{release}-bookworm AS build\n");
	assert!(shipped("docker/Dockerfile").contains(&builder), "{builder}");
}

/// The agent's own words for where it listens and keeps what it has.
#[test]
fn containers_reach_the_agent_where_it_is_and_keep_its_folder() {
	let config = Config::load(None, Settings::default()).unwrap();
	let (listen, state) = (config.listen, config.state_dir.display().to_string());
	let image = shipped("docker/Dockerfile");
	assert!(image.contains(&format!("\"http://{listen}/healthz\"")), "{listen}");
	assert!(image.contains(&format!("\nVOLUME {state}\n")), "{state}");
	assert!(image.contains(&format!("-m 0700 -o 10001 -g 10001 {state}\n")), "{state}");
	assert!(image.contains("\nUSER 10001:10001\n"));
	let compose = shipped("docker/compose.yaml");
	assert_eq!(compose.matches(&format!("{state}:{state}")).count(), 2, "init and agent");
	let manifest = shipped("kubernetes/agent.yaml");
	assert!(manifest.contains(&format!("mountPath: {state}}}")));
	assert!(manifest.contains(&format!("hostPath: {{path: {state}, type: Directory}}")));
	for path in ["/healthz", "/ready"] {
		let probe = format!("{{host: {}, port: {}, path: {path}}}", listen.ip(), listen.port());
		assert!(manifest.contains(&probe), "{probe}");
		assert!(file("agent/src/api.rs").contains(&format!("{path:?}")), "{path} is served");
	}
	let version = env!("CARGO_PKG_VERSION");
	assert!(manifest.contains(&format!("pallet-backup/agent:{version}\n")), "{version}");
}

#[test]
fn containers_run_verbs_that_the_agent_has() {
	let verbs = [
		("docker/Dockerfile", "CMD [\"run\"]", "run"),
		("docker/compose.yaml", "command: [init]", "init"),
		("kubernetes/agent.yaml", "args: [init]", "init"),
		("kubernetes/agent.yaml", "args: [run]", "run"),
	];
	for (name, words, verb) in verbs {
		assert!(shipped(name).contains(words), "{name}: {words}");
		let mut agent = std::process::Command::new(env!("CARGO_BIN_EXE_backup-agent"));
		assert!(agent.args([verb, "--help"]).output().unwrap().status.success(), "{verb}");
	}
	assert!(shipped("docker/Dockerfile").contains("ENTRYPOINT [\"backup-agent\"]"));
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
