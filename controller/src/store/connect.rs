//! Connections to SQLite and PostgreSQL, and what the file of a SQLite database must be like.

use super::error::Doing as _;
use super::{Location, StoreError};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long SQLite waits for another process's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a task waits for a connection of ours that other tasks use, or for a server.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const SERVER_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Filesystems that several machines or a hypervisor share: WAL needs memory shared by all who write, which these
/// do not have.
const SHARED: &[(u32, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
];

/// Opens connections without looking at what is in the database.
pub(super) async fn connect(location: &Location, journal: Journal) -> Result<DatabaseConnection, StoreError> {
    let mut options = match location {
        Location::Sqlite(path) => sqlite(path.clone(), journal),
        Location::Postgres(url) => postgres(url),
    };
    // Statements and their values hold prompts and paths; telemetry is no place for them.
    options.sqlx_logging(false).record_stmt_in_spans(false);
    Database::connect(options)
        .await
        .doing(&location.to_string(), "connecting to it")
}

fn sqlite(path: PathBuf, journal: Journal) -> ConnectOptions {
    let mut options = ConnectOptions::new("sqlite://replaced-below");
    options
        // One connection: SQLite has one writer anyway, and tasks of one process then wait in a fair queue.
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .map_sqlx_sqlite_opts(move |options| {
            let options = options
                .filename(&path)
                .create_if_missing(false)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
                .pragma("synchronous", "FULL");
            match journal {
                Journal::Wal => options,
                Journal::Delete => options.pragma("journal_mode", "DELETE"),
            }
        });
    options
}

fn postgres(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(4)
        .connect_timeout(SERVER_TIMEOUT)
        .acquire_timeout(SERVER_TIMEOUT)
        .statement_timeout(STATEMENT_TIMEOUT)
        .set_application_name("farrun");
    options
}

/// How SQLite keeps what is not yet in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// Readers never wait for the writer. Set once, under the lock of [`super::open`].
    Wal,
    /// Works where memory cannot be shared.
    Delete,
}

impl Journal {
    /// What `PRAGMA journal_mode` answers.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Delete => "delete",
        }
    }

    /// What suits the filesystem of this folder.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, StoreError> {
        let facts = rustix::fs::statfs(folder)
            .map_err(|error| file(folder, "looking at the filesystem of")(error.into()))?;
        Ok(Self::of_filesystem(facts.f_type))
    }

    fn of_filesystem(magic: impl TryInto<i64>) -> Self {
        // Only the low 32 bits carry the number, and some platforms extend their sign.
        let magic = magic.try_into().unwrap_or(0) & 0xffff_ffff;
        if SHARED.iter().any(|(known, _)| i64::from(*known) == magic) {
            Self::Delete
        } else {
            Self::Wal
        }
    }
}

/// The folder that holds the database file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes the folder of a database, closed to others, unless it exists.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(file(folder, "making the folder"))
}

/// Whether the file exists; one that others may read is closed to them.
pub(super) fn file_exists(path: &Path) -> Result<bool, StoreError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file(path, "looking at")(error)),
    };
    if metadata.mode() & 0o077 != 0 {
        // By path: closing a descriptor of the file would drop the locks that this process holds on it.
        let closed = fs::Permissions::from_mode(metadata.mode() & 0o700);
        fs::set_permissions(path, closed).map_err(file(path, "closing to others"))?;
    }
    Ok(true)
}

/// Makes an empty file that only its owner may open, for SQLite would make one that others may read.
pub(super) fn make_file(path: &Path) -> Result<(), StoreError> {
    let made = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder(path))
        .map_err(file(path, "making"))?;
    // The descriptor is closed before the file has its name, for the reason in `file_exists`.
    match made.into_temp_path().persist_noclobber(path) {
        Ok(()) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file(path, "making")(error.error)),
    }
}

/// Gives a file error its place.
pub(super) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { path, doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_filesystems_get_no_wal() {
        assert_eq!(Journal::of_filesystem(0x6969_i64), Journal::Delete);
        assert_eq!(
            Journal::of_filesystem(-11_317_950_i64),
            Journal::Delete,
            "CIFS, sign extended"
        );
        assert_eq!(Journal::of_filesystem(0xef53_i64), Journal::Wal, "ext4");
        assert_eq!(Journal::of_filesystem(0x0102_1994_i64), Journal::Wal, "tmpfs");
    }
}
