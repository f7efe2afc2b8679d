//! The local side of a download: the destination, the folder of unfinished files in it, and its lock.

use super::folder::Folder;
use super::{TransferError, Wanted};
use farrun_protocol::Sha256;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstatvfs, openat, statat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Folder of unfinished files, at the top of a destination.
pub(super) const PARTS: &str = ".farrun-part";

/// How long the lock is waited for: a download that was given up lets go of it when its last block is written.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Whether another download is bringing files to `path` at this moment.
pub fn is_busy(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(parts) = rustix::fs::open(path.join(PARTS), flags, Mode::empty()) else {
        return false;
    };
    // Closing it lets go of it; who comes at this very moment tries again.
    flock(parts, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Held by one process at a time.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) folder: Folder,
    parts: Arc<OwnedFd>,
    /// Whether an earlier download may have left parts.
    pub(super) resumes: bool,
    /// Whether nothing else was in it.
    pub(super) fresh: bool,
}

impl Destination {
    /// Makes, opens and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, TransferError> {
        let folder = Folder::create(path)?;
        let resumes = folder.folder(PARTS, false)?.is_some();
        let fresh = !resumes && is_empty(&folder);
        let parts = folder
            .folder(PARTS, true)?
            .ok_or_else(|| folder.error(PARTS, Errno::NOENT))?;
        lock(&folder, &parts)?;
        Ok(Self {
            folder,
            parts,
            resumes,
            fresh,
        })
    }

    /// The folder of unfinished files.
    pub(super) fn parts(&self) -> BorrowedFd<'_> {
        self.parts.as_fd()
    }

    /// The name under which an unfinished file lies.
    pub(super) fn part_name(wanted: &Wanted) -> String {
        Sha256::of(wanted.path.as_bytes()).as_str().to_owned()
    }

    /// The folder in which the unfinished file `name` lies, if it is there or to be made. Small ones are spread over
    /// several: a folder takes one new file at a time, and there may be thousands.
    pub(super) fn shelf(
        &self,
        name: &str,
        large: bool,
        make: bool,
    ) -> Result<Option<Arc<OwnedFd>>, TransferError> {
        match name.get(..1).filter(|_| !large) {
            Some(shelf) => self.folder.folder(&format!("{PARTS}/{shelf}"), make),
            None => Ok(Some(Arc::clone(&self.parts))),
        }
    }

    /// Opens the unfinished file `name`. A large one is made if there is none.
    pub(super) fn part(&self, name: &str, large: bool) -> Result<Option<File>, TransferError> {
        let Some(shelf) = self.shelf(name, large, large)? else {
            return Ok(None);
        };
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        if large {
            flags |= OFlags::CREATE;
        }
        let opened = match openat(&*shelf, name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::NOENT) if !large => return Ok(None),
            other => File::from(other.map_err(|errno| self.part_error(name, errno))?),
        };
        let facts = opened.metadata().map_err(|error| self.part_error(name, error))?;
        match facts.is_file() && std::os::unix::fs::MetadataExt::nlink(&facts) == 1 {
            true => Ok(Some(opened)),
            false => Err(TransferError::NotContained {
                path: self.folder.path().join(PARTS).join(name),
            }),
        }
    }

    /// Opens the unfinished file `name` for the whole of a small file, and tells whether it is new.
    pub(super) fn whole_part(&self, name: &str) -> Result<(File, bool), TransferError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let gone = || self.part_error(name, Errno::NOENT);
        let shelf = self.shelf(name, false, true)?.ok_or_else(gone)?;
        match openat(&*shelf, name, flags, Mode::from_raw_mode(0o600)) {
            Ok(part) => Ok((File::from(part), true)),
            Err(Errno::EXIST) => Ok((self.part(name, false)?.ok_or_else(gone)?, false)),
            Err(errno) => Err(self.part_error(name, errno)),
        }
    }

    /// The error for an unfinished file.
    pub(super) fn part_error(&self, name: &str, error: impl Into<std::io::Error>) -> TransferError {
        TransferError::local(&self.folder.path().join(PARTS).join(name), error)
    }

    /// After everything has its final name: what is left over belongs to files that are no longer wanted.
    pub(super) fn clear(&self) {
        for shelf in "0123456789abcdef".chars().map(String::from) {
            if let Ok(Some(folder)) = self.folder.folder(&format!("{PARTS}/{shelf}"), false) {
                clear_parts(folder.as_fd());
                let _ = unlinkat(self.parts(), &*shelf, AtFlags::REMOVEDIR);
            }
        }
        clear_parts(self.parts());
        // It stays if someone put something of their own into it.
        let _ = unlinkat(self.folder.root(), PARTS, AtFlags::REMOVEDIR);
    }

    /// Checks that files of `all` bytes in sum will fit.
    pub(super) fn check_space(&self, wanted: &[Wanted], all: u64) -> Result<(), TransferError> {
        let path = self.folder.path();
        let volume = fstatvfs(self.folder.root()).map_err(|errno| TransferError::local(path, errno))?;
        let available = volume.f_bavail.saturating_mul(volume.f_frsize);
        // Most of the time there is plenty, and nothing needs to be looked at.
        if all <= available {
            return Ok(());
        }
        let here = |file: &Wanted| file.size - self.held(file).min(file.size);
        let needed = wanted
            .iter()
            .fold(0_u64, |sum, file| sum.saturating_add(here(file)));
        match needed <= available {
            true => Ok(()),
            false => Err(TransferError::NotEnoughSpace {
                path: path.to_path_buf(),
                needed,
                available,
            }),
        }
    }

    /// Bytes that a file probably has here already.
    fn held(&self, file: &Wanted) -> u64 {
        let size_of = |found: rustix::fs::Stat| u64::try_from(found.st_size).unwrap_or(0);
        let done = self.folder.file(&file.path).ok().flatten();
        if let Some(Ok(found)) = done.map(rustix::fs::fstat)
            && size_of(found) == file.size
        {
            return file.size;
        }
        let name = Self::part_name(file);
        let Ok(Some(shelf)) = self.shelf(&name, file.block_count() > 1, false) else {
            return 0;
        };
        let part = statat(&*shelf, name, AtFlags::SYMLINK_NOFOLLOW);
        part.map_or(0, |found| {
            u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512)
        })
    }
}

/// Removes the unfinished files of a folder.
fn clear_parts(folder: BorrowedFd<'_>) {
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_ok_and(|name| name.parse::<Sha256>().is_ok()) {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
    }
}

fn is_empty(folder: &Folder) -> bool {
    // A folder that cannot be listed may hold anything.
    rustix::fs::Dir::read_from(folder.root()).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
    })
}

fn lock(folder: &Folder, parts: &OwnedFd) -> Result<(), TransferError> {
    for _ in 0..LOCK_TRIES {
        match flock(parts, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(folder.error(PARTS, errno)),
        }
    }
    Err(TransferError::Busy {
        path: folder.path().to_path_buf(),
    })
}
