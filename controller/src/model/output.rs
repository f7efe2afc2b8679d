//! An output file that was brought back and verified.

use chrono::{DateTime, Utc};
use farrun_protocol::{BlockHash, Sha256};
use serde::{Deserialize, Serialize};

/// An output file of a run, as the host's manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Path below the run's outputs folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Hash of its content. Of a file of several blocks it is taken when something needs it.
    pub sha256: Option<Sha256>,
    /// Hash over the hashes of its blocks, when it has several: what it is known by before it has travelled.
    pub blocks: Option<BlockHash>,
    /// When it was verified here; none while it lies only on the host.
    pub pulled_at: Option<DateTime<Utc>>,
}

/// How many outputs of a run are known, and how much of it is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OutputsTotal {
    /// How many files.
    pub files: u64,
    /// Their size in bytes, together.
    pub bytes: u64,
    /// How many of them were verified on this machine.
    pub pulled: u64,
}
