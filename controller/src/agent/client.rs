//! Opening a conversation, and calls in it.

use super::opening::read_preamble;
use super::wire::{self, Shared, Waiting};
use super::{AgentError, Cause};
use bytes::{Bytes, BytesMut};
use farrun_protocol::frame::{Frame, FrameReader, Kind, MAX_PAYLOAD};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::{Hello, HelloReply};
use farrun_protocol::{Failure, PROTOCOL, Progress, Reply, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::DropGuard;

/// The request id of a hello, which is the first of its conversation.
const HELLO: u64 = 1;
/// Most requests that wait for an answer at one time; each answer may be as large as a frame.
const MAX_CALLS: usize = 32;
/// Frames that may wait to be written.
const QUEUE: usize = 64;
/// Progress reports of one call that may wait to be taken.
const MAX_PROGRESS: usize = 16;

/// Most characters of a failure's detail that are kept.
const MAX_DETAIL: usize = 4000;
/// Most bytes of each text in the answer to a hello.
const MAX_HELLO_TEXT: usize = 500;

/// How long a conversation waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For the preamble, and again for the answer to the hello.
    pub opening: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// For any byte, before the conversation is given up.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            opening: Duration::from_secs(10),
            ping: Duration::from_secs(5),
            silence: Duration::from_secs(20),
        }
    }
}

/// A conversation with an agent. Clones speak in the same one; it ends when the last is dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    calls: Arc<Semaphore>,
    next_id: Arc<AtomicU64>,
    _end: Arc<DropGuard>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("host", &self.shared.host)
            .finish_non_exhaustive()
    }
}

/// What came for a request.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Reply),
    Chunk(LogChunk),
}

impl Answer {
    /// What it is, without its content.
    pub(super) fn describe(&self) -> String {
        let reply = match self {
            Self::Chunk(_) => return "a log chunk".to_owned(),
            Self::Reply(reply) => reply,
        };
        let name = match reply {
            Reply::Hello(_) => "hello",
            Reply::Inputs { .. } => "inputs",
            Reply::Done => "done",
            Reply::Run(_) => "run",
            Reply::Runs { .. } => "runs",
            Reply::Spec(_) => "spec",
            Reply::LogPrefix { .. } => "log_prefix",
            Reply::Manifest(_) => "manifest",
            Reply::Host(_) => "host",
            Reply::Gpus(_) => "gpus",
            Reply::Fit(_) => "fit",
            Reply::Series { .. } => "series",
            Reply::Diagnostics { .. } => "diagnostics",
            Reply::Garbage { .. } => "garbage",
            Reply::Doctor(_) => "doctor",
            Reply::Residence { .. } => "residence",
        };
        format!("`{name}`")
    }
}

/// Tells the agent that nobody waits any more, unless the answer came.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    id: u64,
    sent: bool,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.shared.forget(self.id);
        if self.sent {
            // A queue that is full of unsent frames loses the cancel; waits end by themselves and an answer
            // to a forgotten id is ignored.
            let _ = self.shared.outbound.try_send(Frame::empty(Kind::Cancel, self.id));
        }
    }
}

impl Client {
    /// The first bytes of a conversation: its hello. They may be sent before the agent has said anything, for they
    /// hold no secret and start nothing.
    ///
    /// # Errors
    /// A hello that does not fit a frame.
    pub fn greeting(hello: Hello, host: &str) -> Result<Bytes, AgentError> {
        let payload = encode(&Request::Hello(hello), host)?;
        let mut bytes = BytesMut::new();
        Frame {
            kind: Kind::Request,
            id: HELLO,
            payload,
        }
        .encode(&mut bytes)
        .map_err(|error| AgentError::from_frame(host, Vec::new(), error))?;
        Ok(bytes.freeze())
    }

    /// Takes up a conversation, whose [`Client::greeting`] was sent, with the usual [`Timing`].
    ///
    /// # Errors
    /// No agent of this protocol answers in time, or it refuses.
    pub async fn start<R, W>(
        reader: R,
        writer: W,
        nonce: &str,
        host: &str,
    ) -> Result<(Self, HelloReply), AgentError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        Self::start_with(reader, writer, nonce, host, Timing::default()).await
    }

    /// As [`Client::start`], with other patience.
    ///
    /// # Errors
    /// No agent of this protocol answers in time, or it refuses.
    pub async fn start_with<R, W>(
        mut reader: R,
        writer: W,
        nonce: &str,
        host: &str,
        timing: Timing,
    ) -> Result<(Self, HelloReply), AgentError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let rest = read_preamble(&mut reader, nonce, host, timing.opening).await?;
        let (outbound, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::new(host, outbound));
        let client = Self {
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            next_id: Arc::new(AtomicU64::new(HELLO + 1)),
            _end: Arc::new(shared.over.clone().drop_guard()),
            shared: Arc::clone(&shared),
        };
        let (answer, answered) = oneshot::channel();
        // A hello has no progress to report.
        let (progress, _) = mpsc::channel(1);
        let verb = "hello";
        shared.expect(
            HELLO,
            Waiting {
                verb,
                answer,
                progress,
            },
        );
        let frames = FrameReader::new(wire::Listening::new(reader, &shared), &rest);
        let reading = Arc::clone(&shared);
        tokio::spawn(async move { wire::read(&reading, frames, timing.silence).await });
        tokio::spawn(async move { wire::write(&shared, writer, queue, timing.ping).await });
        let reply = tokio::time::timeout(timing.opening, answered).await;
        let reply = reply.map_err(|_| AgentError::Silent {
            host: host.to_owned(),
            after: timing.opening,
        })?;
        let reply = match reply {
            Ok(frame) => client.decode(frame)?,
            Err(_) => return Err(client.closed().await),
        };
        let reply = client.check_hello(reply)?;
        Ok((client, reply))
    }

    fn check_hello(&self, answer: Answer) -> Result<HelloReply, AgentError> {
        match answer {
            Answer::Reply(Reply::Hello(reply)) if reply.protocol == PROTOCOL => {
                let texts = [&reply.version, &reply.boot_id, &reply.machine, &reply.state];
                match texts.iter().find(|text| text.len() > MAX_HELLO_TEXT) {
                    None => Ok(reply),
                    Some(text) => Err(AgentError::Unexpected {
                        host: self.shared.host.clone(),
                        expected: "the answer to a hello",
                        got: format!("one with a text of {} bytes", text.len()),
                    }),
                }
            }
            Answer::Reply(Reply::Hello(reply)) => Err(AgentError::VersionMismatch {
                host: self.shared.host.clone(),
                got: reply.protocol,
            }),
            other => Err(self.unexpected("`hello`", &other)),
        }
    }

    /// The host this conversation is with.
    pub fn host_name(&self) -> &str {
        &self.shared.host
    }

    /// When the last bytes came in.
    pub fn last_heard(&self) -> std::time::Instant {
        self.shared.last_heard().into_std()
    }

    /// Waits until the conversation is over, and says why.
    pub async fn closed(&self) -> AgentError {
        self.shared.closed().await
    }

    /// Asks and waits for the reply. Dropping the future cancels the request.
    ///
    /// # Errors
    /// The agent's typed failure, or the end of the conversation.
    pub async fn call(&self, request: Request) -> Result<Reply, AgentError> {
        self.call_with_progress(request, |_| {}).await
    }

    /// Asks, hands on what happens meanwhile, and waits for the reply. Dropping the future cancels the request.
    ///
    /// # Errors
    /// The agent's typed failure, or the end of the conversation.
    pub async fn call_with_progress<F>(&self, request: Request, progress: F) -> Result<Reply, AgentError>
    where
        F: FnMut(Progress) + Send,
    {
        match self.ask(&request, progress).await? {
            Answer::Reply(reply) => Ok(reply),
            chunk => Err(self.unexpected("a reply", &chunk)),
        }
    }

    pub(super) async fn ask<F>(&self, request: &Request, mut progress: F) -> Result<Answer, AgentError>
    where
        F: FnMut(Progress) + Send,
    {
        let payload = encode(request, &self.shared.host)?;
        let Ok(_permit) = self.calls.acquire().await else {
            return Err(self.shared.dropped());
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, mut answered) = oneshot::channel();
        let (reports, mut reported) = mpsc::channel(MAX_PROGRESS);
        let waiting = Waiting {
            verb: request.verb(),
            answer,
            progress: reports,
        };
        if !self.shared.expect(id, waiting) {
            return Err(self.closed().await);
        }
        let mut guard = CancelOnDrop {
            shared: &self.shared,
            id,
            sent: false,
            answered: false,
        };
        let frame = Frame {
            kind: Kind::Request,
            id,
            payload,
        };
        tokio::select! {
            () = self.shared.over.cancelled() => {}
            sent = self.shared.outbound.send(frame) => guard.sent = sent.is_ok(),
        }
        let frame = loop {
            // Progress that came before the answer is told before it.
            tokio::select! {
                biased;
                Some(report) = reported.recv() => tell(&report, &mut progress),
                frame = &mut answered => break frame,
            }
        };
        guard.answered = frame.is_ok();
        while let Ok(report) = reported.try_recv() {
            tell(&report, &mut progress);
        }
        match frame {
            Ok(frame) => self.decode(frame),
            Err(_) => Err(self.closed().await),
        }
    }

    fn decode(&self, frame: Frame) -> Result<Answer, AgentError> {
        let malformed = |expected| AgentError::Unexpected {
            host: self.shared.host.clone(),
            expected,
            got: format!("{} bytes that are none", frame.payload.len()),
        };
        match frame.kind {
            Kind::Reply => serde_json::from_slice(&frame.payload)
                .map(Answer::Reply)
                .map_err(|_| malformed("a reply")),
            Kind::LogChunk => LogChunk::decode(frame.payload.clone())
                .map(Answer::Chunk)
                .map_err(|_| malformed("a log chunk")),
            _ => match serde_json::from_slice::<Failure>(&frame.payload) {
                Ok(Failure { code, detail, gpus }) => Err(AgentError::Failed(Failure {
                    code,
                    gpus,
                    // As long as an agent of ours makes it, whoever answers.
                    detail: detail.map(|detail| detail.chars().take(MAX_DETAIL).collect()),
                })),
                Err(_) => Err(malformed("a failure")),
            },
        }
    }

    pub(super) fn unexpected(&self, expected: &'static str, got: &Answer) -> AgentError {
        AgentError::Unexpected {
            host: self.shared.host.clone(),
            expected,
            got: got.describe(),
        }
    }
}

fn encode(request: &Request, host: &str) -> Result<Bytes, AgentError> {
    let payload = serde_json::to_vec(request).map_err(|error| AgentError::Closed {
        host: host.to_owned(),
        cause: Cause::Broken(Arc::new(error.into())),
    })?;
    if payload.len() > MAX_PAYLOAD {
        return Err(AgentError::TooLarge {
            host: host.to_owned(),
            request: request.verb(),
            size: payload.len(),
        });
    }
    Ok(payload.into())
}

fn tell(report: &[u8], progress: &mut impl FnMut(Progress)) {
    // A step that this version does not know is no reason to fail what it reports on.
    if let Ok(report) = serde_json::from_slice(report) {
        progress(report);
    }
}
