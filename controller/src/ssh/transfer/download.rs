//! Downloads many files over one or several connections.

use super::commit::commit_all;
use super::destination::Destination;
use super::growth::{self, More};
use super::job::{Job, Prepared};
use super::lane::{UNIT, run_lane};
use super::queue::Queue;
use super::upload::blocking;
use super::wanted::check;
use super::{Progress, Sftp, TransferError, Wanted};
use farrun_protocol::manifest::BLOCK;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Files that are looked at or fetched at the same time.
const FILES_AHEAD: usize = 8192;
/// The same for files of several blocks; each may hold an open part.
const LARGE_AHEAD: usize = 16;
/// Small files that one visit to another thread looks at.
const BATCH: usize = 32;
/// Threads that look at the local disk.
const LOOKING: usize = 4;
/// Freed memory that the allocator is to keep for the next packets; twice this is where glibc begins to give it back, for
/// each of several threads.
const KEPT_FREE: usize = 4 * 1024 * 1024;

/// How a download is done.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// Bytes of content that may be in memory at once, at least 8 MiB.
    pub memory: u64,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            memory: 32 * 1024 * 1024,
        }
    }
}

/// What a download that succeeded did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Files that were fetched, in whole or in part.
    pub files_fetched: u64,
    /// Files that were in place with the right content.
    pub files_present: u64,
    /// Bytes that came from the host.
    pub bytes_fetched: u64,
    /// Bytes that were here and verified, of present files and of parts.
    pub bytes_kept: u64,
}

/// A download over several connections to one host.
#[derive(Debug)]
pub struct Transfer {
    lanes: Vec<Sftp>,
    more: Option<More>,
}

/// What all parts of one download share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) destination: Arc<Destination>,
    pub(super) queue: Queue,
    pub(super) memory: Arc<Semaphore>,
    pub(super) progress: Progress,
    ahead: Arc<Semaphore>,
    large: Arc<Semaphore>,
    verified: Mutex<Option<mpsc::Sender<Arc<Job>>>>,
    errors: Mutex<Vec<(usize, TransferError)>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    files_fetched: AtomicU64,
    files_present: AtomicU64,
    bytes_fetched: AtomicU64,
    bytes_kept: AtomicU64,
}

impl Transfer {
    /// Spreads over `lanes`, each of a connection of its own.
    pub fn new(lanes: Vec<Sftp>) -> Self {
        Self { lanes, more: None }
    }

    /// Begins with one connection and asks for further ones while each makes the whole faster, up to four.
    pub fn growing(first: Sftp, more: More) -> Self {
        Self {
            lanes: vec![first],
            more: Some(more),
        }
    }

    /// Fetches `wanted` below `destination`. A file has its final name only once it is verified. A file that
    /// fails does not keep the others from coming; its error is returned when they are done. What a cut or a
    /// full disk interrupts goes on where it was at the next call.
    pub async fn download(
        &self,
        wanted: &[Wanted],
        destination: &Path,
        progress: &Progress,
        options: &DownloadOptions,
    ) -> Result<Report, TransferError> {
        check(wanted)?;
        keep_freed_memory();
        let bytes = wanted
            .iter()
            .fold(0_u64, |sum, file| sum.saturating_add(file.size));
        progress.expect(wanted.len() as u64, bytes);
        let path = destination.to_path_buf();
        let opened = blocking(destination, move || Destination::open(&path)).await?;
        opened.check_space(wanted, bytes)?;
        let (sender, receiver) = mpsc::channel();
        let run = Arc::new(Run::new(opened, progress.clone(), options, sender));
        // If this future is dropped, the threads that look at files and the committer end by themselves.
        let _end = StopOnDrop(Arc::clone(&run));
        let committing = Arc::clone(&run);
        let committer = tokio::task::spawn_blocking(move || {
            commit_all(&committing.destination, &receiver, |job, result| {
                committing.placed(job, result)
            });
        });
        let host = self
            .lanes
            .first()
            .map(|lane| lane.session.host.clone())
            .unwrap_or_default();
        let fetch = async {
            let broken = self.run_lanes(&run, bytes).await;
            run.stop();
            broken
        };
        let (_, broken) = tokio::join!(look_at_all(&run, wanted, &host), fetch);
        run.no_more_verified();
        let committed = committer
            .await
            .map_err(|error| TransferError::local(destination, std::io::Error::other(error)));
        committed?;
        run.result(broken, wanted.len())
    }

    /// Runs every connection to its end; each says why it broke, if it did.
    async fn run_lanes(&self, run: &Arc<Run>, bytes: u64) -> Vec<Option<TransferError>> {
        let lanes = self
            .lanes
            .iter()
            .cloned()
            .map(|lane| run_lane(Arc::clone(run), lane));
        let mut running: FuturesUnordered<_> = lanes.collect();
        let fetched = || {
            run.progress
                .bytes_done()
                .saturating_sub(run.counts.bytes_kept.load(Relaxed))
        };
        let is_far = self.lanes.first().is_some_and(Sftp::is_far);
        let mut joining = std::pin::pin!(growth::joining(self.more.as_ref(), bytes, is_far, &fetched));
        let (mut broken, mut grows) = (Vec::new(), self.more.is_some());
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(ended) => broken.push(ended),
                    None => return broken,
                },
                joined = joining.next(), if grows => match joined {
                    Some(lane) => running.push(run_lane(Arc::clone(run), lane)),
                    None => grows = false,
                },
            }
        }
    }
}

impl Run {
    fn new(
        destination: Destination,
        progress: Progress,
        options: &DownloadOptions,
        verified: mpsc::Sender<Arc<Job>>,
    ) -> Self {
        let memory = usize::try_from(options.memory.max(2 * BLOCK) / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            destination: Arc::new(destination),
            queue: Queue::default(),
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
            progress,
            ahead: Arc::new(Semaphore::new(FILES_AHEAD)),
            large: Arc::new(Semaphore::new(LARGE_AHEAD)),
            verified: Mutex::new(Some(verified)),
            errors: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// A file is complete and waits for its name.
    pub(super) fn verified(&self, job: Arc<Job>) {
        let sender = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref() {
            let _ = sender.send(job);
        }
    }

    /// A file will not come; if the local disk is why, nor will the others.
    pub(super) fn failed(&self, job: &Job, error: TransferError) {
        let local = error.is_local();
        if local {
            self.stop();
        }
        if job.fail() || local {
            let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
            errors.push((job.index, error));
        }
    }

    pub(super) fn count_fetched(&self, bytes: u64) {
        self.counts.bytes_fetched.fetch_add(bytes, Relaxed);
    }

    fn kept(&self, bytes: u64) {
        self.counts.bytes_kept.fetch_add(bytes, Relaxed);
        self.progress.moved(bytes);
    }

    fn placed(&self, job: &Job, result: Result<(), TransferError>) {
        match result {
            Ok(()) => {
                self.counts.files_fetched.fetch_add(1, Relaxed);
                self.progress.finished_file();
            }
            Err(error) => self.failed(job, error),
        }
    }

    fn stop(&self) {
        self.queue.stop();
        self.ahead.close();
        self.large.close();
    }

    fn no_more_verified(&self) {
        self.verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn result(&self, broken: Vec<Option<TransferError>>, files: usize) -> Result<Report, TransferError> {
        let mut errors = std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner));
        errors.sort_by_key(|(index, error)| (!error.is_local(), *index));
        let counts = &self.counts;
        let report = Report {
            files_fetched: counts.files_fetched.load(Relaxed),
            files_present: counts.files_present.load(Relaxed),
            bytes_fetched: counts.bytes_fetched.load(Relaxed),
            bytes_kept: counts.bytes_kept.load(Relaxed),
        };
        // A broken connection explains more than the files that it kept from coming.
        let all_here = report.files_fetched + report.files_present == files as u64;
        let local = errors.first().is_some_and(|(_, error)| error.is_local());
        if !all_here
            && !local
            && let Some(error) = broken.into_iter().flatten().next()
        {
            return Err(error);
        }
        if let Some((_, error)) = errors.into_iter().next() {
            return Err(error);
        }
        if !all_here {
            let error = std::io::Error::other("the download ended early");
            return Err(TransferError::local(self.destination.folder.path(), error));
        }
        self.destination.clear();
        Ok(report)
    }
}

/// Packets of the connection come and go, and glibc gives their memory back to the kernel at once unless it has seen larger
/// pieces go; it would be mapped and zeroed anew. Nothing is touched here, so it costs no memory.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_FREE)));
}

struct StopOnDrop(Arc<Run>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
        self.0.no_more_verified();
    }
}

/// Looks what is here of each file, in order and a little ahead of the connections.
async fn look_at_all(run: &Arc<Run>, wanted: &[Wanted], host: &str) {
    let mut looking = JoinSet::new();
    let mut batch = Vec::new();
    for (index, file) in wanted.iter().enumerate() {
        let large = file.block_count() > 1;
        let Some(turns) = turns(run, large, &mut batch, &mut looking).await else {
            break;
        };
        let job = Job::new(
            index,
            file.clone(),
            host.to_owned(),
            Arc::clone(&run.destination),
            turns,
        );
        batch.push(Arc::new(job));
        if large || batch.len() >= BATCH {
            look(run, &mut batch, &mut looking).await;
        }
    }
    look(run, &mut batch, &mut looking).await;
    while looking.join_next().await.is_some() {}
    run.queue.complete();
}

/// Waits until another file may be looked at; a batch that is held back meanwhile is sent on first.
async fn turns(
    run: &Arc<Run>,
    large: bool,
    batch: &mut Vec<Arc<Job>>,
    looking: &mut JoinSet<()>,
) -> Option<Vec<OwnedSemaphorePermit>> {
    let mut turns = Vec::with_capacity(2);
    for semaphore in [Some(&run.ahead), large.then_some(&run.large)]
        .into_iter()
        .flatten()
    {
        if semaphore.available_permits() == 0 || large {
            look(run, batch, looking).await;
        }
        turns.push(Arc::clone(semaphore).acquire_owned().await.ok()?);
    }
    Some(turns)
}

async fn look(run: &Arc<Run>, batch: &mut Vec<Arc<Job>>, looking: &mut JoinSet<()>) {
    if batch.is_empty() {
        return;
    }
    while looking.len() >= LOOKING {
        looking.join_next().await;
    }
    let (run, batch) = (Arc::clone(run), std::mem::take(batch));
    looking.spawn_blocking(move || {
        let mut missing = Vec::with_capacity(batch.len());
        for job in batch {
            match job.prepare() {
                Ok(prepared) => missing.extend(take_in(&run, &job, prepared).map(|blocks| (job, blocks))),
                Err(error) => run.failed(&job, error),
            }
        }
        // All at once, so that neighbours in a pack stay neighbours while other threads do the same.
        run.queue.push(missing);
    });
}

/// Answers with the blocks that have to be fetched.
fn take_in(run: &Run, job: &Arc<Job>, prepared: Prepared) -> Option<Vec<u64>> {
    match prepared {
        Prepared::Present => {
            run.kept(job.wanted.size);
            run.counts.files_present.fetch_add(1, Relaxed);
            run.progress.finished_file();
            None
        }
        Prepared::Verified => {
            run.kept(job.wanted.size);
            run.verified(Arc::clone(job));
            None
        }
        Prepared::Missing(blocks) => {
            let missing: u64 = blocks.iter().map(|block| job.wanted.block_length(*block)).sum();
            run.kept(job.wanted.size - missing);
            Some(blocks)
        }
    }
}
