//! Sends local files over one or several connections.

use super::growth::{self, More};
use super::outgoing::{Block, Outgoing, Source};
use super::sending::run_lane;
use super::{Progress, Sftp, TransferError};
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Files whose marks are read at the same time.
const LOOKED_AT: usize = 16;

/// An upload over one or several connections to one host.
pub struct Upload {
    first: Sftp,
    further: Further,
}

/// Where further connections come from.
enum Further {
    None,
    /// They join as they come.
    Coming(BoxStream<'static, Sftp>),
    /// They are asked for while each makes the whole faster.
    Growing(More),
}

/// What an upload tells about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A piece of the file with this index is on the host, and its marks with it.
    Begun(usize),
    /// All of it is.
    Arrived(usize),
}

/// What all connections of one upload share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) progress: Progress,
    queue: Mutex<VecDeque<Block>>,
    /// Told when the queue or the number of files changes.
    changed: Notify,
    files_left: AtomicUsize,
    error: Mutex<Option<TransferError>>,
    told: mpsc::UnboundedSender<Told>,
}

impl Upload {
    /// Over one connection.
    pub fn new(first: Sftp) -> Self {
        Self {
            first,
            further: Further::None,
        }
    }

    /// The same, joined by further connections as they come.
    #[must_use]
    pub fn joined_by(self, coming: BoxStream<'static, Sftp>) -> Self {
        let further = Further::Coming(coming);
        Self { further, ..self }
    }

    /// The same, asking for further connections while each makes the whole faster, up to four.
    #[must_use]
    pub fn growing(self, more: More) -> Self {
        let further = Further::Growing(more);
        Self { further, ..self }
    }

    /// Sends files, and tells what becomes of each; whether it is the right content, and on its disk, is for the host to
    /// say. Answers with the bytes that were sent.
    ///
    /// # Errors
    /// The first that is no connection's, or that of the last connection. What was confirmed until then is marked, and
    /// the next upload of the file goes on from there.
    pub async fn send(
        self,
        files: &[Outgoing],
        progress: &Progress,
        told: mpsc::UnboundedSender<Told>,
    ) -> Result<u64, TransferError> {
        let run = Arc::new(Run {
            progress: progress.clone(),
            queue: Mutex::default(),
            changed: Notify::new(),
            files_left: AtomicUsize::new(files.len()),
            error: Mutex::default(),
            told,
        });
        let first = &self.first;
        let mut looked_at = futures_util::stream::iter(files.iter().enumerate())
            .map(|(index, wanted)| look_at(first, index, wanted))
            .buffered(LOOKED_AT);
        let (mut bytes, mut kept) = (0_u64, 0_u64);
        let mut blocks = VecDeque::new();
        while let Some((source, marks)) = looked_at.try_next().await? {
            let (cut, there) = source.blocks(&marks);
            progress.expect(1, source.size());
            progress.moved(there);
            (bytes, kept) = (bytes.saturating_add(source.size()), kept.saturating_add(there));
            blocks.extend(cut);
        }
        drop(looked_at);
        *run.lock_queue() = blocks;
        let already = progress.bytes_done();
        let broken = self.run_lanes(&run, bytes - kept, already).await;
        if let Some(error) = run.lock_error().take() {
            return Err(error);
        }
        match broken {
            Some(error) if run.files_left.load(Relaxed) > 0 => Err(error),
            _ => Ok(bytes - kept),
        }
    }

    /// Runs every connection to its end; answers why the last of them broke, if one did.
    async fn run_lanes(self, run: &Arc<Run>, bytes: u64, already: u64) -> Option<TransferError> {
        let sent = AtomicU64::new(0);
        let fetched = || {
            sent.store(run.progress.bytes_done().saturating_sub(already), Relaxed);
            sent.load(Relaxed)
        };
        let more = match &self.further {
            Further::Growing(more) => Some(more.clone()),
            _ => None,
        };
        let coming = match self.further {
            Further::Coming(coming) => coming,
            _ => futures_util::stream::empty().boxed(),
        };
        let growing = growth::joining(more.as_ref(), bytes, self.first.is_far(), &fetched);
        let mut joining = std::pin::pin!(futures_util::stream::select(coming, growing));
        let mut running = FuturesUnordered::from_iter([run_lane(Arc::clone(run), self.first)]);
        let (mut broken, mut joins) = (None, true);
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(ended) => broken = ended.or(broken),
                    None => return broken,
                },
                joined = joining.next(), if joins => match joined {
                    Some(lane) => running.push(run_lane(Arc::clone(run), lane)),
                    None => joins = false,
                },
            }
        }
    }
}

/// Opens a file and reads the marks of an earlier upload.
async fn look_at(
    sftp: &Sftp,
    index: usize,
    wanted: &Outgoing,
) -> Result<(Arc<Source>, Vec<u8>), TransferError> {
    let opening = wanted.clone();
    let source = blocking(&wanted.local, move || Source::open(index, &opening)).await?;
    let marks = match wanted.begun && source.is_marked() {
        true => sftp.read_small(&wanted.marks, source.piece_count()).await,
        false => Ok(Vec::new()),
    };
    match marks {
        Ok(marks) => Ok((Arc::new(source), marks)),
        Err(error) if error.is_connection() => Err(error),
        // Marks that cannot be read only cost sending the file again.
        Err(_) => Ok((Arc::new(source), Vec::new())),
    }
}

impl Run {
    /// The next block, once there is one; none when there is nothing left to do.
    pub(super) async fn take(&self) -> Option<Block> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock_error().is_some() || self.files_left.load(Relaxed) == 0 {
                return None;
            }
            if let Some(block) = self.lock_queue().pop_front() {
                return Some(block);
            }
            changed.await;
        }
    }

    /// A block that its connection could not bring to its end; marked pieces are sent again.
    pub(super) fn give_back(&self, block: Block) {
        self.lock_queue().push_front(block);
        self.changed.notify_waiters();
    }

    /// A piece of a file is on the host. Whoever asked may no longer listen.
    pub(super) fn begun(&self, index: usize) {
        let _ = self.told.send(Told::Begun(index));
    }

    /// All of a file is on the host.
    pub(super) fn arrived(&self, index: usize) {
        self.progress.finished_file();
        let _ = self.told.send(Told::Arrived(index));
        self.files_left.fetch_sub(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// Ends the upload; the first error is the one that is told.
    pub(super) fn fail(&self, error: TransferError) {
        self.lock_error().get_or_insert(error);
        self.changed.notify_waiters();
    }

    fn lock_queue(&self) -> MutexGuard<'_, VecDeque<Block>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_error(&self) -> MutexGuard<'_, Option<TransferError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` where waiting for a disk holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(TransferError::local(path, std::io::Error::other(error))))
}
