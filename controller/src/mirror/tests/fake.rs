//! A log in memory whose answers can be cut, repeated and held back, and a disk that can be full.

use crate::mirror::{Disk, Event, LogSource, RealDisk, SourceError};
use bytes::Bytes;
use farrun_protocol::log::{LogChunk, LogEnd, MAX_CHUNK, TAIL_LENGTH};
use farrun_protocol::message::{FetchLog, Place};
use farrun_protocol::{ErrorCode, Failure, Generation, RunId, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Pass,
    Cut,
    Repeat(u64),
    Jump(u64),
    Short(usize),
    Empty,
    Hang,
}

pub(super) struct Log {
    pub(super) bytes: Vec<u8>,
    pub(super) generation: Generation,
    pub(super) ended: bool,
    pub(super) faults: VecDeque<Fault>,
    pub(super) hash_cuts: u32,
    /// Whose turn it is in the newest chain, and where it begins.
    turn: (Place, u64),
    /// What the end says instead of the truth.
    pub(super) false_end: Option<LogEnd>,
}

pub(super) struct Fake {
    pub(super) log: Mutex<Log>,
    pub(super) changed: Notify,
    pub(super) hung: Notify,
    pub(super) fetches: AtomicUsize,
    pub(super) under_way: AtomicUsize,
    pub(super) most_under_way: AtomicUsize,
}

impl Fake {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self {
            log: Mutex::new(Log {
                bytes: bytes.to_vec(),
                generation: Generation::random(),
                ended: false,
                faults: VecDeque::new(),
                hash_cuts: 0,
                turn: (Place { chain: 0, index: 0 }, 0),
                false_end: None,
            }),
            changed: Notify::new(),
            hung: Notify::new(),
            fetches: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        let value = change(&mut self.log.lock().unwrap());
        self.changed.notify_waiters();
        value
    }

    pub(super) fn truth(&self) -> Vec<u8> {
        self.with(|log| log.bytes.clone())
    }

    /// The request with the offset it begins at; none while it is not its turn.
    fn turn(&self, fetch: &FetchLog) -> Option<FetchLog> {
        let mut log = self.log.lock().unwrap();
        match fetch.place {
            None => Some(fetch.clone()),
            Some(first) if first.index == 0 => {
                log.turn = (first, fetch.offset);
                Some(fetch.clone())
            }
            Some(place) => (log.turn.0 == place).then(|| FetchLog {
                offset: log.turn.1,
                ..fetch.clone()
            }),
        }
    }

    /// The request is answered with bytes up to an offset.
    fn pass(&self, place: Option<Place>, offset: u64) {
        let turn = &mut self.log.lock().unwrap().turn;
        if place == Some(turn.0) {
            *turn = (
                Place {
                    index: turn.0.index + 1,
                    ..turn.0
                },
                offset,
            );
            self.changed.notify_waiters();
        }
    }

    fn answer(&self, fetch: &FetchLog, fault: Fault) -> Result<Option<LogChunk>, SourceError> {
        let refuse = |code| Err(SourceError::Refused(Failure::from(code)));
        let log = self.log.lock().unwrap();
        if fetch
            .generation
            .as_ref()
            .is_some_and(|known| *known != log.generation)
        {
            return refuse(ErrorCode::GenerationChanged);
        }
        let offset = fetch.offset as usize;
        let Some(before) = log.bytes.get(..offset) else {
            return refuse(ErrorCode::OffsetBeyondEnd);
        };
        if let Some(expected) = &fetch.tail_sha256 {
            let tail = &before[offset - offset.min(TAIL_LENGTH as usize)..];
            if Sha256::of(tail) != *expected {
                return refuse(ErrorCode::TailMismatch);
            }
        }
        let start = match fault {
            Fault::Repeat(back) => offset.saturating_sub(back as usize),
            Fault::Jump(on) => (offset + on as usize).min(log.bytes.len()),
            _ => offset,
        };
        let most = match fault {
            Fault::Short(most) => most,
            Fault::Empty => 0,
            _ => MAX_CHUNK,
        };
        let stop = log.bytes.len().min(start + most.min(fetch.max as usize));
        let end = (log.ended && stop == log.bytes.len()).then(|| LogEnd {
            length: log.bytes.len() as u64,
            sha256: Sha256::of(&log.bytes),
        });
        let end = end.map(|end| log.false_end.clone().unwrap_or(end));
        if start == stop && end.is_none() && fetch.wait > 0 && !matches!(fault, Fault::Empty) {
            return Ok(None);
        }
        Ok(Some(LogChunk {
            generation: log.generation.clone(),
            offset: start as u64,
            end,
            bytes: Bytes::copy_from_slice(&log.bytes[start..stop]),
        }))
    }
}

fn lost() -> SourceError {
    SourceError::Lost(Arc::new(io::Error::from(io::ErrorKind::BrokenPipe)))
}

/// Counts a request while it is under way, also when it is dropped.
struct Counted<'a>(&'a Fake);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LogSource for Fake {
    async fn fetch(&self, fetch: FetchLog) -> Result<LogChunk, SourceError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(now, Ordering::Relaxed);
        let _counted = Counted(self);
        let fault = self.with(|log| log.faults.pop_front()).unwrap_or(Fault::Pass);
        // A network lies between: no answer comes in the poll that asks.
        tokio::task::yield_now().await;
        match fault {
            Fault::Cut => return Err(lost()),
            Fault::Hang => {
                self.hung.notify_one();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        loop {
            let changed = self.changed.notified();
            if let Some(fetch) = self.turn(&fetch)
                && let Some(chunk) = self.answer(&fetch, fault)?
            {
                self.pass(fetch.place, chunk.offset + chunk.bytes.len() as u64);
                return Ok(chunk);
            }
            changed.await;
        }
    }

    async fn hash(&self, _: &RunId, length: u64) -> Result<Option<Sha256>, SourceError> {
        let log = self.log.lock().unwrap();
        let hash = log.bytes.get(..length as usize).map(Sha256::of);
        drop(log);
        let left = self.with(|log| {
            let left = log.hash_cuts;
            log.hash_cuts = left.saturating_sub(1);
            left
        });
        if left > 0 {
            return Err(lost());
        }
        Ok(hash)
    }
}

/// A disk that is full for so many writes, or takes only some bytes of so many.
#[derive(Default)]
pub(super) struct Tight {
    pub(super) full: AtomicU32,
    pub(super) partial: AtomicU32,
}

fn take(count: &AtomicU32) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
}

impl Disk for Tight {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if take(&self.partial) {
            return RealDisk.write_at(file, &bytes[..bytes.len().div_ceil(3)], offset);
        }
        if take(&self.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.write_at(file, bytes, offset)
    }
}

/// What a reader of the events holds.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) bytes: Vec<u8>,
    pub(super) repaired: u32,
    pub(super) replaced: u32,
    pub(super) names: Vec<&'static str>,
}

impl Reader {
    pub(super) fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => self.bytes.extend_from_slice(bytes),
            Event::Repaired { kept, .. } => {
                self.bytes.truncate(kept as usize);
                self.repaired += 1;
            }
            Event::Replaced { .. } => {
                self.bytes.clear();
                self.replaced += 1;
            }
            Event::DiskFull => self.names.push("full"),
            Event::DiskFreed => self.names.push("freed"),
            Event::WrittenElsewhere => self.names.push("elsewhere"),
            Event::TookOver => self.names.push("took over"),
        }
    }
}
