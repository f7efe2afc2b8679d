//! What one connection does during an upload.

use super::file::OpenFile;
use super::outgoing::{BLOCK, Block, Source};
use super::session::{Reply, Session};
use super::upload::{Run, blocking};
use super::{Sftp, TransferError};
use bytes::BufMut as _;
use russh_sftp::protocol::OpenFlags;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinError, JoinSet};

/// Blocks that one connection works on: while one is sent, the answers to the one before it are on their way, and the
/// file of the one after it is opened.
const AT_ONCE: usize = 3;
/// Bytes that one connection has on the way. A little more than the window that an OpenSSH server opens, so that it is
/// always full, and so little that a cut costs less than a block.
const ON_THE_WAY: usize = 2304 * 1024;
/// Those bytes are counted in units.
const UNIT: u32 = 1024;

/// A write on its way, and the room it takes there.
type Sent = (Reply, Option<OwnedSemaphorePermit>);

const _: () = assert!((ON_THE_WAY as u64) < BLOCK);

/// The two files of an upload as one connection has them open.
#[derive(Debug)]
struct Target {
    content: OpenFile,
    marks: Option<OpenFile>,
}

/// A block's place in the order in which they are sent.
struct Turn {
    before: oneshot::Receiver<()>,
    is_sent: oneshot::Sender<()>,
}

/// One connection and what is open on it.
#[derive(Debug)]
struct Lane {
    session: Arc<Session>,
    targets: Mutex<HashMap<usize, Weak<OnceCell<Arc<Target>>>>>,
    on_the_way: Arc<Semaphore>,
}

/// Sends blocks until there are none left, an error ends the upload, or the connection breaks; answers why it broke.
pub(super) async fn run_lane(run: Arc<Run>, sftp: Sftp) -> Option<TransferError> {
    let lane = Arc::new(Lane {
        session: sftp.session,
        targets: Mutex::default(),
        on_the_way: Arc::new(Semaphore::new(ON_THE_WAY / UNIT as usize)),
    });
    let mut tasks: JoinSet<Result<(), (Block, TransferError)>> = JoinSet::new();
    let mut broken = None;
    // Blocks are sent in their order, so that they are confirmed one after the other and the host can hash behind
    // them: each waits until the one before it has let go of its end.
    let (_, mut sent_before) = oneshot::channel();
    loop {
        let room = tasks.len() < AT_ONCE && broken.is_none();
        tokio::select! {
            biased;
            Some(done) = tasks.join_next() => match done {
                Ok(Ok(())) => {}
                Ok(Err((block, error))) if error.is_connection() => {
                    run.give_back(block);
                    broken.get_or_insert(error);
                }
                Ok(Err((_, error))) => run.fail(error),
                // Without this the others would wait for its block without end.
                Err(error) => run.fail(unfinished(error)),
            },
            block = run.take(), if room => {
                let mut block = block?;
                let (run, lane) = (Arc::clone(&run), Arc::clone(&lane));
                let (is_sent, next) = oneshot::channel();
                let turn = Turn { before: std::mem::replace(&mut sent_before, next), is_sent };
                tasks.spawn(async move {
                    let sent = lane.send(&run, &mut block, turn).await;
                    sent.map_err(|error| (block, error))
                });
            }
            else => return broken,
        }
    }
}

fn unfinished(error: JoinError) -> TransferError {
    TransferError::local(Path::new(""), std::io::Error::other(error))
}

impl Lane {
    /// Sends a block to its end. When that fails, what the host has confirmed is taken out of the block.
    async fn send(&self, run: &Run, block: &mut Block, turn: Turn) -> Result<(), TransferError> {
        let source = Arc::clone(&block.source);
        let cell = self.target(source.index);
        let target = Arc::clone(cell.get_or_try_init(|| self.open(&source)).await?);
        let pieces = block.pieces.clone();
        let mut answers = JoinSet::new();
        let mut confirmed = |answer: Result<Result<u64, TransferError>, JoinError>| {
            let piece = answer.unwrap_or_else(|error| Err(unfinished(error)))?;
            block.pieces.retain(|left| *left != piece);
            run.progress.moved(source.range(piece).1);
            if source.begin() {
                run.begun(source.index);
            }
            Ok(())
        };
        // Nobody ever says anything: that the other end is gone is the word.
        let Turn { before, is_sent } = turn;
        let _ = before.await;
        for piece in pieces {
            let sent = self.send_piece(&source, &target, piece).await?;
            let target = Arc::clone(&target);
            answers.spawn(async move { confirm(&target, piece, sent).await });
            // What went wrong with an earlier piece need not wait for the last one.
            while let Some(answer) = answers.try_join_next() {
                confirmed(answer)?;
            }
        }
        drop(is_sent);
        while let Some(answer) = answers.join_next().await {
            confirmed(answer)?;
        }
        if source.confirm_block() {
            let checked = Arc::clone(&source);
            blocking(source.path(), move || checked.check_unchanged()).await?;
            run.arrived(source.index);
        }
        Ok(())
    }

    async fn send_piece(
        &self,
        source: &Arc<Source>,
        target: &Target,
        piece: u64,
    ) -> Result<Vec<Sent>, TransferError> {
        let (reading, handle) = (Arc::clone(source), target.content.handle());
        let step = self.session.offers().write_length;
        let packets = blocking(source.path(), move || reading.packets(&handle, piece, step)).await?;
        let mut sent = Vec::with_capacity(packets.len());
        for (packet, length) in packets {
            let units = length.div_ceil(UNIT);
            let room = Arc::clone(&self.on_the_way).acquire_many_owned(units).await.ok();
            sent.push((target.content.write(packet).await, room));
        }
        Ok(sent)
    }

    async fn open(&self, source: &Source) -> Result<Arc<Target>, TransferError> {
        // Never truncated: another upload of the same content may be at it, and its bytes are the same.
        let flags = OpenFlags::WRITE | OpenFlags::CREATE;
        let open = |path: &str| {
            let path = path.to_owned();
            async move { OpenFile::open(&self.session, &path, flags, Some(0o600)).await }
        };
        let marks = async {
            match source.is_marked() {
                true => open(&source.wanted.marks).await.map(Some),
                false => Ok(None),
            }
        };
        let (content, marks) = tokio::try_join!(open(&source.wanted.remote), marks)?;
        Ok(Arc::new(Target { content, marks }))
    }

    /// The open files of an upload; they are closed when the last block is through.
    fn target(&self, index: usize) -> Arc<OnceCell<Arc<Target>>> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = targets.get(&index).and_then(Weak::upgrade) {
            return open;
        }
        targets.retain(|_, target| target.strong_count() > 0);
        let target = Arc::new(OnceCell::new());
        targets.insert(index, Arc::downgrade(&target));
        target
    }
}

/// Waits until a piece is on the host, and marks it.
async fn confirm(target: &Target, piece: u64, sent: Vec<Sent>) -> Result<u64, TransferError> {
    for (reply, room) in sent {
        target.content.written(reply).await?;
        drop(room);
    }
    if let Some(marks) = &target.marks {
        let mut packet = OpenFile::begin_write(&marks.handle(), piece, 1);
        packet.put_u8(1);
        marks.written(marks.write(packet).await).await?;
    }
    Ok(piece)
}
