//! What the agent counts and measures, in the OpenMetrics text format that Prometheus reads, at
//! `GET /metrics`.
//!
//! Names end with their unit. Labels are few and bounded: the kind of a job, how it ended, the name
//! of a machine in the inventory. Nothing secret is in them.

use crate::{
	copies::CopyView,
	jobs::{Expected, JobView, Outcome},
	replicas::ReplicaView,
	repositories::Usage,
	stage::{Stage, Times},
	verification::{Verdict, Verification},
};
use prometheus_client::{
	encoding::{EncodeLabelSet, text},
	metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
	registry::{Registry, Unit},
};
use serde::Serialize;
use std::{
	fmt,
	sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
	time::Duration,
};

/// The content type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the time that jobs take, in seconds.
const JOB_SECONDS: [f64; 9] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0];

/// Upper bounds of the time that jobs spend at something, in seconds.
const STAGE_SECONDS: [f64; 8] = [0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 14_400.0];

/// Upper bounds of the time that machines stand still, in seconds.
const PAUSE_SECONDS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
	/// `snapshot` or `restore`.
	kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtStage {
	kind: &'static str,
	/// The word of a [`Stage`].
	stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
	kind: &'static str,
	/// `done`, `cancelled`, or the reason of a failure.
	outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMachine {
	vm: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reading {
	/// `full`, or `recorded`: no more than what was written since the last one.
	reading: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verified {
	depth: String,
	verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MendedFrom {
	/// `replica`, `holder` or `disk`: the machine's own.
	from: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CopiesIn {
	/// `whole`, `fetching`, `waiting` or `unknown`.
	state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReplica {
	/// Its name in the configuration.
	replica: String,
}

/// A snapshot that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed<'a> {
	pub(crate) vm: &'a str,
	pub(crate) read_bytes: u64,
	pub(crate) stored_bytes: u64,
	/// Whether no more was read than what was written since the last one.
	pub(crate) is_recorded: bool,
	/// How long the machine stood still.
	pub(crate) pause: Duration,
	pub(crate) taken_at_ms: u64,
}

/// How an agent is at the moment of asking.
#[derive(Debug, Default)]
pub(crate) struct Now<'a> {
	pub(crate) jobs: &'a [JobView],
	pub(crate) usage: Option<Usage>,
	/// Needed nodes because of which no blocks are freed.
	pub(crate) unreadable_nodes: Option<u64>,
	/// Packs because of which no deletion is told.
	pub(crate) unread_packs: Option<u64>,
	pub(crate) pinned_roots: Option<usize>,
	/// What the chain expects of machines, by their names.
	pub(crate) expected: &'a [(String, Expected)],
	pub(crate) verifications: &'a [Verification],
	pub(crate) copies: &'a [CopyView],
	pub(crate) replicas: &'a [ReplicaView],
	pub(crate) below_quorum: Option<usize>,
}

/// The metrics of one agent. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

struct All {
	registry: Mutex<Registry>,
	endings: Family<Ending, Counter>,
	job_time: Family<OfKind, Histogram>,
	stage_time: Family<AtStage, Histogram>,
	read: Counter,
	stored: Counter,
	readings: Family<Reading, Counter>,
	pause: Histogram,
	last_snapshot: Family<OfMachine, Gauge<f64, AtomicU64>>,
	wanted: Family<OfMachine, Gauge>,
	cadence: Family<OfMachine, Gauge<f64, AtomicU64>>,
	last_confirmed: Family<OfMachine, Gauge<f64, AtomicU64>>,
	confirmation_late: Family<OfMachine, Gauge>,
	running: Family<OfKind, Gauge>,
	store: Gauge,
	blocks: Gauge,
	available: Gauge,
	unreadable: Gauge,
	unread: Gauge,
	pinned: Gauge,
	verifications: Family<Verified, Gauge>,
	bad_blocks: Counter,
	mended_blocks: Family<MendedFrom, Counter>,
	copies: Family<CopiesIn, Gauge>,
	copies_behind: Gauge,
	replicas: ReplicaGauges,
	below_quorum: Gauge,
}

/// What is told of each replica.
#[derive(Default)]
struct ReplicaGauges {
	is_good: Family<OfReplica, Gauge>,
	behind: Family<OfReplica, Gauge>,
	damaged: Family<OfReplica, Gauge>,
	mended: Family<OfReplica, Gauge>,
	sent: Family<OfReplica, Gauge>,
	last_success: Family<OfReplica, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
	fn default() -> Self {
		let job_time = || Histogram::new(JOB_SECONDS);
		let stage_time = || Histogram::new(STAGE_SECONDS);
		let all = All {
			registry: Mutex::new(Registry::with_prefix("backup_agent")),
			endings: Family::default(),
			job_time: Family::new_with_constructor(job_time),
			stage_time: Family::new_with_constructor(stage_time),
			read: Counter::default(),
			stored: Counter::default(),
			readings: Family::default(),
			pause: Histogram::new(PAUSE_SECONDS),
			last_snapshot: Family::default(),
			wanted: Family::default(),
			cadence: Family::default(),
			last_confirmed: Family::default(),
			confirmation_late: Family::default(),
			running: Family::default(),
			store: Gauge::default(),
			blocks: Gauge::default(),
			available: Gauge::default(),
			unreadable: Gauge::default(),
			unread: Gauge::default(),
			pinned: Gauge::default(),
			verifications: Family::default(),
			bad_blocks: Counter::default(),
			mended_blocks: Family::default(),
			copies: Family::default(),
			copies_behind: Gauge::default(),
			replicas: ReplicaGauges::default(),
			below_quorum: Gauge::default(),
		};
		all.register();
		Self(Arc::new(all))
	}
}

impl All {
	/// Tell what the chain expects now, and of nothing else.
	fn set_expected(&self, expected: &[(String, Expected)]) {
		for gauges in [&self.cadence, &self.last_confirmed] {
			gauges.clear();
		}
		for gauges in [&self.wanted, &self.confirmation_late] {
			gauges.clear();
		}
		for (vm, Expected { cadence, confirmed }) in expected {
			let machine = OfMachine { vm: vm.clone() };
			self.wanted.get_or_create(&machine).set(i64::from(cadence.is_some()));
			if let Some(ms) = cadence.and_then(|cadence| cadence.ms) {
				self.cadence.get_or_create(&machine).set(ms as f64 / 1000.0);
			}
			let Some(confirmed) = confirmed else { continue };
			self.confirmation_late.get_or_create(&machine).set(i64::from(confirmed.is_late));
			if let Some(at_ms) = confirmed.started_at_ms {
				self.last_confirmed.get_or_create(&machine).set(at_ms as f64 / 1000.0);
			}
		}
	}

	fn register(&self) {
		let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
		let (bytes, seconds) = (Unit::Bytes, Unit::Seconds);
		registry.register("jobs", "Jobs that have ended", self.endings.clone());
		registry.register_with_unit(
			"job_duration",
			"How long jobs took that have ended",
			seconds.clone(),
			self.job_time.clone(),
		);
		registry.register_with_unit(
			"job_stage",
			"How long jobs that have ended were at each stage that they came to",
			seconds.clone(),
			self.stage_time.clone(),
		);
		registry.register("jobs_running", "Jobs that run", self.running.clone());
		registry.register_with_unit(
			"read",
			"Read from machines' disks",
			bytes.clone(),
			self.read.clone(),
		);
		registry.register_with_unit(
			"stored",
			"Blocks that snapshots have added to the store",
			bytes.clone(),
			self.stored.clone(),
		);
		registry.register(
			"snapshots",
			"Snapshots, by whether all was read or what was recorded as written",
			self.readings.clone(),
		);
		registry.register_with_unit(
			"machine_pause",
			"How long machines stood still for a snapshot",
			seconds.clone(),
			self.pause.clone(),
		);
		registry.register_with_unit(
			"last_snapshot_timestamp",
			"When the last snapshot of a machine was taken, since 1970",
			seconds.clone(),
			self.last_snapshot.clone(),
		);
		registry.register(
			"snapshots_wanted",
			"Whether the chain wants snapshots of a machine now",
			self.wanted.clone(),
		);
		registry.register_with_unit(
			"cadence",
			"How long the chain lets lie between two snapshots of a machine",
			seconds.clone(),
			self.cadence.clone(),
		);
		registry.register_with_unit(
			"last_confirmed_timestamp",
			"When the newest snapshot of a machine was begun that another node confirms, since 1970",
			seconds,
			self.last_confirmed.clone(),
		);
		registry.register(
			"confirmation_late",
			"Whether a snapshot of a machine has waited too long for another node to confirm it",
			self.confirmation_late.clone(),
		);
		registry.register_with_unit(
			"store_size",
			"Blocks in the store",
			bytes.clone(),
			self.store.clone(),
		);
		registry.register("store_blocks", "How many blocks are in the store", self.blocks.clone());
		registry.register_with_unit(
			"store_available",
			"Room that the store's file system has left",
			bytes,
			self.available.clone(),
		);
		registry.register(
			"store_unreadable_nodes",
			"Nodes of kept snapshots that cannot be read, so that no blocks are freed",
			self.unreadable.clone(),
		);
		registry.register(
			"store_unread_packs",
			"Packs that are away or cannot be read, so that no deletion is told; 16 are counted",
			self.unread.clone(),
		);
		registry.register("pinned_roots", "Snapshots that are kept", self.pinned.clone());
		registry.register(
			"verifications",
			"Snapshots by the last verdict on them at each depth",
			self.verifications.clone(),
		);
		registry.register(
			"bad_blocks",
			"Blocks that verifications found missing or damaged",
			self.bad_blocks.clone(),
		);
		registry.register(
			"mended_blocks",
			"Blocks that were bad and are good again, by where they came from",
			self.mended_blocks.clone(),
		);
		registry.register(
			"copies",
			"Machines of other nodes of which copies belong here, by how these are",
			self.copies.clone(),
		);
		registry.register(
			"copies_behind",
			"Snapshots that the chain records behind the newest of each copy here",
			self.copies_behind.clone(),
		);
		registry.register(
			"snapshots_below_quorum",
			"Snapshots that fewer replicas hold than the chain is told of",
			self.below_quorum.clone(),
		);
		self.replicas.register(&mut registry);
	}
}

impl ReplicaGauges {
	fn register(&self, registry: &mut Registry) {
		registry.register(
			"replica_good",
			"Whether the last look at a replica found nothing wrong",
			self.is_good.clone(),
		);
		registry.register("replica_behind", "Snapshots that a replica lacks", self.behind.clone());
		registry.register(
			"replica_damaged_blocks",
			"Blocks of a replica that were found damaged",
			self.damaged.clone(),
		);
		registry.register(
			"replica_mended_blocks",
			"Damaged blocks of a replica that were replaced since the agent started",
			self.mended.clone(),
		);
		registry.register_with_unit(
			"replica_sent",
			"Sent to a replica since the agent started",
			Unit::Bytes,
			self.sent.clone(),
		);
		registry.register_with_unit(
			"replica_last_success_timestamp",
			"When a replica was found whole the last time, since 1970",
			Unit::Seconds,
			self.last_success.clone(),
		);
	}

	fn set(&self, views: &[ReplicaView]) {
		for view in views {
			let of = OfReplica { replica: view.name.clone() };
			let is_good = view.error.is_none() && view.last_success_ms.is_some();
			self.is_good.get_or_create(&of).set(i64::from(is_good));
			self.behind.get_or_create(&of).set(gauge(view.behind as u64));
			self.damaged.get_or_create(&of).set(gauge(view.damaged.len() as u64));
			self.mended.get_or_create(&of).set(gauge(view.mended));
			self.sent.get_or_create(&of).set(gauge(view.sent_bytes));
			if let Some(at) = view.last_success_ms {
				self.last_success.get_or_create(&of).set(at as f64 / 1000.0);
			}
		}
	}
}

impl Metrics {
	/// Count a job that has ended, without an outcome if it was cancelled.
	pub(crate) fn count_job(&self, kind: &'static str, outcome: Option<&Outcome>, took: Duration) {
		let outcome = match outcome {
			Some(Outcome::Taken(_) | Outcome::Restored { .. }) => "done".to_owned(),
			Some(Outcome::Failed { reason, .. }) => word(reason),
			None => "cancelled".to_owned(),
		};
		self.0.endings.get_or_create(&Ending { kind, outcome }).inc();
		self.0.job_time.get_or_create(&OfKind { kind }).observe(took.as_secs_f64());
	}

	/// Count how long a job was at each stage that it came to.
	pub(crate) fn count_stages(&self, kind: &'static str, times: &Times) {
		for (stage, took) in Stage::ALL.into_iter().zip(times).filter(|(_, took)| !took.is_zero()) {
			let stage = AtStage { kind, stage: stage.word() };
			self.0.stage_time.get_or_create(&stage).observe(took.as_secs_f64());
		}
	}

	/// Count a snapshot.
	pub(crate) fn count_snapshot(&self, sealed: &Sealed<'_>) {
		let all = &self.0;
		all.read.inc_by(sealed.read_bytes);
		all.stored.inc_by(sealed.stored_bytes);
		let reading = if sealed.is_recorded { "recorded" } else { "full" };
		all.readings.get_or_create(&Reading { reading }).inc();
		all.pause.observe(sealed.pause.as_secs_f64());
		let machine = OfMachine { vm: sealed.vm.to_owned() };
		all.last_snapshot.get_or_create(&machine).set(sealed.taken_at_ms as f64 / 1000.0);
	}

	/// Count blocks that were found bad, and those that are good again: from replicas, from holders,
	/// and from the machine's disks.
	pub(crate) fn count_mending(&self, bad: u64, mended: [u64; 3]) {
		self.0.bad_blocks.inc_by(bad);
		for (from, blocks) in ["replica", "holder", "disk"].into_iter().zip(mended) {
			self.0.mended_blocks.get_or_create(&MendedFrom { from }).inc_by(blocks);
		}
	}

	/// Everything as text, as of now.
	pub(crate) fn render(&self, now: &Now<'_>) -> Result<String, fmt::Error> {
		let all = &self.0;
		// One at a time, so that no gauge is seen half set.
		let registry = all.registry.lock().unwrap_or_else(PoisonError::into_inner);
		for kind in ["snapshot", "restore"] {
			let is_running = |job: &&JobView| job.state == "running" && job.kind == kind;
			let count = now.jobs.iter().filter(is_running).count();
			all.running.get_or_create(&OfKind { kind }).set(gauge(count as u64));
		}
		if let Some(usage) = now.usage {
			all.store.set(gauge(usage.bytes));
			all.blocks.set(gauge(usage.blocks));
			all.available.set(gauge(usage.available_bytes));
		}
		if let Some(nodes) = now.unreadable_nodes {
			all.unreadable.set(gauge(nodes));
		}
		if let Some(packs) = now.unread_packs {
			all.unread.set(gauge(packs));
		}
		if let Some(roots) = now.pinned_roots {
			all.pinned.set(gauge(roots as u64));
		}
		all.set_expected(now.expected);
		all.verifications.clear();
		for verification in now.verifications {
			let depth = word(verification.depth);
			let verdict = match verification.verdict {
				Verdict::Good => "good",
				Verdict::Bad { .. } => "bad",
				Verdict::Failed { .. } => "failed",
			};
			all.verifications.get_or_create(&Verified { depth, verdict }).inc();
		}
		all.copies.clear();
		for copy in now.copies {
			all.copies.get_or_create(&CopiesIn { state: copy.state }).inc();
		}
		let behind = now.copies.iter().map(|copy| copy.next.saturating_sub(copy.to)).sum();
		all.copies_behind.set(gauge(behind));
		all.replicas.set(now.replicas);
		if let Some(count) = now.below_quorum {
			all.below_quorum.set(gauge(count as u64));
		}
		let mut words = String::new();
		text::encode(&mut words, &registry)?;
		Ok(words)
	}
}

/// The word that JSON has for it.
fn word(value: impl Serialize) -> String {
	let json = serde_json::to_value(value).unwrap_or_default();
	json.as_str().unwrap_or("unknown").to_owned()
}

fn gauge(value: u64) -> i64 {
	i64::try_from(value).unwrap_or(i64::MAX)
}

impl fmt::Debug for Metrics {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("Metrics")
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{
		jobs::{Cadence, Confirmed},
		verification::{Depth, Mending},
	};
	use backup_primitives::{Cid, FailureReason};

	#[test]
	fn what_is_counted_is_told_in_words_that_prometheus_reads() {
		let metrics = Metrics::default();
		let minute = Duration::from_secs(60);
		let done = Outcome::Restored { path: "/x".into() };
		let failed = Outcome::Failed { reason: FailureReason::StoreFull, detail: "full".into() };
		metrics.count_job("snapshot", Some(&done), minute);
		metrics.count_job("snapshot", Some(&failed), minute);
		metrics.count_snapshot(&Sealed {
			vm: "web",
			read_bytes: 7,
			stored_bytes: 5,
			is_recorded: true,
			pause: Duration::from_millis(3),
			taken_at_ms: 1_500,
		});
		metrics.count_mending(6, [1, 2, 3]);
		let mut times = Times::default();
		times[Stage::Freeze as usize] = Duration::from_millis(50);
		metrics.count_stages("snapshot", &times);
		let usage = Usage { blocks: 2, bytes: 3, available_bytes: 4 };
		let copies = [copy(3), copy(5)];
		let replicas = [replica()];
		let now = Now {
			usage: Some(usage),
			pinned_roots: Some(1),
			expected: &[expected("web", Some(1_250), false), expected("db", None, true), paused()],
			copies: &copies,
			replicas: &replicas,
			below_quorum: Some(2),
			unreadable_nodes: Some(1),
			unread_packs: Some(2),
			..Now::default()
		};
		let words = metrics.render(&now).unwrap();
		for line in [
			"backup_agent_jobs_total{kind=\"snapshot\",outcome=\"done\"} 1",
			"backup_agent_jobs_total{kind=\"snapshot\",outcome=\"store-full\"} 1",
			"backup_agent_job_duration_seconds_count{kind=\"snapshot\"} 2",
			"backup_agent_read_bytes_total 7",
			"backup_agent_stored_bytes_total 5",
			"backup_agent_snapshots_total{reading=\"recorded\"} 1",
			"backup_agent_machine_pause_seconds_bucket{le=\"0.005\"} 1",
			"backup_agent_last_snapshot_timestamp_seconds{vm=\"web\"} 1.5",
			"backup_agent_last_confirmed_timestamp_seconds{vm=\"web\"} 1.25",
			"backup_agent_confirmation_late{vm=\"web\"} 0",
			"backup_agent_confirmation_late{vm=\"db\"} 1",
			"backup_agent_snapshots_wanted{vm=\"web\"} 1",
			"backup_agent_snapshots_wanted{vm=\"old\"} 0",
			"backup_agent_cadence_seconds{vm=\"web\"} 3600.0",
			"backup_agent_store_size_bytes 3",
			"backup_agent_pinned_roots 1",
			"backup_agent_copies{state=\"fetching\"} 2",
			"backup_agent_copies_behind 2",
			"backup_agent_replica_good{replica=\"rack-2\"} 0",
			"backup_agent_replica_behind{replica=\"rack-2\"} 3",
			"backup_agent_replica_last_success_timestamp_seconds{replica=\"rack-2\"} 1.5",
			"backup_agent_snapshots_below_quorum 2",
			"backup_agent_store_unreadable_nodes 1",
			"backup_agent_store_unread_packs 2",
			"backup_agent_job_stage_seconds_count{kind=\"snapshot\",stage=\"freeze\"} 1",
			"backup_agent_job_stage_seconds_bucket{le=\"0.1\",kind=\"snapshot\",stage=\"freeze\"} 1",
			"backup_agent_bad_blocks_total 6",
			"backup_agent_mended_blocks_total{from=\"replica\"} 1",
			"backup_agent_mended_blocks_total{from=\"holder\"} 2",
			"backup_agent_mended_blocks_total{from=\"disk\"} 3",
			"# EOF",
		] {
			assert!(words.lines().any(|found| found == line), "{line} in\n{words}");
		}
		assert!(!words.contains("last_confirmed_timestamp_seconds{vm=\"db\"}"), "{words}");
		assert!(!words.contains("cadence_seconds{vm=\"old\"}"), "{words}");
		let words = metrics.render(&Now::default()).unwrap();
		assert!(!words.contains("confirmation_late{"), "the chain wants no copies: {words}");
		assert!(!words.contains("wanted{") && !words.contains("cadence_seconds{"), "{words}");
	}

	/// A machine that is wanted each hour, and what other nodes confirm of it.
	fn expected(vm: &str, started_at_ms: Option<u64>, is_late: bool) -> (String, Expected) {
		let sequence = started_at_ms.map(|_| 0);
		let confirmed = Confirmed { sequence, started_at_ms, is_late, holders: Vec::new() };
		let cadence = Cadence { blocks: 600, ms: Some(3_600_000) };
		(vm.to_owned(), Expected { cadence: Some(cadence), confirmed: Some(confirmed) })
	}

	/// One of which the chain wants no snapshots.
	fn paused() -> (String, Expected) {
		("old".into(), Expected::default())
	}

	/// A copy of a machine with five snapshots.
	fn copy(to: u64) -> CopyView {
		CopyView {
			request: "7".into(),
			from: 0,
			to,
			next: 5,
			state: "fetching",
			fetched_bytes: 0,
			error: None,
		}
	}

	/// A replica that has failed.
	fn replica() -> ReplicaView {
		ReplicaView {
			name: "rack-2".into(),
			url: "http://10.0.0.2:5001".into(),
			state: "waiting",
			held: 1,
			behind: 3,
			lost: 0,
			releasing: 0,
			damaged: vec![],
			mended: 0,
			hashed_at_ms: None,
			sent_bytes: 7,
			last_success_ms: Some(1_500),
			error: Some("it took too long".into()),
			error_at_ms: Some(2_000),
		}
	}

	/// All that is ever told, with every label and without the words on it.
	fn told() -> String {
		let metrics = Metrics::default();
		let failed = Outcome::Failed { reason: FailureReason::StoreFull, detail: "full".into() };
		metrics.count_job("snapshot", Some(&failed), Duration::from_secs(1));
		metrics.count_snapshot(&Sealed {
			vm: "web",
			read_bytes: 1,
			stored_bytes: 1,
			is_recorded: false,
			pause: Duration::ZERO,
			taken_at_ms: 1,
		});
		let verification = Verification {
			root: Cid::raw([1; 32]),
			depth: Depth::Blocks,
			at_ms: 1,
			took: Duration::ZERO,
			blocks: 1,
			bytes: 1,
			verdict: Verdict::Good,
			mending: Mending::default(),
		};
		metrics.count_mending(1, [1, 0, 0]);
		metrics.count_stages("snapshot", &[Duration::from_secs(1); Stage::ALL.len()]);
		let now = Now {
			usage: Some(Usage { blocks: 1, bytes: 1, available_bytes: 1 }),
			pinned_roots: Some(1),
			verifications: &[verification],
			expected: &[expected("web", Some(1), true)],
			copies: &[copy(1)],
			replicas: &[replica()],
			below_quorum: Some(1),
			..Now::default()
		};
		let words = metrics.render(&now).unwrap();
		words.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
	}

	/// The metrics that a text names, with the labels that they are chosen by.
	fn named(text: &str) -> Vec<(String, Vec<String>)> {
		let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
		let starts = text.match_indices("backup_agent").map(|(start, _)| &text[start..]);
		let found = starts.map(|rest| {
			let (name, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
			let chosen = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
			let labels = chosen.map(|(inside, _)| inside).unwrap_or_default().split(',');
			let labels = labels.filter_map(|label| label.split_once(['=', '!']));
			(name.to_owned(), labels.map(|(label, _)| label.trim().to_owned()).collect())
		});
		// What the rules sum up themselves has a colon.
		found.filter(|(name, _)| name.starts_with("backup_agent_") && !name.contains(':')).collect()
	}

	#[test]
	fn dashboard_and_alerts_ask_for_nothing_that_is_not_told() {
		let told = named(&told());
		let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/monitoring");
		for file in ["alerts.yml", "alerts_test.yml", "dashboard.json"] {
			let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
			let asked = named(&text);
			assert!(asked.len() > 10, "{file}: {asked:?}");
			for (name, labels) in asked {
				let of_name: Vec<_> = told.iter().filter(|(told, _)| *told == name).collect();
				assert!(!of_name.is_empty(), "{file} asks for {name}");
				for label in labels {
					// Those are Prometheus' own.
					let is_there = ["job", "instance"].contains(&label.as_str())
						|| of_name.iter().any(|(_, labels)| labels.contains(&label));
					assert!(is_there, "{file} asks for {name} by {label}");
				}
			}
		}
	}
}
