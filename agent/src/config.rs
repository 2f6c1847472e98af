//! What the operator decides: `agent.toml`, the environment and flags, in rising precedence.
//!
//! [`Config::load`] turns them into values that can be used as they are; nothing is checked
//! again later. A key that is not known is refused, because a misspelt limit that silently
//! keeps its default is worse than a start that fails. Nothing here touches the machine
//! except to read the file.

mod effective;

pub(crate) use effective::Changes;
pub use effective::Printed;

use crate::{
	chain::NodeUrl,
	format::Compression,
	log::LogFilter,
	nearest::nearest,
	peers::{AddressError, Reach},
	replicas::REPLICAS_MAX,
	sources::ImageFormat,
	verification::Schedule,
	webhook::WebhookUrl,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
	fs, io,
	net::{IpAddr, Ipv4Addr, SocketAddr},
	num::NonZero,
	path::{Path, PathBuf},
	time::Duration,
};
use tokio::sync::watch;

/// The configuration in force, as long as the agent runs. A reload changes it.
pub type InForce = watch::Receiver<Config>;

/// Most bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Most jobs that an operator may allow at once. Each has buffers and threads of its own.
pub const JOBS_MAX_LIMIT: u32 = 32;

/// Shortest grace of a root that the chain does not know. A re-org and a report that is still
/// on its way must have an end by then.
const UNKNOWN_ROOT_GRACE_MIN: Duration = Duration::from_secs(60);

/// Most threads of one job.
const THREADS_MAX: u32 = 256;

/// Slowest pace at which disks are read and written and copies fetched, in bytes per second. A slower one
/// would keep machines' filters in place for days.
const SPEED_MIN: u64 = 1 << 20;

const DAY_SECONDS: u64 = 24 * 3600;

/// How images are written by a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreFormat {
	/// QEMU's own format, with holes where the disk is empty.
	#[default]
	Qcow2,
	/// The disk's bytes, as a sparse file.
	Raw,
}

impl From<RestoreFormat> for ImageFormat {
	fn from(format: RestoreFormat) -> Self {
		match format {
			RestoreFormat::Qcow2 => Self::Qcow2,
			RestoreFormat::Raw => Self::Raw,
		}
	}
}

/// Everything that can be set, each key once. The same names stand in the file, in the
/// environment as `BACKUP_AGENT_…` and as flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
	/// Address to listen on; loopback only [default: 127.0.0.1:9955].
	#[arg(long, env = "BACKUP_AGENT_LISTEN")]
	pub listen: Option<SocketAddr>,
	/// Folder for jobs, blocks, secret and identity [default: /var/lib/backup-agent].
	#[arg(long, env = "BACKUP_AGENT_STATE_DIR", value_name = "DIR")]
	pub state_dir: Option<PathBuf>,
	/// Folder with one description per machine [default: state_dir/vms].
	#[arg(long, env = "BACKUP_AGENT_VMS_DIR", value_name = "DIR")]
	pub vms_dir: Option<PathBuf>,
	/// Folder that images are restored into [default: state_dir/restored].
	#[arg(long, env = "BACKUP_AGENT_RESTORE_DIR", value_name = "DIR")]
	pub restore_dir: Option<PathBuf>,
	/// Folder for guests' writes while a backup runs [default: state_dir/scratch].
	#[arg(long, env = "BACKUP_AGENT_SCRATCH_DIR", value_name = "DIR")]
	pub scratch_dir: Option<PathBuf>,
	/// Most bytes that the guests' writes of one disk may take there [default: 16 GiB].
	#[arg(long, env = "BACKUP_AGENT_SCRATCH_CAP_BYTES", value_name = "BYTES")]
	pub scratch_cap_bytes: Option<u64>,
	/// WebSocket of the node, to read finalized state from [default: ws://127.0.0.1:9944].
	#[arg(long, env = "BACKUP_AGENT_NODE_RPC", value_name = "URL", hide_env_values = true)]
	pub node_rpc: Option<String>,
	/// File with the secret that agent and node share [default: state_dir/secret].
	#[arg(long, env = "BACKUP_AGENT_SECRET_FILE", value_name = "FILE")]
	pub secret_file: Option<PathBuf>,
	/// File with the node's age identities, the newest first [default: state_dir/identity].
	#[arg(long, env = "BACKUP_AGENT_IDENTITY_FILE", value_name = "FILE")]
	pub identity_file: Option<PathBuf>,
	/// Address at which other nodes and owners fetch blocks; none if it is not set.
	#[arg(long, env = "BACKUP_AGENT_GATEWAY_LISTEN", value_name = "ADDRESS")]
	pub gateway_listen: Option<SocketAddr>,
	/// Serve blocks there to everyone, and not only to those whom the chain knows [default: false].
	#[arg(long, env = "BACKUP_AGENT_GATEWAY_OPEN", value_name = "BOOL")]
	pub gateway_open: Option<bool>,
	/// Networks whose nodes are asked for blocks beside those at public addresses, such as
	/// 10.0.0.0/8 [default: none].
	#[arg(long, env = "BACKUP_AGENT_PEER_NETWORKS", value_name = "NETWORK", value_delimiter = ',')]
	pub peer_networks: Option<Vec<IpNet>>,
	/// Format of restored images [default: qcow2].
	#[arg(long, env = "BACKUP_AGENT_RESTORE_FORMAT", value_name = "FORMAT")]
	pub restore_format: Option<RestoreFormat>,
	/// How hard new blocks are compressed: a level of zstd from 1, the fastest, to 19, the
	/// smallest; 0 for not at all [default: 3].
	#[arg(long, env = "BACKUP_AGENT_COMPRESSION_LEVEL", value_name = "LEVEL")]
	pub compression_level: Option<u32>,
	/// Snapshots that are taken at once, and restores, 1 to 32 of each [default: 2].
	#[arg(long, env = "BACKUP_AGENT_JOBS_MAX", value_name = "COUNT")]
	pub jobs_max: Option<u32>,
	/// Threads that compress and seal for one job [default: as many as there are processors].
	#[arg(long, env = "BACKUP_AGENT_THREADS", value_name = "COUNT")]
	pub threads: Option<u32>,
	/// Most bytes that all snapshots together read of disks in a second; 0 for no limit
	/// [default: 0].
	#[arg(long, env = "BACKUP_AGENT_READ_BYTES_PER_SECOND", value_name = "BYTES")]
	pub read_bytes_per_second: Option<u64>,
	/// Most bytes that all restores together write to disks in a second; 0 for no limit
	/// [default: 0].
	#[arg(long, env = "BACKUP_AGENT_WRITE_BYTES_PER_SECOND", value_name = "BYTES")]
	pub write_bytes_per_second: Option<u64>,
	/// Most bytes that are fetched from other nodes in a second for copies; 0 for no limit
	/// [default: 0].
	#[arg(long, env = "BACKUP_AGENT_COPY_BYTES_PER_SECOND", value_name = "BYTES")]
	pub copy_bytes_per_second: Option<u64>,
	/// How long the chain must not know a root before it is given up [default: 3600].
	#[arg(long, env = "BACKUP_AGENT_UNKNOWN_ROOT_GRACE_SECONDS", value_name = "SECONDS")]
	pub unknown_root_grace_seconds: Option<u64>,
	/// How often all roots are compared with the chain [default: 600].
	#[arg(long, env = "BACKUP_AGENT_SWEEP_SECONDS", value_name = "SECONDS")]
	pub sweep_seconds: Option<u64>,
	/// How often it is looked whether each snapshot is there; 0 for never [default: 86400].
	#[arg(long, env = "BACKUP_AGENT_VERIFY_PRESENCE_SECONDS", value_name = "SECONDS")]
	pub verify_presence_seconds: Option<u64>,
	/// How often all blocks of each snapshot are read and hashed; 0 for never [default: 2592000].
	#[arg(long, env = "BACKUP_AGENT_VERIFY_BLOCKS_SECONDS", value_name = "SECONDS")]
	pub verify_blocks_seconds: Option<u64>,
	/// How often the newest snapshot of each machine is restored into the scratch folder and
	/// removed again; 0 for never [default: 2592000].
	#[arg(long, env = "BACKUP_AGENT_VERIFY_DRILL_SECONDS", value_name = "SECONDS")]
	pub verify_drill_seconds: Option<u64>,
	/// Address that is told of backups that failed or are late, with a POST of JSON; none if it is
	/// not set.
	#[arg(long, env = "BACKUP_AGENT_WEBHOOK_URL", value_name = "URL", hide_env_values = true)]
	pub webhook_url: Option<String>,
	/// Which lines are logged, where RUST_LOG is not set, such as
	/// info,backup_agent::peers=debug [default: info].
	#[arg(long, env = "BACKUP_AGENT_LOG_FILTER", value_name = "FILTER")]
	pub log_filter: Option<String>,
	/// How many replicas must hold a snapshot until the chain is told of it, the agent's own store
	/// included [default: 1].
	#[arg(long, env = "BACKUP_AGENT_QUORUM", value_name = "COUNT")]
	pub quorum: Option<u32>,
	/// Kubo daemons that hold replicas. In the file only.
	#[arg(skip)]
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub kubo: Vec<KuboSettings>,
}

/// A Kubo daemon, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KuboSettings {
	/// What it is called here: at most 32 small letters, digits and hyphens.
	pub name: String,
	/// Address of its RPC.
	pub url: String,
	/// File with what it wants to be shown.
	pub token_file: Option<PathBuf>,
}

/// A Kubo daemon that holds a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KuboConfig {
	/// What it is called here.
	pub name: String,
	/// Address of its RPC, without a slash at its end.
	pub url: String,
	/// File with what it wants to be shown.
	pub token_file: Option<PathBuf>,
}

impl From<&KuboConfig> for KuboSettings {
	fn from(KuboConfig { name, url, token_file }: &KuboConfig) -> Self {
		Self { name: name.clone(), url: url.clone(), token_file: token_file.clone() }
	}
}

/// Most letters of a daemon's name.
const KUBO_NAME_CHARS_MAX: usize = 32;

/// The configuration of an agent, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
	/// Address to listen on. A loopback address.
	pub listen: SocketAddr,
	/// Folder for everything that the agent keeps.
	pub state_dir: PathBuf,
	/// Folder with the inventory of machines.
	pub vms_dir: PathBuf,
	/// Folder that images are restored into.
	pub restore_dir: PathBuf,
	/// Folder for guests' writes while a backup runs.
	pub scratch_dir: PathBuf,
	/// Most bytes that the guests' writes of one disk may take there.
	pub scratch_cap_bytes: u64,
	/// WebSocket of the node.
	pub node_rpc: NodeUrl,
	/// Address at which other nodes and owners fetch blocks.
	pub gateway_listen: Option<SocketAddr>,
	/// Whether everyone is served there, and not only those whom the chain knows.
	pub gateway_open: bool,
	/// Networks whose nodes are asked for blocks, beside those at public addresses.
	pub peer_networks: Vec<IpNet>,
	/// File with the secret that agent and node share.
	pub secret_file: PathBuf,
	/// File with the node's age identities, the newest first.
	pub identity_file: PathBuf,
	/// Format of restored images.
	pub restore_format: RestoreFormat,
	/// How hard new blocks are compressed.
	pub compression: Compression,
	/// Jobs of one kind that run at once; 1 to [`JOBS_MAX_LIMIT`].
	pub jobs_max: u32,
	/// Threads that compress and seal for one job.
	pub threads: NonZero<usize>,
	/// Most bytes that all snapshots together read of disks in a second.
	pub read_bytes_per_second: Option<NonZero<u64>>,
	/// Most bytes that all restores together write to disks in a second.
	pub write_bytes_per_second: Option<NonZero<u64>>,
	/// Most bytes that are fetched from other nodes in a second for copies.
	pub copy_bytes_per_second: Option<NonZero<u64>>,
	/// How long the chain must not know a root before it is given up.
	pub unknown_root_grace: Duration,
	/// How often all roots are compared with the chain.
	pub sweep_interval: Duration,
	/// When snapshots are verified.
	pub verify: Schedule,
	/// Who is told of backups that failed or are late.
	pub webhook: Option<WebhookUrl>,
	/// Which lines are logged.
	pub log_filter: LogFilter,
	/// How many replicas must hold a snapshot until the chain is told of it, the store included.
	pub quorum: u32,
	/// Kubo daemons that hold replicas, each with another name; [`REPLICAS_MAX`] at most.
	pub kubo: Vec<KuboConfig>,
}

/// Where a configuration comes from, so that it can be read again.
#[derive(Clone, Debug)]
pub struct ConfigSource {
	/// The file, if one is named.
	pub file: Option<PathBuf>,
	/// What environment and flags say, which stays as it is.
	pub flags: Settings,
}

impl ConfigSource {
	/// The configuration as it stands there now.
	pub fn load(&self) -> Result<Config, ConfigError> {
		Config::load(self.file.as_deref(), self.flags.clone())
	}
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
	/// The file could not be read.
	#[error("read the configuration {path}", path = .path.display())]
	Read {
		/// The file.
		path: PathBuf,
		/// What the system said.
		#[source]
		source: io::Error,
	},
	/// The file is not a configuration. Its line is not shown: it may hold a token.
	#[error("understand the configuration {path}, line {line}: {reason}", path = .path.display())]
	Parse {
		/// The file.
		path: PathBuf,
		/// Where it stands, counted from 1.
		line: usize,
		/// What is wrong there.
		reason: String,
	},
	/// A key of the file is none that is known.
	#[error(
		"understand the configuration {path}, line {line}: there is no key `{key}`{meant}",
		path = .path.display(),
		meant = .nearest.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
	)]
	UnknownKey {
		/// The file.
		path: PathBuf,
		/// Where it stands, counted from 1.
		line: usize,
		/// What stands there.
		key: String,
		/// What was probably meant.
		nearest: Option<String>,
	},
	/// The file is longer than any configuration.
	#[error("read the configuration {path}: it has more than {FILE_BYTES_MAX} bytes", path = .path.display())]
	TooLong {
		/// The file.
		path: PathBuf,
	},
	/// The agent would be open to other machines.
	#[error(
		"listen on {listen}: the agent serves this machine only, use an address such as 127.0.0.1:9955"
	)]
	NotLoopback {
		/// The address that was asked for.
		listen: SocketAddr,
	},
	/// The node's address is not a WebSocket.
	/// It is not shown: it may hold a token.
	#[error("use node_rpc: a WebSocket address such as ws://127.0.0.1:9944 is expected")]
	NodeRpc,
	/// The address of the webhook is none of the web. It is not shown: it may hold a token.
	#[error("use webhook_url: an address such as https://hooks.example/backups is expected")]
	Webhook,
	/// What is to be logged cannot be understood.
	#[error(
		"use log_filter = {filter:?}: {reason}; a level such as info is expected, or info,backup_agent::peers=debug"
	)]
	LogFilter {
		/// What was given.
		filter: String,
		/// What is wrong with it.
		reason: String,
	},
	/// The name of a Kubo daemon is none, or another's, too.
	#[error(
		"use [[kubo]] name = {name:?}: small letters, digits and hyphens are expected, {KUBO_NAME_CHARS_MAX} at most and not as another's"
	)]
	KuboName {
		/// The name that was given.
		name: String,
	},
	/// The address of a Kubo daemon is none.
	#[error(
		"use url of [[kubo]] {name:?}: {source}; an address such as http://127.0.0.1:5001 is expected"
	)]
	KuboUrl {
		/// The daemon.
		name: String,
		/// What is wrong with it.
		source: AddressError,
	},
	/// A Kubo daemon is named twice, and would count as two.
	#[error("use url of [[kubo]] {name:?}: {other:?} has the same, and one daemon is one replica")]
	SameKubo {
		/// The daemon.
		name: String,
		/// What it is called besides.
		other: String,
	},
	/// There are more Kubo daemons than are kept.
	#[error("use {found} tables of [[kubo]]: {REPLICAS_MAX} are allowed")]
	TooManyKubos {
		/// How many there are.
		found: usize,
	},
	/// A number is outside of its range.
	#[error("use {key} = {found}: {min} to {max} is allowed")]
	OutOfRange {
		/// The key.
		key: &'static str,
		/// The value that was given.
		found: i64,
		/// The least that is allowed.
		min: i64,
		/// The most that is allowed.
		max: i64,
	},
}

/// Why a file with this text is no configuration.
fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
	let path = path.to_owned();
	let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
	let line = before.matches('\n').count() + 1;
	// The words of serde's error are all that tells which keys there are in this place.
	let mut words = error.message().split('`').skip(1).step_by(2);
	match (error.message().starts_with("unknown field"), words.next()) {
		(true, Some(key)) => {
			let known: Vec<_> = words.collect();
			let nearest = nearest(key, &known).map(str::to_owned);
			ConfigError::UnknownKey { path, line, key: key.to_owned(), nearest }
		}
		_ => {
			let reason = error.message().lines().collect::<Vec<_>>().join(", ");
			ConfigError::Parse { path, line, reason }
		}
	}
}

impl Settings {
	/// Reads a file. A key that is not known is an error.
	pub fn read(path: &Path) -> Result<Self, ConfigError> {
		let failed = |source| ConfigError::Read { path: path.to_owned(), source };
		if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
			return Err(ConfigError::TooLong { path: path.to_owned() });
		}
		let text = fs::read_to_string(path).map_err(failed)?;
		toml::from_str(&text).map_err(|error| wrong(path, &text, &error))
	}

	/// Lays these settings over others.
	fn over(self, below: Self) -> Self {
		Self {
			listen: self.listen.or(below.listen),
			state_dir: self.state_dir.or(below.state_dir),
			vms_dir: self.vms_dir.or(below.vms_dir),
			restore_dir: self.restore_dir.or(below.restore_dir),
			scratch_dir: self.scratch_dir.or(below.scratch_dir),
			scratch_cap_bytes: self.scratch_cap_bytes.or(below.scratch_cap_bytes),
			node_rpc: self.node_rpc.or(below.node_rpc),
			gateway_listen: self.gateway_listen.or(below.gateway_listen),
			gateway_open: self.gateway_open.or(below.gateway_open),
			peer_networks: self.peer_networks.or(below.peer_networks),
			secret_file: self.secret_file.or(below.secret_file),
			identity_file: self.identity_file.or(below.identity_file),
			restore_format: self.restore_format.or(below.restore_format),
			compression_level: self.compression_level.or(below.compression_level),
			jobs_max: self.jobs_max.or(below.jobs_max),
			threads: self.threads.or(below.threads),
			read_bytes_per_second: self.read_bytes_per_second.or(below.read_bytes_per_second),
			write_bytes_per_second: self.write_bytes_per_second.or(below.write_bytes_per_second),
			copy_bytes_per_second: self.copy_bytes_per_second.or(below.copy_bytes_per_second),
			unknown_root_grace_seconds: self
				.unknown_root_grace_seconds
				.or(below.unknown_root_grace_seconds),
			sweep_seconds: self.sweep_seconds.or(below.sweep_seconds),
			verify_presence_seconds: self.verify_presence_seconds.or(below.verify_presence_seconds),
			verify_blocks_seconds: self.verify_blocks_seconds.or(below.verify_blocks_seconds),
			verify_drill_seconds: self.verify_drill_seconds.or(below.verify_drill_seconds),
			webhook_url: self.webhook_url.or(below.webhook_url),
			log_filter: self.log_filter.or(below.log_filter),
			quorum: self.quorum.or(below.quorum),
			kubo: if self.kubo.is_empty() { below.kubo } else { self.kubo },
		}
	}
}

impl Config {
	/// The configuration of `file`, if one is named, under the settings of environment and
	/// flags.
	pub fn load(file: Option<&Path>, flags: Settings) -> Result<Self, ConfigError> {
		let below = file.map(Settings::read).transpose()?.unwrap_or_default();
		Self::check(flags.over(below))
	}

	/// Folder of the block store.
	pub fn blocks_dir(&self) -> PathBuf {
		self.state_dir.join("blocks")
	}

	fn check(settings: Settings) -> Result<Self, ConfigError> {
		let state_dir = settings.state_dir.unwrap_or_else(|| "/var/lib/backup-agent".into());
		let inside = |path: Option<PathBuf>, name| path.unwrap_or_else(|| state_dir.join(name));
		let seconds = |key, value: Option<u64>, default, min| {
			in_range(key, value.unwrap_or(default), min, 30 * 24 * 3600)
		};
		let grace_min = UNKNOWN_ROOT_GRACE_MIN.as_secs();
		let grace = seconds(
			"unknown_root_grace_seconds",
			settings.unknown_root_grace_seconds,
			3600,
			grace_min,
		)?;
		let sweep = seconds("sweep_seconds", settings.sweep_seconds, 600, 1)?;
		let kubo = kubo(settings.kubo)?;
		let replicas = 1 + u32::try_from(kubo.len()).unwrap_or(u32::MAX);
		Ok(Self {
			listen: loopback(settings.listen)?,
			vms_dir: inside(settings.vms_dir, "vms"),
			restore_dir: inside(settings.restore_dir, "restored"),
			scratch_dir: inside(settings.scratch_dir, "scratch"),
			scratch_cap_bytes: in_range(
				"scratch_cap_bytes",
				settings.scratch_cap_bytes.unwrap_or(16 << 30),
				1 << 20,
				1 << 50,
			)?,
			node_rpc: websocket(settings.node_rpc)?,
			gateway_listen: settings.gateway_listen,
			gateway_open: settings.gateway_open.unwrap_or(false),
			peer_networks: settings.peer_networks.unwrap_or_default(),
			secret_file: inside(settings.secret_file, "secret"),
			identity_file: inside(settings.identity_file, "identity"),
			restore_format: settings.restore_format.unwrap_or_default(),
			compression: compression(settings.compression_level)?,
			jobs_max: in_range("jobs_max", settings.jobs_max.unwrap_or(2), 1, JOBS_MAX_LIMIT)?,
			threads: threads(settings.threads)?,
			read_bytes_per_second: speed("read_bytes_per_second", settings.read_bytes_per_second)?,
			write_bytes_per_second: speed(
				"write_bytes_per_second",
				settings.write_bytes_per_second,
			)?,
			copy_bytes_per_second: speed("copy_bytes_per_second", settings.copy_bytes_per_second)?,
			unknown_root_grace: Duration::from_secs(grace),
			sweep_interval: Duration::from_secs(sweep),
			verify: Schedule {
				presence: interval(
					"verify_presence_seconds",
					settings.verify_presence_seconds,
					DAY_SECONDS,
				)?,
				blocks: interval(
					"verify_blocks_seconds",
					settings.verify_blocks_seconds,
					30 * DAY_SECONDS,
				)?,
				drill: interval(
					"verify_drill_seconds",
					settings.verify_drill_seconds,
					30 * DAY_SECONDS,
				)?,
			},
			webhook: webhook(settings.webhook_url)?,
			log_filter: log_filter(settings.log_filter)?,
			quorum: in_range("quorum", settings.quorum.unwrap_or(1), 1, replicas)?,
			kubo,
			state_dir,
		})
	}
}

fn loopback(listen: Option<SocketAddr>) -> Result<SocketAddr, ConfigError> {
	let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9955);
	let listen = listen.unwrap_or(default);
	if listen.ip().is_loopback() { Ok(listen) } else { Err(ConfigError::NotLoopback { listen }) }
}

fn websocket(url: Option<String>) -> Result<NodeUrl, ConfigError> {
	let url = url.as_deref().unwrap_or("ws://127.0.0.1:9944");
	url.parse().map_err(|()| ConfigError::NodeRpc)
}

fn webhook(url: Option<String>) -> Result<Option<WebhookUrl>, ConfigError> {
	url.map(|url| url.parse().map_err(|()| ConfigError::Webhook)).transpose()
}

fn log_filter(filter: Option<String>) -> Result<LogFilter, ConfigError> {
	let Some(filter) = filter else { return Ok(LogFilter::default()) };
	filter.parse().map_err(|reason| ConfigError::LogFilter { filter, reason })
}

fn kubo(settings: Vec<KuboSettings>) -> Result<Vec<KuboConfig>, ConfigError> {
	if settings.len() > REPLICAS_MAX {
		return Err(ConfigError::TooManyKubos { found: settings.len() });
	}
	let mut daemons: Vec<KuboConfig> = Vec::new();
	for KuboSettings { name, url, token_file } in settings {
		let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
		let is_name = (1..=KUBO_NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_plain);
		if !is_name || daemons.iter().any(|other| other.name == name) {
			return Err(ConfigError::KuboName { name });
		}
		// The operator names it, so it may be anywhere.
		let url = match Reach::All.check(&url) {
			Ok(url) => url,
			Err(source) => return Err(ConfigError::KuboUrl { name, source }),
		};
		if let Some(other) = daemons.iter().find(|other| other.url == url) {
			return Err(ConfigError::SameKubo { name, other: other.name.clone() });
		}
		daemons.push(KuboConfig { name, url, token_file });
	}
	Ok(daemons)
}

fn threads(count: Option<u32>) -> Result<NonZero<usize>, ConfigError> {
	let all = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
	let Some(count) = count else { return Ok(all) };
	let count = in_range("threads", count, 1, THREADS_MAX)?;
	Ok(NonZero::new(count as usize).unwrap_or(all))
}

/// So many bytes a second, or no limit.
fn speed(key: &'static str, bytes: Option<u64>) -> Result<Option<NonZero<u64>>, ConfigError> {
	match bytes {
		None | Some(0) => Ok(None),
		Some(bytes) => in_range(key, bytes, SPEED_MIN, 1 << 50).map(NonZero::new),
	}
}

fn compression(level: Option<u32>) -> Result<Compression, ConfigError> {
	let Some(level) = level else { return Ok(Compression::DEFAULT) };
	Compression::level(level).ok_or(ConfigError::OutOfRange {
		key: "compression_level",
		found: level.into(),
		min: 0,
		max: Compression::LEVEL_MAX.into(),
	})
}

/// How often something is done; `None` for never, which is written as 0.
fn interval(
	key: &'static str,
	found: Option<u64>,
	default: u64,
) -> Result<Option<Duration>, ConfigError> {
	match found.unwrap_or(default) {
		0 => Ok(None),
		seconds => in_range(key, seconds, 1, 10 * 365 * DAY_SECONDS)
			.map(|seconds| Some(Duration::from_secs(seconds))),
	}
}

fn in_range<T>(key: &'static str, found: T, min: T, max: T) -> Result<T, ConfigError>
where
	T: PartialOrd + TryInto<i64>,
{
	if found >= min && found <= max {
		return Ok(found);
	}
	let shown = |value: T| value.try_into().unwrap_or(i64::MAX);
	Err(ConfigError::OutOfRange { key, found: shown(found), min: shown(min), max: shown(max) })
}

#[cfg(test)]
mod tests {
	use super::*;

	fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("agent.toml");
		fs::write(&path, text).unwrap();
		(dir, path)
	}

	#[test]
	fn defaults_stand_below_the_state_folder() {
		let config = Config::check(Settings::default()).unwrap();
		assert_eq!(config.listen.to_string(), "127.0.0.1:9955");
		assert_eq!(config.secret_file, Path::new("/var/lib/backup-agent/secret"));
		assert_eq!(config.jobs_max, 2);
		assert_eq!(config.unknown_root_grace, Duration::from_secs(3600));
		assert_eq!(config.verify.presence, Some(Duration::from_secs(86_400)));
	}

	#[test]
	fn flags_win_over_the_file() {
		let (_dir, path) = file("jobs_max = 4\nstate_dir = \"/a\"\nrestore_format = \"raw\"\n");
		let flags = Settings { state_dir: Some("/b".into()), ..Settings::default() };
		let config = Config::load(Some(&path), flags).unwrap();
		assert_eq!((config.jobs_max, config.restore_format), (4, RestoreFormat::Raw));
		assert_eq!(config.identity_file, Path::new("/b/identity"));
	}

	#[test]
	fn a_verification_every_zero_seconds_is_none() {
		let settings = Settings { verify_blocks_seconds: Some(0), ..Settings::default() };
		assert_eq!(Config::check(settings).unwrap().verify.blocks, None);
	}

	#[test]
	fn a_limit_of_zero_bytes_a_second_is_none() {
		let limits = |bytes| {
			let settings = Settings {
				read_bytes_per_second: bytes,
				write_bytes_per_second: bytes,
				copy_bytes_per_second: bytes,
				..Settings::default()
			};
			let config = Config::check(settings).unwrap();
			let limits = [
				config.read_bytes_per_second,
				config.write_bytes_per_second,
				config.copy_bytes_per_second,
			];
			limits.map(|limit| limit.map(NonZero::get))
		};
		assert_eq!((limits(None), limits(Some(0))), ([None; 3], [None; 3]));
		assert_eq!(limits(Some(5 << 20)), [Some(5 << 20); 3]);
	}

	#[test]
	fn kubo_daemons_are_named_once_and_reached_by_http() {
		let load = |text: &str| {
			let (_dir, path) = file(text);
			Config::load(Some(&path), Settings::default())
		};
		let one = "[[kubo]]\nname = \"rack-2\"\nurl = \"http://10.0.0.2:5001/\"\n";
		let config = load(&format!("quorum = 2\n{one}")).unwrap();
		assert_eq!((config.quorum, config.kubo[0].url.as_str()), (2, "http://10.0.0.2:5001"));
		let refused = |text: &str| load(text).unwrap_err().to_string();
		assert!(refused(&format!("{one}{one}")).contains("name = \"rack-2\""));
		let twice = format!("{one}{}", one.replace("rack-2", "rack-3"));
		assert!(refused(&twice).contains("\"rack-3\": \"rack-2\" has the same"));
		assert!(refused(&one.replace("rack-2", "../x")).contains("small letters"));
		assert!(refused(&one.replace("http:", "ftp:")).contains("neither http nor https"));
		assert!(refused(&one.replace("//", "//user:s3cret@")).contains("it has a user"));
		assert_eq!(refused(&format!("quorum = 3\n{one}")), "use quorum = 3: 1 to 2 is allowed");
		let many: String = (0..9).map(|n| one.replace("rack-2", &format!("k{n}"))).collect();
		assert!(refused(&many).contains("9 tables"));
	}

	#[test]
	fn a_misspelt_key_is_named_with_its_line() {
		let (_dir, path) = file("listen = \"127.0.0.1:1\"\njobs_maxx = 3\n");
		let error = Config::load(Some(&path), Settings::default()).unwrap_err();
		let meant = "line 2: there is no key `jobs_maxx`; did you mean `jobs_max`?";
		assert!(error.to_string().ends_with(meant), "{error}");
		let (_dir, path) = file("\n[replicas]\nxyz = 1\n");
		let error = Config::load(Some(&path), Settings::default()).unwrap_err();
		assert!(error.to_string().ends_with("line 2: there is no key `replicas`"), "{error}");
	}

	#[test]
	fn values_outside_of_their_range_are_refused() {
		let refused = |settings| Config::check(settings).unwrap_err().to_string();
		let none = Settings::default;
		assert!(refused(Settings { compression_level: Some(20), ..none() }).contains("0 to 19"));
		assert_eq!(
			refused(Settings { jobs_max: Some(0), ..none() }),
			"use jobs_max = 0: 1 to 32 is allowed"
		);
		assert!(refused(Settings { threads: Some(0), ..none() }).contains("1 to 256"));
		let slow = Settings { read_bytes_per_second: Some(1000), ..none() };
		assert!(refused(slow).contains("read_bytes_per_second = 1000"));
		assert!(
			refused(Settings { verify_drill_seconds: Some(u64::MAX), ..none() }).contains("drill")
		);
		assert!(refused(Settings { sweep_seconds: Some(u64::MAX), ..none() }).contains("sweep"));
		let open = Settings { listen: Some("0.0.0.0:9955".parse().unwrap()), ..none() };
		assert!(refused(open).contains("this machine only"));
		let http = Settings { node_rpc: Some("http://127.0.0.1:9944".into()), ..none() };
		assert!(refused(http).contains("ws://"));
	}
}
