//! An output file that was brought back and verified.

use chrono::{DateTime, Utc};
use farrun_protocol::Sha256;
use serde::{Deserialize, Serialize};

/// An output file of a run, as the host's manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Path below the run's outputs folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Hash of its content.
    pub sha256: Sha256,
    /// When it was verified here; none while it lies only on the host.
    pub pulled_at: Option<DateTime<Utc>>,
}
