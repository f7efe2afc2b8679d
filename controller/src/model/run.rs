//! One execution of one container, its states and the legal transitions between them.

use chrono::{DateTime, Utc};
use farrun_protocol::lease::Lease;
use farrun_protocol::series::GpuSummary;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ControllerId, PromptId, RunId, Sha256};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most characters of [`Run::finding_text`].
pub const MAX_FINDING: usize = 1000;
/// Most characters of [`Run::log_path`].
pub const MAX_LOG_PATH: usize = 500;

/// Where a run stands. "Unreachable" is a property of the link, never a state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Ordered here; the host knows nothing yet.
    Pending,
    /// Its inputs are on their way.
    Uploading,
    /// The host holds the order and has not started it.
    Queued,
    /// Its container was started.
    Running,
    /// Ended well; its outputs are not all here yet. Counts as settled.
    Downloading,
    /// Ended well and its outputs were verified here.
    Completed,
    /// Ended otherwise; `reason` and `error_message` say why.
    Failed,
    /// Ended on the user's request.
    Cancelled,
}

impl RunStatus {
    /// Every state, in the order a run passes through them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Uploading,
        Self::Queued,
        Self::Running,
        Self::Downloading,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state as users and the database write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Uploading => "uploading",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Downloading => "downloading",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether the job itself has ended, so that the host need not be asked about it.
    pub fn is_settled(self) -> bool {
        self.is_final() || self == Self::Downloading
    }

    /// Whether a run may go from this state to `next`. Staying is always allowed except that a final state is
    /// written once.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => false,
            Self::Downloading => matches!(next, Self::Downloading | Self::Completed | Self::Failed),
            _ => next >= self,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A text was none of the states.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a run state (pending, uploading, queued, running, downloading, completed, failed, cancelled)"
)]
pub struct UnknownStatus(pub String);

impl FromStr for RunStatus {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// One execution of one container, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its prompt; none for `farrun run IMAGE`.
    pub prompt_id: Option<PromptId>,
    /// The run whose output it works on.
    pub parent_run: Option<RunId>,
    /// Name of the host it was ordered for.
    pub host: String,
    /// Who ordered it.
    pub controller_id: ControllerId,
    /// `inference`, `upscale`, `enhance`, `run` or what a recipe names.
    pub operation: String,
    /// Recipe it was resolved from.
    pub recipe: Option<String>,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it ended as it did.
    pub reason: Option<Reason>,
    /// One readable line, at most [`MAX_ERROR_MESSAGE`](farrun_protocol::explain::MAX_ERROR_MESSAGE) characters; set on every run that failed.
    pub error_message: Option<String>,
    /// Exit code of the job's main process.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Stable code of the cause that its evidence shows; none when it shows none, or was not read.
    #[serde(default)]
    pub finding: Option<String>,
    /// The same in one line, at most [`MAX_FINDING`] characters.
    #[serde(default)]
    pub finding_text: Option<String>,
    /// When the evidence was last read.
    #[serde(default)]
    pub diagnosed_at: Option<DateTime<Utc>>,
    /// The resolved order.
    pub spec: RunSpec,
    /// Local mirror of the run log, at most [`MAX_LOG_PATH`] characters; absolute.
    pub log_path: Option<String>,
    /// Local folder of its outputs; absolute.
    pub outputs_path: Option<String>,
    /// Local folder of its evidence, once it was brought here; absolute.
    #[serde(default)]
    pub diagnostics_path: Option<String>,
    /// Length of the complete run log in bytes, once known.
    pub log_length: Option<u64>,
    /// Its hash, once known.
    pub log_sha256: Option<Sha256>,
    /// Whether the mirror was compared with length and hash.
    pub log_complete: bool,
    /// The engine's id of its container.
    pub container_id: Option<String>,
    /// Digest or id of the image it ran.
    pub image_digest: Option<String>,
    /// GPUs it was given: `none`, `all` or UUIDs with commas.
    pub gpus: String,
    /// The GPUs it was given, as they were at that time.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// What it did to them, as far as the host told.
    #[serde(default)]
    pub gpu_summary: Option<GpuSummary>,
    /// Key that makes a repeated order find this run.
    pub key: Option<String>,
    /// Process that ordered it, while it has not been acknowledged: pid, boot id and start time.
    pub owner: Option<String>,
    /// When it was ordered.
    pub created_at: DateTime<Utc>,
    /// When the host acknowledged the order.
    pub launched_at: Option<DateTime<Utc>>,
    /// When the job was started, by the host's clock.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, by the host's clock.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the host last confirmed its state.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

impl Run {
    /// Whether its host has yet to learn from the container engine how it ended. The only final state that may still
    /// become another.
    pub fn awaits_engine(&self) -> bool {
        self.status == RunStatus::Failed && self.reason == Some(Reason::EngineSilent)
    }
}

/// Something that happened to a run, for its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// When, by our clock.
    pub at: DateTime<Utc>,
    /// `status`, `interrupted`, `adopted`, `pulled`, `mirror`, `stop`, `log_error`, `link` or another stable word.
    pub kind: String,
    /// What, for people.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_state_is_written_once() {
        for last in [RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled] {
            for next in RunStatus::ALL {
                assert!(!last.may_become(next), "{last} -> {next}");
            }
        }
    }

    #[test]
    fn runs_only_move_forward() {
        use RunStatus::*;
        assert!(Pending.may_become(Running));
        assert!(Pending.may_become(Failed));
        assert!(Running.may_become(Running));
        assert!(!Running.may_become(Uploading));
        assert!(!Downloading.may_become(Cancelled));
        assert!(Downloading.may_become(Failed));
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for status in RunStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }
}
