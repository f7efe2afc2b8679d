//! The connections that carry an upload, and how many are worth making.

use crate::host::{Dialer, Link, LinkError};
use crate::model::Host;
use crate::ssh::Session;
use crate::ssh::transfer::{More, Sftp, Upload};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most connections that carry inputs.
const MOST: u64 = 4;
/// Bytes that are worth a connection of their own at a distance.
const WORTH_ONE: u64 = 4 * 1024 * 1024;
/// From this round trip on, one connection cannot fill the way to the host: the server opens a window of 2 MiB and no
/// more.
const FAR: Duration = Duration::from_millis(15);

/// Makes connections to one host and keeps them until the upload is done.
pub(super) struct Lanes<'a> {
    dialer: Dialer,
    host: &'a Host,
    sessions: Sessions,
}

type Sessions = Arc<Mutex<Vec<Session>>>;

impl<'a> Lanes<'a> {
    pub(super) fn new(dialer: Dialer, host: &'a Host) -> Self {
        let sessions = Sessions::default();
        Self {
            dialer,
            host,
            sessions,
        }
    }

    /// An upload of `bytes`. At a distance its connections are made at once, for each carries no more than its window;
    /// nearby another one is made only while that helps.
    pub(super) async fn upload(&self, link: &Link, bytes: u64) -> Result<Upload, LinkError> {
        let is_far = link.session.quickest_answer().is_some_and(|trip| trip >= FAR);
        if !is_far {
            let first = open(&self.dialer, self.host, &self.sessions).await?;
            return Ok(Upload::new(first).growing(self.more()));
        }
        let further = (1..(bytes / WORTH_ONE).clamp(1, MOST)).map(|_| {
            let (dialer, host, sessions) = (self.dialer.unasking(), self.host.clone(), self.sessions.clone());
            async move { open(&dialer, &host, &sessions).await.ok() }
        });
        let coming: FuturesUnordered<_> = further.collect();
        let mut coming = coming.filter_map(std::future::ready);
        let first = open(&self.dialer, self.host, &self.sessions);
        tokio::pin!(first);
        // All of them are made at the same time; what comes before the first one joins right after it.
        let mut early = Vec::new();
        let first = loop {
            tokio::select! {
                first = &mut first => break first?,
                Some(lane) = coming.next() => early.push(lane),
            }
        };
        let joining = futures_util::stream::iter(early).chain(coming);
        Ok(Upload::new(first).joined_by(joining.boxed()))
    }

    fn more(&self) -> More {
        let (dialer, host) = (self.dialer.unasking(), self.host.clone());
        let sessions = Arc::clone(&self.sessions);
        More::new(move || {
            let (dialer, host, sessions) = (dialer.clone(), host.clone(), Arc::clone(&sessions));
            Box::pin(async move { open(&dialer, &host, &sessions).await.ok() })
        })
    }

    pub(super) async fn close(self) {
        let sessions = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        futures_util::future::join_all(sessions.into_iter().map(Session::close)).await;
    }
}

async fn open(dialer: &Dialer, host: &Host, sessions: &Sessions) -> Result<Sftp, LinkError> {
    let (session, sftp) = dialer.files(host).await?;
    let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
    sessions.push(session);
    Ok(sftp)
}
