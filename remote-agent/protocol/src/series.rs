//! What a run's GPUs did while it ran: `runs/<run_id>/series.jsonl`, one [`Sample`] a line.
//!
//! The account's observer (`watch`) takes them. Samples are taken every [`APART`] seconds. Those older than an hour are thinned to one a minute. A sample that was
//! missed is missing: nothing is interpolated. Each carries the length of the run log at its moment, so that log and
//! figures share one clock. What all of them come to is kept in `series.json` beside them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of the files.
pub const FORMAT: u32 = 1;

/// Seconds between samples.
pub const APART: u64 = 5;

/// Most samples of one answer.
pub const MAX_SAMPLES: usize = 1000;

/// One moment of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When, by the host's clock.
    pub at: DateTime<Utc>,
    /// Seconds it stands for: [`APART`], or [`APART`] for each that it was made of once thinned: 60 without a gap, more
    /// in a run of weeks. The moment and the length of the log are those of the first.
    pub covers: u32,
    /// Length of the run log, in bytes.
    pub log_offset: u64,
    /// The run's GPUs, in the order of its lease.
    pub gpus: Vec<GpuSample>,
}

/// One GPU at one moment. What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSample {
    /// The GPU.
    pub uuid: String,
    /// MiB that processes of the run hold; the greatest of the minute once thinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_memory: Option<u64>,
    /// MiB in use by anybody; the greatest of the minute once thinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Percent; the mean once thinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<u64>,
    /// Milliwatts; the mean once thinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<u64>,
    /// Degrees Celsius; the greatest once thinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<u64>,
}

/// What a run did to its GPUs, over its whole life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSummary {
    /// Greatest memory of the run's processes on one GPU, in MiB.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// Mean utilisation in percent, over GPUs and time.
    #[serde(default)]
    pub mean_utilization: Option<u64>,
    /// Greatest temperature in degrees Celsius.
    #[serde(default)]
    pub max_temperature: Option<u64>,
    /// Energy of its GPUs in milliwatt-hours; approximate.
    #[serde(default)]
    pub energy: Option<u64>,
    /// Samples taken.
    pub samples: u64,
    /// Samples that should have been taken and were not.
    pub gaps: u64,
    /// Whether others used the GPUs as well, so that the figures are not the run's alone.
    #[serde(default)]
    pub shared: bool,
    /// Whether a process of somebody else was seen on a GPU of the run.
    #[serde(default)]
    pub intruders: bool,
}
