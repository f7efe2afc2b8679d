//! What can go wrong in a conversation.

use farrun_protocol::Failure;
use farrun_protocol::frame::FrameError;
use std::sync::Arc;
use std::time::Duration;

/// A call was not answered, or a conversation is over. Clones are cheap: everyone who waits gets the same cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    /// Something else than the agent answered.
    #[error("no agent answered on `{host}`")]
    NoPreamble {
        /// The host.
        host: String,
        /// The first bytes of what came instead, escaped; empty when nothing came.
        printed: String,
    },
    /// The conversation is over.
    #[error("the conversation with `{host}` is over: {cause}")]
    Closed {
        /// The host.
        host: String,
        /// Why.
        cause: Cause,
    },
    /// Nothing was heard for too long; the conversation was given up.
    #[error("`{host}` was silent for {} s", after.as_secs())]
    Silent {
        /// The host.
        host: String,
        /// How long.
        after: Duration,
    },
    /// A frame that no agent of ours sends.
    #[error("`{host}` sent something that no agent sends{}", awaited(pending))]
    Frame {
        /// The host.
        host: String,
        /// The requests whose answers were due.
        pending: Vec<&'static str>,
        /// What is wrong with it.
        source: Arc<FrameError>,
    },
    /// A request that fits no frame; nothing was sent.
    #[error(
        "the request `{request}` to `{host}` has {size} bytes; {} are the most that one can have",
        farrun_protocol::frame::MAX_PAYLOAD
    )]
    TooLarge {
        /// The host.
        host: String,
        /// What was to be asked.
        request: &'static str,
        /// The size of its payload.
        size: usize,
    },
    /// The agent's typed answer is that it cannot.
    #[error(transparent)]
    Failed(Failure),
    /// The answer is not one to this request.
    #[error("`{host}` answered {got} where {expected} was due")]
    Unexpected {
        /// The host.
        host: String,
        /// The answer that belongs to the request.
        expected: &'static str,
        /// What came: a description of ours, no text of the host's.
        got: String,
    },
    /// The agent speaks another version of the protocol.
    #[error(
        "the agent on `{host}` speaks protocol {got}, this program {}",
        farrun_protocol::PROTOCOL
    )]
    VersionMismatch {
        /// The host.
        host: String,
        /// Its version.
        got: u32,
    },
}

/// Why a conversation ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// The agent closed its side between two frames.
    #[error("the agent ended it")]
    Ended,
    /// The stream broke, maybe inside a frame.
    #[error("{0}")]
    Broken(Arc<std::io::Error>),
    /// The last handle was given up on this side.
    #[error("it was ended here")]
    Dropped,
}

impl AgentError {
    /// The agent's typed failure, when that is what this is.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether the conversation is over, so that a new one must be opened before anything else is asked.
    pub fn is_over(&self) -> bool {
        !matches!(
            self,
            Self::Failed(_) | Self::Unexpected { .. } | Self::TooLarge { .. }
        )
    }

    /// Sorts a frame error into a broken stream or a malformed frame.
    pub(super) fn from_frame(host: &str, pending: Vec<&'static str>, error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Closed {
                host: host.to_owned(),
                cause: Cause::Broken(Arc::new(error)),
            },
            error => Self::Frame {
                host: host.to_owned(),
                pending,
                source: Arc::new(error),
            },
        }
    }
}

fn awaited(pending: &[&str]) -> String {
    if pending.is_empty() {
        return String::new();
    }
    format!(" where an answer to `{}` was due", pending.join("` or `"))
}
