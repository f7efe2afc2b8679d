//! `started` and `exit.json`: the job is executed at most once, and the record of its end is written once.

use farrun_protocol::record::{EXIT_SIZE, ExitRecord};
use rustix::fs::{FlockOperation, flock, fstat, fsync};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The record could not be opened, claimed or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// A file of the record cannot be opened, locked, read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Another process holds the run, or one has held it before.
    #[error("the run was started before")]
    Claimed,
}

/// The lock on a run that nobody has started yet. It is held for as long as this value lives.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    started: File,
    exit: File,
}

impl Claim {
    /// Locks the run in this record folder. Nothing is written yet.
    ///
    /// # Errors
    /// [`ClaimError::Claimed`] when the run was started or has ended before.
    pub(super) fn take(record: &Path) -> Result<Self, ClaimError> {
        let path = record.join("started");
        let started = open(&path)?;
        let exit_path = record.join("exit.json");
        let exit = open(&exit_path)?;
        match flock(&started, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ClaimError::Claimed),
            Err(error) => return Err(failed(&path, error)),
        }
        let length = fstat(&started).map_err(|error| failed(&path, error))?.st_size;
        if length != 0 || has_ended(&exit).map_err(|source| file(&exit_path, source))? {
            return Err(ClaimError::Claimed);
        }
        Ok(Self { path, started, exit })
    }

    /// Makes the claim last beyond this process: from here on the command may have been executed.
    ///
    /// # Errors
    /// When the line cannot be brought to disk; the job must not be started then.
    pub(super) fn mark_started(&self, line: &str) -> Result<(), ClaimError> {
        super::run_log::write_whole(&self.started, line.as_bytes())
            .and_then(|()| fsync(&self.started))
            .map_err(|error| failed(&self.path, error))
    }

    /// Overwrites `exit.json` in place; its blocks were allocated beforehand, so a full disk does not matter.
    ///
    /// # Errors
    /// What the kernel or the encoder said; the caller still ends like the job did.
    pub(super) fn write_exit(&self, record: &ExitRecord) -> std::io::Result<()> {
        let bytes = record.encode()?;
        super::run_log::write_whole_at(&self.exit, &bytes, 0)?;
        Ok(fsync(&self.exit)?)
    }
}

fn has_ended(exit: &File) -> std::io::Result<bool> {
    let mut bytes = Vec::with_capacity(EXIT_SIZE);
    exit.take(EXIT_SIZE as u64).read_to_end(&mut bytes)?;
    Ok(ExitRecord::decode(&bytes).is_some())
}

/// Opens a file that was made beforehand; nothing in the record is ever created here.
pub(super) fn open(path: &Path) -> Result<File, ClaimError> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(|source| file(path, source))
}

/// Opens a file that is only ever added to.
pub(super) fn open_append(path: &Path) -> Result<File, ClaimError> {
    let opened = File::options().append(true).open(path);
    opened.map_err(|source| file(path, source))
}

fn file(path: &Path, source: std::io::Error) -> ClaimError {
    ClaimError::File {
        path: path.to_owned(),
        source,
    }
}

fn failed(path: &Path, error: Errno) -> ClaimError {
    file(path, error.into())
}
