//! Local folders that no symbolic link leads out of.

use super::TransferError;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::fs::{renameat, renameat_with, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Folders that stay open; more are closed all at once.
const KEPT_OPEN: usize = 128;
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// A folder and everything below it, reached without following a link.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    path: PathBuf,
    open: Mutex<HashMap<String, Arc<OwnedFd>>>,
    /// Folders in which others were made since the last [`Folder::take_unsynced`].
    unsynced: Mutex<BTreeMap<String, Arc<OwnedFd>>>,
}

impl Folder {
    /// Opens `path`, which is the user's own choice and may contain links, and makes it where it is missing.
    pub(super) fn create(path: &Path) -> Result<Self, TransferError> {
        std::fs::create_dir_all(path).map_err(|error| TransferError::local(path, error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| TransferError::local(path, error))?;
        Ok(Self {
            root,
            path: path.to_path_buf(),
            open: Mutex::default(),
            unsynced: Mutex::default(),
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The error for `relative` below this folder.
    pub(super) fn error(&self, relative: &str, errno: Errno) -> TransferError {
        TransferError::local(&self.path.join(relative), errno)
    }

    /// Opens the folder `relative`; None if it is missing and not to be made.
    pub(super) fn folder(&self, relative: &str, make: bool) -> Result<Option<Arc<OwnedFd>>, TransferError> {
        if let Some(known) = self.lock().get(relative) {
            return Ok(Some(Arc::clone(known)));
        }
        let opened = match self.open_beneath(relative, FOLDER) {
            Err(Errno::NOENT) if make => self.make(relative)?,
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|errno| self.error(relative, errno))?,
        };
        let opened = Arc::new(opened);
        let mut open = self.lock();
        if open.len() >= KEPT_OPEN {
            open.clear();
        }
        open.insert(relative.to_owned(), Arc::clone(&opened));
        Ok(Some(opened))
    }

    /// Opens the file `relative` for reading; None if it does not exist.
    pub(super) fn file(&self, relative: &str) -> Result<Option<OwnedFd>, TransferError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match self.open_beneath(relative, flags) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(relative, errno)),
        }
    }

    /// Moves `name` from the folder `from` to `relative`, over an older file but over nothing else.
    pub(super) fn place(
        &self,
        from: BorrowedFd<'_>,
        name: &str,
        relative: &str,
    ) -> Result<Arc<OwnedFd>, TransferError> {
        let (above, leaf) = split(relative);
        let folder = self
            .folder(above, true)?
            .ok_or_else(|| self.error(above, Errno::NOENT))?;
        match renameat_with(from, name, &*folder, leaf, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(folder),
            // Not every file system can refuse to replace; then the look at what is there has to do.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(self.error(relative, errno)),
        }
        match statat(&*folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_file() => {
                return Err(TransferError::NotContained {
                    path: self.path.join(relative),
                });
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.error(relative, errno)),
        }
        renameat(from, name, &*folder, leaf).map_err(|errno| self.error(relative, errno))?;
        Ok(folder)
    }

    /// The folders whose new folders the disk may not have yet, by their paths.
    pub(super) fn take_unsynced(&self) -> BTreeMap<String, Arc<OwnedFd>> {
        std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn make(&self, relative: &str) -> Result<OwnedFd, TransferError> {
        let (above, leaf) = split(relative);
        let parent = self
            .folder(above, true)?
            .ok_or_else(|| self.error(above, Errno::NOENT))?;
        match mkdirat(&*parent, leaf, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
                unsynced.insert(above.to_owned(), Arc::clone(&parent));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error(relative, errno)),
        }
        openat(&*parent, leaf, FOLDER, Mode::empty()).map_err(|errno| self.error(relative, errno))
    }

    fn open_beneath(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let relative = if relative.is_empty() { "." } else { relative };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.root, relative, flags, Mode::empty(), resolve) {
            // Old kernels lack the call, and some sandboxes forbid it.
            Err(Errno::NOSYS | Errno::PERM) => open_step_by_step(self.root(), relative, flags),
            other => other,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a path one part after the other, none of which may be a link.
fn open_step_by_step(root: BorrowedFd<'_>, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (above, leaf) = split(relative);
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        folder = openat(&folder, part, FOLDER, Mode::empty())?;
    }
    openat(&folder, leaf, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// The folder of a path and the name in it.
pub(super) fn split(relative: &str) -> (&str, &str) {
    relative.rsplit_once('/').unwrap_or(("", relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_either_way() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "secret").unwrap();
        std::os::unix::fs::symlink(outside.path(), home.path().join("link")).unwrap();
        std::fs::create_dir(home.path().join("real")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("f"), home.path().join("real/leaf")).unwrap();
        let folder = Folder::create(home.path()).unwrap();
        for path in ["link", "link/sub"] {
            assert!(
                matches!(folder.folder(path, true), Err(TransferError::NotContained { .. })),
                "{path}"
            );
        }
        for path in ["link/f", "real/leaf"] {
            assert!(
                matches!(folder.file(path), Err(TransferError::NotContained { .. })),
                "{path}"
            );
            assert!(
                open_step_by_step(folder.root(), path, OFlags::RDONLY).is_err(),
                "{path}"
            );
        }
        assert!(folder.folder("real/new/deep", true).unwrap().is_some());
        assert!(open_step_by_step(folder.root(), "real/new/deep", FOLDER).is_ok());
        assert!(!outside.path().join("sub").exists());
    }
}
