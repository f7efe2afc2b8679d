//! Where a mirror gets its bytes from.

use farrun_protocol::log::LogChunk;
use farrun_protocol::message::FetchLog;
use farrun_protocol::{ErrorCode, Failure, RunId, Sha256};
use std::future::Future;
use std::sync::Arc;

/// The log of a run, wherever it lies: a conversation with an agent, or memory in tests.
pub trait LogSource: Sync {
    /// Bytes from an offset: a long poll.
    fn fetch(&self, fetch: FetchLog) -> impl Future<Output = Result<LogChunk, SourceError>> + Send;

    /// Hash of the first `length` bytes; none when the log is shorter.
    fn hash(
        &self,
        run_id: &RunId,
        length: u64,
    ) -> impl Future<Output = Result<Option<Sha256>, SourceError>> + Send;
}

/// A source did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// It answered that it cannot, and why.
    #[error("the log cannot be read")]
    Refused(#[source] Failure),
    /// It is gone; a new one goes on where this one stopped.
    #[error("the log's source was lost")]
    Lost(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// What it says is none of its language; a new one would say the same.
    #[error(transparent)]
    Senseless(Arc<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// The code of a typed refusal.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(failure) => Some(failure.code),
            Self::Lost(_) | Self::Senseless(_) => None,
        }
    }
}
