//! The evidence of a run that did not succeed, or of a host: a folder of plain files and what is said about them.
//!
//! A host collects it when a run of its fails, and anew on request. Each item is collected apart, with a time and a
//! size of its own; what could not be had is named in [`Bundle::items`] and never changes how the run ended. Everything
//! is redacted on the host, see [`Bundle::redactions`]. Names of files are part of the contract: findings are read
//! from them.

use crate::id::{HostId, RunId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of `bundle.json` and of the files beside it.
pub const FORMAT: u32 = 1;

/// The description of a bundle, in its folder: a [`Bundle`]. Written last.
pub const BUNDLE: &str = "bundle.json";
/// The same for people.
pub const SUMMARY: &str = "summary.txt";

/// The order, redacted: a [`crate::spec::RunSpec`].
pub const SPEC: &str = "spec.json";
/// What agents did about the run, oldest first: an [`AgentEvent`] a line.
pub const AGENT: &str = "agent.jsonl";
/// What agents of this account were asked to do lately, for this and other runs: `{"at", "pid", "request", "run_id"}` a
/// line. Looking and following are left out.
pub const REQUESTS: &str = "requests.jsonl";
/// What the engine said while it fetched the run's image, each line with its time; only where it was fetched.
pub const PULL: &str = "pull.log";
/// How it ended: a [`crate::record::Settled`]. What an engine said that refused the image or the container is its
/// verdict's detail.
pub const SETTLED: &str = "settled.json";
/// Start of `run.log`, at most [`LOG_HEAD`] bytes as they are, redacted by shape.
pub const LOG_HEAD_FILE: &str = "log.head";
/// What follows, up to [`LOG_TAIL`] bytes from the end of what the job wrote.
pub const LOG_TAIL_FILE: &str = "log.tail";
/// Where in the run log those two lie: a [`LogExcerpts`].
pub const LOG_PLACES: &str = "log.json";
/// `GET /containers/ID/json` of the engine's API, redacted.
pub const CONTAINER: &str = "container.json";
/// `GET /images/ID/json`, redacted.
pub const IMAGE: &str = "image.json";
/// The engine's events about the container, a JSON object a line.
pub const EVENTS: &str = "events.jsonl";
/// `GET /info` and `GET /version` of the engine's API: `{"info": …, "version": …}`.
pub const ENGINE: &str = "engine.json";
/// Counters of the container's cgroup as far as they are left, and what PID 1 read: `name value` lines.
pub const CGROUP: &str = "cgroup.txt";
/// Lines of the kernel's log around the run that may matter, each with an ISO 8601 time at its start.
pub const KERNEL: &str = "kernel.log";
/// Space and inodes of the file systems that matter: a list of [`FileSystem`].
pub const DISKS: &str = "disks.json";
/// Memory, load, pressure, limits and time since boot, as `/proc` prints them under headings `== path ==`.
pub const SYSTEM: &str = "system.txt";
/// The largest processes by memory and on GPUs: a list of [`Process`].
pub const PROCESSES: &str = "processes.json";
/// Driver versions, kernel module and PCI devices, under headings `== path or command ==`.
pub const DRIVER: &str = "driver.txt";
/// What the host's GPUs are and do: a [`crate::gpu::GpuReport`].
pub const GPUS: &str = "gpus.json";
/// Who holds which GPU and who waits, as [`crate::record::RunFacts`] of the host's unfinished runs.
pub const LEASES: &str = "leases.json";
/// What the run's GPUs did: a [`crate::series::Sample`] a line.
pub const SERIES: &str = "series.jsonl";
/// Model caches of the account: sizes by folder, `bytes path` lines.
pub const CACHES: &str = "caches.txt";
/// `nvidia-smi -q`.
pub const SMI_TEXT: &str = "nvidia-smi-q.txt";
/// `nvidia-smi -q -x`: the same for programs.
pub const SMI_XML: &str = "nvidia-smi-q.xml";
/// `nvidia-smi topo -m`.
pub const SMI_TOPOLOGY: &str = "nvidia-smi-topo.txt";
/// `nvidia-container-cli -k -d /dev/stderr info` or `nvidia-ctk cdi list`, under headings.
pub const TOOLKIT: &str = "toolkit.txt";

/// Bytes of [`LOG_HEAD_FILE`] at most.
pub const LOG_HEAD: u64 = 64 * 1024;
/// Bytes of [`LOG_TAIL_FILE`] at most.
pub const LOG_TAIL: u64 = 1024 * 1024;
/// Bytes of a whole bundle at most.
pub const MAX_BUNDLE: u64 = 10 * 1024 * 1024;
/// Bundles a host keeps.
pub const KEPT: usize = 20;
/// Days a host keeps one.
pub const KEPT_DAYS: i64 = 7;

/// Stands for a run in the manifest of a bundle about a host.
pub const HOST_MANIFEST: &str = "rs_ofthehost";

/// What is known about a bundle as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: u32,
    /// The run it is about; none for a host.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// The machine.
    pub host_id: HostId,
    /// Name the machine gives itself.
    pub host_name: String,
    /// Version of the agent that collected.
    pub agent_version: String,
    /// Boot id of the machine then.
    pub boot_id: String,
    /// What made it collect.
    pub trigger: Trigger,
    /// When it began, by the host's clock.
    pub began_at: DateTime<Utc>,
    /// When it was done.
    pub ended_at: DateTime<Utc>,
    /// Every item that was tried, in the order in which they were.
    pub items: Vec<Item>,
    /// How often something was replaced, by what it was taken for (name of a variable, or a shape such as `jwt`).
    #[serde(default)]
    pub redactions: BTreeMap<String, u64>,
    /// Why it does not lie in the run's folder, when it does not.
    #[serde(default)]
    pub elsewhere: Option<String>,
}

/// What made a host collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A run did not succeed.
    Failure,
    /// Somebody asked.
    Request,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its file in the bundle; the file exists unless [`Outcome`] says otherwise.
    pub file: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Bytes of the file.
    pub bytes: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is there, whole.
    Collected,
    /// A part is there: it was larger than its limit, took longer than its time, or failed on the way.
    Partial {
        /// Why.
        why: String,
    },
    /// It could not be had.
    Missing {
        /// Why, for people; at most 500 characters.
        why: String,
    },
}

/// Where the log's excerpts lie in what the job wrote, in run-log bytes; redaction changes lengths in the files only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExcerpts {
    /// Length of `run.log`.
    pub length: u64,
    /// Bytes of its start that are in [`LOG_HEAD_FILE`].
    pub head: u64,
    /// First byte of [`LOG_TAIL_FILE`]; counts on through what was dropped when it is from `run.tail`.
    pub tail_from: u64,
    /// Bytes of it.
    pub tail: u64,
    /// Bytes that neither `run.log` nor `run.tail` has.
    pub dropped: u64,
}

/// A step of an agent on the way of a run. Where the step left no time of its own, it is that of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEvent {
    /// When, by the host's clock.
    pub at: DateTime<Utc>,
    /// `ordered`, `prepared`, `image_there`, `gpus_given`, `start_ordered`, `claimed` (by PID 1), `job_started`,
    /// `stop_requested`, `job_ended`, `settled`, `notified`, `outputs_listed`, `adopted`, `observer_started`.
    pub event: String,
    /// Whether the time is that of the last change of a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_file: bool,
    /// What else is known of it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
}

impl AgentEvent {
    /// An event of which nothing else is known.
    pub fn new(at: DateTime<Utc>, event: &str) -> Self {
        Self {
            at,
            event: event.to_owned(),
            by_file: false,
            detail: BTreeMap::new(),
        }
    }
}

/// A file system at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// What it is there for: `state`, `engine`, `cache`, `tmp`, `shm`, `mount`.
    pub role: String,
    /// The path that was asked about.
    pub path: String,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that the account can still write.
    pub free: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_free: u64,
    /// Number of its device, the same for all paths on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
}

/// A process. Never its arguments, which may hold secrets, but for our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    /// Account, or its number.
    pub user: String,
    /// Its short name (`/proc/PID/comm`).
    pub name: String,
    /// Resident memory in bytes.
    pub resident: u64,
    /// GPU memory in bytes, when it has some and the driver says how much.
    #[serde(default)]
    pub gpu: Option<u64>,
    /// UUID of that GPU.
    #[serde(default)]
    pub gpu_uuid: Option<String>,
    /// Arguments of one of our own programs, redacted.
    #[serde(default)]
    pub arguments: Option<Vec<String>>,
    /// The run whose container it belongs to.
    #[serde(default)]
    pub run_id: Option<RunId>,
}
