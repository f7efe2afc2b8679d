//! One GPU and its instances.

use super::Reading;
use serde::{Deserialize, Serialize};

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
