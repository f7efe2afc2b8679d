//! Blocks that wait to be fetched, shared by all connections.

use super::job::Job;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

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

impl Queue {
    /// Adds the missing blocks of a file.
    pub(super) fn push(&self, job: &Arc<Job>, blocks: Vec<u64>) {
        let pieces = blocks.into_iter().map(|block| Piece {
            job: Arc::clone(job),
            block,
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

    /// The next block, or None when there will be none.
    pub(super) async fn take(&self) -> Option<Piece> {
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
                    state.taken += 1;
                    return Some(piece);
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
