//! Who gets a GPU: what an order wants, what it was given, why it was refused, and where it stands in line.
//!
//! The agent is the allocator of its host. `init` holds a lock on the file of every GPU of its run for as long as the
//! container lives, so a claim ends with the process, however that ends. The files lie in one folder that follows from
//! facts of the host ([`crate::layout::LOCK_FOLDERS`]) and is shared by all accounts.

use crate::gpu::Health;
use crate::id::RunId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of the files of leases and of the queue.
pub const FORMAT: u32 = 1;

/// Memory in use that still counts as free, in MiB: what a desktop session holds.
pub const IDLE_MEMORY: u64 = 1024;

/// What an order wants beyond the number or names of its GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Free memory that each GPU must have, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free: Option<u64>,
    /// Whether the run may share its GPUs with other runs that say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
    /// What happens when no GPU is free.
    #[serde(default, skip_serializing_if = "Wait::is_no")]
    pub wait: Wait,
    /// Its place in line: greater goes first, equal ones by age.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl Placement {
    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens when no GPU is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The order is refused.
    #[default]
    No,
    /// It waits in line until one is.
    Until,
    /// It waits in line, at most this many seconds.
    Seconds(u64),
}

impl Wait {
    /// Whether the order is refused at once.
    pub fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// The GPUs that a run was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// [`FORMAT`].
    pub format: u32,
    /// Which, sorted by UUID.
    pub gpus: Vec<LeasedGpu>,
    /// Whether others may hold them as well.
    #[serde(default)]
    pub shared: bool,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A GPU of a lease, as it was when it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedGpu {
    /// `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Its place at that time.
    pub index: u32,
    /// Its model.
    pub name: String,
    /// Its memory in MiB, when known.
    #[serde(default)]
    pub memory_total: Option<u64>,
}

/// How an order would fare on a host now, if it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    /// The GPUs it would be given, none when it wants none; nothing when it would wait in line.
    #[serde(default)]
    pub given: Option<Vec<LeasedGpu>>,
    /// How many GPUs it could be given now, one at a time.
    pub free: u64,
    /// How many there are.
    pub gpus: u64,
    /// Runs of the account whose containers live.
    pub running: u64,
    /// Runs of the account that wait in line.
    pub waiting: u64,
}

/// Why one GPU was not given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRefusal {
    /// The GPU.
    pub uuid: String,
    /// Its place.
    pub index: u32,
    /// Its model.
    pub name: String,
    /// Everything that speaks against it; empty when nothing does and there were too few of them.
    pub obstacles: Vec<Obstacle>,
}

/// What speaks against a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Obstacle {
    /// The order names others.
    NotNamed,
    /// A run holds it.
    Leased {
        /// The run, when the holder said.
        #[serde(default)]
        run_id: Option<RunId>,
        /// Account of the holder.
        #[serde(default)]
        user: Option<String>,
        /// Since when.
        #[serde(default)]
        since: Option<DateTime<Utc>>,
    },
    /// A run has ended and its processes still hold memory.
    Draining {
        /// The run.
        #[serde(default)]
        run_id: Option<RunId>,
    },
    /// A process that is no run's holds memory.
    Process {
        /// Process id on the host.
        pid: u32,
        /// Its account.
        user: String,
        /// Name of the program.
        command: String,
        /// Its container's name or id, when it is in one.
        #[serde(default)]
        container: Option<String>,
        /// MiB it holds, when known.
        #[serde(default)]
        memory: Option<u64>,
    },
    /// Memory is in use that no process accounts for.
    MemoryInUse {
        /// MiB in use beyond what the driver reserves.
        used: u64,
    },
    /// It has less free memory than the order wants.
    TooSmall {
        /// MiB free, when known.
        #[serde(default)]
        free: Option<u64>,
        /// MiB wanted.
        wanted: u64,
    },
    /// It is not healthy.
    Unhealthy {
        /// What it is.
        health: Health,
    },
    /// Its compute mode forbids jobs.
    Prohibited,
    /// It is divided; only its instances can be used.
    Divided,
    /// It is kept for a run that stands before this one in line.
    Reserved {
        /// The run, when it is of this account.
        #[serde(default)]
        run_id: Option<RunId>,
    },
}

/// Where a waiting run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePlace {
    /// 1 for the one that is next.
    pub position: u32,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// Until when, when not for as long as it takes.
    #[serde(default)]
    pub until: Option<DateTime<Utc>>,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
    /// Runs of this account that stand before it, in order.
    #[serde(default)]
    pub ahead: Vec<RunId>,
    /// Runs of other accounts that stand before it.
    #[serde(default)]
    pub others_ahead: u32,
    /// Why each GPU is not given to it now.
    #[serde(default)]
    pub waits_for: Vec<GpuRefusal>,
    /// Whether a `watch` lives that will start it.
    pub watched: bool,
    /// Whether `watch` comes back by itself after the host restarts.
    #[serde(default)]
    pub resident: bool,
}
