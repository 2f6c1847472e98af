//! Tells a program of the operator's of backups that failed or are late: one POST for each.
//!
//! It reads the history as everybody may, so no job waits for it or knows of it. What is sent is
//! [`News`], as JSON; it holds no secret. A POST that is not answered with success is sent again a
//! few times and then given up, with a line in the log.

use crate::{
	config::InForce,
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
	str::FromStr,
	sync::Arc,
	time::Duration,
};

/// How often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long one POST may take.
const POST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long after each POST that was in vain the next is sent.
const RETRY_AFTER: [Duration; 3] =
	[Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];

/// Most attempts that one look takes in, the newest.
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
}

/// What is missing where a backup is late.
const NONE_TAKEN: &str = "no backup has been taken in time";
const NONE_CONFIRMED: &str = "no other node has confirmed a backup in time";

/// What has been told already.
#[derive(Debug, Default)]
struct Told {
	/// The recipient of this agent.
	node: String,
	/// The number of the last attempt that was looked at.
	behind: u64,
	/// Machines that were said to be late, and still are.
	late: HashSet<String>,
}

impl Told {
	/// All that has happened until now counts as told.
	fn after_the_newest(node: String, ledger: &Ledger) -> Self {
		let newest = ledger.attempts(0, 1).ok();
		let behind = newest.and_then(|newest| newest.last().map(|(last, _)| *last)).unwrap_or(0);
		Self { node, behind, late: HashSet::new() }
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
					});
				}
				Age::Late | Age::Overdue => (),
			}
		}
		news
	}
}

/// Tells of what happens from when it is made on, or from when an address is set.
#[derive(Debug)]
pub struct Webhook {
	told: Told,
	jobs: Arc<Jobs>,
	vms_dir: PathBuf,
}

impl Webhook {
	/// Made before anybody can give the agent orders, so that what fails at once is told, too. A
	/// machine is one of this node's for as long as its file is in `vms_dir`.
	#[must_use]
	pub fn new(node: String, jobs: Arc<Jobs>, vms_dir: PathBuf) -> Self {
		Self { told: Told::after_the_newest(node, jobs.ledger()), jobs, vms_dir }
	}

	/// Tell of it, for ever.
	pub async fn run(self, mut in_force: InForce) {
		let Self { mut told, jobs, vms_dir } = self;
		let client = Client::builder().timeout(POST_TIME_MAX).redirect(Policy::none()).build();
		let client = match client {
			Ok(client) => client,
			Err(error) => return tracing::error!(%error, "nobody can be told of backups"),
		};
		loop {
			let node = told.node.clone();
			if in_force.borrow().webhook.is_none() {
				if in_force.wait_for(|config| config.webhook.is_some()).await.is_err() {
					return;
				}
				told = Told::after_the_newest(node.clone(), jobs.ledger());
			}
			tell_while_wanted(&client, &in_force, told, &jobs, &vms_dir).await;
			told = Told::after_the_newest(node, jobs.ledger());
		}
	}
}

/// Until no address is set any more.
async fn tell_while_wanted(
	client: &Client,
	in_force: &InForce,
	mut told: Told,
	jobs: &Arc<Jobs>,
	vms_dir: &Path,
) {
	if let Some(url) = &in_force.borrow().webhook {
		tracing::info!("{url} is told of backups that fail or are late");
	}
	loop {
		tokio::time::sleep(LOOK_EVERY).await;
		let Some(url) = in_force.borrow().webhook.clone() else { return };
		let (jobs, vms_dir) = (jobs.clone(), vms_dir.to_owned());
		let looked = tokio::task::spawn_blocking(move || {
			let news = look(&mut told, &jobs, &vms_dir);
			(told, news)
		});
		let Ok((seen, news)) = looked.await else {
			// Begins anew with what happens from here on.
			return tracing::error!("looking for what {url} is to be told panicked");
		};
		told = seen;
		match news {
			Ok(news) => {
				for item in news {
					tell(client, &url, &item).await;
				}
			}
			Err(error) => tracing::warn!(%error, "failed to look for news"),
		}
	}
}

fn look(told: &mut Told, jobs: &Jobs, vms_dir: &Path) -> Result<Vec<News>, LedgerError> {
	let attempts = jobs.ledger().attempts(told.behind, ATTEMPTS_MAX)?;
	let machines = jobs.ledger().machines()?;
	let is_here = |vm: &str| vms_dir.join(format!("{vm}.toml")).exists();
	Ok(told.news(&attempts, &machines, &jobs.expected(), is_here, now_ms()))
}

async fn tell(client: &Client, url: &WebhookUrl, news: &News) {
	let waits = RETRY_AFTER.into_iter().map(Some).chain([None]);
	for wait in waits {
		let sent = client.post(url.0.clone()).json(news).send().await;
		let why = match sent.and_then(|answer| answer.error_for_status()) {
			Ok(_) => return,
			// Its own words name the address.
			Err(error) => error.without_url().to_string(),
		};
		match wait {
			Some(wait) => tokio::time::sleep(wait).await,
			None => tracing::warn!(why, vm = news.vm, event = news.event, "{url} was not told"),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::jobs::{
		Cadence, Confirmed,
		fake::{FakeExecutor, until},
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

	/// As a backup may that is ordered while the agent starts.
	#[test]
	fn what_fails_before_the_first_look_is_told() {
		let dir = tempfile::tempdir().unwrap();
		let (executor, calls) = FakeExecutor::new();
		let ledger = Ledger::open(&dir.path().join("jobs.redb")).unwrap();
		let jobs = Jobs::open(Arc::new(executor), ledger, 1).unwrap();
		let fail = |slot| {
			jobs.reconcile(&snapshots([snapshot(7, 1, slot)]));
			calls.next().fail(FailureReason::StoreFull);
			until("the job has ended", || jobs.list().iter().all(|job| job.state != "running"));
		};
		fail(0);
		let mut webhook = Webhook::new("age1…".into(), jobs.clone(), dir.path().into());
		fail(1);
		let mut news = || look(&mut webhook.told, &webhook.jobs, &webhook.vms_dir).unwrap();
		assert_eq!(events(&news()), [("backup-failed", "vm-7")]);
		assert!(news().is_empty());
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
