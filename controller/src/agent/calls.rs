//! One method per request: what is asked, and the one answer that belongs to it.

use super::client::Answer;
use super::{AgentError, Client};
use chrono::{DateTime, Utc};
use farrun_protocol::diagnostics::Bundle;
use farrun_protocol::doctor::{Checkup, Residence};
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::lease::{Fit, Placement};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::{
    Collect, FetchLog, Garbage, HostFacts, InputState, Launch, ManifestReply, RunsPage, SetHook,
};
use farrun_protocol::record::RunFacts;
use farrun_protocol::series::Sample;
use farrun_protocol::spec::{Gpus, Input, RunSpec};
use farrun_protocol::{ContentId, Progress, Reply, Request, RunId, Sha256};

/// Runs that are asked for by name at once: the answer must fit a frame, with the longest record of each.
const MOST_RUNS: usize = 100;

/// Asks and takes the one answer that fits.
macro_rules! ask {
    ($client:expr, $request:expr, $progress:expr, $expected:literal, $pattern:pat => $value:expr) => {
        match $client.ask(&$request, $progress).await? {
            Answer::Reply($pattern) => Ok($value),
            other => Err($client.unexpected($expected, &other)),
        }
    };
}

/// Every method fails with the agent's typed failure, an answer that does not fit, or the end of the conversation.
impl Client {
    /// Which of these inputs must be sent, in the same order.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn check_inputs(&self, inputs: Vec<Input>) -> Result<Vec<InputState>, AgentError> {
        let asked = inputs.len();
        let states: Result<Vec<InputState>, AgentError> = ask!(self, Request::CheckInputs { inputs }, |_| {}, "`inputs`", Reply::Inputs { states } => states);
        let states = states?;
        if states.len() != asked {
            return Err(AgentError::Unexpected {
                host: self.host_name().to_owned(),
                expected: "one state per input",
                got: format!("{} states for {asked}", states.len()),
            });
        }
        Ok(states)
    }

    /// Has an upload verified and named.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn commit_input(&self, content: ContentId, size: u64) -> Result<(), AgentError> {
        let request = Request::CommitInput {
            content,
            size,
            arriving: false,
        };
        ask!(self, request, |_| {}, "`done`", Reply::Done => ())
    }

    /// Has the evidence of a run, or of the host, collected, unless the run's lies there and it is not wanted anew.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn diagnose<F>(
        &self,
        run_id: Option<RunId>,
        anew: bool,
        progress: F,
    ) -> Result<(Bundle, ManifestReply), AgentError>
    where
        F: FnMut(Progress) + Send,
    {
        let request = Request::Diagnose { run_id, anew };
        ask!(self, request, progress, "`diagnostics`", Reply::Diagnostics { bundle, manifest } => (*bundle, manifest))
    }

    /// Has an upload hashed while it arrives, then named. Dropping the future ends the wait.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn follow_input(&self, content: ContentId, size: u64) -> Result<(), AgentError> {
        let request = Request::CommitInput {
            content,
            size,
            arriving: true,
        };
        ask!(self, request, |_| {}, "`done`", Reply::Done => ())
    }

    /// Says what is done on the host when a run of ours has ended.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn set_hook(&self, set: SetHook) -> Result<(), AgentError> {
        ask!(self, Request::SetHook(set), |_| {}, "`done`", Reply::Done => ())
    }

    /// Starts a run, or finds it started.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn launch<F>(&self, launch: Launch, progress: F) -> Result<RunFacts, AgentError>
    where
        F: FnMut(Progress) + Send,
    {
        ask!(self, Request::Launch(Box::new(launch)), progress, "`run`", Reply::Run(facts) => *facts)
    }

    /// The facts of these runs. None named, none asked for; [`Self::runs_page`] is for all of a host.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn runs(&self, run_ids: Vec<RunId>) -> Result<Vec<RunFacts>, AgentError> {
        let mut facts = Vec::new();
        for run_ids in run_ids.chunks(MOST_RUNS) {
            let request = Request::Runs {
                run_ids: run_ids.to_vec(),
                page: None,
            };
            let some: Result<_, AgentError> =
                ask!(self, request, |_| {}, "`runs`", Reply::Runs { runs, .. } => runs);
            facts.extend(some?);
        }
        Ok(facts)
    }

    /// The facts of all runs of the host behind `after`, as many as fit one answer, and where the next page begins.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn runs_page(
        &self,
        after: Option<RunId>,
    ) -> Result<(Vec<RunFacts>, Option<RunId>), AgentError> {
        let request = Request::Runs {
            run_ids: Vec::new(),
            page: Some(RunsPage { after: after.clone() }),
        };
        let page: Result<_, AgentError> =
            ask!(self, request, |_| {}, "`runs`", Reply::Runs { runs, next } => (runs, next));
        let (runs, next) = page?;
        match next {
            // Otherwise a host could keep us asking for ever.
            Some(next) if after.is_some_and(|after| next <= after) => Err(AgentError::Unexpected {
                host: self.host_name().to_owned(),
                expected: "a page behind the last",
                got: format!("one that ends at `{next}`"),
            }),
            next => Ok((runs, next)),
        }
    }

    /// The order of a run.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn spec(&self, run_id: RunId) -> Result<RunSpec, AgentError> {
        ask!(self, Request::Spec { run_id }, |_| {}, "`spec`", Reply::Spec(spec) => *spec)
    }

    /// Asks the job to end, or ends it.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn stop_run(&self, run_id: RunId, grace: u64, kill: bool) -> Result<RunFacts, AgentError> {
        let request = Request::StopRun { run_id, grace, kill };
        ask!(self, request, |_| {}, "`run`", Reply::Run(facts) => *facts)
    }

    /// Has the outputs of an ended run hashed.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn outputs<F>(&self, run_id: RunId, progress: F) -> Result<ManifestReply, AgentError>
    where
        F: FnMut(Progress) + Send,
    {
        ask!(self, Request::Outputs { run_id }, progress, "`manifest`", Reply::Manifest(reply) => reply)
    }

    /// Makes this controller an owner of a run.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn adopt(&self, run_id: RunId) -> Result<RunFacts, AgentError> {
        ask!(self, Request::Adopt { run_id }, |_| {}, "`run`", Reply::Run(facts) => *facts)
    }

    /// What the host is and holds.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn host(&self) -> Result<HostFacts, AgentError> {
        ask!(self, Request::Host, |_| {}, "`host`", Reply::Host(facts) => *facts)
    }

    /// What the host's GPUs are and do, as of at most `max_age` milliseconds ago where that can be had within a
    /// second.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn gpus(&self, max_age: Option<u64>, detect: bool) -> Result<GpuReport, AgentError> {
        let request = Request::Gpus { max_age, detect };
        ask!(self, request, |_| {}, "`gpus`", Reply::Gpus(report) => *report)
    }

    /// How an order for these GPUs would fare there now.
    ///
    /// # Errors
    /// See [`AgentError`]; the host's word why it would be refused.
    pub async fn fit(&self, gpus: Gpus, placement: Placement) -> Result<Fit, AgentError> {
        let request = Request::Fit { gpus, placement };
        ask!(self, request, |_| {}, "`fit`", Reply::Fit(fit) => fit)
    }

    /// Samples of a run's GPUs later than `after`, and whether there are more.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn series(
        &self,
        run_id: RunId,
        after: Option<DateTime<Utc>>,
    ) -> Result<(Vec<Sample>, bool), AgentError> {
        let request = Request::Series { run_id, after };
        ask!(self, request, |_| {}, "`series`", Reply::Series { samples, more } => (samples, more))
    }

    /// What could be removed, or removes it.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn collect(&self, collect: Collect) -> Result<Vec<Garbage>, AgentError> {
        ask!(self, Request::Collect(collect), |_| {}, "`garbage`", Reply::Garbage { items } => items)
    }

    /// Has the host look at everything that runs depend on. Can take most of a minute.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn doctor(&self) -> Result<Checkup, AgentError> {
        ask!(self, Request::Doctor, |_| {}, "`doctor`", Reply::Doctor(checkup) => *checkup)
    }

    /// Has the observer started after each boot of the host, or no longer; answers by what it is.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn set_residence(&self, resident: bool) -> Result<Option<Residence>, AgentError> {
        ask!(self, Request::SetResidence { resident }, |_| {}, "`residence`", Reply::Residence { by } => by)
    }

    /// Hash of the first `length` bytes of a run log; none when it is shorter.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn hash_log(&self, run_id: RunId, length: u64) -> Result<Option<Sha256>, AgentError> {
        let request = Request::HashLog { run_id, length };
        ask!(self, request, |_| {}, "`log_prefix`", Reply::LogPrefix { sha256 } => sha256)
    }

    /// Run-log bytes from an offset: a long poll.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn fetch_log(&self, fetch: FetchLog) -> Result<LogChunk, AgentError> {
        match self.ask(&Request::FetchLog(fetch), |_| {}).await? {
            Answer::Chunk(chunk) => Ok(chunk),
            other => Err(self.unexpected("a log chunk", &other)),
        }
    }
}
