//! Why GPUs cannot be read or used.

use serde::{Deserialize, Serialize};

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
    /// A reading goes on, of this account or of another, and nothing is known yet.
    Reading,
    /// `nvidia-smi` did not answer and cannot be ended: the driver hangs, and the host usually needs a restart.
    Stuck,
    /// `nvidia-smi` printed something that cannot be read.
    Garbled,
    /// The cache folder cannot be written.
    CacheUnwritable,
    /// Anything else; `detail` says what.
    Other,
}
