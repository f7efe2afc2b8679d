//! What can go wrong while files move.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file operation did not succeed. Remote text in it is not escaped yet; only `ui` may show it.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The stream is not an SFTP server, or the account is not allowed one.
    #[error("host `{host}` did not answer as an SFTP server: {detail}")]
    Handshake {
        /// The host's name.
        host: String,
        /// What came instead.
        detail: String,
    },
    /// The stream ended or failed.
    #[error("the file connection to host `{host}` was lost: {detail}")]
    ConnectionLost {
        /// The host's name.
        host: String,
        /// What the stream said.
        detail: String,
    },
    /// Not a byte moved for too long while answers were due.
    #[error("host `{host}` was silent for {seconds} s while files were moving")]
    Stalled {
        /// The host's name.
        host: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The host sent something that no honest SFTP server sends.
    #[error("host `{host}` broke the SFTP protocol: {detail}")]
    Protocol {
        /// The host's name.
        host: String,
        /// What was wrong.
        detail: String,
    },
    /// There is no such file on the host.
    #[error("`{path}` does not exist on host `{host}`")]
    NotFound {
        /// The host's name.
        host: String,
        /// The path on the host.
        path: String,
    },
    /// The account may not do this.
    #[error("host `{host}` denied access to `{path}`")]
    PermissionDenied {
        /// The host's name.
        host: String,
        /// The path on the host.
        path: String,
    },
    /// The host refused for another reason; a full disk is reported like this too.
    #[error("host `{host}` refused an operation on `{path}`: {detail}")]
    Refused {
        /// The host's name.
        host: String,
        /// The path on the host.
        path: String,
        /// What the server said.
        detail: String,
    },
    /// A file that is read whole is larger than its reader allows.
    #[error("`{path}` on host `{host}` is larger than {limit} bytes")]
    TooLarge {
        /// The host's name.
        host: String,
        /// The path on the host.
        path: String,
        /// The most bytes that were allowed.
        limit: u64,
    },
    /// The bytes on the host are not the ones that were announced.
    #[error("`{path}` on host `{host}` is not what was announced; it changed after it was listed")]
    ChangedWhileReading {
        /// The host's name.
        host: String,
        /// The path on the host.
        path: String,
    },
    /// A name that must not be created below the destination.
    #[error("the host announced a file with an unsafe name: {path:?}")]
    UnsafeName {
        /// The name.
        path: String,
    },
    /// Two names that are one file on some file systems, or a file that is also a folder.
    #[error("the host announced two names that collide: {path:?} and {other:?}")]
    Collision {
        /// The later name.
        path: String,
        /// The earlier one.
        other: String,
    },
    /// An announcement that contradicts itself.
    #[error("the host announced {path:?} wrongly: {detail}")]
    BadAnnouncement {
        /// The name.
        path: String,
        /// The contradiction.
        detail: String,
    },
    /// The local file was not the same at the end of an upload as at its start.
    #[error("`{path}` changed while it was sent")]
    LocalChanged {
        /// The local path.
        path: PathBuf,
    },
    /// The local disk ran full; what was verified so far is kept.
    #[error("the disk is full at `{path}`")]
    LocalDiskFull {
        /// The local path.
        path: PathBuf,
    },
    /// The local disk cannot hold what is about to be fetched.
    #[error("`{path}` has {available} bytes free, {needed} are needed")]
    NotEnoughSpace {
        /// The destination.
        path: PathBuf,
        /// Bytes still to be fetched.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// A symbolic link, or something that is not a plain file or folder, is in the way of a local write.
    #[error("`{path}` is not a plain file or leads through a symbolic link; nothing was written there")]
    NotContained {
        /// The local path.
        path: PathBuf,
    },
    /// Another process fetches into the same destination.
    #[error("another farrun is fetching into `{path}`")]
    Busy {
        /// The destination.
        path: PathBuf,
    },
    /// Any other local failure.
    #[error("`{path}`: {source}")]
    Local {
        /// The local path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl TransferError {
    /// Whether the connection is of no more use, so that only another one can go on.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Handshake { .. }
                | Self::ConnectionLost { .. }
                | Self::Stalled { .. }
                | Self::Protocol { .. }
        )
    }

    /// Whether this machine is the cause, not the host or the way to it.
    pub fn is_here(&self) -> bool {
        self.is_local() || matches!(self, Self::LocalChanged { .. } | Self::NotContained { .. })
    }

    /// Whether going on with other files is pointless.
    pub(super) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::LocalDiskFull { .. } | Self::Local { .. } | Self::NotEnoughSpace { .. } | Self::Busy { .. }
        )
    }

    /// Sorts a local failure at `path` into its kind.
    pub(super) fn local(path: &Path, error: impl Into<io::Error>) -> Self {
        use rustix::io::Errno;
        let source = error.into();
        let path = path.to_path_buf();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::LocalDiskFull { path },
            Some(Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::ISDIR) => Self::NotContained { path },
            _ => Self::Local { path, source },
        }
    }
}
