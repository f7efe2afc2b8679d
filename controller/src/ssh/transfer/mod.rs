//! Moves files over SFTP: verified, resumable, contained, and as fast as the link allows.
//!
//! [`Sftp`] is one session over an opened byte stream. [`Transfer`] spreads a download over several of them, [`Upload`] an upload.
//! Control packets are coded by russh-sftp; packets that carry a file handle are coded in `wire`, because
//! OpenSSH's handles are binary and the crate reads them as text. Replies are matched to requests here too, so
//! that a request is late when the host is silent and not when the queue before it is long.
//!
//! A downloaded file lies in `.farrun-part` below the destination until every block of it, or the whole where there
//! is only one, has the hash that was announced. Only then does it get its mode, its time, a sync and its final name.

mod buffers;
mod commit;
mod destination;
mod download;
mod error;
mod file;
mod folder;
mod growth;
mod job;
mod lane;
mod outgoing;
mod progress;
mod proof;
mod queue;
mod sending;
mod session;
mod sftp;
mod upload;
mod wanted;
mod window;
mod wire;

pub use destination::is_busy;
pub use download::{DownloadOptions, Report, Transfer};
pub use error::TransferError;
pub use growth::More;
pub use outgoing::Outgoing;
pub use progress::Progress;
pub use session::Timing;
pub use sftp::{FileFacts, Sftp};
pub use upload::{Told, Upload};
pub use wanted::{Packed, Wanted};
