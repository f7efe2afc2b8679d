//! Advisory locks that end with the process that holds them.

use super::RecordError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at once, or answers `None` when another process has it.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn try_take(path: &Path) -> Result<Option<Self>, RecordError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(RecordError::io(path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(RecordError::io(path)(io::Error::from(error))),
        }
    }

    /// Writes words for those who wait into the lock file, in the place of what it holds; best effort. Words that are read
    /// while others are written may be of both, so each time there must be as many bytes.
    pub(crate) fn note(&self, words: &str) {
        let _ = self.file.write_all_at(words.as_bytes(), 0);
    }

    /// Waits for the lock by asking again; a waiter that is dropped leaves nothing behind.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub async fn take(path: &Path) -> Result<Self, RecordError> {
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::try_take(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
