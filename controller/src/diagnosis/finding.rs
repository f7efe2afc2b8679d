//! What is found: causes with their evidence, and what surrounds them. Serialised for `--json`.

use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use farrun_protocol::series::Sample;
use serde::Serialize;

/// Why a run ended as it did, read from its evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The run.
    pub run_id: RunId,
    /// What it failed for; none when no known cause fits. [`Finding::certainty`] says how sure that is.
    pub cause: Option<Finding>,
    /// What else was seen, in the order of the rules.
    pub also: Vec<Finding>,
    /// What its exit code, signal or reason means by itself.
    pub ending: String,
    /// The last lines of what it wrote, at most [`super::LAST_LINES`].
    pub last_lines: Vec<LogLine>,
    /// The lines around those that the cause was read from; empty when it was not read from the log.
    pub around: Vec<LogLine>,
    /// What surrounded it.
    pub context: Context,
    /// What is not among the evidence, and why.
    pub missing: Vec<Missing>,
    /// What happened when, oldest first, by the host's clock.
    pub moments: Vec<Moment>,
    /// Collected evidence for people, such as what the engine says of the container.
    #[serde(skip)]
    pub documents: Vec<Document>,
    /// What its GPUs did.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// One cause or observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code.
    pub code: &'static str,
    /// How sure it is.
    pub certainty: Certainty,
    /// One sentence, with the figures of this run, without a full stop.
    pub sentence: String,
    /// What it was read from.
    pub evidence: Vec<Quote>,
    /// What to try, the most promising first.
    pub remedies: Vec<Remedy>,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The evidence can hardly mean anything else.
    Certain,
    /// It fits, and other things would fit as well.
    Likely,
    /// It was seen. It is never called the cause.
    Seen,
}

/// A piece of evidence, word for word but for what was redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// File of the evidence it stands in, or `run.log`.
    pub file: String,
    /// Run-log bytes before it, when it is from the run log and its place is known.
    pub offset: Option<u64>,
    /// The text.
    pub text: String,
}

/// Something to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What, for people.
    pub text: String,
    /// A command that does it; it holds nothing that a host or a job said.
    pub command: Option<String>,
}

/// A line of the run log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Run-log bytes before it, when they are known.
    pub offset: Option<u64>,
    /// The line.
    pub text: String,
    /// Whether the cause was read from it.
    pub cause: bool,
}

/// Something that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// File of the evidence.
    pub file: String,
    /// Why.
    pub why: String,
    /// Whether a part of it is there.
    pub partial: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub what: String,
}

/// A collected text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its file.
    pub file: String,
    /// Its text, redacted by shape and cut.
    pub text: String,
}

/// What surrounded a run when it failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Context {
    /// When the evidence was collected, by the host's clock.
    pub collected_at: Option<DateTime<Utc>>,
    /// Name the machine gives itself.
    pub machine: Option<String>,
    /// Version of the NVIDIA driver.
    pub driver: Option<String>,
    /// Newest CUDA version it supports.
    pub cuda: Option<String>,
    /// Version of the container engine.
    pub engine: Option<String>,
    /// The run's GPUs; all of the host's when it had none of its own.
    pub gpus: Vec<GpuContext>,
    /// Memory of the host and of the container.
    pub memory: MemoryContext,
    /// File systems that matter.
    pub disks: Vec<DiskContext>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuContext {
    /// Its UUID.
    pub uuid: String,
    /// Its place at that time.
    pub index: u32,
    /// Its model.
    pub name: String,
    /// Whether the run had it.
    pub of_the_run: bool,
    /// All of its memory in MiB.
    pub memory_total: Option<u64>,
    /// Memory in use when the evidence was collected, in MiB.
    pub memory_used: Option<u64>,
    /// Memory in use by anybody at the run's first sample, in MiB.
    pub memory_before: Option<u64>,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// Who else holds memory of it or a lease on it.
    pub others: Vec<OtherUse>,
}

/// Somebody else on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherUse {
    /// Who, for people.
    pub who: String,
    /// MiB held, when known.
    pub memory: Option<u64>,
    /// Process id on the host.
    pub pid: Option<u32>,
}

/// Memory of the host and of the container, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryContext {
    /// The container's limit.
    pub limit: Option<u64>,
    /// The greatest use of the container.
    pub peak: Option<u64>,
    /// All of the host's.
    pub total: Option<u64>,
    /// What the host had left.
    pub available: Option<u64>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskContext {
    /// What it is there for.
    pub role: String,
    /// The path that was asked about.
    pub path: String,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes left.
    pub free: u64,
    /// Inodes left.
    pub inodes_free: u64,
    /// Number of its device on the host, where that says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
}
