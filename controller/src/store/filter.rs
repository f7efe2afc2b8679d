//! What to list.

use crate::model::RunStatus;
use chrono::{DateTime, Utc};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{PromptId, RunId};
use serde::Serialize;

/// Which prompts to list; all by default, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptFilter {
    /// Part of their text or name, whatever its case; no character is a wildcard.
    pub search: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Which runs to list; all by default, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// In one of these states; empty for any.
    pub statuses: Vec<RunStatus>,
    /// Of this prompt.
    pub prompt: Option<PromptId>,
    /// Of this name.
    pub name: Option<String>,
    /// On this host.
    pub host: Option<String>,
    /// Of this operation.
    pub operation: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Only what follows this run in the list: the last one of the page before.
    pub before: Option<RunId>,
}

/// What a list shows of a run; read without its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Name of the prompt or image, from the spec.
    pub name: String,
    /// Its prompt.
    pub prompt_id: Option<PromptId>,
    /// Name of its host.
    pub host: String,
    /// Its operation.
    pub operation: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it ended as it did.
    pub reason: Option<Reason>,
    /// One readable line.
    pub error_message: Option<String>,
    /// Exit code of the job's main process.
    pub exit_code: Option<i32>,
    /// Stable code of the cause that its evidence shows.
    pub finding: Option<String>,
    /// The same in one line.
    pub finding_text: Option<String>,
    /// GPUs it was given.
    pub gpus: String,
    /// Length of the complete run log, once known.
    pub log_length: Option<u64>,
    /// Process that ordered it, while it has not been acknowledged.
    pub owner: Option<String>,
    /// When it was ordered.
    pub created_at: DateTime<Utc>,
    /// When the job was started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the host last confirmed its state.
    pub confirmed_at: Option<DateTime<Utc>>,
}
