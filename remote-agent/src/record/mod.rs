//! The files of the state folder: where they are, how they are read, and how they are written so that a crash
//! leaves either the old content or the new one.

mod atomic;
mod claim;
mod host;
mod lock;
mod path;
mod run_folder;

pub use atomic::{remove_if_present, sync_folder, write_all_in_place, write_atomically, write_in_place};
pub use host::{boot_id, booted_at, host_id};
pub use lock::Lock;
pub use path::{copy_or_clone, file_sha256, hash_reader, make_private_folder, open_beneath, read_pieces};
pub use run_folder::RunFolder;

use farrun_protocol::{ErrorCode, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};

/// A file of the state folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The content is not what the format says.
    #[error("{}: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file was written by a newer farrun.
    #[error("{} has format {format}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format number.
        format: u64,
    },
}

impl RecordError {
    /// Adds the path to an error of the kernel.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        let code = match &error {
            RecordError::Io { source, .. } => io_code(source),
            RecordError::Damaged { .. } => ErrorCode::Io,
            RecordError::Newer { .. } => ErrorCode::NewerFormat,
        };
        Self::new(code, error)
    }
}

fn io_code(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        _ => ErrorCode::Io,
    }
}

/// Largest JSON record that is read into memory.
const RECORD_LIMIT: u64 = 4 * 1024 * 1024;

/// Reads a whole file of at most `limit` bytes; `None` when there is none.
///
/// # Errors
/// The kernel's, or a file that is larger than that.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RecordError> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecordError::io(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(RecordError::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(RecordError::Damaged {
            path: path.to_owned(),
            detail: format!("is larger than {limit} bytes"),
        });
    }
    Ok(Some(bytes))
}

/// Reads a file that holds one value as text; `None` when there is none.
///
/// # Errors
/// The kernel's, or content that is no such value.
pub fn read_value<T: std::str::FromStr<Err: std::fmt::Display>>(
    path: &Path,
    limit: u64,
) -> Result<Option<T>, RecordError> {
    let Some(bytes) = read_bounded(path, limit)? else {
        return Ok(None);
    };
    let value = String::from_utf8_lossy(&bytes).trim().parse();
    value.map(Some).map_err(|error| RecordError::Damaged {
        path: path.to_owned(),
        detail: format!("{error}"),
    })
}

/// Reads a JSON record that carries a format number; `None` when there is no such file.
///
/// # Errors
/// A newer format, damaged content, or the kernel's.
pub fn read_json<T: DeserializeOwned>(path: &Path, format: u32) -> Result<Option<T>, RecordError> {
    read_json_within(path, format, RECORD_LIMIT)
}

/// As [`read_json`], for one that may have as many as `limit` bytes.
///
/// # Errors
/// As [`read_json`].
pub fn read_json_within<T: DeserializeOwned>(
    path: &Path,
    format: u32,
    limit: u64,
) -> Result<Option<T>, RecordError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u64,
    }
    let Some(bytes) = read_bounded(path, limit)? else {
        return Ok(None);
    };
    let damaged = |error: serde_json::Error| RecordError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
    if head.format > u64::from(format) {
        return Err(RecordError::Newer {
            path: path.to_owned(),
            format: head.format,
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Writes a JSON record so that it appears whole or not at all, and survives a power loss.
///
/// # Errors
/// The kernel's.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec(value).map_err(|error| RecordError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    write_atomically(path, &bytes, 0o600)
}
