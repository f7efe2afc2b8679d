//! Who is on a GPU: processes, and runs that hold it.

use super::Reading;
use crate::id::RunId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A process that holds memory of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// The GPU; for an instance its parent.
    pub gpu_uuid: String,
    /// Process id on the host.
    pub pid: u32,
    /// MiB it holds.
    pub memory: Reading<u64>,
    /// Whose it is.
    pub holder: Holder,
}

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Holder {
    /// A run's.
    Run {
        /// The run.
        run_id: RunId,
    },
    /// Another container's.
    Container {
        /// Its 64 hex digits.
        id: String,
        /// Its name, when the engine told it.
        #[serde(default)]
        name: Option<String>,
        /// Account of the process on the host.
        user: String,
        /// Name of the program.
        command: String,
    },
    /// A plain process.
    Process {
        /// Its account.
        user: String,
        /// Name of the program, at most 200 characters.
        command: String,
    },
    /// The process is gone and its memory is not.
    Dead,
}

/// A run that holds GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    /// The GPU or instance.
    pub gpu_uuid: String,
    /// The run; none when the holder did not say.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Account of the holder.
    #[serde(default)]
    pub user: Option<String>,
    /// Since when.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// Whether others may hold it as well.
    #[serde(default)]
    pub shared: bool,
    /// Whether the run has ended and its processes still hold memory.
    #[serde(default)]
    pub draining: bool,
}
