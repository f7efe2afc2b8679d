//! What a host is and holds.

use super::Failure;
use crate::doctor::Residence;
use crate::id::{ControllerId, RunId, Sha256};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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
