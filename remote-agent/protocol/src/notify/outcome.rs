//! How a hook ended.

use super::{Call, LIMIT};
use crate::id::ControllerId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is its turn; it may be running. One that was begun is never begun again.
    Begun,
    /// It ended with code 0.
    Done,
    /// The program could not be started.
    NotStarted {
        /// Its name.
        program: String,
        /// What the kernel said.
        error: String,
    },
    /// It was killed after [`LIMIT`].
    TimedOut,
    /// It ended otherwise.
    Failed {
        /// Exit code; none after a signal.
        #[serde(default)]
        code: Option<i32>,
        /// Status of the webhook's answer, when there was one.
        #[serde(default)]
        http_status: Option<u16>,
    },
}

impl Outcome {
    /// What `code` of a call means; `printed` is what it wrote to its standard output.
    pub fn of(call: &Call, code: Option<i32>, printed: &str) -> Self {
        if code == Some(0) {
            return Self::Done;
        }
        let status = printed.trim().parse().ok().filter(|status| *status > 0);
        Self::Failed {
            code,
            http_status: status.filter(|_| call.is_curl),
        }
    }

    /// What is wrong, for people; nothing when all is well or not yet known.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Begun | Self::Done => None,
            Self::NotStarted { program, error } => Some(format!("`{program}` could not be started: {error}")),
            Self::TimedOut => Some(format!("it took more than {} s and was ended", LIMIT.as_secs())),
            Self::Failed {
                http_status: Some(status),
                ..
            } => Some(format!("the webhook answered with HTTP status {status}")),
            Self::Failed { code: Some(code), .. } => Some(format!("it ended with code {code}")),
            Self::Failed { .. } => Some("it was ended by a signal".to_owned()),
        }
    }
}

/// What became of telling one controller's user about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Whose hook it was.
    pub controller_id: ControllerId,
    /// When it was its turn.
    pub at: DateTime<Utc>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}
