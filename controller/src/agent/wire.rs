//! The two tasks of a conversation: one reads frames and hands them to whoever waits, one writes them.
//!
//! Neither ever waits for a caller, so that a slow one delays no sign of life: an answer goes into a slot made
//! for it, and progress that nobody takes in time is dropped.

use super::{AgentError, Cause};
use bytes::Bytes;
use farrun_protocol::frame::{Frame, FrameReader, Kind, write_frame};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who waits for the answer to one request.
pub(super) struct Waiting {
    pub(super) verb: &'static str,
    pub(super) answer: oneshot::Sender<Frame>,
    pub(super) progress: mpsc::Sender<Bytes>,
}

/// What the tasks and the handles of one conversation share.
pub(super) struct Shared {
    pub(super) host: String,
    pub(super) over: CancellationToken,
    pub(super) outbound: mpsc::Sender<Frame>,
    /// None once the conversation is over, so that nobody starts to wait for an answer that cannot come.
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    cause: watch::Sender<Option<AgentError>>,
    heard: watch::Sender<Instant>,
}

impl Shared {
    pub(super) fn new(host: &str, outbound: mpsc::Sender<Frame>) -> Self {
        Self {
            host: host.to_owned(),
            over: CancellationToken::new(),
            outbound,
            waiting: Mutex::new(Some(HashMap::new())),
            cause: watch::Sender::new(None),
            heard: watch::Sender::new(Instant::now()),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        // Nothing panics while it is held; a poisoned map is as good as any.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers who waits for `id`; false when the conversation is over.
    pub(super) fn expect(&self, id: u64, waiting: Waiting) -> bool {
        match self.waiting().as_mut() {
            Some(map) => {
                map.insert(id, waiting);
                true
            }
            None => false,
        }
    }

    /// Nobody waits for `id` any more.
    pub(super) fn forget(&self, id: u64) {
        if let Some(map) = self.waiting().as_mut() {
            map.remove(&id);
        }
    }

    /// What is being asked for, each verb once.
    fn pending(&self) -> Vec<&'static str> {
        let waiting = self.waiting();
        let verbs = waiting
            .iter()
            .flat_map(HashMap::values)
            .map(|waiting| waiting.verb);
        verbs.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// When the last bytes came in.
    pub(super) fn last_heard(&self) -> Instant {
        *self.heard.borrow()
    }

    /// Ends the conversation; the first cause is the one that is told.
    pub(super) fn end(&self, error: AgentError) {
        self.cause.send_if_modified(|cause| {
            let first = cause.is_none();
            if first {
                *cause = Some(error);
            }
            first
        });
        self.waiting().take();
        self.over.cancel();
    }

    /// Why the conversation is over, once it is.
    pub(super) async fn closed(&self) -> AgentError {
        let mut receiver = self.cause.subscribe();
        let known = receiver.wait_for(Option::is_some).await;
        known
            .ok()
            .and_then(|cause| cause.clone())
            .unwrap_or_else(|| self.dropped())
    }

    pub(super) fn dropped(&self) -> AgentError {
        AgentError::Closed {
            host: self.host.clone(),
            cause: Cause::Dropped,
        }
    }

    fn deliver(&self, frame: Frame) {
        match frame.kind {
            Kind::Reply | Kind::Failure | Kind::LogChunk => {
                let waiting = self.waiting().as_mut().and_then(|map| map.remove(&frame.id));
                if let Some(waiting) = waiting {
                    let _ = waiting.answer.send(frame);
                }
            }
            Kind::Progress => {
                if let Some(waiting) = self.waiting().as_ref().and_then(|map| map.get(&frame.id)) {
                    let _ = waiting.progress.try_send(frame.payload);
                }
            }
            // A full queue means that frames are on their way out, which are as good a sign of life.
            Kind::Ping => drop(self.outbound.try_send(Frame::empty(Kind::Pong, 0))),
            // Pongs have done their work by arriving; the others are not the agent's to send.
            Kind::Pong | Kind::Request | Kind::Cancel => {}
        }
    }
}

/// Notes every byte that comes in: a large frame on a slow link takes longer than the silence that ends a
/// conversation, and is none.
pub(super) struct Listening<R> {
    stream: R,
    shared: Arc<Shared>,
}

impl<R> Listening<R> {
    pub(super) fn new(stream: R, shared: &Arc<Shared>) -> Self {
        Self {
            stream,
            shared: Arc::clone(shared),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Listening<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.shared.heard.send_replace(Instant::now());
        }
        polled
    }
}

/// Reads until the stream ends, breaks, or is silent for `silence`.
pub(super) async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    mut frames: FrameReader<R>,
    silence: Duration,
) {
    let error = loop {
        let next = tokio::select! {
            () = shared.over.cancelled() => break shared.dropped(),
            next = tokio::time::timeout_at(shared.last_heard() + silence, frames.next()) => next,
        };
        match next {
            Ok(Ok(Some(frame))) => shared.deliver(frame),
            Ok(Ok(None)) => {
                break AgentError::Closed {
                    host: shared.host.clone(),
                    cause: Cause::Ended,
                };
            }
            Ok(Err(error)) => break AgentError::from_frame(&shared.host, shared.pending(), error),
            // Bytes of an unfinished frame came meanwhile.
            Err(_) if shared.last_heard().elapsed() < silence => {}
            Err(_) => {
                break AgentError::Silent {
                    host: shared.host.clone(),
                    after: silence,
                };
            }
        }
    };
    shared.end(error);
}

/// Writes what is queued, and a ping in every `ping`.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    mut stream: W,
    mut queue: mpsc::Receiver<Frame>,
    ping: Duration,
) {
    let mut beat = tokio::time::interval_at(Instant::now() + ping, ping);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            () = shared.over.cancelled() => break,
            frame = queue.recv() => match frame { Some(frame) => frame, None => break },
            _ = beat.tick() => Frame::empty(Kind::Ping, 0),
        };
        let written = tokio::select! {
            () = shared.over.cancelled() => break,
            written = write_frame(&mut stream, &frame) => written,
        };
        if let Err(error) = written {
            shared.end(AgentError::from_frame(&shared.host, shared.pending(), error));
            break;
        }
    }
    let _ = tokio::time::timeout(ping, stream.shutdown()).await;
}
