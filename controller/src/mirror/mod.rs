//! The local file that is a byte prefix of a run's log, and equal to it once the run is over.
//!
//! The file's length is the only cursor. What lies in it is proven against the source before anything is added:
//! the last bytes by the hash that goes with the first request, the whole by a prefix hash once per [`Mirror`].
//! A part that cannot be proven is cut off and fetched again, and that is reported. The generation of the log is
//! remembered in an extended attribute where the file system has them; it is no cursor and may be missing, for
//! the prefix hash alone proves that our bytes are bytes of today's log. What it adds is that a log that was
//! replaced is told from a local file that was damaged: the old file is then kept under another name.
//!
//! One process writes a mirror (an exclusive flock says so). Others follow the source without writing, and take
//! over when the writer is gone.
//!
//! It does not reconnect: a lost source ends [`Mirror::follow`], and the caller follows again with a new one.
//!
//! * `follow`: what it is asked and what it tells; `stream`: the loop from request to file and reader
//! * `ahead`: requests that are under way
//! * `local`: the locked file
//! * `prove`: what is done about a file that may not be of the log
//! * `repair`: the longest common prefix
//! * [`read`]: the file alone, without a source

mod ahead;
mod error;
mod follow;
mod local;
mod prove;
pub mod read;
mod repair;
mod source;
mod stream;

pub use error::MirrorError;
pub use follow::{Event, Followed, From, Mirror, Options, Until};
pub use local::{Disk, RealDisk};
pub use source::{LogSource, SourceError};

#[cfg(test)]
mod tests;
