//! The connections for files of one pull.

use super::pulled;
use crate::controller::Controller;
use crate::host::LinkError;
use crate::model::Host;
use crate::ssh::Session;
use crate::ssh::transfer::{More, Sftp};
use farrun_protocol::RunId;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::task::AbortOnDropHandle;

/// A connection for files that is made while other things are asked.
#[derive(Debug)]
pub struct Bulk(Option<AbortOnDropHandle<Result<(Session, Sftp), LinkError>>>);

impl Bulk {
    /// Begins to connect, asking nobody anything; not where everything was brought home before, for then there is
    /// probably nothing to fetch.
    pub fn begin(controller: &Controller, host: &Host, run: &RunId) -> Self {
        if pulled::is_kept(&controller.config.state_folder, run) {
            return Self(None);
        }
        let (dialer, host) = (controller.dialer().unasking(), host.clone());
        let connecting = tokio::spawn(async move { dialer.files(&host).await });
        Self(Some(AbortOnDropHandle::new(connecting)))
    }

    /// The connection; one that was not begun or not to be had unasked is made now.
    pub(super) async fn ready(
        self,
        controller: &Controller,
        host: &Host,
    ) -> Result<(Session, Sftp), LinkError> {
        if let Some(connecting) = self.0
            && let Ok(Ok(files)) = connecting.await
            && !files.0.is_closed()
        {
            return Ok(files);
        }
        controller.dialer().files(host).await
    }
}

/// Opens further connections to the host of a download; they end with it.
pub(super) fn further(controller: &Controller, host: &Host) -> More {
    let (dialer, host) = (controller.dialer().unasking(), host.clone());
    let sessions: Arc<Mutex<Vec<Session>>> = Arc::default();
    More::new(move || {
        let (dialer, host, sessions) = (dialer.clone(), host.clone(), Arc::clone(&sessions));
        Box::pin(async move {
            let (session, sftp) = dialer.files(&host).await.ok()?;
            sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(session);
            Some(sftp)
        })
    })
}
