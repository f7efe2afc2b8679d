//! `run.log`: what was written to it, counted and hashed, until the first write that fails.

use farrun_protocol::Sha256;
use farrun_protocol::log::LogEnd;
use rustix::io::{Errno, pwrite, retry_on_intr, write};
use sha2::Digest as _;
use std::fs::File;
use std::os::fd::AsFd;

/// The file and everything that is known about its content.
#[derive(Debug)]
pub(super) struct RunLog {
    file: File,
    length: u64,
    hash: sha2::Sha256,
    error: Option<String>,
}

impl RunLog {
    /// Starts with a file that is empty and open for appending.
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            length: 0,
            hash: sha2::Sha256::new(),
            error: None,
        }
    }

    /// Appends and returns how many bytes were stored. After the first failure nothing is stored any more: a log
    /// with a gap in it would no longer be a prefix of what the job printed.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.error.is_none() {
            match retry_on_intr(|| write(&self.file, rest)) {
                Ok(0) => self.note(Errno::IO),
                Ok(count) => {
                    let (stored, left) = rest.split_at(count.min(rest.len()));
                    self.hash.update(stored);
                    self.length += stored.len() as u64;
                    rest = left;
                }
                Err(error) => self.note(error),
            }
        }
        bytes.len() - rest.len()
    }

    /// Whether a write has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Brings the file to disk and tells its length, its hash and the first error.
    pub(super) fn finish(mut self) -> (LogEnd, Option<String>) {
        if let Err(error) = retry_on_intr(|| rustix::fs::fsync(&self.file)) {
            self.note(error);
        }
        let end = LogEnd {
            length: self.length,
            sha256: Sha256::from_bytes(self.hash.finalize().into()),
        };
        (end, self.error)
    }

    fn note(&mut self, error: Errno) {
        self.error.get_or_insert_with(|| super::bounded(error));
    }
}

/// Writes all of `bytes` where the file's position is.
pub(super) fn write_whole(file: impl AsFd, bytes: &[u8]) -> rustix::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = retry_on_intr(|| write(&file, rest))?;
        rest = rest.get(count..).filter(|_| count > 0).ok_or(Errno::IO)?;
    }
    Ok(())
}

/// Writes all of `bytes` at an offset.
pub(super) fn write_whole_at(file: impl AsFd, bytes: &[u8], offset: u64) -> rustix::io::Result<()> {
    let (mut rest, mut at) = (bytes, offset);
    while !rest.is_empty() {
        let count = retry_on_intr(|| pwrite(&file, rest, at))?;
        rest = rest.get(count..).filter(|_| count > 0).ok_or(Errno::IO)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_says_why_and_holds_nothing() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let mut log = RunLog::new(full);
        assert_eq!(log.append(b"text"), 0);
        assert!(log.has_failed());
        assert_eq!(log.append(b"more"), 0);
        let (end, error) = log.finish();
        assert_eq!(end.length, 0);
        assert_eq!(end.sha256, Sha256::of(b""));
        assert!(error.unwrap().contains("No space left"), "the kernel's words");
    }
}
