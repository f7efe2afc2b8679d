//! One SFTP stream: requests out, answers matched to them, silence noticed.

use super::TransferError;
use super::buffers::Buffers;
use super::window::{Slot, Window};
use super::wire::{self, Answer, Failure, PacketReader};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Open files per session. OpenSSH allows more, but other connections of the account share its limit.
const OPEN_FILES: usize = 64;

/// How long a host may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// For the first answer of all.
    pub handshake: Duration,
    /// Between two arrivals of bytes, in either direction, while answers are due.
    pub silence: Duration,
    /// The same while the host writes a file to its disk.
    pub sync: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(20),
            silence: Duration::from_secs(24),
            sync: Duration::from_secs(120),
        }
    }
}

/// What is kept until a request's answer has come, and then set free.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) slot: Option<Slot>,
    pub(super) open: Option<OwnedSemaphorePermit>,
    pub(super) patient: bool,
}

#[derive(Debug)]
struct Pending {
    sender: oneshot::Sender<Result<Answer, Failure>>,
    sent: Instant,
    held: Held,
}

#[derive(Debug, Default)]
struct Requests {
    pending: HashMap<Option<u32>, Pending>,
    dead: Option<Failure>,
}

#[derive(Debug)]
struct Shared {
    requests: Mutex<Requests>,
    began: Instant,
    alive_ms: AtomicU64,
}

/// The answer to one request, when it comes.
#[derive(Debug)]
pub(super) struct Reply(oneshot::Receiver<Result<Answer, Failure>>);

impl Reply {
    pub(super) async fn answer(self) -> Result<Answer, Failure> {
        self.0
            .await
            .unwrap_or_else(|_| Err(Failure::Lost("it was given up".into())))
    }
}

/// What a host's SFTP server can do beyond the third version of the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offers {
    pub(super) posix_rename: bool,
    pub(super) sync: bool,
    pub(super) read_length: u32,
    pub(super) write_length: u32,
}

impl Default for Offers {
    fn default() -> Self {
        // What every server must serve.
        Self {
            posix_rename: false,
            sync: false,
            read_length: 32 * 1024,
            write_length: 32 * 1024,
        }
    }
}

/// A running session. Ends when dropped.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) host: String,
    pub(super) reads: Arc<Window>,
    pub(super) writes: Arc<Window>,
    pub(super) opens: Arc<Semaphore>,
    /// Held while the reads of one block are sent, so that blocks complete one after the other and a cut
    /// leaves at most one of them half read.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// What the host offers; set once, after the first answers.
    pub(super) offers: OnceLock<Offers>,
    /// What answers are read into.
    pub(super) buffers: Arc<Buffers>,
    shared: Arc<Shared>,
    outgoing: mpsc::UnboundedSender<Bytes>,
    next_id: AtomicU32,
    task: tokio::task::AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    pub(super) fn start<S>(stream: S, host: &str, timing: Timing) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            began: Instant::now(),
            alive_ms: AtomicU64::new(0),
        });
        let (outgoing, queue) = mpsc::unbounded_channel();
        let buffers = Arc::<Buffers>::default();
        let (reader, writer) = tokio::io::split(stream);
        let packets = PacketReader::new(reader, Arc::clone(&buffers));
        let task = tokio::spawn(run(packets, writer, queue, Arc::clone(&shared), timing)).abort_handle();
        Self {
            host: host.to_owned(),
            reads: Window::new(16, 128),
            writes: Window::new(64, 64),
            opens: Arc::new(Semaphore::new(OPEN_FILES)),
            turn: tokio::sync::Mutex::new(()),
            offers: OnceLock::new(),
            buffers,
            shared,
            outgoing,
            next_id: AtomicU32::new(1),
            task,
        }
    }

    /// Sends the one request that has no id.
    pub(super) fn send_first(&self, packet: Bytes) -> Reply {
        self.enqueue(None, packet, Held::default())
    }

    /// Sends what `build` makes for a fresh id.
    pub(super) fn send(&self, held: Held, build: impl FnOnce(u32) -> Bytes) -> Reply {
        let id = self.next_id.fetch_add(1, Relaxed);
        self.enqueue(Some(id), build(id), held)
    }

    fn enqueue(&self, id: Option<u32>, packet: Bytes, held: Held) -> Reply {
        let (sender, receiver) = oneshot::channel();
        let mut requests = self.shared.lock();
        let failed = match &requests.dead {
            Some(failure) => Some(failure.clone()),
            None if requests.pending.contains_key(&id) => Some(Failure::Protocol("no free id".into())),
            None => None,
        };
        if let Some(failure) = failed {
            let _ = sender.send(Err(failure));
            return Reply(receiver);
        }
        if requests.pending.is_empty() {
            self.shared.alive();
        }
        requests.pending.insert(
            id,
            Pending {
                sender,
                sent: Instant::now(),
                held,
            },
        );
        drop(requests);
        // A closed queue means that the task has ended; then it fails the request just entered.
        if self.outgoing.send(packet).is_err() {
            self.shared.fail(Failure::Lost("it was closed".into()));
        }
        Reply(receiver)
    }

    /// What the host offers.
    pub(super) fn offers(&self) -> Offers {
        self.offers.get().copied().unwrap_or_default()
    }

    /// Bytes of content to ask for at once.
    pub(super) fn read_length(&self) -> u32 {
        self.offers().read_length
    }

    /// The error that a broken stream means to the caller.
    pub(super) fn broken(&self, failure: Failure) -> TransferError {
        let host = self.host.clone();
        match failure {
            Failure::Lost(detail) => TransferError::ConnectionLost { host, detail },
            Failure::Stalled(seconds) => TransferError::Stalled { host, seconds },
            Failure::Protocol(detail) => TransferError::Protocol { host, detail },
        }
    }

    /// Waits for an answer about `path` and turns every refusal into an error.
    pub(super) async fn answer(&self, reply: Reply, path: &str) -> Result<Answer, TransferError> {
        let answer = reply.answer().await.map_err(|failure| self.broken(failure))?;
        let (host, path) = (self.host.clone(), path.to_owned());
        match answer {
            Answer::Status { code: 0, .. } => Ok(answer),
            Answer::Status { code: 2, .. } => Err(TransferError::NotFound { host, path }),
            Answer::Status { code: 3, .. } => Err(TransferError::PermissionDenied { host, path }),
            Answer::Status { code: 1, .. } => Err(TransferError::ChangedWhileReading { host, path }),
            Answer::Status { message, .. } => {
                let detail = message.chars().take(500).collect();
                Err(TransferError::Refused { host, path, detail })
            }
            other => Ok(other),
        }
    }

    /// Waits for an answer that must be a plain "done".
    pub(super) async fn done(&self, reply: Reply, path: &str) -> Result<(), TransferError> {
        match self.answer(reply, path).await? {
            Answer::Status { .. } => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// The host answered with the wrong kind of packet.
    pub(super) fn unexpected(&self) -> TransferError {
        self.violated("an answer of the wrong kind")
    }

    /// Gives the connection up, because what came over it cannot be trusted any more.
    pub(super) fn violated(&self, detail: &str) -> TransferError {
        let failure = Failure::Protocol(detail.to_owned());
        self.shared.fail(failure.clone());
        self.task.abort();
        self.broken(failure)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.alive_ms.store(now, Relaxed);
    }

    fn fail(&self, failure: Failure) {
        let mut requests = self.lock();
        let failure = requests.dead.get_or_insert(failure).clone();
        for (_, pending) in requests.pending.drain() {
            let _ = pending.sender.send(Err(failure.clone()));
        }
    }

    fn deliver(&self, id: Option<u32>, answer: Answer) -> Result<(), Failure> {
        let found = self.lock().pending.remove(&id);
        let Some(Pending { sender, sent, held }) = found else {
            return Err(Failure::Protocol(
                "an answer to a question that was not asked".into(),
            ));
        };
        if let Some(slot) = held.slot {
            slot.answered(sent.elapsed());
        }
        drop(held.open);
        // The asker may have gone; its answer is of no interest then.
        let _ = sender.send(Ok(answer));
        Ok(())
    }
}

async fn run<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    packets: PacketReader<R>,
    writer: W,
    queue: mpsc::UnboundedReceiver<Bytes>,
    shared: Arc<Shared>,
    timing: Timing,
) {
    let failure = tokio::select! {
        failure = receive(packets, &shared) => failure,
        failure = transmit(writer, queue, &shared) => failure,
        failure = watch(&shared, timing) => failure,
    };
    shared.fail(failure);
}

async fn receive<R: AsyncRead + Unpin>(mut packets: PacketReader<R>, shared: &Shared) -> Failure {
    if let Err(failure) = packets.skip_noise(|| shared.alive()).await {
        return failure;
    }
    loop {
        let delivered = match packets.next(|| shared.alive()).await {
            Ok(packet) => wire::decode(packet).and_then(|(id, answer)| shared.deliver(id, answer)),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = delivered {
            return failure;
        }
    }
}

async fn transmit<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    shared: &Shared,
) -> Failure {
    while let Some(first) = queue.recv().await {
        let mut batch = bytes::BytesMut::new();
        let mut next = Some(first);
        while let Some(packet) = next.take() {
            if packet.len() < 4096 && batch.len() < 32 * 1024 {
                // Small requests travel together: one system call and one SSH packet for many of them.
                batch.extend_from_slice(&packet);
                next = queue.try_recv().ok();
                continue;
            }
            for part in [batch.split().freeze(), packet] {
                if let Err(error) = write_out(&mut writer, part, shared).await {
                    return Failure::Lost(error.to_string());
                }
            }
            next = queue.try_recv().ok();
        }
        let written = match write_out(&mut writer, batch.freeze(), shared).await {
            Ok(()) => writer.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return Failure::Lost(error.to_string());
        }
    }
    Failure::Lost("the session was ended".into())
}

async fn write_out<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut bytes: Bytes,
    shared: &Shared,
) -> std::io::Result<()> {
    while !bytes.is_empty() {
        if writer.write_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        shared.alive();
    }
    Ok(())
}

async fn watch(shared: &Shared, timing: Timing) -> Failure {
    let mut tick = tokio::time::interval((timing.silence / 8).max(Duration::from_millis(5)));
    loop {
        tick.tick().await;
        let limit = {
            let requests = shared.lock();
            if requests.pending.is_empty() {
                continue;
            }
            match requests.pending.values().any(|pending| pending.held.patient) {
                true => timing.sync,
                false => timing.silence,
            }
        };
        let alive = Duration::from_millis(shared.alive_ms.load(Relaxed));
        if shared.began.elapsed().saturating_sub(alive) > limit {
            return Failure::Stalled(limit.as_secs());
        }
    }
}
