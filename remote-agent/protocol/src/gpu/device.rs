//! What a job on a host computes with.

use super::GpuTrouble;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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
