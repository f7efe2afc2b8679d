//! Whether the observer is started after a boot.

use super::call::blocking;
use super::session::Session;
use crate::residence::{self, Place, ResidenceError};
use crate::watch;
use farrun_protocol::{ErrorCode, Failure, Reply};
use std::sync::Arc;

pub(crate) async fn set_residence(session: &Session, resident: bool) -> Result<Reply, Failure> {
    // A rootless engine or one elsewhere is found as this conversation finds it; `PATH` is that of a login.
    let mut environment: Vec<(String, String)> = Vec::new();
    for (name, value) in watch::environment(&session.context) {
        if let Ok(value) = value.into_string() {
            environment.push((name.to_owned(), value));
        }
    }
    let place = Place::of(&session.context);
    let by = blocking(move || {
        if resident {
            residence::set(&place, environment).map(Some)
        } else {
            residence::unset(&place).map(|()| None)
        }
        .map_err(Failure::from)
    });
    Ok(Reply::Residence { by: by.await? })
}

impl From<ResidenceError> for Failure {
    fn from(error: ResidenceError) -> Self {
        match error {
            ResidenceError::Record(error) => error.into(),
            error @ ResidenceError::Refused { .. } => Self::new(ErrorCode::ResidenceRefused, error),
        }
    }
}

/// Beside the answer to a hello: a newer agent takes the place of the one that starts after a boot.
pub(crate) fn follow_beside(session: &Arc<Session>) {
    let place = Place::of(&session.context);
    tokio::task::spawn_blocking(move || {
        // What cannot be written now is tried again by the next conversation.
        let _ = residence::follow_newer(&place);
    });
}
