//! Space of a file system.

use farrun_protocol::doctor::SpaceFacts;
use std::io;
use std::path::Path;

/// Space where `path` lies.
pub(crate) fn of(path: &Path) -> io::Result<SpaceFacts> {
    let found = rustix::fs::statvfs(path)?;
    Ok(SpaceFacts {
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_favail,
    })
}
