//! Walking a folder without following links.

use farrun_protocol::manifest::is_safe_path;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Folders within folders that are looked into; [`is_safe_path`] allows no more parts.
const DEEPEST: usize = 32;

/// Something in the folder. Folders themselves appear only when they cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the root, bytes that are not UTF-8 replaced.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file that the account may read.
    File(FileFacts),
    /// A file or folder that the account may not read.
    Unreadable,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Special,
    /// A name no controller would accept.
    Name,
}

/// What tells whether a file is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change of the content, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Last change of anything about it, nanoseconds since 1970.
    pub changed_ns: i64,
}

impl FileFacts {
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "field types differ between platforms"
    )]
    pub(super) fn of(stat: &Stat) -> Self {
        let nanoseconds =
            |seconds: i64, part: i64| seconds.saturating_mul(1_000_000_000).saturating_add(part);
        Self {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode as u32 & 0o777,
            modified_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// Whether the account can list every folder and read every file.
///
/// # Errors
/// The root itself cannot be opened.
pub fn all_readable(root: &Path) -> io::Result<bool> {
    let mut readable = true;
    walk(root, &mut |entry| readable &= entry.kind != EntryKind::Unreadable)?;
    Ok(readable)
}

/// Shows everything below `root` to `visit`, in no particular order.
///
/// # Errors
/// The root itself cannot be opened.
pub fn walk(root: &Path, visit: &mut dyn FnMut(Entry)) -> io::Result<()> {
    let folder = rustix::fs::open(root, folder_flags(), Mode::empty())?;
    list(&folder, "", 0, visit);
    Ok(())
}

pub(super) fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn list(folder: &OwnedFd, prefix: &str, depth: usize, visit: &mut dyn FnMut(Entry)) {
    let Ok(entries) = Dir::read_from(folder) else {
        visit(Entry {
            path: prefix.trim_end_matches('/').to_owned(),
            kind: EntryKind::Unreadable,
        });
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path = format!("{prefix}{}", String::from_utf8_lossy(name.to_bytes()));
        let safe = std::str::from_utf8(name.to_bytes()).is_ok() && is_safe_path(&path);
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            visit(Entry {
                path,
                kind: EntryKind::Unreadable,
            });
            continue;
        };
        let kind = match FileType::from_raw_mode(stat.st_mode as RawMode) {
            FileType::Symlink => EntryKind::Symlink,
            FileType::Directory | FileType::RegularFile if !safe => EntryKind::Name,
            FileType::Directory if depth < DEEPEST => {
                match rustix::fs::openat(folder, name, folder_flags(), Mode::empty()) {
                    Ok(inner) if may_enter(&inner) => {
                        list(&inner, &format!("{path}/"), depth + 1, visit);
                        continue;
                    }
                    _ => EntryKind::Unreadable,
                }
            }
            FileType::Directory => EntryKind::Name,
            FileType::RegularFile => {
                match rustix::fs::accessat(folder, name, rustix::fs::Access::READ_OK, AtFlags::empty()) {
                    Ok(()) => EntryKind::File(FileFacts::of(&stat)),
                    Err(_) => EntryKind::Unreadable,
                }
            }
            _ => EntryKind::Special,
        };
        visit(Entry { path, kind });
    }
}

/// A folder can be readable and still not show what lies in it.
fn may_enter(folder: impl AsFd) -> bool {
    rustix::fs::accessat(folder, ".", rustix::fs::Access::EXEC_OK, AtFlags::empty()).is_ok()
}
