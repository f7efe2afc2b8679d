//! What one connection does during a download.

use super::file::OpenFile;
use super::job::Job;
use super::queue::Piece;
use super::session::Session;
use super::upload::blocking;
use super::{Sftp, TransferError, download::Run};
use farrun_protocol::manifest::BLOCK;
use russh_sftp::protocol::OpenFlags;
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
    session: Arc<Session>,
    files: Mutex<HashMap<usize, Weak<OnceCell<OpenFile>>>>,
    broken: Mutex<Option<TransferError>>,
}

/// Fetches blocks until there are none left or the connection breaks; then returns why it broke.
pub(super) async fn run_lane(run: Arc<Run>, sftp: Sftp) -> Option<TransferError> {
    let lane = Arc::new(Lane {
        session: sftp.session,
        files: Mutex::default(),
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
        let Some(piece) = run.queue.take().await else {
            break;
        };
        let needed = units(piece.job.wanted.block_length(piece.block));
        let Some(memory) = memory.split(needed as usize) else {
            break;
        };
        let (run, lane) = (Arc::clone(&run), Arc::clone(&lane));
        tasks.spawn(async move {
            lane.deal_with(&run, piece, memory).await;
            drop(turn);
        });
    }
    while tasks.join_next().await.is_some() {}
    lane.lock_broken().take()
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(1)
}

impl Lane {
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
        blocking(path, move || {
            let complete = job.accept(block, &content);
            drop((content, memory));
            complete
        })
        .await
    }

    async fn open(&self, job: &Job) -> Result<OpenFile, TransferError> {
        OpenFile::open(&self.session, &job.wanted.remote, OpenFlags::READ, None).await
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
