//! What a host's GPUs are and do, as its agent reads it from `nvidia-smi`.
//!
//! An unknown value is never a number: it is [`Reading::Absent`] with the reason. GPUs are named by UUID, because an
//! index can change at each boot. Memory is in MiB, power in milliwatts, temperature in degrees Celsius, times in
//! milliseconds.

mod card;
mod device;
mod reading;
mod trouble;
mod usage;

pub use card::{Gpu, HISTORY, Health, MigDevice};
pub use device::{Device, DeviceFacts};
pub use reading::{Absence, Reading};
pub use trouble::{GpuTrouble, TroubleKind};
pub use usage::{GpuProcess, HeldLease, Holder};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of the files that hold samples and static facts.
pub const FORMAT: u32 = 1;

/// A sample is of no use for choosing a GPU, and is shown as stale, when it is older than this, in milliseconds.
pub const STALE_AFTER: u64 = 30_000;

/// Everything that is known about a host's GPUs at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuReport {
    /// How much the figures can be trusted.
    pub state: Freshness,
    /// When the figures were read, by the host's clock; none when there never were any.
    #[serde(default)]
    pub sampled_at: Option<DateTime<Utc>>,
    /// Age of the figures, by a clock that does not jump.
    #[serde(default)]
    pub age_ms: Option<u64>,
    /// How long reading them took.
    #[serde(default)]
    pub took_ms: Option<u64>,
    /// For how long a newer reading has been under way, when one is.
    #[serde(default)]
    pub refreshing_ms: Option<u64>,
    /// Why there is nothing newer, or nothing at all.
    #[serde(default)]
    pub trouble: Option<GpuTrouble>,
    /// What a job on this host computes with.
    pub device: DeviceFacts,
    /// The driver, when it answered.
    #[serde(default)]
    pub driver: Option<DriverFacts>,
    /// Every GPU, by index.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// Processes that hold memory of a GPU.
    #[serde(default)]
    pub processes: Vec<GpuProcess>,
    /// Which runs hold which GPUs, of every account of the host.
    #[serde(default)]
    pub leases: Vec<HeldLease>,
}

/// How much figures can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// Read for this answer.
    Fresh,
    /// Younger than the time to live.
    Cached,
    /// Older than that; a newer reading failed or is under way.
    Stale,
    /// There are none.
    Unavailable,
}

/// The driver of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFacts {
    /// Its version.
    pub version: String,
    /// Newest CUDA version it supports.
    #[serde(default)]
    pub cuda: Option<String>,
}
