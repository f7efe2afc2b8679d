//! What following a log is asked with, and what it tells.

use super::local::{Disk, Local, RealDisk};
use super::stream::Session;
use super::{LogSource, MirrorError};
use farrun_protocol::log::LogEnd;
use farrun_protocol::{Generation, RunId};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The local file of one run's log.
pub struct Mirror {
    pub(super) path: PathBuf,
    pub(super) run_id: RunId,
    /// Most bytes the log can have.
    pub(super) most: u64,
    /// How often the file was cut or put aside because the source said so.
    pub(super) upheavals: u32,
    pub(super) disk: Arc<dyn Disk>,
    /// None while another process writes.
    pub(super) local: Option<Local>,
    /// Log bytes before the next one that is told; none until it is known where the last lines begin.
    pub(super) told: Option<u64>,
    /// The life of the log that `told` counts in.
    pub(super) generation: Option<Generation>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Mirror")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Where telling begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the first byte.
    Start,
    /// With the byte that so many lie before.
    Offset(u64),
    /// With so many last lines of what there is when the mirror has caught up.
    Lines(u64),
    /// Where the last [`Mirror::follow`] of this mirror stopped.
    Told,
}

/// When following is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When the log is complete.
    End,
    /// When everything is here that the job has written by now.
    Now,
}

/// How to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where telling begins. The file is always filled from its start.
    pub from: From,
    /// When it is done.
    pub until: Until,
    /// First pause before trying again when the disk is full; each next one is twice as long, up to 5 s.
    pub pause: Duration,
}

impl Options {
    /// Tells from `from` on until the log is complete.
    pub fn to_the_end(from: From) -> Self {
        Self {
            from,
            until: Until::End,
            pause: Duration::from_millis(250),
        }
    }

    /// Tells from `from` on what there is now.
    pub fn for_now(from: From) -> Self {
        Self {
            until: Until::Now,
            ..Self::to_the_end(from)
        }
    }
}

/// What happens while a log is followed, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// What the job wrote. Told once each, without a gap, unless an event in between says otherwise.
    Bytes(&'a [u8]),
    /// The file held bytes that are not of the log: damaged ones, or ones that the host lost with its power. They were
    /// cut off, and what the host has instead is fetched; telling goes on
    /// from `kept` where more had been told.
    Repaired {
        /// Bytes that were in the file.
        had: u64,
        /// Bytes that stayed.
        kept: u64,
    },
    /// The host has another log now. Telling begins anew with its first byte.
    Replaced {
        /// Where the file with the old log lies now; none when another process has it.
        kept: Option<&'a Path>,
    },
    /// The local disk is full. Following waits until there is room.
    DiskFull,
    /// There is room again.
    DiskFreed,
    /// Another process writes the file; the log is told from the source meanwhile.
    WrittenElsewhere,
    /// The other process is gone, and this one writes.
    TookOver,
}

/// How following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Log bytes before the end of what was fetched.
    pub length: u64,
    /// Length and hash of the complete log, once it is.
    pub end: Option<LogEnd>,
    /// Whether the local file was compared with them and lies on the disk. False for a complete log that another
    /// process writes here.
    pub complete: bool,
}

impl Mirror {
    /// Opens the mirror of a run whose log has at most `most` bytes, and makes its folders. Where another process writes
    /// the same file, this one will follow without writing.
    ///
    /// # Errors
    /// The file system refuses, or something else than a plain file has the name.
    pub fn open(path: &Path, run_id: &RunId, most: u64) -> Result<Self, MirrorError> {
        Self::open_on(path, run_id, most, Arc::new(RealDisk))
    }

    /// Opens a mirror whose bytes go through `disk`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(path: &Path, run_id: &RunId, most: u64, disk: Arc<dyn Disk>) -> Result<Self, MirrorError> {
        let local = Local::open(path)?;
        Ok(Self {
            generation: None,
            path: path.to_owned(),
            run_id: run_id.clone(),
            most,
            upheavals: 0,
            disk,
            local,
            told: Some(0),
        })
    }

    /// Log bytes before the next one that would be told; none when nothing was told of last lines yet.
    pub fn told(&self) -> Option<u64> {
        self.told
    }

    /// Fetches, writes and tells until it is done. Dropping the future at any point leaves a prefix of the log
    /// in the file; so does every error. After one, follow again with a new source, [`From::Told`].
    ///
    /// # Errors
    /// The source is lost or refuses, the file system does (other than by being full), or what the host says
    /// cannot be true.
    pub async fn follow<S: LogSource>(
        &mut self,
        source: &S,
        options: Options,
        sink: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Followed, MirrorError> {
        match options.from {
            From::Start => self.told = Some(0),
            From::Offset(offset) => self.told = Some(offset),
            From::Lines(_) => self.told = None,
            From::Told => {}
        }
        Session::new(self, source, options, sink).run().await
    }
}
