//! `backup-agent live-restore`: a machine back at once, on images that fill in.

use super::{Context, answer::Versioned, parse_cid, runtime};
use crate::{
	api::{END_LIVE_RESTORE_PATH, EndOrder, LIVE_RESTORES_PATH},
	client::AgentClient,
	config::{Config, Settings},
	node::live_restores::{LiveRestoreOrder, LiveRestoreView},
};
use anyhow::{Result, bail};
use backup_primitives::Cid;
use clap::Subcommand;
use indicatif::HumanBytes;
use std::{
	path::{PathBuf, absolute},
	process::ExitCode,
};

#[derive(Debug, Subcommand)]
pub(super) enum LiveRestore {
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

pub(super) fn run(context: &Context, verb: LiveRestore) -> Result<ExitCode> {
	let runtime = runtime()?;
	runtime.block_on(async {
		match verb {
			LiveRestore::Begin { root, vm, folder, qmp, json, settings } => {
				let folder = folder.map(absolute).transpose()?;
				let qmp = qmp.map(absolute).transpose()?;
				let order = LiveRestoreOrder { root, vm, folder, qmp };
				begin(&context.load(*settings)?, &order, json).await
			}
			LiveRestore::List { json, settings } => list(&context.load(*settings)?, json).await,
			LiveRestore::End { vm, json, settings } => {
				end(&context.load(*settings)?, vm, json).await
			}
		}
	})?;
	Ok(ExitCode::SUCCESS)
}

/// Has the agent set a machine up, and says how to start it.
async fn begin(config: &Config, order: &LiveRestoreOrder, json: bool) -> Result<()> {
	let agent = AgentClient::new(config)?;
	let view: LiveRestoreView = agent.order(LIVE_RESTORES_PATH, order).await?;
	if json {
		println!("{}", Versioned::new(view).line()?);
		return Ok(());
	}
	let file = config.vms_dir.join(format!("{}.toml", view.vm));
	println!("machine    {}", file.display());
	for image in &view.images {
		println!("image      {}", image.display());
	}
	println!();
	println!("Start the machine now, with its usual definition and for each disk");
	println!("  -device …,rerror=stop,werror=stop");
	println!("Then it waits, and loses nothing, while this agent is away. The QMP socket must be");
	println!(
		"the one in the machine's file. See how far it is with `backup-agent live-restore list`."
	);
	Ok(())
}

/// Shows what is under way.
async fn list(config: &Config, json: bool) -> Result<()> {
	let views: Vec<LiveRestoreView> = AgentClient::new(config)?.view(LIVE_RESTORES_PATH).await?;
	if json {
		let views: Vec<_> = views.into_iter().map(Versioned::new).collect();
		println!("{}", serde_json::to_string(&views)?);
		return Ok(());
	}
	if views.is_empty() {
		println!("no machine's disks fill in");
	}
	for view in views {
		let (done, total) = (HumanBytes(view.done_bytes), HumanBytes(view.total_bytes));
		let problem = view.problem.map_or_else(String::new, |problem| format!("  {problem}"));
		let root = view.root.map_or_else(|| "-".to_owned(), |root| root.to_string());
		println!("{}  {}  {done} of {total}  {root}{problem}", view.vm, view.state);
	}
	Ok(())
}

/// Has the agent serve a machine's disks no longer.
async fn end(config: &Config, vm: String, json: bool) -> Result<()> {
	let order = EndOrder { vm };
	let ended: bool = AgentClient::new(config)?.order(END_LIVE_RESTORE_PATH, &order).await?;
	match ended {
		true if json => {
			let answer = serde_json::json!({ "vm": order.vm, "ended": true });
			println!("{}", Versioned::new(answer).line()?);
		}
		true => println!("{}: ended; what its images lack is missing now", order.vm),
		false => bail!("no live restore of {:?} is under way", order.vm),
	}
	Ok(())
}
