//! Requests for log bytes that are under way.
//!
//! They form a chain: each goes on where the answer to the one before it ended, which the host knows first. So what the
//! job writes is on its way here as soon as it is written, and a distant host is limited by its link and not by its
//! round trip, neither for the next line nor for a long log.

use super::{LogSource, SourceError};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::{FetchLog, Place};
use farrun_protocol::{Generation, RunId, Sha256};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// Requests under way while the mirror has caught up: so many writes of the job may follow each other within a round
/// trip without waiting for it.
const DEPTH: usize = 8;
/// The same while it is behind. With [`PIECE`] this bounds what lies in memory, and what is under way on a distant link;
/// a conversation has room for more calls than these.
const DEPTH_BEHIND: usize = 24;
/// Most bytes asked for at once.
pub(super) const PIECE: usize = 512 * 1024;

/// Number of the next chain. Later ones have higher numbers.
static CHAIN: AtomicU64 = AtomicU64::new(1);

type Answer = Result<LogChunk, SourceError>;

/// Requests under way, in the order of their places.
pub(super) struct Ahead<'a, S> {
    source: &'a S,
    run_id: RunId,
    wait: Duration,
    pub(super) generation: Option<Generation>,
    queue: FuturesOrdered<BoxFuture<'a, Answer>>,
    early: Option<Answer>,
    next: Place,
    offset: u64,
}

impl<'a, S: LogSource> Ahead<'a, S> {
    pub(super) fn new(source: &'a S, run_id: &RunId, wait: Duration) -> Self {
        Self {
            source,
            run_id: run_id.clone(),
            wait,
            generation: None,
            queue: FuturesOrdered::new(),
            early: None,
            next: Place { chain: 0, index: 0 },
            offset: 0,
        }
    }

    /// Forgets what is under way and asks from `offset`, with the hash of what lies before it.
    pub(super) async fn restart(&mut self, offset: u64, tail_sha256: Option<Sha256>) {
        self.queue = FuturesOrdered::new();
        self.early = None;
        self.next = Place {
            chain: CHAIN.fetch_add(1, Ordering::Relaxed),
            index: 0,
        };
        self.offset = offset;
        self.push(tail_sha256);
        self.go_on(false).await;
    }

    /// Learns that an answer has come, full or not, and asks on.
    pub(super) async fn go_on(&mut self, full: bool) {
        let depth = match full {
            true => DEPTH_BEHIND,
            // Who does not wait for more often needs no second answer.
            false if self.wait.is_zero() => 1,
            false => DEPTH,
        };
        while self.queue.len() + usize::from(self.early.is_some()) < depth {
            self.push(None);
        }
        self.poll_once().await;
    }

    /// The next answer, in order.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        match self.early.take() {
            Some(answer) => Some(answer),
            None => self.queue.next().await,
        }
    }

    fn push(&mut self, tail_sha256: Option<Sha256>) {
        let fetch = FetchLog {
            run_id: self.run_id.clone(),
            generation: self.generation.clone(),
            offset: self.offset,
            place: Some(self.next),
            tail_sha256,
            max: PIECE as u64,
            wait: self.wait.as_millis() as u64,
        };
        self.next.index += 1;
        self.queue.push_back(Box::pin(self.source.fetch(fetch)));
    }

    /// Sets new requests going: a future does nothing before it is polled.
    async fn poll_once(&mut self) {
        if self.early.is_none() {
            let polled = poll_fn(|context| Poll::Ready(self.queue.poll_next_unpin(context))).await;
            if let Poll::Ready(answer) = polled {
                self.early = answer;
            }
        }
    }
}
