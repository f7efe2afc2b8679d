//! What one connection does during a download.

use super::file::OpenFile;
use super::job::Job;
use super::queue::Piece;
use super::upload::blocking;
use super::{Packed, Sftp, TransferError, download::Run};
use bytes::{Bytes, BytesMut};
use farrun_protocol::manifest::BLOCK;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Blocks under way on one connection; as many as files may be open.
const AT_ONCE: usize = 64;
/// Memory is counted in pages.
pub(super) const UNIT: u64 = 4096;

/// One connection and the files that are open on it.
#[derive(Debug)]
struct Lane {
    sftp: Sftp,
    files: Mutex<HashMap<usize, Weak<OnceCell<OpenFile>>>>,
    /// The pack, of which a host has one per run; it stays open until the lane ends.
    pack: OnceCell<OpenFile>,
    broken: Mutex<Option<TransferError>>,
}

/// Fetches blocks until there are none left or the connection breaks; then returns why it broke.
pub(super) async fn run_lane(run: Arc<Run>, sftp: Sftp) -> Option<TransferError> {
    let lane = Arc::new(Lane {
        sftp,
        files: Mutex::default(),
        pack: OnceCell::new(),
        broken: Mutex::default(),
    });
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(turn) = Arc::clone(&at_once).acquire_owned().await else {
            break;
        };
        // Memory is taken before the block, so that whoever has an early block never waits for later ones.
        let Ok(mut memory) = Arc::clone(&run.memory).acquire_many_owned(units(BLOCK)).await else {
            break;
        };
        if lane.lock_broken().is_some() {
            break;
        }
        let Some(pieces) = run.queue.take().await else {
            break;
        };
        let bytes = pieces
            .iter()
            .map(|piece| piece.job.wanted.block_length(piece.block))
            .sum::<u64>();
        // What comes out of a pack is in memory twice for a moment.
        let needed = units(if pieces.len() > 1 {
            (2 * bytes).min(BLOCK)
        } else {
            bytes
        });
        let Some(memory) = memory.split(needed as usize) else {
            break;
        };
        let (run, lane) = (Arc::clone(&run), Arc::clone(&lane));
        tasks.spawn(async move {
            lane.deal_with_all(&run, pieces, memory).await;
            drop(turn);
        });
    }
    while tasks.join_next().await.is_some() {}
    lane.lock_broken().take()
}

/// Cuts the files out of what was read of a pack from `start` on, and answers with those that are not in it.
async fn accept_packed(
    run: &Arc<Run>,
    start: u64,
    content: Bytes,
    pieces: Vec<Piece>,
    memory: OwnedSemaphorePermit,
) -> Vec<Piece> {
    let accepting = Arc::clone(run);
    let accepted = tokio::task::spawn_blocking(move || {
        let mut rejected = Vec::new();
        for piece in pieces {
            if !accept_one(&accepting, start, &content, &piece.job) {
                rejected.push(piece);
            } else {
                accepting.queue.done();
            }
        }
        drop(memory);
        rejected
    });
    accepted.await.unwrap_or_else(|_| {
        // Nobody knows what became of its files; without this the others would be waited for without end.
        run.queue.stop();
        Vec::new()
    })
}

/// False when the pack does not hold the file as it was announced.
fn accept_one(run: &Run, start: u64, content: &Bytes, job: &Arc<Job>) -> bool {
    let size = job.wanted.size;
    let place = job
        .packed()
        .and_then(|packed| usize::try_from(packed.at.checked_sub(start)?).ok());
    let end = place
        .zip(usize::try_from(size).ok())
        .and_then(|(place, size)| place.checked_add(size));
    let Some((place, end)) = place.zip(end).filter(|(_, end)| *end <= content.len()) else {
        return false;
    };
    if job.has_failed() {
        return true;
    }
    match job.accept(0, &[content.slice(place..end)]) {
        Ok(_) => {
            run.count_fetched(size);
            run.progress.moved(size);
            run.verified(Arc::clone(job));
            true
        }
        Err(TransferError::ChangedWhileReading { .. }) => false,
        Err(error) => {
            run.failed(job, error);
            true
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(1)
}

impl Lane {
    async fn deal_with_all(&self, run: &Arc<Run>, pieces: Vec<Piece>, memory: OwnedSemaphorePermit) {
        let mut pieces = pieces.into_iter();
        let Some(first) = pieces.next() else { return };
        match first.job.packed().cloned() {
            Some(packed) => {
                self.deal_with_packed(run, &packed, [first].into_iter().chain(pieces).collect(), memory)
                    .await
            }
            None => self.deal_with(run, first, memory).await,
        }
    }

    /// Reads neighbours in a pack at once. Whatever is wrong with the pack, the files themselves are fetched then.
    async fn deal_with_packed(
        &self,
        run: &Arc<Run>,
        packed: &Packed,
        pieces: Vec<Piece>,
        memory: OwnedSemaphorePermit,
    ) {
        let read = self.read_pack(packed, &pieces).await;
        let rejected = match read {
            Ok(content) => accept_packed(run, packed.at, content, pieces, memory).await,
            Err(error) if error.is_connection() => {
                self.lock_broken().get_or_insert(error);
                pieces.into_iter().for_each(|piece| run.queue.give_back(piece));
                return;
            }
            Err(_) => pieces,
        };
        for piece in rejected {
            piece.job.unpack();
            run.queue.give_back(piece);
        }
    }

    async fn read_pack(&self, packed: &Packed, pieces: &[Piece]) -> Result<Bytes, TransferError> {
        let end = pieces
            .last()
            .and_then(|piece| piece.job.packed_in(&packed.pack))
            .map_or(packed.at, |range| range.end);
        let file = self.pack.get_or_try_init(|| self.sftp.open(&packed.pack));
        let content = file
            .await?
            .read_range(packed.at, end.saturating_sub(packed.at), |_| {})
            .await?;
        let mut whole = BytesMut::with_capacity(content.iter().map(Bytes::len).sum());
        content.iter().for_each(|part| whole.extend_from_slice(part));
        Ok(whole.freeze())
    }

    async fn deal_with(&self, run: &Arc<Run>, piece: Piece, memory: OwnedSemaphorePermit) {
        if piece.job.has_failed() {
            return run.queue.done();
        }
        match self.fetch(run, &piece, memory).await {
            Ok(complete) => {
                if complete {
                    run.verified(Arc::clone(&piece.job));
                }
                run.queue.done();
            }
            Err(error) if error.is_connection() => {
                self.lock_broken().get_or_insert(error);
                run.queue.give_back(piece);
            }
            Err(error) => {
                run.failed(&piece.job, error);
                run.queue.done();
            }
        }
    }

    async fn fetch(
        &self,
        run: &Arc<Run>,
        piece: &Piece,
        memory: OwnedSemaphorePermit,
    ) -> Result<bool, TransferError> {
        let (job, block) = (Arc::clone(&piece.job), piece.block);
        let file = self.file(&job);
        let file = file.get_or_try_init(|| self.open(&job)).await?;
        let length = job.wanted.block_length(block);
        let content = file
            .read_range(block * BLOCK, length, |bytes| run.progress.moved(bytes))
            .await?;
        run.count_fetched(length);
        let path = run.destination.folder.path();
        let buffers = Arc::clone(&self.sftp.session.buffers);
        blocking(path, move || {
            let complete = job.accept(block, &content)?;
            buffers.give_back(content);
            drop(memory);
            if !complete {
                job.begin_writeback(block);
            }
            Ok(complete)
        })
        .await
    }

    async fn open(&self, job: &Job) -> Result<OpenFile, TransferError> {
        self.sftp.open(&job.wanted.remote()).await
    }

    /// The open file of a job; it closes when its last block is through.
    fn file(&self, job: &Job) -> Arc<OnceCell<OpenFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = files.get(&job.index).and_then(Weak::upgrade) {
            return open;
        }
        if files.len() >= 4 * AT_ONCE {
            files.retain(|_, file| file.strong_count() > 0);
        }
        let file = Arc::new(OnceCell::new());
        files.insert(job.index, Arc::downgrade(&file));
        file
    }

    fn lock_broken(&self) -> std::sync::MutexGuard<'_, Option<TransferError>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
