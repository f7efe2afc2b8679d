//! Opening what another user wrote; runs as root in a short container with nothing but the folder in it.

use super::walk::folder_flags;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, fchmod};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Folders within folders that are opened; the account's own removal goes no deeper either.
const DEEPEST: usize = 256;

/// What other users get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read files and list folders.
    Read,
    /// Also to change and remove them.
    Write,
}

/// Adds permissions to everything below `root`, never following a link.
///
/// # Errors
/// The first refusal; everything else is opened nevertheless.
pub fn open(root: &Path, access: Access) -> io::Result<()> {
    let folder = rustix::fs::open(root, folder_flags(), Mode::empty())?;
    let mut refused = None;
    open_folder(&folder, access, 0, &mut refused);
    refused.map_or(Ok(()), Err)
}

fn bits(access: Access) -> RawMode {
    match access {
        Access::Read => 0o644,
        Access::Write => 0o666,
    }
}

fn open_folder(folder: &OwnedFd, access: Access, depth: usize, refused: &mut Option<io::Error>) {
    let opened =
        add(folder, bits(access) | 0o111).and_then(|()| Dir::read_from(folder).map_err(io::Error::from));
    let entries = match opened {
        Ok(entries) => entries,
        Err(error) => {
            refused.get_or_insert(error);
            return;
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let outcome = match FileType::from_raw_mode(stat.st_mode as RawMode) {
            FileType::Directory if depth < DEEPEST => {
                rustix::fs::openat(folder, name, folder_flags(), Mode::empty())
                    .map(|inner| open_folder(&inner, access, depth + 1, refused))
                    .map_err(io::Error::from)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::openat(folder, name, flags, Mode::empty())
                    .map_err(io::Error::from)
                    .and_then(|file| add(&file, bits(access) | execute_bits(stat.st_mode as RawMode)))
            }
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            refused.get_or_insert(error);
        }
    }
}

/// What its owner may execute, everyone may.
fn execute_bits(mode: RawMode) -> RawMode {
    if mode & 0o100 == 0 { 0 } else { 0o111 }
}

fn add(file: &OwnedFd, bits: RawMode) -> io::Result<()> {
    let mode = rustix::fs::fstat(file)?.st_mode as RawMode & 0o777;
    if mode & bits == bits {
        return Ok(());
    }
    Ok(fchmod(file, Mode::from_raw_mode(mode | bits))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn everything_is_opened_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::write(&outside, b"x").unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("inner")).unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let get = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::write(root.join("inner/file"), b"x").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        set(&outside, 0o600);
        set(&root.join("inner/file"), 0o600);
        set(&root.join("inner"), 0o700);
        open(&root, Access::Read).unwrap();
        assert_eq!(get(&root.join("inner/file")), 0o644);
        assert_eq!(get(&root.join("inner")), 0o755);
        assert_eq!(get(&outside), 0o600);
    }
}
