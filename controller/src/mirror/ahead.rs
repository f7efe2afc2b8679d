//! Requests for log bytes that are under way.
//!
//! One is always asked ahead. While every answer comes back full the mirror is behind, and more are asked at
//! once, so that a distant host is limited by its link and not by its round trip. Such a request is speculative:
//! it names an offset that the log may not have reached yet.

use super::{LogSource, SourceError};
use farrun_protocol::log::{LogChunk, MAX_CHUNK};
use farrun_protocol::message::FetchLog;
use farrun_protocol::{Generation, RunId, Sha256};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Most requests under way; with the largest chunk this bounds what lies in memory.
const MAX_DEPTH: usize = 8;

/// An answer and the request it belongs to.
pub(super) struct Answer {
    pub(super) chunk: Result<LogChunk, SourceError>,
    /// Whether it was asked before its predecessor was answered.
    pub(super) speculative: bool,
}

/// Requests under way, in the order of their offsets.
pub(super) struct Ahead<'a, S> {
    source: &'a S,
    run_id: RunId,
    wait: Duration,
    pub(super) generation: Option<Generation>,
    queue: FuturesOrdered<BoxFuture<'a, Answer>>,
    early: Option<Answer>,
    next: u64,
    depth: usize,
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
            next: 0,
            depth: 1,
        }
    }

    /// Forgets what is under way and asks from `offset`, with the hash of what lies before it.
    pub(super) async fn restart(&mut self, offset: u64, tail_sha256: Option<Sha256>) {
        self.queue = FuturesOrdered::new();
        (self.early, self.depth, self.next) = (None, 1, offset);
        self.push(tail_sha256);
        self.poll_once().await;
    }

    /// Learns that everything before `offset` has come, with the last answer full or not, and asks on.
    pub(super) async fn advance(&mut self, offset: u64, full: bool) {
        let idle = self.queue.is_empty() && self.early.is_none();
        if full {
            self.depth = (self.depth * 2).min(MAX_DEPTH);
        } else {
            self.queue = FuturesOrdered::new();
            (self.early, self.depth) = (None, 1);
        }
        if idle || !full {
            self.next = offset;
        }
        while self.queue.len() + usize::from(self.early.is_some()) < self.depth {
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
        let speculative = !self.queue.is_empty() || self.early.is_some();
        let fetch = FetchLog {
            run_id: self.run_id.clone(),
            generation: self.generation.clone(),
            offset: self.next,
            tail_sha256,
            max: MAX_CHUNK as u64,
            wait: self.wait.as_millis() as u64,
        };
        self.next = self.next.saturating_add(MAX_CHUNK as u64);
        let answer = self.source.fetch(fetch);
        self.queue.push_back(Box::pin(async move {
            Answer {
                chunk: answer.await,
                speculative,
            }
        }));
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
