//! Tells a program of the operator's of backups that failed or are late: one POST for each.
//!
//! It reads the history as everybody may, so no job waits for it or knows of it. What is sent is
//! [`News`], as JSON; it holds no secret. A POST that is not answered with success is sent again a
//! few times and then given up, with a line in the log. The ledger knows up to where failures were
//! told or given up, and the next run of the agent goes on from there.

use crate::{
	config::{Config, InForce},
	jobs::{
		Expected, Jobs, Ledger, LedgerError,
		history::{Age, Attempt, Ending, MachineRecord},
		now_ms,
	},
};
use backup_primitives::{FailureReason, OpaqueId};
use reqwest::{Client, Url, redirect::Policy};
use serde::Serialize;
use std::{
	collections::{HashMap, HashSet},
	fmt,
	path::{Path, PathBuf},
	slice,
	str::FromStr,
	sync::Arc,
	time::Duration,
};
use tokio::time::timeout;

/// How often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long one POST may take.
const POST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long after each POST that was in vain the next is sent.
const RETRY_AFTER: [Duration; 3] =
	[Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

/// Most attempts that one look takes in.
const ATTEMPTS_MAX: usize = 256;

/// Where news are sent. Its path and query may hold a token, so it is shown without them.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl FromStr for WebhookUrl {
	type Err = ();

	/// An `http` or `https` address; nothing else will do.
	fn from_str(text: &str) -> Result<Self, ()> {
		let url = Url::parse(text).map_err(drop)?;
		let is_web = ["http", "https"].contains(&url.scheme());
		if is_web && url.has_host() { Ok(Self(url)) } else { Err(()) }
	}
}

impl fmt::Display for WebhookUrl {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
		self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
		f.write_str("/***")
	}
}

impl fmt::Debug for WebhookUrl {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		fmt::Display::fmt(self, f)
	}
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct News {
	/// `backup-failed` or `backup-late`.
	pub event: &'static str,
	/// The recipient of the agent that says so.
	pub node: String,
	/// The machine.
	pub vm: String,
	/// The compute request.
	pub request: String,
	/// When it failed, or when it was found to be late, in milliseconds since 1970.
	pub at_ms: u64,
	/// Why it failed, in the chain's words.
	pub reason: Option<FailureReason>,
	/// Why it failed, in the agent's. Of one that is late, what is missing.
	pub detail: Option<String>,
	/// When the last backup of the machine began that went well.
	pub last_taken_at_ms: Option<u64>,
	/// When the newest one began that another node confirms. Nothing if none does, if it was not
	/// taken here, and where the chain wants no copies.
	pub last_confirmed_at_ms: Option<u64>,
	/// The number of the attempt. It is not sent.
	#[serde(skip)]
	number: Option<u64>,
}

/// What is missing where a backup is late.
const NONE_TAKEN: &str = "no backup has been taken in time";
const NONE_CONFIRMED: &str = "no other node has confirmed a backup in time";

/// What has been told already.
#[derive(Clone, Debug, Default)]
struct Told {
	/// The recipient of this agent.
	node: String,
	/// The number of the last attempt that was looked at.
	behind: u64,
	/// Machines that were said to be late, and still are.
	late: HashSet<String>,
}

impl Told {
	/// Goes on where an earlier run of the agent ended.
	fn resume(node: String, ledger: &Ledger) -> Result<Self, LedgerError> {
		let behind = ledger.told()?.map_or_else(|| ledger.newest_attempt(), Ok)?;
		ledger.remember_told(Some(behind))?;
		Ok(Self { node, behind, late: HashSet::new() })
	}

	/// Counts as told what has happened until now.
	fn pass_over(self, ledger: &Ledger) -> Result<Self, LedgerError> {
		ledger.remember_told(None)?;
		Self::resume(self.node, ledger)
	}

	/// What there is to tell of the attempts since the last look, and of machines by their names.
	fn news(
		&mut self,
		attempts: &[(u64, Attempt)],
		machines: &HashMap<String, MachineRecord>,
		expected: &HashMap<OpaqueId, Expected>,
		is_here: impl Fn(&str) -> bool,
		now_ms: u64,
	) -> Vec<News> {
		let last_taken = |vm: &str| machines.get(vm).and_then(|record| record.last_taken.as_ref());
		let expected = |record: &MachineRecord| record.request().and_then(|id| expected.get(id));
		let last_confirmed =
			|vm: &str| expected(machines.get(vm)?)?.confirmed.as_ref()?.started_at_ms;
		let mut news = Vec::new();
		for (number, attempt) in attempts {
			self.behind = self.behind.max(*number);
			let Ending::Failed { reason, detail } = &attempt.ending else { continue };
			news.push(News {
				event: "backup-failed",
				node: self.node.clone(),
				vm: attempt.vm.clone(),
				request: attempt.request.to_string(),
				at_ms: attempt.ended_at_ms,
				reason: Some(*reason),
				detail: Some(detail.clone()),
				last_taken_at_ms: last_taken(&attempt.vm).map(|taken| taken.started_at_ms),
				last_confirmed_at_ms: last_confirmed(&attempt.vm),
				number: Some(*number),
			});
		}
		self.late.retain(|vm| machines.contains_key(vm));
		for (vm, record) in machines {
			match record.age(expected(record), now_ms) {
				Age::Fresh | Age::Never | Age::Unwanted => drop(self.late.remove(vm)),
				// A machine that has moved away is backed up elsewhere.
				Age::Late | Age::Overdue if is_here(vm) && self.late.insert(vm.clone()) => {
					let Some(taken) = &record.last_taken else { continue };
					let detail = match record.age_here(expected(record), now_ms) {
						Age::Fresh => NONE_CONFIRMED,
						_ => NONE_TAKEN,
					};
					news.push(News {
						event: "backup-late",
						node: self.node.clone(),
						vm: vm.clone(),
						request: taken.request.to_string(),
						at_ms: now_ms,
						reason: None,
						detail: Some(detail.to_owned()),
						last_taken_at_ms: Some(taken.started_at_ms),
						last_confirmed_at_ms: last_confirmed(vm),
						number: None,
					});
				}
				Age::Late | Age::Overdue => (),
			}
		}
		news
	}
}

/// Tells of what happens from when an address was set on, over restarts of the agent.
#[derive(Debug)]
pub struct Webhook {
	told: Told,
	in_force: InForce,
	jobs: Arc<Jobs>,
	vms_dir: PathBuf,
	client: Client,
}

impl Webhook {
	/// Made before anybody can give the agent orders, so that what fails at once is told, too. A
	/// machine is one of this node's for as long as its file is in `vms_dir`.
	pub fn new(
		node: String,
		in_force: InForce,
		jobs: Arc<Jobs>,
		vms_dir: PathBuf,
	) -> anyhow::Result<Self> {
		let client = Client::builder().timeout(POST_TIME_MAX).redirect(Policy::none()).build()?;
		let told = Told::resume(node, jobs.ledger())?;
		Ok(Self { told, in_force, jobs, vms_dir, client })
	}

	/// Tell of it, for ever.
	pub async fn run(mut self) {
		let mut shown = None;
		loop {
			let url = self.in_force.borrow().webhook.clone();
			let Some(url) = url else {
				self.remember(None).await;
				if self.in_force.wait_for(|config| config.webhook.is_some()).await.is_err() {
					return;
				}
				self.pass_over();
				continue;
			};
			if shown.as_ref() != Some(&url) {
				tracing::info!("{url} is told of backups that fail or are late");
				shown = Some(url);
			}
			tokio::time::sleep(LOOK_EVERY).await;
			self.tell_what_is_new().await;
		}
	}

	/// What nobody was to hear of, or what is in the way of hearing of anything else.
	fn pass_over(&mut self) {
		match self.told.clone().pass_over(self.jobs.ledger()) {
			Ok(told) => self.told = told,
			Err(error) => tracing::warn!(%error, "what has failed until now may be told"),
		}
	}

	async fn tell_what_is_new(&mut self) {
		let (mut seen, jobs) = (self.told.clone(), self.jobs.clone());
		let vms_dir = self.vms_dir.clone();
		let looked = tokio::task::spawn_blocking(move || {
			let news = look(&mut seen, &jobs, &vms_dir)?;
			Ok::<_, LedgerError>((seen, news))
		});
		let (seen, news) = match looked.await {
			Ok(Ok(looked)) => looked,
			Ok(Err(error)) => return tracing::warn!(%error, "failed to look for news"),
			Err(_) => {
				tracing::error!("looking for news panicked; they are passed over");
				return self.pass_over();
			}
		};
		for item in news {
			if !self.tell(&item).await {
				return;
			}
			if item.number.is_some() {
				self.remember(item.number).await;
			}
		}
		self.remember(Some(seen.behind)).await;
		self.told = seen;
	}

	/// Better told twice after a crash than to nobody.
	async fn remember(&self, number: Option<u64>) {
		let ledger = self.jobs.ledger().clone();
		let noted = tokio::task::spawn_blocking(move || ledger.remember_told(number));
		if let Ok(Err(error)) = noted.await {
			tracing::warn!(%error, "what was told may be told again");
		}
	}

	/// Until it is taken in, or was sent in vain so often. An address that is set meanwhile counts from
	/// the next time on; false if there is none any more.
	async fn tell(&self, news: &News) -> bool {
		let mut in_force = self.in_force.clone();
		let mut tries: Option<(WebhookUrl, slice::Iter<'_, Duration>)> = None;
		loop {
			let Some(url) = in_force.borrow().webhook.clone() else { return false };
			let sent = self.client.post(url.0.clone()).json(news).send().await;
			let why = match sent.and_then(|answer| answer.error_for_status()) {
				Ok(_) => return true,
				// Its own words name the address.
				Err(error) => error.without_url().to_string(),
			};
			let waits = match &mut tries {
				Some((to, waits)) if *to == url => waits,
				_ => &mut tries.insert((url.clone(), RETRY_AFTER.iter())).1,
			};
			let Some(wait) = waits.next() else {
				tracing::warn!(why, vm = news.vm, event = news.event, "{url} was not told");
				return true;
			};
			let is_another = |config: &Config| config.webhook.as_ref() != Some(&url);
			// Either is a reason to send it again.
			let _ = timeout(*wait, in_force.wait_for(is_another)).await;
		}
	}
}

fn look(told: &mut Told, jobs: &Jobs, vms_dir: &Path) -> Result<Vec<News>, LedgerError> {
	let attempts = jobs.ledger().next_attempts(told.behind, ATTEMPTS_MAX)?;
	let machines = jobs.ledger().machines()?;
	let is_here = |vm: &str| vms_dir.join(format!("{vm}.toml")).exists();
	Ok(told.news(&attempts, &machines, &jobs.expected(), is_here, now_ms()))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::jobs::{
		Cadence, Confirmed,
		fake::{Calls, FakeExecutor, until},
		fixture::{snapshot, snapshots},
		history::tests::{attempt, failure, success},
	};
	use crate::page::answer_with;
	use serde_json::{Value, from_value, to_value};

	const HOUR_MS: u64 = 3_600_000;

	fn machines(attempts: &[Attempt]) -> HashMap<String, MachineRecord> {
		let mut machines: HashMap<String, MachineRecord> = HashMap::new();
		for attempt in attempts {
			machines.entry(attempt.vm.clone()).or_default().add(attempt);
		}
		machines
	}

	fn events(news: &[News]) -> Vec<(&str, &str)> {
		news.iter().map(|item| (item.event, item.vm.as_str())).collect()
	}

	#[test]
	fn the_page_shows_what_is_sent() {
		let mut told = Told { node: "age1…".into(), ..Told::default() };
		let attempts = [(1, attempt("web", 20, failure()))];
		let machines = machines(&attempts.clone().map(|(_, attempt)| attempt));
		let news = told.news(&attempts, &machines, &HashMap::new(), |_| true, 30);
		let (sent, shown) = (to_value(&news[0]).unwrap(), answer_with("event"));
		let fields =
			|news: &Value| news.as_object().unwrap().keys().cloned().collect::<HashSet<_>>();
		assert_eq!(fields(&sent), fields(&shown));
		for field in ["event", "node", "vm"] {
			assert_eq!(sent[field], shown[field]);
		}
		let reason: Result<FailureReason, _> = from_value(shown["reason"].clone());
		assert!(reason.is_ok(), "{reason:?}");
	}

	#[test]
	fn each_failure_is_told_once_and_no_success_is() {
		let mut told = Told { behind: 4, ..Told::default() };
		let attempts = [(5, attempt("web", 10, success(1))), (6, attempt("web", 20, failure()))];
		let machines = machines(&attempts.clone().map(|(_, attempt)| attempt));
		let news = told.news(&attempts, &machines, &HashMap::new(), |_| true, 30);
		assert_eq!(events(&news), [("backup-failed", "web")]);
		assert_eq!((news[0].reason, news[0].at_ms), (Some(FailureReason::StoreFull), 21));
		assert_eq!((news[0].last_taken_at_ms, told.behind), (Some(10), 6));
		assert!(told.news(&[], &machines, &HashMap::new(), |_| true, 30).is_empty());
	}

	/// An agent's jobs, of which the first of each slot has failed for good.
	struct Bench {
		jobs: Arc<Jobs>,
		calls: Calls,
		dir: tempfile::TempDir,
	}

	impl Bench {
		fn new() -> Self {
			let dir = tempfile::tempdir().unwrap();
			let (executor, calls) = FakeExecutor::new();
			let ledger = Ledger::open(&dir.path().join("jobs.redb")).unwrap();
			Self { jobs: Jobs::open(Arc::new(executor), ledger, 1).unwrap(), calls, dir }
		}

		fn fail(&self, slot: u64) {
			self.jobs.reconcile(&snapshots([snapshot(7, 1, slot)]));
			self.calls.next().fail(FailureReason::StoreFull);
			let is_over = || self.jobs.list().iter().all(|job| job.state != "running");
			until("the job has ended", is_over);
		}

		fn resume(&self) -> Told {
			Told::resume("age1…".into(), self.jobs.ledger()).unwrap()
		}

		fn look(&self, told: &mut Told) -> Vec<News> {
			look(told, &self.jobs, self.dir.path()).unwrap()
		}
	}

	#[test]
	fn what_fails_before_the_first_look_is_told_and_what_failed_before_an_address_was_set_is_not() {
		let bench = Bench::new();
		bench.fail(0);
		let mut told = bench.resume();
		bench.fail(1);
		assert_eq!(events(&bench.look(&mut told)), [("backup-failed", "vm-7")]);
		assert!(bench.look(&mut told).is_empty());
	}

	#[test]
	fn what_was_not_told_before_the_agent_ended_is_told_by_the_next() {
		let bench = Bench::new();
		drop(bench.resume());
		bench.fail(0);
		bench.fail(1);
		let mut told = bench.resume();
		let numbers: Vec<_> = bench.look(&mut told).iter().map(|item| item.number).collect();
		assert_eq!(numbers, [Some(1), Some(2)]);
		bench.jobs.ledger().remember_told(numbers[0]).unwrap();
		let numbers: Vec<_> =
			bench.look(&mut bench.resume()).iter().map(|item| item.number).collect();
		assert_eq!(numbers, [Some(2)]);
		assert!(bench.look(&mut told.pass_over(bench.jobs.ledger()).unwrap()).is_empty());
		assert!(bench.look(&mut bench.resume()).is_empty());
	}

	#[test]
	fn a_late_backup_is_told_once_until_there_is_another() {
		let taken = [attempt("web", 0, success(1)), attempt("web", HOUR_MS, success(2))];
		let (mut told, late) = (Told::default(), machines(&taken));
		let news = |told: &mut Told, machines: &_, hours, is_here| {
			told.news(&[], machines, &HashMap::new(), |_| is_here, hours * HOUR_MS)
		};
		assert!(news(&mut told, &late, 2, true).is_empty(), "not late yet");
		assert!(news(&mut told, &late, 3, false).is_empty(), "not here any more");
		assert_eq!(events(&news(&mut told, &late, 3, true)), [("backup-late", "web")]);
		assert!(news(&mut told, &late, 9, true).is_empty(), "told before");
		let fresh = machines(&[taken[0].clone(), attempt("web", 9 * HOUR_MS, success(3))]);
		assert!(news(&mut told, &fresh, 10, true).is_empty());
		assert_eq!(news(&mut told, &fresh, 40, true).len(), 1);
		assert!(news(&mut told, &HashMap::new(), 40, true).is_empty());
	}

	#[test]
	fn a_young_backup_that_no_other_node_confirms_in_time_is_told_as_late() {
		let machines =
			machines(&[attempt("web", 0, success(1)), attempt("web", HOUR_MS, success(2))]);
		let request = machines["web"].request().unwrap().clone();
		let mut told = Told::default();
		let mut news = |is_late, hours| {
			let holders = Vec::new();
			let confirmed =
				Confirmed { sequence: Some(0), started_at_ms: Some(5), is_late, holders };
			let cadence = Some(Cadence { blocks: 600, ms: Some(HOUR_MS) });
			let expected = Expected { cadence, confirmed: Some(confirmed) };
			let expected = HashMap::from([(request.clone(), expected)]);
			told.news(&[], &machines, &expected, |_| true, hours * HOUR_MS)
		};
		assert!(news(false, 1).is_empty());
		let late = news(true, 1);
		assert_eq!(events(&late), [("backup-late", "web")]);
		assert_eq!(late[0].detail.as_deref(), Some(NONE_CONFIRMED));
		assert_eq!(
			(late[0].last_taken_at_ms, late[0].last_confirmed_at_ms),
			(Some(HOUR_MS), Some(5))
		);
		assert!(news(true, 1).is_empty(), "told before");
		assert!(news(false, 1).is_empty(), "a copy came");
		assert_eq!(news(false, 9)[0].detail.as_deref(), Some(NONE_TAKEN));
	}

	#[test]
	fn an_address_is_of_the_web_and_shown_without_its_token() {
		let url: WebhookUrl =
			"https://hooks.example:8443/services/T0/s3cret?key=s3cret".parse().unwrap();
		assert_eq!(
			format!("{url} {url:?}"),
			"https://hooks.example:8443/*** https://hooks.example:8443/***"
		);
		let url: WebhookUrl = "http://user:s3cret@hooks.example/x".parse().unwrap();
		assert_eq!(url.to_string(), "http://hooks.example/***");
		for wrong in ["", "hooks.example", "file:///etc/passwd", "ftp://hooks.example/", "http://"]
		{
			assert_eq!(wrong.parse::<WebhookUrl>(), Err(()), "{wrong}");
		}
	}
}
