//! A conversation as the place where a mirror gets its bytes from.

use super::{AgentError, Client};
use crate::mirror::{LogSource, SourceError};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::FetchLog;
use farrun_protocol::{RunId, Sha256};
use std::sync::Arc;

impl From<AgentError> for SourceError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Failed(failure) => Self::Refused(failure),
            error @ AgentError::Frame { .. } => Self::Senseless(Arc::new(error)),
            error => Self::Lost(Arc::new(error)),
        }
    }
}

impl LogSource for Client {
    async fn fetch(&self, fetch: FetchLog) -> Result<LogChunk, SourceError> {
        Ok(self.fetch_log(fetch).await?)
    }

    async fn hash(&self, run_id: &RunId, length: u64) -> Result<Option<Sha256>, SourceError> {
        Ok(self.hash_log(run_id.clone(), length).await?)
    }
}
