//! An output file that was brought back and verified.

use chrono::{DateTime, Utc};
use farrun_protocol::{BlockHash, ContentId, Sha256};
use serde::{Deserialize, Serialize};

/// An output file of a run, as the host's manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Path below the run's outputs folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Hash of its content. A file of several blocks has one only in old databases.
    pub sha256: Option<Sha256>,
    /// Hash over the hashes of its blocks, when it has several.
    pub blocks: Option<BlockHash>,
    /// When it was verified here; none while it lies only on the host.
    pub pulled_at: Option<DateTime<Utc>>,
}

impl OutputRecord {
    /// What its content is known by; one of the two hashes there always is.
    pub fn content(&self) -> Option<ContentId> {
        let blocks = self.blocks.clone().map(ContentId::Blocks);
        blocks.or_else(|| self.sha256.clone().map(ContentId::Sha256))
    }
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
