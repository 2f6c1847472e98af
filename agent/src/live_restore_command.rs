//! `backup-agent live-restore`: a machine back at once, on images that fill in.

use crate::{
	api::{END_LIVE_RESTORE_PATH, EndOrder, LIVE_RESTORES_PATH},
	client::AgentClient,
	config::Config,
	node::live_restores::{LiveRestoreOrder, LiveRestoreView},
};
use anyhow::{Result, bail};
use indicatif::HumanBytes;

/// Has the agent set a machine up, and says how to start it.
pub async fn begin(config: &Config, order: &LiveRestoreOrder, json: bool) -> Result<()> {
	let agent = AgentClient::new(config)?;
	let view: LiveRestoreView = agent.order(LIVE_RESTORES_PATH, order).await?;
	if json {
		println!("{}", serde_json::to_string(&view)?);
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
pub async fn list(config: &Config, json: bool) -> Result<()> {
	let views: Vec<LiveRestoreView> = AgentClient::new(config)?.view(LIVE_RESTORES_PATH).await?;
	if json {
		println!("{}", serde_json::to_string(&views)?);
		return Ok(());
	}
	if views.is_empty() {
		println!("no machine's disks fill in");
	}
	for view in views {
		let (done, total) = (HumanBytes(view.done_bytes), HumanBytes(view.total_bytes));
		let problem = view.problem.map_or_else(String::new, |problem| format!("  {problem}"));
		println!("{}  {}  {done} of {total}  {}{problem}", view.vm, view.state, view.root);
	}
	Ok(())
}

/// Has the agent serve a machine's disks no longer.
pub async fn end(config: &Config, vm: String, json: bool) -> Result<()> {
	let order = EndOrder { vm };
	let ended: bool = AgentClient::new(config)?.order(END_LIVE_RESTORE_PATH, &order).await?;
	match ended {
		true if json => println!("{}", serde_json::json!({ "vm": order.vm, "ended": true })),
		true => println!("{}: ended; what its images lack is missing now", order.vm),
		false => bail!("no live restore of {:?} is under way", order.vm),
	}
	Ok(())
}
