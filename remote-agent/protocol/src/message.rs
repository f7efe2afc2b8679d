//! Requests, replies, progress and failures: the JSON half of the conversation.

use crate::diagnostics::Bundle;
use crate::doctor::{Checkup, Residence};
use crate::gpu::GpuReport;
use crate::id::{ControllerId, Generation, HostId, RunId, Sha256};
use crate::lease::GpuRefusal;
use crate::notify::Hook;
use crate::record::RunFacts;
use crate::series::Sample;
use crate::spec::{Input, RunSpec};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a controller asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Request {
    /// Opens the conversation. Answered by [`Reply::Hello`].
    Hello(Hello),
    /// Which inputs must be sent. Answered by [`Reply::Inputs`].
    CheckInputs {
        /// The inputs of a run that is about to be launched.
        inputs: Vec<Input>,
    },
    /// Verify an upload and give it its name. Answered by [`Reply::Done`]; fails as `hash_mismatch`, and then the
    /// upload is gone.
    CommitInput {
        /// What it must hash to.
        sha256: Sha256,
        /// How long it must be.
        size: u64,
        /// Whether it has begun and is still on its way: then it is hashed as far as its marks go, until all of it is
        /// there. Fails as `input_missing` when another upload of the same content has taken it away.
        #[serde(default)]
        arriving: bool,
    },
    /// Start a run, or find it started. Answered by [`Reply::Run`], with any number of [`Progress`] before. An order
    /// that wants GPUs is given them, stands in line ([`crate::record::Phase::Queued`]) when it is willing to wait,
    /// or fails as `no_free_gpu`, `no_such_gpu`, `no_gpu` or `locks_unusable`, and then there is no such run.
    Launch(Box<Launch>),
    /// The facts of these runs, or of all. Ended ones are settled on the way. Answered by [`Reply::Runs`].
    Runs {
        /// Which; empty for all of them.
        run_ids: Vec<RunId>,
        /// Wanted page by page, by ascending id; only for all of them. Agents that do not know it send all at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page: Option<RunsPage>,
    },
    /// The order of a run. Answered by [`Reply::Spec`].
    Spec {
        /// The run.
        run_id: RunId,
    },
    /// Run-log bytes from an offset. Answered by a log chunk.
    FetchLog(FetchLog),
    /// Hash of a prefix of the run log. Answered by [`Reply::LogPrefix`].
    HashLog {
        /// The run.
        run_id: RunId,
        /// How many bytes from the start.
        length: u64,
    },
    /// Ask the job to end, or end it. Answered by [`Reply::Run`].
    StopRun {
        /// The run.
        run_id: RunId,
        /// Seconds between SIGTERM and SIGKILL.
        grace: u64,
        /// SIGKILL at once.
        kill: bool,
    },
    /// Hash the outputs of an ended run. Answered by [`Reply::Manifest`], with [`Progress`] before.
    Outputs {
        /// The run.
        run_id: RunId,
    },
    /// The SHA-256 of each large file of a manifest, see [`crate::manifest::Manifest::large`]. Answered by
    /// [`Reply::Digests`]; fails as `hash_mismatch` when the host's manifest is another one or a file has changed.
    Digests {
        /// The run.
        run_id: RunId,
        /// Hash of the manifest that is meant.
        manifest: Sha256,
        /// How many large files to pass over: an answer may hold fewer than there are.
        from: u64,
        /// Most digests that are wanted; all when it is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        most: Option<u64>,
    },
    /// Make this controller an owner of a run. Answered by [`Reply::Run`].
    Adopt {
        /// The run.
        run_id: RunId,
    },
    /// What the host is and holds. Answered by [`Reply::Host`].
    Host,
    /// What its GPUs are and do. Answered by [`Reply::Gpus`] within a second, whatever `nvidia-smi` does.
    Gpus {
        /// Age in milliseconds up to which figures that are there will do; the agent's time to live when absent.
        #[serde(default)]
        max_age: Option<u64>,
        /// Whether to find out anew what jobs compute with, instead of believing what was found within the hour.
        #[serde(default)]
        detect: bool,
    },
    /// What a run's GPUs did. Answered by [`Reply::Series`].
    Series {
        /// The run.
        run_id: RunId,
        /// Only samples later than this.
        #[serde(default)]
        after: Option<DateTime<Utc>>,
    },
    /// The evidence of a run that did not succeed, or of the host as it is now. Answered by [`Reply::Diagnostics`], with
    /// [`Progress::Collecting`] before.
    Diagnose {
        /// The run; none for the host.
        #[serde(default)]
        run_id: Option<RunId>,
        /// Whether to collect although there is a bundle of the run.
        #[serde(default)]
        anew: bool,
    },
    /// What to do when a run of this controller has ended. Answered by [`Reply::Done`].
    SetHook(SetHook),
    /// What could be removed, or remove it. Answered by [`Reply::Garbage`].
    Collect(Collect),
    /// Look at everything that runs depend on. Answered by [`Reply::Doctor`].
    Doctor,
    /// Whether the observer is started after a boot. Answered by [`Reply::Residence`]; fails as `residence_refused` where
    /// the host offers no way.
    SetResidence {
        /// Whether it is from now on.
        resident: bool,
    },
}

/// Opens a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`] of the controller.
    pub protocol: u32,
    /// Who asks; the owner of what this conversation launches.
    pub controller_id: ControllerId,
    /// Whether Docker needs `sudo -n` on this host.
    #[serde(default)]
    pub docker_sudo: bool,
    /// `DOCKER_HOST` for this host (`unix://…`, `tcp://…`), when its settings name one.
    #[serde(default)]
    pub docker_host: Option<String>,
}

/// Which part of all runs is wanted: as many as fit a frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsPage {
    /// Those behind this one; none for the first page.
    #[serde(default)]
    pub after: Option<RunId>,
}

/// Starts a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The order.
    pub spec: RunSpec,
    /// Values for [`RunSpec::secret_names`].
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }
    /// The value, for the one place that must hand it on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Asks for run-log bytes: a long poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLog {
    /// The run.
    pub run_id: RunId,
    /// The life of the log the caller already holds bytes of; fails as `generation_changed` when it is another.
    #[serde(default)]
    pub generation: Option<Generation>,
    /// Run-log bytes the caller already holds. Fails as `offset_beyond_end` when the log is shorter.
    pub offset: u64,
    /// Its place among requests that are sent ahead of each other's answers; none for one that stands alone.
    #[serde(default)]
    pub place: Option<Place>,
    /// Hash of the last [`crate::log::TAIL_LENGTH`] bytes (or fewer) before `offset`, to prove that they are the
    /// same bytes. Fails as `tail_mismatch` when they are not.
    #[serde(default)]
    pub tail_sha256: Option<Sha256>,
    /// Most bytes wanted; capped at [`crate::log::MAX_CHUNK`].
    pub max: u64,
    /// How long to wait for a byte, in milliseconds; capped at 30 s. An empty chunk answers when none came.
    pub wait: u64,
}

/// A place in a chain of requests for one run log.
///
/// The first begins at its own offset. Each other waits for the answer to the one before it and begins where that
/// ended, whatever its own offset says; only then does its time to wait begin. So a follower at a distance gets what
/// the job writes without a round trip between two answers, although it cannot know the offsets when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Names the chain; a later one of the same conversation and run has a higher number and ends the earlier.
    pub chain: u64,
    /// Number of requests before it.
    pub index: u64,
}

/// Says what is done on the host when a run of this controller has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetHook {
    /// What its user calls the host.
    pub host: String,
    /// What is done; none for nothing.
    #[serde(default)]
    pub hook: Option<Hook>,
}

/// Removes what a host no longer needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Only say what would go.
    pub dry_run: bool,
    /// Settled runs of this controller whose folders and containers may go.
    #[serde(default)]
    pub run_ids: Vec<RunId>,
    /// Agents that no run needs, other than the one that answers.
    #[serde(default)]
    pub agents: bool,
    /// Inputs that no run's order names.
    #[serde(default)]
    pub blobs: bool,
    /// With `dry_run`: runs that are taken for gone when inputs are looked for.
    #[serde(default)]
    pub as_if_gone: Vec<RunId>,
    /// Evidence about the host that is at least so many seconds old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// Images of the demo.
    #[serde(default)]
    pub images: bool,
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(HelloReply),
    /// To [`Request::CheckInputs`], in the same order.
    Inputs {
        /// Whether each must be sent.
        states: Vec<InputState>,
    },
    /// Nothing to say.
    Done,
    /// One run.
    Run(Box<RunFacts>),
    /// Several runs.
    Runs {
        /// Their facts; runs the host does not know are absent.
        runs: Vec<RunFacts>,
        /// Where the next page begins ([`RunsPage::after`]); none behind the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<RunId>,
    },
    /// An order.
    Spec(Box<RunSpec>),
    /// To [`Request::HashLog`].
    LogPrefix {
        /// Hash of the prefix; none when the log is shorter than asked.
        sha256: Option<Sha256>,
    },
    /// To [`Request::Outputs`].
    Manifest(ManifestReply),
    /// To [`Request::Digests`].
    Digests {
        /// In the manifest's order; none when all were passed over.
        digests: Vec<Sha256>,
    },
    /// To [`Request::Host`].
    Host(Box<HostFacts>),
    /// To [`Request::Gpus`].
    Gpus(Box<GpuReport>),
    /// To [`Request::Series`].
    Series {
        /// Oldest first, at most [`crate::series::MAX_SAMPLES`].
        samples: Vec<Sample>,
        /// Whether there are later ones.
        more: bool,
    },
    /// To [`Request::Diagnose`]. The bundle is fetched as outputs are, by its manifest, whose `run_id` is the run's or
    /// [`crate::diagnostics::HOST_MANIFEST`]. Where nothing could be written the manifest's path is empty, it lists no
    /// file, and the bundle says why.
    Diagnostics {
        /// What it is and what it lacks.
        bundle: Box<Bundle>,
        /// Where to find it.
        manifest: ManifestReply,
    },
    /// To [`Request::Collect`].
    Garbage {
        /// What went, or would go.
        items: Vec<Garbage>,
    },
    /// To [`Request::Doctor`].
    Doctor(Box<Checkup>),
    /// To [`Request::SetResidence`].
    Residence {
        /// What starts the observer after a boot, when something does.
        by: Option<Residence>,
    },
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// [`crate::PROTOCOL`] of the agent.
    pub protocol: u32,
    /// The agent's version.
    pub version: String,
    /// Hash of the program that answers.
    pub agent_sha256: Sha256,
    /// The machine.
    pub host_id: HostId,
    /// This boot of it.
    pub boot_id: String,
    /// `uname -m`.
    pub machine: String,
    /// Absolute path of the state folder.
    pub state: String,
    /// The host's clock.
    pub now: DateTime<Utc>,
}

/// Whether an input must be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum InputState {
    /// It lies on the host, verified.
    Present,
    /// It must be uploaded to `path` (absolute). Which pieces of it are there already say its
    /// [marks](crate::layout::marks); the whole is verified at the end.
    Missing {
        /// Where to.
        path: String,
        /// How long an earlier upload has made it; 0 when there is none.
        have: u64,
    },
}

/// Where to find a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReply {
    /// Absolute path of the manifest file.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// Absolute path of the outputs folder.
    pub outputs: String,
    /// Absolute path of the pack, when files are in one: their contents end to end, see
    /// [`crate::manifest::OutputFile::packed_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// Number of files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// What a host is and holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its engine, or why there is none.
    pub engine: Result<EngineFacts, Failure>,
    /// Bytes free where the state folder lies.
    pub disk_free: u64,
    /// Size of that file system in bytes.
    pub disk_total: u64,
    /// Seconds since boot.
    pub uptime: u64,
    /// One-minute load average as the kernel prints it.
    pub load: String,
    /// Memory in bytes, and how much of it is available.
    pub memory_total: u64,
    /// Available memory in bytes.
    pub memory_available: u64,
    /// Our containers, also those of other controllers of this account.
    pub containers: Vec<OurContainer>,
    /// Agent versions on disk.
    pub agents: Vec<Sha256>,
    /// The resident observer, when one lives.
    #[serde(default)]
    pub watch: Option<WatchFacts>,
    /// What starts it after a boot, when something does.
    #[serde(default)]
    pub residence: Option<Residence>,
}

/// The resident observer of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchFacts {
    /// Its process.
    pub pid: u32,
    /// Version of the agent that it runs.
    pub version: String,
    /// Since when it lives.
    pub since: DateTime<Utc>,
    /// Whether it comes back by itself after the host restarts.
    #[serde(default)]
    pub resident: bool,
}

/// A container engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// Newest API version it speaks.
    pub api: String,
    /// Where the agent reached it.
    pub address: String,
    /// Whether containers outlive a restart of it.
    pub live_restore: bool,
    /// Whether it can hand out GPUs.
    pub gpus: bool,
    /// Folder of its images and containers.
    pub root: String,
}

/// A container with our label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OurContainer {
    /// Its 64 hex digits.
    pub id: String,
    /// Its run.
    pub run_id: RunId,
    /// Who ordered it.
    pub controller_id: Option<ControllerId>,
    /// The engine's word for its state.
    pub status: String,
    /// Image it was made from.
    pub image: String,
    /// GPUs label.
    pub gpus: String,
    /// Whether the state folder knows the run.
    pub known: bool,
}

/// Something that can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// `run`, `container`, `agent`, `blob`, `incoming`, `diagnostics`, `image`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files in its outputs folder; none for what is no run.
    #[serde(default)]
    pub outputs: Option<u64>,
    /// How many of the bytes are the evidence of its end; none where there is no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// Why it stays although it was named, when it does.
    #[serde(default)]
    pub kept: Option<String>,
}

/// What happens while a request is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Progress {
    /// The image is being fetched.
    Pulling {
        /// Layers that are complete.
        layers_done: u64,
        /// Layers known so far.
        layers: u64,
        /// Bytes fetched.
        bytes_done: u64,
        /// Bytes known so far.
        bytes: u64,
    },
    /// The container is being made and started.
    Starting,
    /// Outputs are being hashed.
    Hashing {
        /// Bytes hashed.
        bytes_done: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// Outputs are being opened to the account.
    Opening,
    /// Evidence is being collected.
    Collecting {
        /// The file that is being made.
        file: String,
    },
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}{}", detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
pub struct Failure {
    /// Stable code.
    pub code: ErrorCode,
    /// What an engine or the kernel said, or which path it is about; at most 4000 characters.
    #[serde(default)]
    pub detail: Option<String>,
    /// With [`ErrorCode::NoFreeGpu`] and [`ErrorCode::NoSuchGpu`]: every GPU of the host, and why it was not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuRefusal>,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            detail: None,
            gpus: Vec::new(),
        }
    }
}

impl Failure {
    /// A failure with a detail.
    pub fn new(code: ErrorCode, detail: impl fmt::Display) -> Self {
        Self {
            code,
            detail: Some(detail.to_string().chars().take(4000).collect()),
            gpus: Vec::new(),
        }
    }
}

/// Stable codes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request could not be understood.
    BadRequest,
    /// Another protocol version, or no hello yet.
    Protocol,
    /// No such run on this host.
    RunUnknown,
    /// The run id exists with another order.
    SpecConflict,
    /// The run belongs to another controller; `adopt` it first.
    NotOwner,
    /// The run has not ended.
    RunActive,
    /// An input is neither uploaded nor an output of an earlier run.
    InputMissing,
    /// Bytes do not hash to what was promised.
    HashMismatch,
    /// The log is another one than the caller holds.
    GenerationChanged,
    /// The caller's bytes are not those of the log.
    TailMismatch,
    /// The log is shorter than what the caller holds.
    OffsetBeyondEnd,
    /// No engine answers at its socket, or there is none.
    DockerUnreachable,
    /// The account may not use the engine.
    DockerDenied,
    /// The engine did not answer in time.
    DockerTimeout,
    /// The engine refused; `detail` quotes it.
    DockerRefused,
    /// A mount's source does not exist.
    MountMissing,
    /// No GPU, or not enough of them, can be given now.
    NoFreeGpu,
    /// The order wants GPUs that the host does not have: more of them, larger ones, or others.
    NoSuchGpu,
    /// The host has no GPU that jobs can use; `detail` is the [`crate::gpu::TroubleKind`] and what was said.
    NoGpu,
    /// The folder of the GPU locks cannot be used; `detail` names it and says why.
    LocksUnusable,
    /// The host offers no way to start the observer after a boot; `detail` says what was tried.
    ResidenceRefused,
    /// The disk is full, or a quota.
    DiskFull,
    /// The file system refused.
    Io,
    /// A file of a newer farrun; this version leaves it alone.
    NewerFormat,
    /// The wait was ended by its caller.
    Cancelled,
    /// A defect of the agent.
    Internal,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The wire name is the stable name.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => formatter.write_str(&name),
            _ => formatter.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let launch = BTreeMap::from([("TOKEN".to_owned(), Secret::new("hunter2"))]);
        assert!(!format!("{launch:?}").contains("hunter2"));
    }

    #[test]
    fn requests_are_tagged_by_verb() {
        let request = Request::StopRun {
            run_id: "rs_abcdefgh".parse().unwrap(),
            grace: 10,
            kill: false,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"verb":"stop_run","run_id":"rs_abcdefgh","grace":10,"kill":false}"#
        );
    }
}
