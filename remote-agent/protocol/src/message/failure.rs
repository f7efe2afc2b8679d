//! Why a request was not answered.

use crate::lease::GpuRefusal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}{}", detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
pub struct Failure {
    /// Stable code.
    pub code: ErrorCode,
    /// What an engine or the kernel said, or which path it is about; at most 4000 characters.
    #[serde(default)]
    pub detail: Option<String>,
    /// With [`ErrorCode::NoFreeGpu`] and [`ErrorCode::NoSuchGpu`]: every GPU of the host, and why it was not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuRefusal>,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            detail: None,
            gpus: Vec::new(),
        }
    }
}

impl Failure {
    /// A failure with a detail.
    pub fn new(code: ErrorCode, detail: impl fmt::Display) -> Self {
        Self {
            code,
            detail: Some(detail.to_string().chars().take(4000).collect()),
            gpus: Vec::new(),
        }
    }
}

/// Stable codes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request could not be understood.
    BadRequest,
    /// Another protocol version, or no hello yet.
    Protocol,
    /// No such run on this host.
    RunUnknown,
    /// The run id exists with another order.
    SpecConflict,
    /// The run belongs to another controller; `adopt` it first.
    NotOwner,
    /// The run has not ended.
    RunActive,
    /// An input is neither uploaded nor an output of an earlier run.
    InputMissing,
    /// Bytes do not hash to what was promised.
    HashMismatch,
    /// The log is another one than the caller holds.
    GenerationChanged,
    /// The caller's bytes are not those of the log.
    TailMismatch,
    /// The log is shorter than what the caller holds.
    OffsetBeyondEnd,
    /// No engine answers at its socket, or there is none.
    DockerUnreachable,
    /// The account may not use the engine.
    DockerDenied,
    /// The engine did not answer in time.
    DockerTimeout,
    /// The engine refused; `detail` quotes it.
    DockerRefused,
    /// A mount's source does not exist.
    MountMissing,
    /// No GPU, or not enough of them, can be given now.
    NoFreeGpu,
    /// The order wants GPUs that the host does not have: more of them, larger ones, or others.
    NoSuchGpu,
    /// The host has no GPU that jobs can use; `detail` is the [`crate::gpu::TroubleKind`] and what was said.
    NoGpu,
    /// The folder of the GPU locks cannot be used; `detail` names it and says why.
    LocksUnusable,
    /// The host offers no way to start the observer after a boot; `detail` says what was tried.
    ResidenceRefused,
    /// The disk is full, or a quota.
    DiskFull,
    /// The file system refused.
    Io,
    /// A file of a newer farrun; this version leaves it alone.
    NewerFormat,
    /// The wait was ended by its caller.
    Cancelled,
    /// A defect of the agent.
    Internal,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The wire name is the stable name.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => formatter.write_str(&name),
            _ => formatter.write_str("unknown"),
        }
    }
}
