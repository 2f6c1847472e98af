//! The daemon: from a configuration to a running agent, and to its end.

mod reload;

use crate::{
	api::{Access, Api, Cars, Gatekeeper, Limits, NodeProbe, connections},
	chain::NodeChain,
	config::{Config, ConfigSource, InForce},
	copies::Copies,
	job_log::JobLog,
	jobs::{Jobs, Ledger, executor::Executor, sweep},
	log::Log,
	node::{NodeExecutor, live_restores::LiveRestores},
	peers::{Elsewhere, PeerDirectory, Reach},
	replicas::Replicas,
	repositories::{EmbeddedStore, Kubo, StoreOptions, forget_trials},
	secret::{KuboToken, NodeIdentities, SharedSecret},
	sources::{Inventory, Leftovers},
	verification::{Mender, Verifier, schedule},
	webhook::Webhook,
};
use anyhow::{Context, Result};
use std::{
	fs, future::IntoFuture, net::IpAddr, os::unix::fs::DirBuilderExt, path::Path, sync::Arc,
	time::Duration,
};
use tokio::{
	net::TcpListener,
	runtime::Handle,
	signal::unix::{SignalKind, signal},
	sync::watch,
};

/// How long after one try to clean up machines the next is made.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(5);

/// How often machines are looked after whose disks fill in.
const FILL_EVERY: Duration = Duration::from_secs(2);

/// How often restores are looked for that were abandoned.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// How long jobs may take to clean up when the agent is told to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// How long after that answers may take that are still on their way.
const LAST_ANSWERS_TIME_MAX: Duration = Duration::from_secs(2);

/// Make the folders and secrets of an agent, where they are not there yet.
pub fn init(config: &Config) -> Result<()> {
	let inside = [
		&config.state_dir,
		&config.vms_dir,
		&config.restore_dir,
		&config.scratch_dir,
		&config.state_dir.join("keys"),
		&config.blocks_dir(),
	];
	for folder in inside {
		make_folder(folder)?;
	}
	SharedSecret::create(&config.secret_file).context("failed to make the shared secret")?;
	NodeIdentities::create(&config.identity_file).context("failed to make the node's identity")?;
	Ok(())
}

fn make_folder(folder: &Path) -> Result<()> {
	fs::DirBuilder::new()
		.recursive(true)
		.mode(0o700)
		.create(folder)
		.with_context(|| format!("failed to make the folder {}", folder.display()))
}

/// Run the agent until it is told to end. What its jobs log is shown from `job_log`.
pub async fn run(source: ConfigSource, job_log: JobLog, log: Log) -> Result<()> {
	let config = source.load().context("failed to start")?;
	log.show(&config.log_filter);
	// Before all else: such a signal would end the agent.
	let hang_ups = signal(SignalKind::hangup()).context("failed to listen for signals")?;
	let (force, in_force): (_, InForce) = watch::channel(config.clone());
	let secret = SharedSecret::load(&config.secret_file).context("failed to start")?;
	let identities = NodeIdentities::load(&config.identity_file).context("failed to start")?;
	let recipient = identities.recipient().to_string();
	let identity_count = identities.count();
	let identities = Arc::new(identities);
	let blocks = config.blocks_dir();
	let store = EmbeddedStore::open(&blocks, StoreOptions::V1).with_context(|| {
		format!(
			"failed to open the block store {}; is another agent running on it?",
			blocks.display()
		)
	})?;
	forget_trials(&store).context("failed to unpin what a trial of the store has left")?;
	let ledger = Ledger::open(&config.state_dir.join("jobs.redb")).context("failed to start")?;
	let gatekeeper =
		Arc::new(Gatekeeper::new(secret, &ledger).context("failed to read the ledger of jobs")?);
	let verifier = Verifier::new(
		store.clone(),
		identities.clone(),
		config.scratch_dir.clone(),
		ledger.clone(),
	);
	let chain = {
		let gatekeeper = gatekeeper.clone();
		Arc::new(NodeChain::new(config.node_rpc.clone(), move || gatekeeper.genesis()))
	};
	let directory = directory(&config, identities.clone()).await?;
	let copies =
		Arc::new(Copies::new(store.clone(), directory.clone(), chain.clone(), in_force.clone()));
	let replicas = Arc::new(replicas(&config, store.clone(), &identities, chain.clone())?);
	let elsewhere = Elsewhere::new(replicas.clone(), directory, chain.clone(), Handle::current());
	let elsewhere = Arc::new(elsewhere);
	let access = Arc::new(Access::new(identities.clone(), chain.clone()));
	let executor = Arc::new(NodeExecutor::new(
		in_force.clone(),
		store.clone(),
		identities,
		copies.clone(),
		elsewhere.clone(),
		replicas.clone(),
	));
	recover(executor.clone()).await.context("failed to clean up what an earlier run left")?;
	let cleaner = tokio::spawn(clean_up(executor.leftovers().clone()));
	let tidier = tokio::spawn(tidy(executor.clone()));
	let live_restores = executor.live_restores().clone();
	let filler = tokio::spawn(fill_in(live_restores.clone()));
	let jobs =
		Jobs::open(executor.clone(), ledger.clone(), config.jobs_max).context("failed to start")?;
	let known = Arc::downgrade(&jobs);
	replicas.speak_for(move || known.upgrade()?.nodes());
	let followers =
		reload::Followers { source, in_force: force, jobs: jobs.clone(), executor, log };
	let reloader = tokio::spawn(reload::run(followers, hang_ups));
	verifier.mend_with(Mender::new(store.clone(), elsewhere, jobs.clone()));
	// Before anybody can reach the agent: a signal that came sooner would end it at once.
	let told_to_end = told_to_end()?;
	let listener = TcpListener::bind(config.listen).await.with_context(|| {
		format!("failed to listen on {}; does another program use the port?", config.listen)
	})?;
	tracing::info!(listen = %listener.local_addr()?, recipient, identity_count, "agent started");
	let gateway = gateway_listener(&config).await?;
	let node = NodeProbe::new(chain.clone());
	let sweeper = tokio::spawn(sweep::run(jobs.clone(), chain, in_force.clone()));
	let verifications =
		tokio::spawn(schedule::run(verifier.clone(), jobs.executor().clone(), in_force.clone()));
	let webhook = Webhook::new(recipient.clone(), in_force, jobs.clone(), config.vms_dir.clone())
		.context("failed to make ready what tells of backups")?;
	let told = tokio::spawn(webhook.run());
	let api = Api {
		jobs: jobs.clone(),
		gatekeeper,
		store: Some(store),
		verifier: Some(verifier.clone()),
		live_restores: Some(live_restores.clone()),
		copies: Some(copies.clone()),
		replicas: Some(replicas.clone()),
		inventory: Some(Arc::new(Inventory::at(&config.vms_dir))),
		node: Some(node),
		job_log,
		cars: Cars::default(),
		recipient,
	};
	let holder = tokio::spawn(copies.clone().run());
	let replicator = tokio::spawn(replicas.clone().run());
	let gateway = gateway.map(|listener| {
		let access = (!config.gateway_open).then_some(access);
		tokio::spawn(connections::serve(listener, api.clone().gateway(access), Limits::GATEWAY))
	});
	let (stop, mut stopped) = watch::channel(());
	let stopped = async move { drop(stopped.changed().await) };
	let server = axum::serve(listener, api.router()).with_graceful_shutdown(stopped);
	let mut server = tokio::spawn(server.into_future());
	let failed = tokio::select! {
		() = told_to_end => None,
		ended = &mut server => Some(ended),
	};
	reloader.abort();
	sweeper.abort();
	cleaner.abort();
	filler.abort();
	tidier.abort();
	verifications.abort();
	holder.abort();
	copies.stop();
	live_restores.stop();
	told.abort();
	replicator.abort();
	replicas.stop();
	if let Some(gateway) = gateway {
		gateway.abort();
	}
	verifier.stop();
	drop(stop);
	tracing::info!("ending: jobs clean up");
	if tokio::time::timeout(STOP_TIME_MAX, jobs.stop()).await.is_err() {
		tracing::warn!("some jobs did not end in time; the next start cleans up after them");
	}
	let ended = match failed {
		Some(ended) => Ok(ended),
		None => tokio::time::timeout(LAST_ANSWERS_TIME_MAX, server).await,
	};
	match ended {
		Ok(result) => result.context("failed to serve")?.context("failed to serve"),
		// Somebody holds a connection open. That is no reason to stay.
		Err(_) => Ok(()),
	}
}

/// Clean up on a thread of its own: a machine whose disks fill in may need blocks of other nodes.
async fn recover(executor: Arc<NodeExecutor>) -> Result<()> {
	Ok(tokio::task::spawn_blocking(move || executor.recover()).await??)
}

/// What other nodes are asked through. It has a thread of its own, which asynchronous code must not
/// begin or end.
async fn directory(config: &Config, identities: Arc<NodeIdentities>) -> Result<Arc<PeerDirectory>> {
	let reach = Reach::public_and(config.peer_networks.iter().copied()).advising(
		"networks of its kind are allowed with peer_networks in the agent's configuration",
	);
	let made = tokio::task::spawn_blocking(|| PeerDirectory::new(reach, identities)).await?;
	made.map(Arc::new).context("failed to read this system's certificates")
}

/// The Kubo daemons that hold replicas.
fn replicas(
	config: &Config,
	store: EmbeddedStore,
	identities: &NodeIdentities,
	chain: Arc<NodeChain>,
) -> Result<Replicas> {
	let mut daemons = Vec::new();
	for kubo in &config.kubo {
		let token = kubo.token_file.as_deref().map(KuboToken::load).transpose();
		let token = token.context("failed to start")?;
		if token.is_some() && !is_private_way(&kubo.url) {
			tracing::warn!(
				replica = kubo.name,
				"the token of this daemon goes over the network as it is: put a proxy with TLS before it"
			);
		}
		let daemon = Kubo::new(kubo.url.clone(), token, Handle::current());
		daemons.push((
			kubo.name.clone(),
			daemon.context("failed to read this system's certificates")?,
		));
	}
	let folder = config.state_dir.join("replicas");
	let (quorum, handle) = (config.quorum as usize, Handle::current());
	Replicas::open(store, identities, daemons, quorum, &folder, chain, handle)
		.with_context(|| format!("failed to use the folder {}", folder.display()))
}

/// Whether nobody can listen to what is said to this address.
fn is_private_way(url: &str) -> bool {
	let Ok(url) = reqwest::Url::parse(url) else { return false };
	let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
	url.scheme() == "https"
		|| host == "localhost"
		|| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where other nodes and owners fetch blocks, if they may.
async fn gateway_listener(config: &Config) -> Result<Option<TcpListener>> {
	let Some(address) = config.gateway_listen else { return Ok(None) };
	let listener = TcpListener::bind(address).await.with_context(|| {
		format!("failed to serve blocks at {address}; does another program use the port?")
	})?;
	tracing::info!(listen = %listener.local_addr()?, open = config.gateway_open, "blocks are served");
	Ok(Some(listener))
}

/// Go back to the machines that did not let go of a backup, for ever.
async fn clean_up(leftovers: Leftovers) {
	loop {
		tokio::time::sleep(CLEAN_UP_EVERY).await;
		let leftovers = leftovers.clone();
		if let Err(error) = tokio::task::spawn_blocking(move || leftovers.retry()).await {
			tracing::error!(%error, "failed to clean up machines; tried again");
		}
	}
}

/// Remove what nobody goes on with, for ever.
async fn tidy(executor: Arc<NodeExecutor>) {
	loop {
		tokio::time::sleep(TIDY_EVERY).await;
		let executor = executor.clone();
		match tokio::task::spawn_blocking(move || executor.remove_abandoned()).await {
			Ok(Ok(())) => (),
			Ok(Err(error)) => tracing::warn!(%error, "failed to remove abandoned restores"),
			Err(error) => tracing::error!(%error, "failed to remove abandoned restores"),
		}
	}
}

/// Look after machines whose disks fill in, for ever.
async fn fill_in(live_restores: Arc<LiveRestores>) {
	loop {
		tokio::time::sleep(FILL_EVERY).await;
		let live_restores = live_restores.clone();
		if let Err(error) = tokio::task::spawn_blocking(move || live_restores.step()).await {
			tracing::error!(%error, "failed to look after live restores; tried again");
		}
	}
}

/// Listen from now on for what tells the agent to end; the future ends then.
fn told_to_end() -> Result<impl Future<Output = ()>> {
	let listen = |kind| signal(kind).context("failed to listen for signals");
	let mut terminate = listen(SignalKind::terminate())?;
	let mut interrupt = listen(SignalKind::interrupt())?;
	Ok(async move {
		tokio::select! {
			_ = terminate.recv() => (),
			_ = interrupt.recv() => (),
		}
	})
}
