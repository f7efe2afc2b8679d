//! Opening, hashing and copying files that a job may have laid out to deceive.

use super::RecordError;
use farrun_protocol::Sha256;
use rustix::fs::{Mode, OFlags};
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes a folder that only the account can enter, with its parents.
///
/// # Errors
/// The kernel's.
pub fn make_private_folder(path: &Path) -> Result<(), RecordError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(RecordError::io(path))
}

/// Opens the regular file at `relative` below `root` without following a symbolic link anywhere on the way.
///
/// # Errors
/// The kernel's; `InvalidInput` when it is not a regular file.
pub fn open_beneath(root: &Path, relative: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder: OwnedFd = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let (parents, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        folder = rustix::fs::openat(&folder, part, flags | OFlags::DIRECTORY, Mode::empty())?;
    }
    // Without NONBLOCK a pipe of that name would hold us until somebody writes to it.
    let file = rustix::fs::openat(&folder, name, flags | OFlags::NONBLOCK, Mode::empty())?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// Hash of the first `length` bytes a reader gives, and how many there were.
///
/// # Errors
/// The reader's.
pub fn hash_reader(reader: impl Read, length: u64) -> io::Result<(Sha256, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut total = 0;
    read_pieces(reader.take(length), |piece| {
        hasher.update(piece);
        total += piece.len() as u64;
    })?;
    Ok((Sha256::from_bytes(hasher.finalize().into()), total))
}

/// Hands on what there is to read, piece by piece.
///
/// # Errors
/// The reader's.
pub fn read_pieces(mut reader: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hash and length of a whole file.
///
/// # Errors
/// The kernel's.
pub fn file_sha256(path: &Path) -> Result<(Sha256, u64), RecordError> {
    File::open(path)
        .and_then(|file| hash_reader(file, u64::MAX))
        .map_err(RecordError::io(path))
}

/// Makes `target` (new, with `mode`) with the content of `source`: sharing blocks where the file system can,
/// else as a copy. The two never share an inode, so writing to one leaves the other alone. The copy is not synced.
///
/// # Errors
/// The kernel's; a half-made target is removed.
pub fn copy_or_clone(source: &mut File, target: &Path, mode: u32) -> Result<(), RecordError> {
    let copied = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(target)
        .and_then(|mut file| {
            if rustix::fs::ioctl_ficlone(&file, &*source).is_err() {
                io::copy(source, &mut file)?;
            }
            file.flush()?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            Ok(())
        });
    copied.map_err(|error| {
        let _ = std::fs::remove_file(target);
        RecordError::io(target)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(folder.path().join("secret"), b"s").unwrap();
        std::fs::write(root.join("a/file"), b"f").unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), root.join("link")).unwrap();
        assert!(open_beneath(&root, "a/file").is_ok());
        assert!(open_beneath(&root, "out/secret").is_err());
        assert!(open_beneath(&root, "link").is_err());
        assert!(open_beneath(&root, "a").is_err());
    }
}
