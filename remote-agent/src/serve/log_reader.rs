//! One open run log and what wakes its readers.

use super::settle::OpenOutput;
use super::turns::Turns;
use crate::record::{RecordError, RunFolder};
use farrun_protocol::{Failure, Generation, Sha256, log::TAIL_LENGTH};
use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// File systems without events, and hosts without free watches, are looked at this often.
const POLL: Duration = Duration::from_secs(1);
/// As [`POLL`], for a second reader of the same log, which gets no events.
const POLL_BESIDE: Duration = Duration::from_millis(100);

/// An open run log.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    file: File,
    pub(crate) generation: Generation,
    events: Mutex<Option<Events>>,
    /// Whose turn it is among requests that were sent ahead.
    pub(crate) turns: Turns,
    /// When the engine was last asked whether the run has ended.
    pub(crate) last_look: std::sync::Mutex<Option<Instant>>,
    /// The engine's stream, where the engine captures.
    pub(crate) output: Mutex<OpenOutput>,
}

struct Events(EventStream<Vec<u8>>);

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Events")
    }
}

impl LogReader {
    pub(crate) fn open(folder: &RunFolder) -> Result<Self, Failure> {
        let path = folder.log();
        let unknown = || super::session::unknown(folder.run_id());
        let generation = folder.generation()?.ok_or_else(unknown)?;
        // Watching begins before the first length is read, so no byte between the two goes unnoticed.
        let events = watch(&folder.record());
        let file = File::open(&path).map_err(RecordError::io(&path))?;
        Ok(Self {
            path,
            file,
            generation,
            events: Mutex::new(events),
            turns: Turns::default(),
            last_look: std::sync::Mutex::new(None),
            output: Mutex::default(),
        })
    }

    /// Length of the log now.
    pub(crate) fn length(&self) -> Result<u64, RecordError> {
        let log = self.file.metadata().map_err(RecordError::io(&self.path))?;
        Ok(log.len())
    }

    /// Bytes from `offset`, at most `max`, fewer at the end.
    pub(crate) fn read(&self, offset: u64, max: usize) -> Result<Vec<u8>, RecordError> {
        let mut bytes = vec![0; max];
        let mut have = 0;
        while let Some(room) = bytes.get_mut(have..).filter(|room| !room.is_empty()) {
            match self.file.read_at(room, offset + have as u64) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RecordError::io(&self.path)(error)),
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    /// Hash of the last [`TAIL_LENGTH`] bytes before `offset`, or of all when there are fewer.
    pub(crate) fn tail_sha256(&self, offset: u64) -> Result<Sha256, RecordError> {
        let length = offset.min(TAIL_LENGTH);
        let bytes = self.read(offset - length, usize::try_from(length).unwrap_or_default())?;
        Ok(Sha256::of(&bytes))
    }

    /// Waits until something may have changed, at most `limit`.
    pub(crate) async fn changed(&self, limit: Duration) {
        let Ok(mut events) = self.events.try_lock() else {
            return tokio::time::sleep(limit.min(POLL_BESIDE)).await;
        };
        let Some(stream) = events.as_mut() else {
            return tokio::time::sleep(limit.min(POLL)).await;
        };
        if let Ok(None | Some(Err(_))) = tokio::time::timeout(limit.min(POLL), stream.0.next()).await {
            *events = None;
        }
    }
}

fn watch(record: &Path) -> Option<Events> {
    let inotify = Inotify::init().ok()?;
    inotify
        .watches()
        .add(record, WatchMask::MODIFY | WatchMask::CLOSE_WRITE)
        .ok()?;
    inotify.into_event_stream(vec![0; 4096]).ok().map(Events)
}
