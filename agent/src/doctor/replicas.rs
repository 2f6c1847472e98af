//! The Kubo daemons that hold replicas, each by what a snapshot does to it.

use super::{Case, Finding};
use crate::{
	config::KuboConfig,
	format::{Cid, digest},
	repositories::{
		Kubo,
		kubo::{Batch, KuboError},
	},
	secret::KuboToken,
	sources::Holds,
};
use anyhow::{Context, Result, ensure};
use std::thread;
use tokio::runtime::Handle;

const NAME: &str = "replica";

const DONE: &str = "a block was imported, pinned, read back and unpinned";

const MEND: &str = "start that daemon, or correct its url and token_file in the configuration";

/// Try all of them at once. What fails is bad where the quorum needs it, and else only not good: it is
/// filled when it is back.
pub(super) fn replicas(case: &Case) -> Vec<Finding> {
	let (daemons, quorum) = (&case.config.kubo, case.config.quorum as usize);
	if daemons.is_empty() {
		return Vec::new();
	}
	// Their calls block, so something else has to drive them.
	let runtime =
		tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
	let runtime = match runtime {
		Ok(runtime) => runtime,
		Err(error) => return vec![Finding::error(NAME, &error.into(), MEND)],
	};
	let tried = thread::scope(|scope| {
		let handle = runtime.handle();
		let begin = |daemon| scope.spawn(move || try_out(daemon, handle, &case.holds));
		let running: Vec<_> = daemons.iter().map(begin).collect();
		let ended = running.into_iter().map(|trial| trial.join());
		ended
			.map(|result| result.unwrap_or_else(|_| Err(anyhow::anyhow!("trying it panicked"))))
			.collect()
	});
	tell(daemons, tried, quorum)
}

fn tell(daemons: &[KuboConfig], tried: Vec<Result<()>>, quorum: usize) -> Vec<Finding> {
	// The agent's own store is one of those that count.
	let good = 1 + tried.iter().filter(|result| result.is_ok()).count();
	let finding = |(daemon, result): (&KuboConfig, Result<()>)| {
		let shown = format!("{} at {}", daemon.name, daemon.url);
		match result {
			Ok(()) => Finding::ok(NAME, format!("{shown}: {DONE}")),
			Err(error) if good < quorum => Finding::error(
				NAME,
				&error.context(format!("{shown}, which the quorum of {quorum} needs")),
				MEND,
			),
			Err(error) => Finding::warning(NAME, format!("{shown}: {error:#}"), MEND),
		}
	};
	daemons.iter().zip(tried).map(finding).collect()
}

/// Have a daemon take a block that nobody has, and give it up again.
fn try_out(daemon: &KuboConfig, handle: &Handle, holds: &Holds) -> Result<()> {
	let token = daemon.token_file.as_deref().map(KuboToken::load).transpose()?;
	let kubo = Kubo::new(daemon.url.clone(), token, handle.clone())
		.context("read this system's certificates")?;
	let block = [b"doctor", rand::random::<[u8; 32]>().as_slice()].concat();
	let cid = Cid::raw(digest(&block));
	let mut batch = Batch::new(rand::random());
	batch.add(&cid, &block);
	// Who is told to end meanwhile unpins it first.
	let _hold = holds.begin()?;
	let root = kubo.import(batch)?;
	let read = kubo.block(&cid);
	kubo.unpin(&root)?;
	ensure!(read? == Some(block), KuboError::Missing(cid.to_string()));
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{doctor::Verdict, replicas::tests::fake::FakeKubo};

	fn config(daemon: &FakeKubo) -> KuboConfig {
		KuboConfig { name: "rack-2".into(), url: daemon.url.clone(), token_file: None }
	}

	#[test]
	fn a_trial_leaves_nothing_pinned_and_a_daemon_that_is_away_is_named() {
		let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
		let daemon = FakeKubo::start();
		let try_it = || try_out(&config(&daemon), runtime.handle(), &Holds::default());
		try_it().unwrap();
		assert!(daemon.state().pins.is_empty());
		assert_eq!(daemon.count("dag/import"), 1);
		daemon.state().is_down = true;
		let error = format!("{:#}", try_it().unwrap_err());
		assert!(error.contains("cannot be reached"), "{error}");
	}

	#[test]
	fn boundary_what_the_quorum_needs_fails_and_what_it_can_do_without_is_told() {
		let daemon = |name: &str| KuboConfig {
			name: name.into(),
			url: "http://127.0.0.1:1".into(),
			token_file: None,
		};
		let daemons = [daemon("a"), daemon("b")];
		let verdicts = |quorum| {
			let tried = vec![Ok(()), Err(anyhow::anyhow!("gone"))];
			tell(&daemons, tried, quorum).into_iter().map(|one| one.verdict).collect::<Vec<_>>()
		};
		assert_eq!(verdicts(2), [Verdict::Ok, Verdict::Warning]);
		assert_eq!(verdicts(3), [Verdict::Ok, Verdict::Failed]);
	}
}
