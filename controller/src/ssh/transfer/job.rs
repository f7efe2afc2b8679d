//! One file on its way: what is here already, and what is done with each block that arrives.

use super::destination::Destination;
use super::proof::Proof;
use super::{Packed, TransferError, Wanted};
use bytes::Bytes;
use farrun_protocol::manifest::BLOCK;
use rustix::fs::{Advice, Timespec, Timestamps, fadvise, futimens};
use rustix::io::Errno;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
    blocks: Mutex<Blocks>,
    /// Held while a block is written: the kernel lets one writer of a file in at a time, and the others would wait for it
    /// with a processor each.
    writing: Mutex<()>,
    /// Set when the copy in a pack turned out to be of no use.
    unpacked: AtomicBool,
    _turns: Vec<OwnedSemaphorePermit>,
}

/// How far a file is.
#[derive(Debug)]
struct Blocks {
    missing: u64,
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
        let blocks = Blocks {
            missing: wanted.block_count(),
            failed: false,
        };
        Self {
            index,
            part_name: Destination::part_name(&wanted),
            wanted,
            host,
            destination,
            part: OnceLock::new(),
            blocks: Mutex::new(blocks),
            writing: Mutex::default(),
            unpacked: AtomicBool::new(false),
            _turns: turns,
        }
    }

    /// Whether another block of this file has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// The copy of this file in a pack, while it is believed in.
    pub(super) fn packed(&self) -> Option<&Packed> {
        let usable = self.wanted.block_count() == 1 && !self.unpacked.load(Relaxed);
        self.wanted.packed.as_ref().filter(|_| usable)
    }

    /// The bytes of `pack` that hold a copy of this file.
    pub(super) fn packed_in(&self, pack: &Arc<str>) -> Option<std::ops::Range<u64>> {
        let packed = self.packed().filter(|packed| packed.pack == *pack)?;
        Some(packed.at..packed.at.checked_add(self.wanted.size)?)
    }

    /// From now on the file itself is fetched.
    pub(super) fn unpack(&self) {
        self.unpacked.store(true, Relaxed);
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
        if !self.destination.fresh && self.is_in_place()? {
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
        let part = match large {
            true => self.part.get_or_init(|| part),
            // Closed again when this is over: there may be thousands of them.
            false => &part,
        };
        let missing = match self.destination.resumes {
            true => self.recheck(part, length)?,
            false => (0..self.wanted.block_count()).collect(),
        };
        if !missing.is_empty() {
            return Ok(Prepared::Missing(missing));
        }
        self.settle(part).map(|()| Prepared::Verified)
    }

    /// Takes a block that has arrived. True if the file is now complete and verified.
    pub(super) fn accept(&self, block: u64, content: &[Bytes]) -> Result<bool, TransferError> {
        if self.wanted.block_count() <= 1 {
            return self.accept_whole(content).map(|()| true);
        }
        if !self.is_proven(block, content) {
            return Err(self.changed());
        }
        let part = self.part().ok_or_else(|| self.error(Errno::NOENT))?;
        {
            let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.write(part, block * BLOCK, content)?;
        }
        let mut blocks = self.lock();
        blocks.missing = blocks.missing.saturating_sub(1);
        Ok(blocks.missing == 0)
    }

    /// Has the disk begin to take a block, or the sync at the end would wait for the whole file.
    ///
    /// On Linux this is what `POSIX_FADV_DONTNEED` does with pages that are dirty (`mm/fadvise.c`); it waits for nothing. A
    /// sync in between, which also commits the file system's journal, made a large file a quarter slower. What the
    /// disk refuses is told by the sync at the end, which is of the same open file.
    pub(super) fn begin_writeback(&self, block: u64) {
        if let Some(part) = self.part() {
            let length = NonZeroU64::new(self.wanted.block_length(block));
            let _ = fadvise(part, block * BLOCK, length, Advice::DontNeed);
        }
    }

    fn accept_whole(&self, content: &[Bytes]) -> Result<(), TransferError> {
        if !self.is_proven(0, content) {
            return Err(self.changed());
        }
        let (part, is_new) = self.destination.whole_part(&self.part_name)?;
        self.write(&part, 0, content)?;
        // An older part may have been longer.
        if !is_new {
            part.set_len(self.wanted.size)
                .map_err(|error| self.error(error))?;
        }
        // It is settled and closed at once: thousands of them may wait for their names.
        self.settle(&part)
    }

    fn write(&self, part: &File, mut offset: u64, content: &[Bytes]) -> Result<(), TransferError> {
        for piece in content {
            part.write_all_at(piece, offset)
                .map_err(|error| self.error(error))?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Gives the part what the final file shall have, while no other name leads to it.
    pub(super) fn settle(&self, part: &File) -> Result<(), TransferError> {
        let mode = (self.wanted.mode & 0o777) | 0o600;
        part.set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(|error| self.error(error))?;
        let nanoseconds = self.wanted.modified_ns;
        let modified = Timespec {
            tv_sec: nanoseconds.div_euclid(1_000_000_000),
            tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
        };
        let times = Timestamps {
            last_access: modified,
            last_modification: modified,
        };
        futimens(part, &times).map_err(|errno| self.error(errno))
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
        if self.wanted.size == 0 {
            return Ok(self.is_proven(0, &[]));
        }
        for block in 0..self.wanted.block_count() {
            let proven = self.holds(&file, block);
            if !proven.map_err(|error| TransferError::local(&path, error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hashes what an earlier download left, and returns the blocks that are missing or wrong.
    fn recheck(&self, part: &File, length: u64) -> Result<Vec<u64>, TransferError> {
        let mut missing = Vec::new();
        for block in 0..self.wanted.block_count() {
            let size = self.wanted.block_length(block);
            let whole = block * BLOCK + size <= length;
            if !whole || !self.holds(part, block).map_err(|error| self.error(error))? {
                missing.push(block);
            }
        }
        self.lock().missing = missing.len() as u64;
        Ok(missing)
    }

    /// Whether a block that has arrived is what was announced.
    fn is_proven(&self, block: u64, content: &[Bytes]) -> bool {
        let Some(mut proof) = self.wanted.proof(block) else {
            return false;
        };
        content.iter().for_each(|piece| proof.update(piece));
        proof.holds()
    }

    /// Whether a block of `file` is what was announced.
    fn holds(&self, file: &File, block: u64) -> std::io::Result<bool> {
        let Some(proof) = self.wanted.proof(block) else {
            return Ok(false);
        };
        prove(file, block * BLOCK, self.wanted.block_length(block), proof)
    }

    fn changed(&self) -> TransferError {
        TransferError::ChangedWhileReading {
            host: self.host.clone(),
            path: self.wanted.remote(),
        }
    }

    fn error(&self, error: impl Into<std::io::Error>) -> TransferError {
        self.destination.part_error(&self.part_name, error)
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks `length` bytes of a file.
fn prove(file: &File, from: u64, length: u64, mut proof: Proof<'_>) -> std::io::Result<bool> {
    let mut buffer = vec![0; STEP.min(usize::try_from(length).unwrap_or(STEP))];
    let mut done = 0;
    while done < length {
        let size = buffer.len().min(usize::try_from(length - done).unwrap_or(STEP));
        let piece = buffer.get_mut(..size).unwrap_or_default();
        file.read_exact_at(piece, from + done)?;
        proof.update(piece);
        done += size as u64;
    }
    Ok(proof.holds())
}
