//! The last lines that each job has logged, kept in memory for people who look at it.
//!
//! What is kept here is what the log has, from `info` upwards, cut to bounds: so many jobs, lines and
//! bytes, the oldest go first. Like the log it holds no secret.

use serde::Serialize;
use std::{
	collections::VecDeque,
	fmt::{self, Write},
	sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{
	Event, Subscriber,
	field::{Field, Visit},
	span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// What the span of a job is called, and the field of it, or of an event, that names the job.
const SPAN: &str = "job";

/// How many characters of a job's id the log has.
const ID_CHARS: usize = 8;

/// Most jobs whose lines are kept.
const JOBS_MAX: usize = 64;

/// Most lines of a job that are kept.
const LINES_MAX: usize = 200;

/// Most bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 1024;

/// The lines of the last jobs. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct JobLog(Arc<Mutex<VecDeque<Lines>>>);

/// The lines of one job.
#[derive(Debug)]
struct Lines {
	job: String,
	lines: VecDeque<Line>,
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
	/// When it was written, in milliseconds since 1970.
	pub at_ms: u64,
	/// `info`, `warn` or `error`.
	pub level: String,
	/// Its words and fields.
	pub text: String,
}

impl JobLog {
	/// The last lines of a job, the oldest first; nothing if there are none of it any more.
	pub fn lines(&self, id: &str) -> Option<Vec<Line>> {
		let job = id.get(..ID_CHARS)?;
		let jobs = self.jobs();
		let found = jobs.iter().find(|known| known.job == job)?;
		Some(found.lines.iter().cloned().collect())
	}

	fn jobs(&self) -> MutexGuard<'_, VecDeque<Lines>> {
		// A thread that panicked has left whole lines.
		self.0.lock().unwrap_or_else(PoisonError::into_inner)
	}

	fn push(&self, job: &str, line: Line) {
		let mut jobs = self.jobs();
		if !jobs.iter().any(|known| known.job == job) {
			if jobs.len() == JOBS_MAX {
				jobs.pop_front();
			}
			jobs.push_back(Lines { job: job.to_owned(), lines: VecDeque::new() });
		}
		let Some(known) = jobs.iter_mut().rfind(|known| known.job == job) else { return };
		if known.lines.len() == LINES_MAX {
			known.lines.pop_front();
		}
		known.lines.push_back(line);
	}
}

/// Which job a span belongs to.
struct OfJob(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JobLog {
	fn on_new_span(&self, span: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
		if span.metadata().name() != SPAN {
			return;
		}
		let mut words = Words { id_field: "id", ..Words::default() };
		span.record(&mut words);
		if let (Some(job), Some(span)) = (words.job, context.span(id)) {
			span.extensions_mut().insert(OfJob(job));
		}
	}

	fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
		let mut words = Words { id_field: SPAN, ..Words::default() };
		event.record(&mut words);
		let of_span = context
			.event_scope(event)
			.into_iter()
			.flatten()
			.find_map(|span| span.extensions().get::<OfJob>().map(|OfJob(job)| job.clone()));
		let Some(job) = of_span.or(words.job) else { return };
		let text = words.message + &words.fields;
		let end = (0..=text.len().min(LINE_BYTES_MAX)).rev();
		let end = end.into_iter().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
		let line = Line {
			at_ms: crate::jobs::now_ms(),
			level: event.metadata().level().as_str().to_ascii_lowercase(),
			text: text[..end].to_owned(),
		};
		self.push(&job, line);
	}
}

/// Puts an event into words, and finds the job that it names.
#[derive(Default)]
struct Words {
	id_field: &'static str,
	job: Option<String>,
	message: String,
	fields: String,
}

impl Visit for Words {
	fn record_str(&mut self, field: &Field, value: &str) {
		if field.name() == self.id_field {
			self.job = Some(value.to_owned());
		} else {
			self.record_debug(field, &format_args!("{value}"));
		}
	}

	fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
		// Writing to a text does not fail.
		let _ = match field.name() {
			"message" => write!(self.message, "{value:?}"),
			name if name == self.id_field => {
				self.job = Some(format!("{value:?}"));
				Ok(())
			}
			name => write!(self.fields, " {name}={value:?}"),
		};
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use tracing_subscriber::{layer::SubscriberExt, registry};

	fn logged(speak: impl FnOnce()) -> JobLog {
		let log = JobLog::default();
		tracing::subscriber::with_default(registry().with(log.clone()), speak);
		log
	}

	fn texts(log: &JobLog, id: &str) -> Vec<String> {
		log.lines(id).unwrap().into_iter().map(|line| line.text).collect()
	}

	#[test]
	fn a_job_s_lines_are_those_inside_its_span_and_those_that_name_it() {
		let log = logged(|| {
			tracing::info!(job = %"01020304", vm = "web", "job started");
			let job = tracing::info_span!("job", id = "01020304", kind = "snapshot");
			job.in_scope(|| {
				tracing::info_span!("inner").in_scope(|| tracing::warn!(bytes = 7, "slow"));
			});
			tracing::info!("of nobody");
			tracing::info_span!("job", id = "0a0b0c0d").in_scope(|| tracing::error!("other"));
		});
		assert_eq!(texts(&log, "01020304"), ["job started vm=web", "slow bytes=7"]);
		let whole_id = format!("0a0b0c0d{}", "00".repeat(28));
		assert_eq!(texts(&log, &whole_id), ["other"]);
		assert_eq!(log.lines(&whole_id).unwrap()[0].level, "error");
		assert_eq!(
			[log.lines("ffffffff"), log.lines("01"), log.lines("ééééé")],
			[None, None, None]
		);
	}

	#[test]
	fn boundary_jobs_lines_and_bytes_are_bounded() {
		let log = logged(|| {
			for job in 0..=JOBS_MAX {
				tracing::info!(job = format!("{job:08}"), "once");
			}
			for line in 0..=LINES_MAX {
				tracing::info!(job = "00000001", line, "again");
			}
			tracing::info!(job = "00000001", "{}", "é".repeat(LINE_BYTES_MAX));
		});
		assert_eq!(log.lines("00000000"), None);
		let lines = texts(&log, "00000001");
		assert_eq!((lines.len(), lines[0].as_str()), (LINES_MAX, "again line=2"));
		assert_eq!(lines[LINES_MAX - 1].len(), LINE_BYTES_MAX);
	}
}
