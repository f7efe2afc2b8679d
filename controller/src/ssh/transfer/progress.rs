//! Counters that the user interface polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How far a transfer is. Clones share their counters.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_done: AtomicU64,
    files_total: AtomicU64,
}

impl Progress {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that are on the other side, those that were there before included.
    pub fn bytes_done(&self) -> u64 {
        self.0.bytes_done.load(Relaxed)
    }

    /// Bytes of all files.
    pub fn bytes_total(&self) -> u64 {
        self.0.bytes_total.load(Relaxed)
    }

    /// Files that are complete.
    pub fn files_done(&self) -> u64 {
        self.0.files_done.load(Relaxed)
    }

    /// All files.
    pub fn files_total(&self) -> u64 {
        self.0.files_total.load(Relaxed)
    }

    pub(super) fn expect(&self, files: u64, bytes: u64) {
        self.0.files_total.fetch_add(files, Relaxed);
        self.0.bytes_total.fetch_add(bytes, Relaxed);
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Relaxed);
    }

    pub(super) fn finished_file(&self) {
        self.0.files_done.fetch_add(1, Relaxed);
    }
}
