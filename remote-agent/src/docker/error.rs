//! What can go wrong between us and an engine.

use super::Address;
use bollard::errors::Error as ClientError;
use farrun_protocol::{ErrorCode, Failure};
use std::io;

/// An engine did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers, or the answer broke off.
    #[error("{address}: {detail}")]
    Unreachable {
        /// Where it was sought.
        address: String,
        /// What the kernel said.
        detail: String,
    },
    /// The account may not use it.
    #[error("{address}: {detail}")]
    Denied {
        /// Where it was sought.
        address: String,
        /// What the kernel or sudo said.
        detail: String,
    },
    /// It took too long; whether the call had an effect is not known.
    #[error("`{call}` took longer than {seconds} s")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// It refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
}

impl EngineError {
    /// Sorts an error of the client library.
    pub(super) fn from_client(address: &Address, call: &'static str, error: ClientError) -> Self {
        match error {
            ClientError::DockerResponseServerError { status_code, message } => Self::Refused {
                status: status_code,
                message,
            },
            ClientError::DockerStreamError { error } => Self::Refused {
                status: 500,
                message: error,
            },
            ClientError::RequestTimeoutError => Self::Timeout { call, seconds: 0 },
            ClientError::IOError { err } => Self::from_io(address, &err),
            other => Self::Unreachable {
                address: address.to_string(),
                detail: format!("{call}: {other}"),
            },
        }
    }

    fn from_io(address: &Address, error: &io::Error) -> Self {
        let (address, detail) = (address.to_string(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { address, detail },
            _ => Self::Unreachable { address, detail },
        }
    }

    /// A call that was not waited for any longer.
    pub(crate) fn slow(call: &'static str, waited: std::time::Duration) -> Self {
        let seconds = waited.as_secs();
        Self::Timeout { call, seconds }
    }

    /// Whether the engine gave a definite answer, so that the call had no effect.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether the thing asked for does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether a name is taken.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Unreachable { .. } => ErrorCode::DockerUnreachable,
            EngineError::Denied { .. } => ErrorCode::DockerDenied,
            EngineError::Timeout { .. } => ErrorCode::DockerTimeout,
            EngineError::Refused { .. } => ErrorCode::DockerRefused,
        };
        Self::new(code, error)
    }
}
