//! The folder of the locks, and how its files are opened: every account of the host writes here, so nothing in it is
//! believed before it was looked at.

use super::lock_file::Holder;
use farrun_protocol::{ErrorCode, Failure, layout};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two tries for a lock that another has.
const APART: Duration = Duration::from_millis(10);
/// Mode of the folder: everybody may make files, nobody may remove another's.
const FOLDER_MODE: u32 = 0o1777;
/// Mode of a file that every account locks.
const FILE_MODE: u32 = 0o666;

/// The folder cannot be used; no run with GPUs is started then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct LocksUnusable {
    /// What cannot be used.
    pub path: PathBuf,
    /// Why.
    pub cause: String,
}

impl From<LocksUnusable> for Failure {
    fn from(error: LocksUnusable) -> Self {
        Self::new(ErrorCode::LocksUnusable, error)
    }
}

/// The folder that all accounts of this host share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFolder {
    path: PathBuf,
}

impl LockFolder {
    /// The folder of this host, made if it is missing: `wanted` when that is set, else the first of
    /// [`layout::LOCK_FOLDERS`] whose parent exists. Whether one account can use it plays no part in that choice,
    /// for two accounts that chose differently would not see one another.
    ///
    /// # Errors
    /// It cannot be made, or is not a folder.
    pub fn open(wanted: Option<&Path>) -> Result<Self, LocksUnusable> {
        let path = match wanted {
            Some(path) => path.to_owned(),
            None => usual(&layout::LOCK_FOLDERS),
        };
        let unusable = |cause: String| LocksUnusable {
            path: path.clone(),
            cause,
        };
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&path).map_err(|error| unusable(error.to_string()))?;
            }
            Err(error) => return Err(unusable(error.to_string())),
            Ok(_) => {}
        }
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self { path }),
            Ok(_) => Err(unusable("is not a folder".to_owned())),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    /// Opens the lock that every order for GPUs takes first, as an order would.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn try_out(&self) -> Result<(), LocksUnusable> {
        self.find_or_make(super::allocator::NAME).map(drop)
    }

    /// Takes a lock of it, waiting for at most `patience`; answers with who has it when that was not enough. Blocks.
    ///
    /// # Errors
    /// Its file cannot be used.
    pub(crate) fn lock_within(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<Result<File, String>, LocksUnusable> {
        let deadline = Instant::now() + patience;
        loop {
            let file = self.find_or_make(name)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if self.is_current(name, &file) => {
                    super::allocator::note(&file, &own());
                    return Ok(Ok(file));
                }
                Ok(()) | Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => {
                    return Err(LocksUnusable {
                        path: self.path.join(name),
                        cause: error.to_string(),
                    });
                }
            }
            if Instant::now() >= deadline {
                return Ok(Err(super::allocator::who(&file)));
            }
            std::thread::sleep(APART);
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file of it that exists; `None` when it does not.
    ///
    /// # Errors
    /// It is a link, no regular file, or not open to this account.
    pub(super) fn find(&self, name: &str) -> Result<Option<File>, LocksUnusable> {
        self.open_file(name, OFlags::RDWR)
    }

    /// As [`Self::find`], for a file that its owner alone writes.
    pub(crate) fn find_to_read(&self, name: &str) -> Result<Option<File>, LocksUnusable> {
        self.open_file(name, OFlags::RDONLY)
    }

    fn open_file(&self, name: &str, access: OFlags) -> Result<Option<File>, LocksUnusable> {
        let path = self.path.join(name);
        let unusable = |cause: String| LocksUnusable {
            path: path.clone(),
            cause,
        };
        // Without CREATE: in a sticky folder the kernel refuses that for files of other accounts.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(unusable("is a symbolic link".to_owned())),
            Err(error) => return Err(unusable(error.to_string())),
        };
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(Some(file)),
            Ok(_) => Err(unusable("is not a regular file".to_owned())),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    /// As [`Self::find`], and makes the file when it is missing.
    ///
    /// # Errors
    /// As there, or it cannot be made.
    pub(super) fn find_or_make(&self, name: &str) -> Result<File, LocksUnusable> {
        let path = self.path.join(name);
        let unusable = |cause: String| LocksUnusable {
            path: path.clone(),
            cause,
        };
        for _ in 0..3 {
            if let Some(file) = self.find(name)? {
                return Ok(file);
            }
            self.make_file(name)
                .map_err(|error| unusable(error.to_string()))?;
        }
        Err(unusable("is removed as often as it is made".to_owned()))
    }

    /// The file gets its name when it has its mode: the umask takes bits away from a new file, and nobody must find
    /// it without them.
    fn make_file(&self, name: &str) -> io::Result<()> {
        let temporary = self.path.join(temporary_name());
        let made = File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE)))
            .and_then(|()| name_it(&temporary, &self.path.join(name)));
        if made.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }

    /// Whether `file` is what `name` leads to now; a tidying system removes files of temporary folders.
    pub(super) fn is_current(&self, name: &str, file: &File) -> bool {
        let (Ok(opened), Ok(named)) = (file.metadata(), std::fs::symlink_metadata(self.path.join(name)))
        else {
            return false;
        };
        (opened.dev(), opened.ino()) == (named.dev(), named.ino())
    }
}

/// Who we are, for people.
fn own() -> Holder {
    Holder {
        run_id: None,
        user: Some(super::account()),
        pid: None,
        since: None,
        shared: false,
    }
}

fn usual(folders: &[&str]) -> PathBuf {
    let has_parent = |folder: &&&str| Path::new(folder).parent().is_some_and(Path::is_dir);
    folders
        .iter()
        .find(has_parent)
        .or(folders.last())
        .map(PathBuf::from)
        .unwrap_or_default()
}

fn temporary_name() -> String {
    format!(".farrun-{}", uuid::Uuid::new_v4().simple())
}

fn make(path: &Path) -> io::Result<()> {
    let temporary = path.with_file_name(temporary_name());
    let made = std::fs::create_dir(&temporary)
        .and_then(|()| std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(FOLDER_MODE)))
        .and_then(|()| name_it(&temporary, path));
    if made.is_err() {
        let _ = std::fs::remove_dir(&temporary);
    }
    made
}

/// Gives a new file or folder its name unless somebody else was first, which is as good.
fn name_it(temporary: &Path, path: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, temporary, cwd, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let folder = std::fs::symlink_metadata(temporary)?.is_dir();
            let flags = if folder {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            Ok(rustix::fs::unlinkat(cwd, temporary, flags)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folder_and_files_are_open_to_all_whatever_the_umask() {
        let below = tempfile::tempdir().unwrap();
        let path = below.path().join("locks");
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let folder = LockFolder::open(Some(&path)).unwrap();
                    folder
                        .find_or_make("gpu-a.lock")
                        .unwrap()
                        .metadata()
                        .unwrap()
                        .ino()
                })
            })
            .collect();
        let found: Vec<u64> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!((mode(&path), mode(&path.join("gpu-a.lock"))), (0o1777, 0o666));
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(below.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_plain_file_is_refused_with_its_path() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        std::fs::write(below.path().join("target"), "x").unwrap();
        std::os::unix::fs::symlink("target", below.path().join("link")).unwrap();
        std::fs::create_dir(below.path().join("folder")).unwrap();
        for (name, cause) in [("link", "symbolic link"), ("folder", "irectory")] {
            let error = folder.find_or_make(name).unwrap_err();
            assert_eq!(error.path, below.path().join(name));
            assert!(error.cause.contains(cause), "{error}");
        }
        let pipe = std::process::Command::new("mkfifo")
            .arg(below.path().join("pipe"))
            .status();
        assert!(pipe.unwrap().success());
        assert!(folder.find("pipe").unwrap_err().cause.contains("regular"));
        let link = below.path().join("elsewhere");
        std::os::unix::fs::symlink(below.path(), &link).unwrap();
        assert_eq!(
            LockFolder::open(Some(&link)).unwrap_err().cause,
            "is not a folder"
        );
        assert!(LockFolder::open(Some(&below.path().join("no/such"))).is_err());
    }

    #[test]
    fn the_choice_follows_from_the_host_alone() {
        let below = tempfile::tempdir().unwrap();
        let (first, second) = (below.path().join("a/farrun"), below.path().join("b/farrun"));
        let folders = [first.to_str().unwrap(), second.to_str().unwrap()];
        std::fs::create_dir(below.path().join("b")).unwrap();
        assert_eq!(usual(&folders), second);
        std::fs::create_dir(below.path().join("a")).unwrap();
        assert_eq!(usual(&folders), first);
    }
}
