//! What can go wrong between us and the database.

use crate::model::RunStatus;
use farrun_protocol::{PromptId, RunId};
use sea_orm::sqlx;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// What can go wrong between us and the database. No variant shows a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A host of this name is there already.
    #[error("host `{name}` exists already")]
    HostExists {
        /// Its name.
        name: String,
    },
    /// There is no host of this name.
    #[error("there is no host `{name}`")]
    HostUnknown {
        /// The name.
        name: String,
    },
    /// Another prompt has this name.
    #[error("there is a prompt named `{name}` already")]
    PromptNameTaken {
        /// The name.
        name: String,
    },
    /// A prompt cannot be deleted without its runs.
    #[error("prompt {prompt} has {runs} run(s)")]
    PromptHasRuns {
        /// The prompt.
        prompt: PromptId,
        /// How many.
        runs: u64,
    },
    /// There is no such run.
    #[error("there is no run {run}")]
    RunUnknown {
        /// Its id.
        run: RunId,
    },
    /// A run of this id is there already.
    #[error("run {run} exists already")]
    RunExists {
        /// Its id.
        run: RunId,
    },
    /// A run may not go from one state to another.
    #[error("run {run} cannot become {to}: it is {from}")]
    IllegalTransition {
        /// The run.
        run: RunId,
        /// Where it stands.
        from: RunStatus,
        /// Where it was to go.
        to: RunStatus,
    },
    /// The path of a mirror does not fit.
    #[error("the log path of run {run} has {length} characters, more than {limit}", limit = crate::model::run::MAX_LOG_PATH)]
    LogPathTooLong {
        /// The run.
        run: RunId,
        /// Characters it has.
        length: usize,
    },
    /// A value cannot be kept by both databases.
    #[error("{field} of {of} cannot be stored: {problem}")]
    Unstorable {
        /// Which record.
        of: String,
        /// Which field.
        field: &'static str,
        /// Why not.
        problem: &'static str,
    },
    /// A row does not hold what this program writes.
    #[error("the row of {of} in database {database} is damaged: {problem}")]
    Damaged {
        /// Which database.
        database: String,
        /// Which record.
        of: String,
        /// What was found.
        problem: String,
    },
    /// A newer version of this program has changed the schema.
    #[error("database {database} was written by a newer version of farrun (it has `{migration}`)")]
    DatabaseNewer {
        /// Which database.
        database: String,
        /// The first migration that is unknown here.
        migration: String,
    },
    /// The SQLite that was linked can corrupt a database that several processes write.
    #[error("SQLite {found} can corrupt a database that several processes write; 3.51.3 is needed")]
    OldSqlite {
        /// Its version.
        found: String,
    },
    /// A location was not understood.
    #[error("`{location}` names no database: {problem}")]
    Location {
        /// What was given, without its password.
        location: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The database's file, lock or folder could not be used.
    #[error("{doing} {path:?}")]
    File {
        /// Which path.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The database refused.
    #[error("database {database}: {doing}: {kind}")]
    Database {
        /// Which database.
        database: String,
        /// What was attempted.
        doing: &'static str,
        /// The cause, as far as it is known.
        kind: Trouble,
        /// What the database said.
        source: Box<DbErr>,
    },
}

/// Why a database refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// No space is left where it lies.
    DiskFull,
    /// It may only be read.
    ReadOnly,
    /// Others held it for longer than we wait.
    Locked,
    /// It does not answer.
    Unreachable,
    /// The server answers and has no database of that name.
    Absent,
    /// It refuses our name or password.
    Denied,
    /// It is not a database, or its pages are damaged.
    Malformed,
    /// Something else; see the source.
    Other,
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DiskFull => "no space is left",
            Self::ReadOnly => "it can only be read",
            Self::Locked => "other processes keep it locked",
            Self::Unreachable => "it does not answer",
            Self::Absent => "the server has no such database",
            Self::Denied => "it refuses the user or password",
            Self::Malformed => "it is not a database, or damaged",
            Self::Other => "it refused",
        })
    }
}

impl StoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::DatabaseNewer { .. } => "use the newer version of farrun",
            Self::PromptHasRuns { .. } => "delete its runs with it, or keep it",
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => FULL,
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check who owns the folder of the database"
            }
            Self::Database { kind, .. } => match kind {
                Trouble::DiskFull => FULL,
                Trouble::ReadOnly => "check the permissions of the database and its folder",
                Trouble::Locked => "end the process that holds the database, or try again",
                Trouble::Unreachable => "check that the database server runs and its address is right",
                Trouble::Absent => "make it there with `createdb`, or check the name at the end of the URL",
                Trouble::Denied => "check user and password in the database's URL",
                Trouble::Malformed => {
                    "restore the database from a copy, or name another with `FARRUN_DATABASE`"
                }
                Trouble::Other => return None,
            },
            _ => return None,
        })
    }

    /// The cause, when the database itself refused.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Database { kind, .. } => Some(*kind),
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => Some(Trouble::DiskFull),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    Some(Trouble::ReadOnly)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

const FULL: &str = "free some space where the database lies";

/// Tells the cause from an error code of SQLite or PostgreSQL.
pub(super) fn classify(error: &DbErr) -> Trouble {
    let (DbErr::Conn(RuntimeErr::SqlxError(source))
    | DbErr::Exec(RuntimeErr::SqlxError(source))
    | DbErr::Query(RuntimeErr::SqlxError(source))) = error
    else {
        return match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Trouble::Locked,
            _ => Trouble::Other,
        };
    };
    match &**source {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            let of_sqlite = error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some();
            if of_sqlite {
                of_sqlite_code(&code)
            } else {
                of_postgres_code(&code)
            }
        }
        sqlx::Error::PoolTimedOut => Trouble::Unreachable,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Trouble::Unreachable,
        _ => Trouble::Other,
    }
}

/// The low byte of an extended result code is the primary one.
fn of_sqlite_code(code: &str) -> Trouble {
    match code.parse::<u32>().unwrap_or(0) & 0xff {
        5 | 6 => Trouble::Locked,
        8 | 14 => Trouble::ReadOnly,
        11 | 26 => Trouble::Malformed,
        13 => Trouble::DiskFull,
        _ => Trouble::Other,
    }
}

fn of_postgres_code(code: &str) -> Trouble {
    match code {
        "53100" => Trouble::DiskFull,
        "25006" | "42501" => Trouble::ReadOnly,
        "40001" | "40P01" | "55P03" | "57014" => Trouble::Locked,
        "3D000" => Trouble::Absent,
        _ if code.starts_with("28") => Trouble::Denied,
        _ if code.starts_with("08") || code.starts_with("57P") || code == "53300" => Trouble::Unreachable,
        _ => Trouble::Other,
    }
}

/// Gives a database error its place.
pub(super) trait Doing<T> {
    /// Names the database and what was attempted.
    fn doing(self, database: &str, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, DbErr> {
    fn doing(self, database: &str, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database {
            database: database.to_owned(),
            doing,
            kind: classify(&source),
            source: Box::new(source),
        })
    }
}

/// Whether a row was refused because its key exists.
pub(super) fn is_duplicate(error: &DbErr) -> bool {
    matches!(
        error.sql_err(),
        Some(sea_orm::SqlErr::UniqueConstraintViolation(_))
    )
}
