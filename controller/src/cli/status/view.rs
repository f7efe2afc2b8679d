//! What is known about a host, as `--json` prints it and as people are told.

use super::Known;
use crate::cli::view::RunView;
use crate::model::{Host, Run};
use crate::run::estimate::Estimate;
use crate::run::quiet;
use chrono::{DateTime, Utc};
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::lease::QueuePlace;
use farrun_protocol::message::HostFacts;
use farrun_protocol::record::RunFacts;
use serde::Serialize;

/// What is known about one host.
#[derive(Debug, Serialize)]
pub(super) struct HostStatus<'a> {
    host: &'a Host,
    /// `up`, `down` or `not asked`.
    link: &'static str,
    /// Why it is down.
    cause: Option<&'a str>,
    /// From a ping to its answer, in milliseconds.
    round_trip_ms: Option<u64>,
    agent_version: Option<&'a str>,
    facts: Option<&'a HostFacts>,
    /// When the facts came here.
    facts_at: Option<DateTime<Utc>>,
    gpus: Option<&'a GpuReport>,
    /// When the report of the GPUs came here.
    gpus_at: Option<DateTime<Utc>>,
    /// Parts that a host which is up did not answer, and why.
    missing: Vec<&'a str>,
    last_seen: Option<DateTime<Utc>>,
    runs: Vec<ActiveRun<'a>>,
    /// Runs whose state was found to have changed.
    changed: Vec<RunView<'a>>,
}

/// An active run with what its host said of it now.
#[derive(Debug, Serialize)]
struct ActiveRun<'a> {
    #[serde(flatten)]
    run: RunView<'a>,
    /// Length of its log on the host.
    log_bytes: Option<u64>,
    /// Where it stands in line.
    queue: Option<&'a QueuePlace>,
    /// Seconds for which it has been running.
    elapsed_seconds: Option<u64>,
    /// Seconds that runs like it take.
    estimate_seconds: Option<u64>,
    /// How many runs that was told from.
    estimate_runs: Option<usize>,
    /// Seconds until it is its turn, when it waits and that can be told.
    starts_in_seconds: Option<u64>,
    /// When its job printed last, by the host's clock.
    last_output_at: Option<DateTime<Utc>>,
    /// Seconds since then, or since its start.
    silent_seconds: Option<u64>,
    /// Seconds for which its GPUs have done nothing.
    gpu_idle_seconds: Option<u64>,
    /// Why it may hang.
    warning: Option<String>,
}

impl<'a> ActiveRun<'a> {
    fn new(run: &'a Run, facts: Option<&'a RunFacts>, estimate: Estimate) -> Self {
        let elapsed = run.started_at.map(|started| (Utc::now() - started).num_seconds());
        Self {
            run: RunView::from(run),
            log_bytes: facts.map(|facts| facts.log_length),
            queue: facts.and_then(|facts| facts.queue.as_deref()),
            elapsed_seconds: elapsed.map(|seconds| u64::try_from(seconds).unwrap_or_default()),
            estimate_seconds: estimate.usual.map(|usual| usual.duration.as_secs()),
            estimate_runs: estimate.usual.map(|usual| usual.runs),
            starts_in_seconds: estimate.starts_in.map(|wait| wait.as_secs()),
            last_output_at: facts.and_then(|facts| facts.last_output_at),
            silent_seconds: facts.and_then(|facts| facts.silent_seconds),
            gpu_idle_seconds: facts.and_then(|facts| facts.gpu_idle_seconds),
            warning: facts.and_then(quiet::warning),
        }
    }
}

impl<'a> From<&'a Known> for HostStatus<'a> {
    fn from(known: &'a Known) -> Self {
        let seen = known.seen();
        let (facts, facts_at) = known.facts().unzip();
        let (gpus, gpus_at) = known.gpus().unzip();
        Self {
            host: &known.host,
            link: known.link(),
            cause: known.cause(),
            round_trip_ms: seen
                .and_then(|seen| seen.round_trip)
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            agent_version: seen.map(|seen| seen.version.as_str()),
            facts,
            facts_at,
            gpus,
            gpus_at,
            missing: known.missing(),
            last_seen: match seen {
                Some(seen) => Some(seen.at),
                None => known.host.last_seen,
            },
            runs: known
                .estimated()
                .map(|(run, estimate)| ActiveRun::new(run, known.facts_of(run), estimate))
                .collect(),
            changed: known.changed().iter().map(RunView::from).collect(),
        }
    }
}

impl Known {
    /// `up`, `down` or `not asked`.
    pub(super) fn link(&self) -> &'static str {
        match &self.answer {
            None => "not asked",
            Some(Ok(_)) => "up",
            Some(Err(_)) => "down",
        }
    }

    /// Why it is down.
    pub(super) fn cause(&self) -> Option<&str> {
        self.answer
            .as_ref()
            .and_then(|answer| answer.as_ref().err())
            .map(String::as_str)
    }

    /// What the host is and holds, and when it said so.
    pub(super) fn facts(&self) -> Option<(&HostFacts, DateTime<Utc>)> {
        let now = self
            .seen()
            .and_then(|seen| Some((seen.facts.as_ref().ok()?.as_ref()?, seen.at)));
        now.or(self.last.facts.as_ref().map(|(facts, at)| (facts, *at)))
    }

    /// What its GPUs are and do, and when it said so.
    pub(super) fn gpus(&self) -> Option<(&GpuReport, DateTime<Utc>)> {
        let now = self
            .seen()
            .and_then(|seen| Some((seen.gpus.as_ref().ok()?, seen.at)));
        now.or(self.last.gpus.as_ref().map(|(gpus, at)| (gpus, *at)))
    }

    /// Why parts are missing although the host is up.
    pub(super) fn missing(&self) -> Vec<&str> {
        let Some(seen) = self.seen() else {
            return Vec::new();
        };
        [
            seen.facts.as_ref().err(),
            seen.gpus.as_ref().err(),
            seen.runs.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect()
    }

    /// What the host said of a run now.
    pub(super) fn facts_of(&self, run: &Run) -> Option<&RunFacts> {
        let looked = self.seen()?.runs.as_ref().ok()?;
        looked.facts.iter().find(|facts| facts.run_id == run.id)
    }

    /// Runs whose state was found to have changed.
    pub(super) fn changed(&self) -> &[Run] {
        self.seen()
            .and_then(|seen| seen.runs.as_ref().ok())
            .map(|looked| looked.changed.as_slice())
            .unwrap_or_default()
    }
}
