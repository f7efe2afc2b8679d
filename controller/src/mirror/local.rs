//! The locked file: what is in it, and how bytes get there.

use super::MirrorError;
use farrun_protocol::log::TAIL_LENGTH;
use farrun_protocol::{Generation, Sha256};
use rustix::fs::{Advice, FlockOperation, Mode, OFlags, XattrFlags, fadvise};
use sha2::Digest as _;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Bytes read at one time while hashing.
pub(super) const PIECE: u64 = 256 * 1024;
/// From this many bytes on that come at once the disk begins to take them at once.
const MUCH: u64 = 256 * 1024;
/// Most files that one run's logs of earlier lives are kept in. A host makes a log anew when its state folder was lost.
const MOST_ASIDE: u32 = 16;
const GENERATION: &str = "user.farrun.generation";

/// How bytes reach a file: the seam where tests let a disk be full.
pub trait Disk: Send + Sync {
    /// Writes some of `bytes` at `offset`; answers with how many.
    ///
    /// # Errors
    /// What the file system says.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize>;
}

/// The file system itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwrite(file, bytes, offset)?)
    }
}

/// The mirror file while this process holds its lock.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) path: PathBuf,
    file: File,
    length: u64,
    hasher: sha2::Sha256,
    pub(super) generation: Option<Generation>,
    /// Whether every byte in it was compared with the source by this process, or came from it.
    pub(super) proven: bool,
}

impl Local {
    /// Opens the file and takes its lock; none while another process holds it.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, MirrorError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(MirrorError::io(path))?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600));
        let file = File::from(opened.map_err(|error| MirrorError::io(path)(error.into()))?);
        let held = file.metadata().map_err(MirrorError::io(path))?;
        if !held.is_file() {
            return Err(MirrorError::NotAFile {
                path: path.to_owned(),
            });
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(MirrorError::io(path)(error.into())),
        }
        // The holder before us may have renamed the file between our opening and our lock.
        let named = std::fs::symlink_metadata(path).map_err(MirrorError::io(path))?;
        if (named.dev(), named.ino()) != (held.dev(), held.ino()) {
            return Ok(None);
        }
        Ok(Some(Self {
            path: path.to_owned(),
            generation: read_generation(&file),
            file,
            length: 0,
            hasher: sha2::Sha256::new(),
            proven: false,
        }))
    }

    fn io(&self) -> impl FnOnce(io::Error) -> MirrorError + '_ {
        MirrorError::io(&self.path)
    }

    /// Bytes in the file, as of the last [`Self::load`] and what was written since.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Hash of all of them.
    pub(super) fn sha256(&self) -> Sha256 {
        Sha256::from_bytes(self.hasher.clone().finalize().into())
    }

    /// Whether somebody changed the file's length behind our back.
    pub(super) fn is_foreign(&self) -> Result<bool, MirrorError> {
        Ok(self.file.metadata().map_err(self.io())?.len() != self.length)
    }

    /// Reads the file anew; nothing in it counts as proven then.
    pub(super) async fn load(&mut self) -> Result<(), MirrorError> {
        let length = self.file.metadata().map_err(self.io())?.len();
        self.hasher = sha2::Sha256::new();
        self.length = 0;
        self.proven = length == 0;
        let hasher = self.hash_on(sha2::Sha256::new(), 0, length).await?;
        (self.hasher, self.length) = (hasher, length);
        Ok(())
    }

    /// Feeds the bytes `from..to` to a hasher.
    pub(super) async fn hash_on(
        &self,
        mut hasher: sha2::Sha256,
        from: u64,
        to: u64,
    ) -> Result<sha2::Sha256, MirrorError> {
        let mut at = from;
        while at < to {
            let piece = self.read(at, (to - at).min(PIECE))?;
            hasher.update(&piece);
            at += piece.len() as u64;
            tokio::task::yield_now().await;
        }
        Ok(hasher)
    }

    /// Exactly `length` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, MirrorError> {
        let mut bytes = vec![0; length.min(PIECE) as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(self.io())?;
        Ok(bytes)
    }

    /// Hash of the bytes that prove a resume; none when there are none.
    pub(super) fn tail_sha256(&self) -> Result<Option<Sha256>, MirrorError> {
        let tail = self.length.min(TAIL_LENGTH);
        if tail == 0 {
            return Ok(None);
        }
        Ok(Some(Sha256::of(&self.read(self.length - tail, tail)?)))
    }

    /// Appends as many of `bytes` as the disk takes; answers with how many and why not all.
    pub(super) fn append(&mut self, disk: &dyn Disk, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let (start, mut written) = (self.length, 0);
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match disk.write_at(&self.file, rest, self.length) {
                Ok(0) => return (written, Some(io::ErrorKind::StorageFull.into())),
                Ok(count) => {
                    let count = count.min(rest.len());
                    self.hasher.update(rest.get(..count).unwrap_or(rest));
                    self.length += count as u64;
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Some(error)),
            }
        }
        if let Some(much) = NonZeroU64::new(written as u64).filter(|written| written.get() >= MUCH) {
            // The disk begins to take it (`POSIX_FADV_DONTNEED` in Linux' mm/fadvise.c); the sync at the end of a log that is
            // caught up with would wait for all of it. It is of the same open file, and tells what was refused.
            let _ = fadvise(&self.file, start, Some(much), Advice::DontNeed);
        }
        (written, None)
    }

    /// Cuts the file to `length` bytes, whose hasher is `hasher`.
    pub(super) fn truncate(&mut self, length: u64, hasher: sha2::Sha256) -> Result<(), MirrorError> {
        self.file.set_len(length).map_err(self.io())?;
        (self.length, self.hasher) = (length, hasher);
        Ok(())
    }

    /// Remembers which life of the log the bytes are of.
    pub(super) fn set_generation(&mut self, generation: &Generation) {
        if self.generation.as_ref() != Some(generation) {
            self.generation = Some(generation.clone());
            // Not every file system has extended attributes, and a full one may refuse; see the module's doc.
            let _ = rustix::fs::fsetxattr(
                &self.file,
                GENERATION,
                generation.as_str().as_bytes(),
                XattrFlags::empty(),
            );
        }
    }

    /// Puts the file aside under the first free name; its own name is free then.
    pub(super) fn put_aside(self) -> Result<PathBuf, MirrorError> {
        for number in 1..=MOST_ASIDE {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}.old"));
            let aside = PathBuf::from(name);
            let cwd = rustix::fs::CWD;
            match rustix::fs::renameat_with(cwd, &self.path, cwd, &aside, rustix::fs::RenameFlags::NOREPLACE)
            {
                Ok(()) => return Ok(aside),
                Err(rustix::io::Errno::EXIST) => {}
                // A file system without that flag: a look before the rename is the best there is.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    if std::fs::symlink_metadata(&aside).is_err() {
                        std::fs::rename(&self.path, &aside).map_err(self.io())?;
                        return Ok(aside);
                    }
                }
                Err(error) => return Err(self.io()(error.into())),
            }
        }
        Err(self.io()(io::ErrorKind::AlreadyExists.into()))
    }

    /// Brings the bytes and the file's name to the disk.
    pub(super) async fn sync(&self) -> Result<(), MirrorError> {
        let file = self.file.try_clone().map_err(self.io())?;
        let folder = self.path.parent().map(Path::to_owned);
        let synced = tokio::task::spawn_blocking(move || {
            file.sync_all()?;
            folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        });
        let synced = synced.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        synced.map_err(self.io())
    }
}

fn read_generation(file: &File) -> Option<Generation> {
    let mut value = [0; 64];
    let length = rustix::fs::fgetxattr(file, GENERATION, &mut value).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.parse().ok()
}

/// Whether an error says that there is no room, now.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
