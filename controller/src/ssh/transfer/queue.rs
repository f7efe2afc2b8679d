//! Blocks that wait to be fetched, shared by all connections.

use super::job::Job;
use farrun_protocol::manifest::BLOCK;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most files that one read of a pack serves.
const TOGETHER: usize = 512;
/// Most bytes between two files of a pack that are read in vain rather than asked around.
const GAP: u64 = 64 * 1024;

/// One block of one file.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) job: Arc<Job>,
    pub(super) block: u64,
}

/// Ends when nothing more will be pushed and nothing taken can come back.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Piece>,
    taken: usize,
    complete: bool,
    stopped: bool,
}

impl State {
    /// Takes what can be read in one go with `first`: at most a block, counted with the gaps that are read in vain.
    fn with_neighbours(&mut self, first: Piece) -> Vec<Piece> {
        let Some(start) = first.job.packed() else {
            return vec![first];
        };
        let (pack, start) = (Arc::clone(&start.pack), start.at);
        let mut end = start.saturating_add(first.job.wanted.size);
        let mut pieces = vec![first];
        while pieces.len() < TOGETHER
            && let Some(next) = self.waiting.front().and_then(|piece| piece.job.packed_in(&pack))
            && next.start >= end
            && next.start - end <= GAP
            && next.end - start <= BLOCK
            && let Some(piece) = self.waiting.pop_front()
        {
            end = next.end;
            pieces.push(piece);
        }
        pieces
    }
}

impl Queue {
    /// Adds the missing blocks of files.
    pub(super) fn push(&self, files: Vec<(Arc<Job>, Vec<u64>)>) {
        let pieces = files.into_iter().flat_map(|(job, blocks)| {
            let piece = move |block| Piece {
                job: Arc::clone(&job),
                block,
            };
            blocks.into_iter().map(piece)
        });
        self.change(|state| state.waiting.extend(pieces));
    }

    /// Nothing more will be pushed.
    pub(super) fn complete(&self) {
        self.change(|state| state.complete = true);
    }

    /// Nobody shall take anything any more.
    pub(super) fn stop(&self) {
        self.change(|state| {
            state.stopped = true;
            state.waiting.clear();
        });
    }

    /// The next block, with those of other files that lie right behind it in a pack; None when there will be none.
    pub(super) async fn take(&self) -> Option<Vec<Piece>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.stopped {
                    return None;
                }
                if let Some(piece) = state.waiting.pop_front() {
                    let pieces = state.with_neighbours(piece);
                    state.taken += pieces.len();
                    return Some(pieces);
                }
                if state.complete && state.taken == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// A taken block is dealt with.
    pub(super) fn done(&self) {
        self.change(|state| state.taken -= 1);
    }

    /// A taken block has to be fetched by someone else.
    pub(super) fn give_back(&self, piece: Piece) {
        self.change(|state| {
            state.taken -= 1;
            if !state.stopped {
                state.waiting.push_front(piece);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
