//! One request that is being answered: its way out and its cancellation.

use super::fetch_log::Fetched;
use bytes::Bytes;
use farrun_protocol::frame::{Frame, Kind, MAX_PAYLOAD};
use farrun_protocol::{ErrorCode, Failure, Progress, Reply};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a handler answers with.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A JSON reply.
    Reply(Reply),
    /// Run-log bytes.
    Chunk(Fetched),
}

/// One request's way to the outside.
#[derive(Debug)]
pub(crate) struct Call {
    id: u64,
    outbox: mpsc::Sender<Frame>,
    /// Set when the peer no longer wants to wait.
    pub(crate) cancel: CancellationToken,
    last_progress: Mutex<Option<Instant>>,
}

impl Call {
    pub(crate) fn new(id: u64, outbox: mpsc::Sender<Frame>, cancel: CancellationToken) -> Self {
        Self {
            id,
            outbox,
            cancel,
            last_progress: Mutex::new(None),
        }
    }

    /// A call whose caller is gone: nobody hears of progress, and nobody ends the wait.
    pub(crate) fn unheard() -> Self {
        let (outbox, _) = mpsc::channel(1);
        Self::new(0, outbox, CancellationToken::new())
    }

    /// Tells how far things are, unless the queue is full: progress is never worth waiting for.
    pub(crate) fn progress(&self, progress: &Progress) {
        if let Ok(json) = serde_json::to_vec(progress) {
            let _ = self.outbox.try_send(self.frame(Kind::Progress, json.into()));
        }
    }

    /// As [`Self::progress`], at most five times a second.
    pub(crate) fn frequent_progress(&self, progress: &Progress) {
        const APART: Duration = Duration::from_millis(200);
        let mut last = match self.last_progress.lock() {
            Ok(last) => last,
            Err(poisoned) => poisoned.into_inner(),
        };
        if last.is_none_or(|last| last.elapsed() >= APART) {
            *last = Some(Instant::now());
            drop(last);
            self.progress(progress);
        }
    }

    /// Sends the one answer.
    pub(crate) async fn finish(&self, answer: Result<Answer, Failure>) {
        let mut held = None;
        let frame = match answer {
            Ok(Answer::Chunk(Fetched {
                chunk,
                answered,
                room,
            })) => {
                held = Some((answered, room));
                self.frame(Kind::LogChunk, chunk.encode())
            }
            Ok(Answer::Reply(reply)) => self.json(Kind::Reply, &reply),
            Err(failure) => self.json(Kind::Failure, &failure),
        };
        // A writer that is gone has ended the conversation already.
        let _ = self.outbox.send(frame).await;
        drop(held);
    }

    fn json<T: serde::Serialize>(&self, kind: Kind, value: &T) -> Frame {
        match serde_json::to_vec(value) {
            Ok(json) if json.len() <= MAX_PAYLOAD => self.frame(kind, json.into()),
            _ => {
                let failure = Failure::new(ErrorCode::Internal, "the answer does not fit a frame");
                let json = serde_json::to_vec(&failure).unwrap_or_default();
                self.frame(Kind::Failure, json.into())
            }
        }
    }

    fn frame(&self, kind: Kind, payload: Bytes) -> Frame {
        Frame {
            kind,
            id: self.id,
            payload,
        }
    }
}

/// The failure of a wait that its caller ended.
pub(crate) fn cancelled() -> Failure {
    ErrorCode::Cancelled.into()
}

/// Runs work that blocks on files away from the tasks that answer pings.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::new(ErrorCode::Internal, error)))
}
