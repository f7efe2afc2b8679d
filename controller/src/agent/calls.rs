//! One method per request: what is asked, and the one answer that belongs to it.

use super::client::Answer;
use super::{AgentError, Client};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::{Collect, FetchLog, Garbage, HostFacts, InputState, Launch, ManifestReply};
use farrun_protocol::record::RunFacts;
use farrun_protocol::spec::{Input, RunSpec};
use farrun_protocol::{Progress, Reply, Request, RunId, Sha256};

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
    pub async fn commit_input(&self, sha256: Sha256, size: u64) -> Result<(), AgentError> {
        ask!(self, Request::CommitInput { sha256, size }, |_| {}, "`done`", Reply::Done => ())
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

    /// The facts of these runs, or of all when none is named.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn runs(&self, run_ids: Vec<RunId>) -> Result<Vec<RunFacts>, AgentError> {
        ask!(self, Request::Runs { run_ids }, |_| {}, "`runs`", Reply::Runs { runs } => runs)
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

    /// The SHA-256 of large files of a manifest, from the `from`-th on; maybe not all of them at once.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn digests(
        &self,
        run_id: RunId,
        manifest: Sha256,
        from: u64,
    ) -> Result<Vec<Sha256>, AgentError> {
        let request = Request::Digests {
            run_id,
            manifest,
            from,
        };
        ask!(self, request, |_| {}, "`digests`", Reply::Digests { digests } => digests)
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

    /// What could be removed, or removes it.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn collect(&self, collect: Collect) -> Result<Vec<Garbage>, AgentError> {
        ask!(self, Request::Collect(collect), |_| {}, "`garbage`", Reply::Garbage { items } => items)
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
