//! What a host's GPUs are and do, as its agent reads it from `nvidia-smi`.
//!
//! An unknown value is never a number: it is [`Reading::Absent`] with the reason. GPUs are named by UUID, because an
//! index can change at each boot. Memory is in MiB, power in milliwatts, temperature in degrees Celsius, times in
//! milliseconds.

use crate::id::RunId;
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

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// `GPU-…`; what a lease and a container name.
    pub uuid: String,
    /// Its place now; can change at each boot.
    pub index: u32,
    /// Its model.
    pub name: String,
    /// PCI address.
    #[serde(default)]
    pub bus_id: Option<String>,
    /// All of its memory in MiB.
    pub memory_total: Reading<u64>,
    /// Memory the driver keeps for itself, in MiB.
    pub memory_reserved: Reading<u64>,
    /// Memory in use, in MiB.
    pub memory_used: Reading<u64>,
    /// Free memory in MiB.
    pub memory_free: Reading<u64>,
    /// Whether memory is the host's own: the figures above are then those of `/proc/meminfo`.
    #[serde(default)]
    pub unified_memory: bool,
    /// Percent of the last moment in which any kernel ran. Not how full the GPU is.
    pub utilization: Reading<u64>,
    /// Percent of the last moment in which memory was read or written.
    pub memory_utilization: Reading<u64>,
    /// Degrees Celsius.
    pub temperature: Reading<u64>,
    /// Percent of the fan's speed.
    pub fan: Reading<u64>,
    /// Milliwatts drawn.
    pub power: Reading<u64>,
    /// Milliwatts allowed.
    pub power_limit: Reading<u64>,
    /// `P0` (fastest) to `P12`.
    #[serde(default)]
    pub performance_state: Option<String>,
    /// Why its clocks are held down, when something holds them down, as the driver names it.
    #[serde(default)]
    pub throttled: Option<String>,
    /// Whether the driver stays loaded without a client.
    #[serde(default)]
    pub persistence: Option<bool>,
    /// `Default`, `Exclusive_Process`, `Prohibited`.
    #[serde(default)]
    pub compute_mode: Option<String>,
    /// Whether a display hangs on it.
    #[serde(default)]
    pub display: Option<bool>,
    /// Uncorrectable memory errors since the driver was loaded.
    pub ecc_errors: Reading<u64>,
    /// `9.0`.
    #[serde(default)]
    pub compute_capability: Option<String>,
    /// Whether it is divided; then its instances are what can be used.
    #[serde(default)]
    pub mig: bool,
    /// Its instances.
    #[serde(default)]
    pub mig_devices: Vec<MigDevice>,
    /// Whether it can be used.
    pub health: Health,
    /// Utilisation of the newest samples, oldest first, none where one is missing; at most [`HISTORY`].
    #[serde(default)]
    pub history: Vec<Option<u8>>,
}

/// Most entries of [`Gpu::history`].
pub const HISTORY: usize = 60;

/// An instance of a divided GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigDevice {
    /// `MIG-…`.
    pub uuid: String,
    /// `1g.10gb`.
    pub profile: String,
    /// Its memory in MiB.
    pub memory_total: Reading<u64>,
    /// Memory in use, in MiB.
    pub memory_used: Reading<u64>,
}

/// Whether a GPU can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing speaks against it.
    Healthy,
    /// It has fallen off the bus; the host must be restarted.
    Lost,
    /// It must be reset before it works again.
    ResetRequired,
    /// The driver cannot read it, or does not list it any more.
    Unreadable,
}

/// A value, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reading<T> {
    /// The value.
    Value(T),
    /// Why there is none.
    Absent {
        /// The reason.
        absent: Absence,
    },
}

impl<T: Copy> Reading<T> {
    /// No value, for this reason.
    pub fn absent(absent: Absence) -> Self {
        Self::Absent { absent }
    }
    /// The value, when there is one.
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Absent { .. } => None,
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// `N/A`: the GPU has no such thing, or the driver says no more.
    NotAvailable,
    /// The GPU does not support it.
    NotSupported,
    /// The driver failed to read it.
    UnknownError,
    /// The account may not read it.
    NoPermission,
    /// The driver has given it up.
    Deprecated,
    /// The driver's library is too old for it.
    FunctionNotFound,
    /// The GPU has fallen off the bus.
    GpuLost,
    /// The GPU must be reset.
    ResetRequired,
    /// This driver does not know the field.
    UnknownField,
    /// What was printed is no such value.
    Garbled,
}

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

/// What a job on a host computes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// The word for a job's `DEVICE`.
    pub device: Device,
    /// Why GPUs that seem to be there cannot be used. A job that needs one is refused; it never silently gets a
    /// processor instead.
    #[serde(default)]
    pub broken: Option<GpuTrouble>,
    /// When this was found out; kept for an hour, unless the host restarts or its driver changes.
    pub detected_at: DateTime<Utc>,
    /// Boot of the host at that time.
    pub boot_id: String,
}

/// What a job computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Mps,
    /// The processor.
    Cpu,
}

impl Device {
    /// The word for `DEVICE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Mps => "mps",
            Self::Cpu => "cpu",
        }
    }
}

/// Why GPUs cannot be read or used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuTrouble {
    /// Stable code.
    pub kind: TroubleKind,
    /// What `nvidia-smi` or the kernel said, at most 500 characters.
    #[serde(default)]
    pub detail: Option<String>,
    /// Process that does not answer.
    #[serde(default)]
    pub pid: Option<u32>,
    /// For how long, or since when, in milliseconds.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

/// Kinds of trouble with GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// There is no `nvidia-smi` and no GPU device: nothing is wrong.
    NoGpu,
    /// A GPU device is there and `nvidia-smi` is not.
    ToolMissing,
    /// `libnvidia-ml` is missing (exit 12), or a function of it (13).
    LibraryMissing,
    /// The driver is not loaded (exit 9).
    DriverNotLoaded,
    /// Library and driver are of different versions (exit 18): updated without a restart.
    DriverMismatch,
    /// No GPU was found (exit 6, or `No devices found`).
    NoDevices,
    /// The GPUs there are not supported by this driver (exit 255).
    Unsupported,
    /// The account may not use the GPUs (exit 4).
    Denied,
    /// A power cable is missing (exit 8).
    PowerCable,
    /// An interrupt problem (exit 10).
    Interrupt,
    /// A corrupt infoROM (exit 14).
    InfoRom,
    /// A GPU has fallen off the bus (exit 15, or its handle cannot be determined).
    GpuLost,
    /// A GPU must be reset (exit 16).
    ResetRequired,
    /// The operating system blocks it (exit 17).
    Blocked,
    /// `nvidia-smi` did not answer in time and was ended.
    Timeout,
    /// `nvidia-smi` did not answer and cannot be ended: the driver hangs, and the host usually needs a restart.
    Stuck,
    /// `nvidia-smi` printed something that cannot be read.
    Garbled,
    /// The cache folder cannot be written.
    CacheUnwritable,
    /// Anything else; `detail` says what.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_is_told_with_its_reason() {
        let known: Reading<u64> = serde_json::from_str("7").unwrap();
        assert_eq!(known.value(), Some(7));
        let absent = Reading::<u64>::absent(Absence::NotSupported);
        let json = serde_json::to_string(&absent).unwrap();
        assert_eq!(json, r#"{"absent":"not_supported"}"#);
        assert_eq!(serde_json::from_str::<Reading<u64>>(&json).unwrap(), absent);
    }
}
