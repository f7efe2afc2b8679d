//! What can go wrong with a mirror.

use super::SourceError;
use farrun_protocol::RunId;
use std::io;
use std::path::{Path, PathBuf};

/// A mirror cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The file system refused.
    #[error("the log file `{}` cannot be used", path.display())]
    Io {
        /// The mirror file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a plain file has its name.
    #[error("`{}` is not a plain file", path.display())]
    NotAFile {
        /// The mirror file.
        path: PathBuf,
    },
    /// The source did not answer; what was written stays.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source contradicts itself again and again.
    #[error("the host's answers about the log of `{run_id}` contradict each other")]
    Contradiction {
        /// The run.
        run_id: RunId,
    },
    /// The source sends more than the log can have.
    #[error("more than {most} bytes came of the log of `{run_id}`, which cannot have more")]
    TooLong {
        /// The run.
        run_id: RunId,
        /// What it can have at most.
        most: u64,
    },
    /// The complete log was fetched twice and is not what the host says it is.
    #[error("the log of `{run_id}` does not have the length and hash that its host names")]
    Damaged {
        /// The run.
        run_id: RunId,
        /// Bytes here.
        length: u64,
        /// Bytes the host names.
        expected: u64,
    },
}

impl MirrorError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
