//! `backup-agent`: the command line of the daemon.
//!
//! Exit codes: 0 when told to end or done, 1 when it could not start or go on, 2 for wrong
//! arguments, 3 when `verify` or `fsck` found something that is not good.

use anyhow::{Context, Result};
use backup_agent::{
	api::VerifyOrder,
	config::{Config, Settings},
	daemon, fsck,
	job_log::JobLog,
	live_restore_command,
	node::live_restores::LiveRestoreOrder,
	secret::NodeIdentities,
	verification::{self, Depth},
};
use backup_primitives::Cid;
use clap::{Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tracing_subscriber::{
	EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How long work on the block store may go on after the agent was told to end.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads virtual machines, seals their blocks, keeps them in IPFS, and restores images.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
	/// Configuration file. Environment and flags win over it.
	#[arg(long, env = "BACKUP_AGENT_CONFIG", value_name = "FILE", global = true)]
	config: Option<PathBuf>,
	/// How log lines look.
	#[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
	log_format: LogFormat,
	#[command(subcommand)]
	command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
	/// For people.
	Text,
	/// For machines.
	Json,
}

#[derive(Debug, Subcommand)]
enum Command {
	/// Run until told to end by SIGTERM or SIGINT.
	Run(Box<Settings>),
	/// Make folders, secret and identity where they are missing, and say what to do next.
	Init(Box<Settings>),
	/// Print the public key that backups of this node are sealed to: that of the newest identity.
	Recipient(Box<Settings>),
	/// Put a new identity on top of the identity file, print its public key, and say what to do
	/// next. The older identities stay, for what is sealed to them.
	RotateIdentity(Box<Settings>),
	/// Check the configuration and print it.
	CheckConfig(Box<Settings>),
	/// Find out whether snapshots could be restored from here. Works beside a running agent.
	Verify(Box<Verify>),
	/// Start a machine at once, on images that fill in from a snapshot behind it.
	LiveRestore {
		#[command(subcommand)]
		verb: LiveRestore,
	},
	/// Compare the block store of a stopped agent with itself, and repair it if that is wanted.
	Fsck(Box<Fsck>),
}

#[derive(Debug, Subcommand)]
enum LiveRestore {
	/// Set a machine up, which must be off, so that it can be started.
	Begin {
		/// Root of the snapshot.
		#[arg(long, value_name = "CID", value_parser = parse_cid)]
		root: Cid,
		/// Name of the machine. Its images are made where its file on this node says.
		#[arg(long, value_name = "NAME")]
		vm: String,
		/// Set up a machine that this node has no file for, as the snapshot describes it, with
		/// everything in this folder.
		#[arg(long, value_name = "DIR")]
		folder: Option<PathBuf>,
		/// QEMU's control socket of that machine, if it is another than it was.
		#[arg(long, value_name = "SOCKET", requires = "folder")]
		qmp: Option<PathBuf>,
		/// Print one JSON object.
		#[arg(long)]
		json: bool,
		#[command(flatten)]
		settings: Box<Settings>,
	},
	/// Show the machines whose disks fill in.
	List {
		/// Print one JSON array.
		#[arg(long)]
		json: bool,
		#[command(flatten)]
		settings: Box<Settings>,
	},
	/// Give a live restore up. What its images lack is missing then.
	End {
		/// Name of the machine.
		#[arg(long, value_name = "NAME")]
		vm: String,
		/// Print one JSON object.
		#[arg(long)]
		json: bool,
		#[command(flatten)]
		settings: Box<Settings>,
	},
}

#[derive(Debug, clap::Args)]
struct Fsck {
	/// Note what is damaged, so that the next backup stores it anew; make a damaged index again.
	/// Nothing that is good is removed.
	#[arg(long)]
	repair: bool,
	/// Print one JSON object for what was found, and one for what is left after a repair.
	#[arg(long)]
	json: bool,
	#[command(flatten)]
	settings: Settings,
}

#[derive(Debug, clap::Args)]
struct Verify {
	/// How closely: presence looks every block up, blocks reads and hashes every block, drill
	/// restores every disk into the scratch folder and removes it.
	#[arg(long, value_enum, default_value = "blocks")]
	depth: Depth,
	/// Root of a snapshot; can be given more than once. All that are pinned if not given.
	#[arg(long, value_name = "CID", value_parser = parse_cid)]
	root: Vec<Cid>,
	/// Print one JSON object for each result.
	#[arg(long)]
	json: bool,
	#[command(flatten)]
	settings: Settings,
}

fn parse_cid(text: &str) -> Result<Cid, String> {
	text.parse().map_err(|error: backup_primitives::cid::CidError| error.to_string())
}

fn main() -> ExitCode {
	let arguments = Arguments::parse();
	let job_log = JobLog::default();
	start_log(arguments.log_format, &job_log);
	match run(arguments, job_log) {
		Ok(code) => code,
		Err(error) => {
			eprintln!("error: {error:#}");
			ExitCode::FAILURE
		}
	}
}

fn start_log(format: LogFormat, job_log: &JobLog) {
	let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
	let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
	let lines = match format {
		LogFormat::Text => lines.boxed(),
		LogFormat::Json => lines.json().boxed(),
	};
	tracing_subscriber::registry()
		.with(lines.with_filter(filter))
		.with(job_log.clone().with_filter(LevelFilter::INFO))
		.init();
}

/// Exit code when a snapshot or the store is not good.
const NOT_GOOD: u8 = 3;

fn run(arguments: Arguments, job_log: JobLog) -> Result<ExitCode> {
	let load = |settings: Settings| {
		Config::load(arguments.config.as_deref(), settings).context("failed to start")
	};
	match arguments.command {
		Command::Run(settings) => {
			let runtime = tokio::runtime::Runtime::new().context("failed to start")?;
			let result = runtime.block_on(daemon::run(load(*settings)?, job_log));
			// A collection may be cut short at any point, so nobody has to wait for one.
			runtime.shutdown_timeout(SHUTDOWN_TIME_MAX);
			result?;
		}
		Command::Init(settings) => init(&load(*settings)?)?,
		Command::Recipient(settings) => {
			let identities = NodeIdentities::load(&load(*settings)?.identity_file)?;
			println!("{}", identities.recipient());
		}
		Command::RotateIdentity(settings) => rotate_identity(&load(*settings)?)?,
		Command::CheckConfig(settings) => println!("{:#?}", load(*settings)?),
		Command::Verify(verify) => {
			let Verify { depth, root, json, settings } = *verify;
			let (config, order) = (load(settings)?, VerifyOrder { depth, roots: root });
			let runtime = tokio::runtime::Runtime::new().context("failed to start")?;
			let all_good = runtime.block_on(verification::command::run(&config, order, json))?;
			return Ok(exit_code(all_good));
		}
		Command::LiveRestore { verb } => {
			let runtime = tokio::runtime::Runtime::new().context("failed to start")?;
			runtime.block_on(async {
				match verb {
					LiveRestore::Begin { root, vm, folder, qmp, json, settings } => {
						let folder = folder.map(std::path::absolute).transpose()?;
						let qmp = qmp.map(std::path::absolute).transpose()?;
						let order = LiveRestoreOrder { root, vm, folder, qmp };
						live_restore_command::begin(&load(*settings)?, &order, json).await
					}
					LiveRestore::List { json, settings } => {
						live_restore_command::list(&load(*settings)?, json).await
					}
					LiveRestore::End { vm, json, settings } => {
						live_restore_command::end(&load(*settings)?, vm, json).await
					}
				}
			})?;
		}
		Command::Fsck(fsck) => {
			let Fsck { repair, json, settings } = *fsck;
			let config = load(settings)?;
			let runtime = tokio::runtime::Runtime::new().context("failed to start")?;
			return Ok(exit_code(runtime.block_on(fsck::run(&config, repair, json))?));
		}
	}
	Ok(ExitCode::SUCCESS)
}

fn exit_code(all_good: bool) -> ExitCode {
	if all_good { ExitCode::SUCCESS } else { ExitCode::from(NOT_GOOD) }
}

fn init(config: &Config) -> Result<()> {
	daemon::init(config)?;
	let identities = NodeIdentities::load(&config.identity_file)?;
	println!("state      {}", config.state_dir.display());
	println!("machines   {}", config.vms_dir.display());
	println!("recipient  {}", identities.recipient());
	println!();
	println!("Register the node on chain with this recipient, and start it with");
	println!("  --backup-agent-url http://{}", config.listen);
	println!("  --backup-agent-secret-file {}", config.secret_file.display());
	Ok(())
}

fn rotate_identity(config: &Config) -> Result<()> {
	let identities = NodeIdentities::rotate(&config.identity_file)
		.context("failed to rotate the node's identity")?;
	println!("identity   {}", config.identity_file.display());
	println!("recipient  {}", identities.recipient());
	println!();
	println!("1. Copy the identity file to where its earlier copies are.");
	println!("2. Restart the agent. It opens old and new snapshots from then on.");
	println!("3. Give the chain this recipient, with `rotate_keys`.");
	println!(
		"The older identities stay in the file, for as long as there are roots sealed to them."
	);
	Ok(())
}
