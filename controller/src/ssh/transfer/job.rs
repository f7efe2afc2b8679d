//! One file on its way: what is here already, and what is done with each block that arrives.

use super::destination::Destination;
use super::{TransferError, Wanted};
use bytes::Bytes;
use farrun_protocol::Sha256;
use farrun_protocol::manifest::BLOCK;
use rustix::io::Errno;
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::OwnedSemaphorePermit;

/// What is read from the disk at once.
const STEP: usize = 256 * 1024;

/// One wanted file.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) wanted: Wanted,
    pub(super) part_name: String,
    host: String,
    destination: Arc<Destination>,
    part: OnceLock<File>,
    whole: Mutex<Whole>,
    _turns: Vec<OwnedSemaphorePermit>,
}

/// The hash of the whole file, taken in order while blocks complete in any order.
#[derive(Debug)]
struct Whole {
    /// Absent while a thread is hashing.
    hasher: Option<sha2::Sha256>,
    next: u64,
    verified: BTreeSet<u64>,
    failed: bool,
}

/// What a look at the local disk says about a file.
#[derive(Debug)]
pub(super) enum Prepared {
    /// It is complete under its final name.
    Present,
    /// It is complete, but not under its final name.
    Verified,
    /// These blocks are missing.
    Missing(Vec<u64>),
}

impl Job {
    pub(super) fn new(
        index: usize,
        wanted: Wanted,
        host: String,
        destination: Arc<Destination>,
        turns: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        let whole = Whole {
            hasher: Some(sha2::Sha256::new()),
            next: 0,
            verified: BTreeSet::new(),
            failed: false,
        };
        Self {
            index,
            part_name: Destination::part_name(&wanted),
            wanted,
            host,
            destination,
            part: OnceLock::new(),
            whole: Mutex::new(whole),
            _turns: turns,
        }
    }

    /// Whether another block of this file has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// Notes a failure; only the first counts.
    pub(super) fn fail(&self) -> bool {
        !std::mem::replace(&mut self.lock().failed, true)
    }

    /// The unfinished file, once there is one.
    pub(super) fn part(&self) -> Option<&File> {
        self.part.get()
    }

    /// Looks what is here. Slow for a large file, because it is hashed.
    pub(super) fn prepare(&self) -> Result<Prepared, TransferError> {
        if self.is_in_place()? {
            return Ok(Prepared::Present);
        }
        if self.wanted.size == 0 {
            return self.accept_whole(&[]).map(|()| Prepared::Verified);
        }
        let large = self.wanted.block_count() > 1;
        if !large && !self.destination.resumes {
            return Ok(Prepared::Missing(vec![0]));
        }
        let Some(part) = self.destination.part(&self.part_name, large)? else {
            return Ok(Prepared::Missing(vec![0]));
        };
        let length = part.metadata().map_err(|error| self.error(error))?.len();
        if length > self.wanted.size {
            part.set_len(self.wanted.size)
                .map_err(|error| self.error(error))?;
        }
        let part = self.part.get_or_init(|| part);
        let missing = match self.destination.resumes {
            true => self.recheck(part, length)?,
            false => (0..self.wanted.block_count()).collect(),
        };
        if !missing.is_empty() {
            return Ok(Prepared::Missing(missing));
        }
        self.follow(part, None).map(|_| Prepared::Verified)
    }

    /// Takes a block that has arrived. True if the file is now complete and verified.
    pub(super) fn accept(&self, block: u64, content: &[Bytes]) -> Result<bool, TransferError> {
        if self.wanted.block_count() <= 1 {
            return self.accept_whole(content).map(|()| true);
        }
        let mut hasher = sha2::Sha256::new();
        content.iter().for_each(|piece| hasher.update(piece));
        if self.wanted.block_hash(block) != Some(&digest(hasher)) {
            return Err(self.changed());
        }
        let part = self.part().ok_or_else(|| self.error(Errno::NOENT))?;
        let mut offset = block * BLOCK;
        for piece in content {
            part.write_all_at(piece, offset)
                .map_err(|error| self.error(error))?;
            offset += piece.len() as u64;
        }
        self.lock().verified.insert(block);
        self.follow(part, Some((block, content)))
    }

    fn accept_whole(&self, content: &[Bytes]) -> Result<(), TransferError> {
        let mut hasher = sha2::Sha256::new();
        content.iter().for_each(|piece| hasher.update(piece));
        if digest(hasher) != self.wanted.sha256 {
            return Err(self.changed());
        }
        let part = match self.destination.part(&self.part_name, true)? {
            Some(part) => self.part.get_or_init(|| part),
            None => return Err(self.error(Errno::NOENT)),
        };
        let mut offset = 0;
        for piece in content {
            part.write_all_at(piece, offset)
                .map_err(|error| self.error(error))?;
            offset += piece.len() as u64;
        }
        // An older part may have been longer.
        part.set_len(self.wanted.size).map_err(|error| self.error(error))
    }

    fn is_in_place(&self) -> Result<bool, TransferError> {
        let Some(file) = self.destination.folder.file(&self.wanted.path)? else {
            return Ok(false);
        };
        let file = File::from(file);
        let path = self.destination.folder.path().join(&self.wanted.path);
        let facts = file
            .metadata()
            .map_err(|error| TransferError::local(&path, error))?;
        if !facts.is_file() {
            return Err(TransferError::NotContained { path });
        }
        if facts.len() != self.wanted.size {
            return Ok(false);
        }
        let mut hasher = sha2::Sha256::new();
        let read = read_pieces(&file, 0, self.wanted.size, |piece| hasher.update(piece));
        read.map_err(|error| TransferError::local(&path, error))?;
        Ok(digest(hasher) == self.wanted.sha256)
    }

    /// Hashes what an earlier download left, and returns the blocks that are missing or wrong.
    fn recheck(&self, part: &File, length: u64) -> Result<Vec<u64>, TransferError> {
        let mut missing = Vec::new();
        let mut whole = self.lock();
        for block in 0..self.wanted.block_count() {
            let size = self.wanted.block_length(block);
            if block * BLOCK + size > length {
                missing.push(block);
                continue;
            }
            let mut hasher = sha2::Sha256::new();
            let read = read_pieces(part, block * BLOCK, size, |piece| hasher.update(piece));
            read.map_err(|error| self.error(error))?;
            match self.wanted.block_hash(block) == Some(&digest(hasher)) {
                true => whole.verified.insert(block),
                false => {
                    missing.push(block);
                    false
                }
            };
        }
        Ok(missing)
    }

    /// Hashes the whole file as far as it is verified. One thread at a time does so; others leave their block
    /// to it, which reads it back from the page cache. True for the one that reaches the end.
    fn follow(&self, part: &File, fresh: Option<(u64, &[Bytes])>) -> Result<bool, TransferError> {
        let mut whole = self.lock();
        let Some(mut hasher) = whole.hasher.take() else {
            return Ok(false);
        };
        loop {
            let next = whole.next;
            if next == self.wanted.block_count() {
                drop(whole);
                return match digest(hasher) == self.wanted.sha256 {
                    true => Ok(true),
                    false => Err(self.changed()),
                };
            }
            if !whole.verified.remove(&next) {
                whole.hasher = Some(hasher);
                return Ok(false);
            }
            drop(whole);
            match fresh {
                Some((block, content)) if block == next => {
                    content.iter().for_each(|piece| hasher.update(piece));
                }
                _ => {
                    let size = self.wanted.block_length(next);
                    let read = read_pieces(part, next * BLOCK, size, |piece| hasher.update(piece));
                    read.map_err(|error| self.error(error))?;
                }
            }
            whole = self.lock();
            whole.next += 1;
        }
    }

    fn changed(&self) -> TransferError {
        TransferError::ChangedWhileReading {
            host: self.host.clone(),
            path: self.wanted.remote.clone(),
        }
    }

    fn error(&self, error: impl Into<std::io::Error>) -> TransferError {
        self.destination.part_error(&self.part_name, error)
    }

    fn lock(&self) -> MutexGuard<'_, Whole> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(hasher: sha2::Sha256) -> Sha256 {
    Sha256::from_bytes(hasher.finalize().into())
}

fn read_pieces(file: &File, from: u64, length: u64, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; STEP.min(usize::try_from(length).unwrap_or(STEP))];
    let mut done = 0;
    while done < length {
        let size = buffer.len().min(usize::try_from(length - done).unwrap_or(STEP));
        let piece = buffer.get_mut(..size).unwrap_or_default();
        file.read_exact_at(piece, from + done)?;
        take(piece);
        done += size as u64;
    }
    Ok(())
}
