//! `capture = "docker"`: the engine's log becomes the run log. A weaker promise: what the engine lost is lost.
//!
//! The length of `run.log` is the only position that counts: what the engine hands out is counted from its beginning,
//! and only what lies beyond that length is appended. While a run is followed the engine's stream stays open, so that
//! it is not read anew each time.

use crate::docker::{Engine, EngineError};
use crate::record::{RecordError, RunFolder};
use bytes::Bytes;
use farrun_protocol::Failure;
use futures_util::{Stream, StreamExt as _};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Longest silence of an engine that is handing out what it has.
const SILENCE: Duration = Duration::from_secs(20);
/// A stream that stays open has handed out what there is when it says nothing for this long.
const PAUSE: Duration = Duration::from_millis(50);
/// How long is read at once from a stream that stays open: the run is locked meanwhile, and a job may never pause.
const TURN: Duration = Duration::from_millis(500);

type Output = Box<dyn Stream<Item = Result<Bytes, EngineError>> + Send + Unpin>;

/// The output of a container that is being followed. Nothing is read, and so nothing is kept in memory, between two
/// turns.
#[derive(Default)]
pub(crate) struct OpenOutput(Option<Position>);

/// How far an open stream was read.
struct Position {
    container: String,
    output: Output,
    /// Bytes it has handed out.
    seen: u64,
}

impl std::fmt::Debug for OpenOutput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OpenOutput")
    }
}

/// Appends to `run.log` what the engine has beyond it. The caller holds the run's lock: one writer at a time.
pub(crate) async fn fetch_output(engine: &Engine, folder: &RunFolder, id: &str) -> Result<(), Failure> {
    engine.agree().await?;
    let mut log = Log::open(folder)?;
    let mut output = engine.output(id, false);
    let mut seen = 0;
    loop {
        match tokio::time::timeout(SILENCE, output.next()).await {
            Ok(Some(piece)) => log.take(&mut seen, &piece?)?,
            Ok(None) => return Ok(()),
            Err(_) => {
                return Err(EngineError::Timeout {
                    call: "logs",
                    seconds: SILENCE.as_secs(),
                }
                .into());
            }
        }
    }
}

/// As [`fetch_output`], of a container that lives: over a stream that stays open from one call to the next. The end
/// of the container's life is for [`fetch_output`].
pub(crate) async fn follow_output(
    engine: &Engine,
    folder: &RunFolder,
    id: &str,
    open: &mut OpenOutput,
) -> Result<(), Failure> {
    let mut position = match open.0.take().filter(|position| position.container == id) {
        Some(position) => position,
        None => {
            engine.agree().await?;
            Position {
                container: id.to_owned(),
                output: Box::new(engine.output(id, true)),
                seen: 0,
            }
        }
    };
    let mut log = Log::open(folder)?;
    let until = Instant::now() + TURN;
    while Instant::now() < until {
        match tokio::time::timeout(PAUSE, position.output.next()).await {
            Ok(Some(piece)) => log.take(&mut position.seen, &piece?)?,
            // The container has ended, or the engine: whoever looks next begins anew.
            Ok(None) => return Ok(()),
            Err(_) => break,
        }
    }
    open.0 = Some(position);
    Ok(())
}

/// `run.log` while it grows.
struct Log {
    file: File,
    path: std::path::PathBuf,
    /// Its length when it was opened; others may have written since the stream was last read.
    have: u64,
    kept: u64,
    cap: u64,
}

impl Log {
    fn open(folder: &RunFolder) -> Result<Self, Failure> {
        let path = folder.log();
        let cap = folder.spec()?.map_or(u64::MAX, |spec| spec.log_cap);
        let file = File::options()
            .append(true)
            .open(&path)
            .map_err(RecordError::io(&path))?;
        let have = file.metadata().map_err(RecordError::io(&path))?.len();
        Ok(Self {
            file,
            path,
            have,
            kept: have,
            cap,
        })
    }

    /// Appends what of `piece`, which begins `seen` bytes into the output, lies beyond the log and below its cap.
    fn take(&mut self, seen: &mut u64, piece: &[u8]) -> Result<(), RecordError> {
        let known = usize::try_from(self.have.saturating_sub(*seen)).unwrap_or(usize::MAX);
        *seen += piece.len() as u64;
        let room = usize::try_from(self.cap.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        let fresh = piece.get(known.min(piece.len())..).unwrap_or_default();
        let fresh = fresh.get(..room.min(fresh.len())).unwrap_or_default();
        self.file.write_all(fresh).map_err(RecordError::io(&self.path))?;
        self.kept += fresh.len() as u64;
        Ok(())
    }
}
