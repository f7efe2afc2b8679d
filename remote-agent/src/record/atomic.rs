//! Writing whole files.

use super::RecordError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes names and renames of a folder survive a power loss.
///
/// # Errors
/// The kernel's.
pub fn sync_folder(folder: &Path) -> Result<(), RecordError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(RecordError::io(folder))
}

/// Writes `bytes` under a temporary name, fsyncs, renames over `path` and fsyncs the folder.
///
/// # Errors
/// The kernel's; the temporary file is gone then.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RecordError> {
    write_unsynced(path, bytes, mode)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// As [`write_atomically`], but leaves it to the caller to sync the folder.
fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RecordError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let written = write_new(&temporary, bytes, mode).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(RecordError::io(path)(error));
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    // The umask may have taken bits away that another user needs.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    if bytes.is_empty() {
        return Ok(());
    }
    file.sync_all()
}

/// Makes a file with these bytes and this mode unless it is already there; for files that others hold open or
/// that are bind-mounted, which must never be replaced.
///
/// # Errors
/// The kernel's.
pub fn write_in_place(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RecordError> {
    if path.exists() {
        return Ok(());
    }
    write_atomically(path, bytes, mode)
}

/// As [`write_in_place`], for several files of one folder, which is synced once. Empty files have nothing else to sync.
///
/// # Errors
/// The kernel's.
pub fn write_all_in_place(folder: &Path, files: &[(&str, &[u8], u32)]) -> Result<(), RecordError> {
    let mut made = false;
    for (name, bytes, mode) in files {
        let path = folder.join(name);
        if !path.exists() {
            write_unsynced(&path, bytes, *mode)?;
            made = true;
        }
    }
    match made {
        true => sync_folder(folder),
        false => Ok(()),
    }
}

/// Removes a file that may be gone already.
///
/// # Errors
/// The kernel's, except that there is no such file.
pub fn remove_if_present(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RecordError::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_replaced_whole_with_the_mode_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_atomically(&path, b"one", 0o666).unwrap();
        write_atomically(&path, b"two", 0o666).unwrap();
        write_in_place(&path, b"three", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o666
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
