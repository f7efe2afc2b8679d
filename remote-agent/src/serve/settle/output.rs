//! `capture = "docker"`: the engine's log becomes the run log. A weaker promise: what the engine lost is lost.

use crate::docker::{Engine, EngineError};
use crate::record::{RecordError, RunFolder};
use farrun_protocol::Failure;
use futures_util::StreamExt as _;
use std::io::Write as _;
use std::time::Duration;

/// Longest silence of an engine that is handing out what it has.
const SILENCE: Duration = Duration::from_secs(20);

/// Appends to `run.log` what the engine has beyond it. The caller holds the run's lock: one writer at a time.
pub(crate) async fn fetch_output(engine: &Engine, folder: &RunFolder, id: &str) -> Result<(), Failure> {
    engine.agree().await?;
    let path = folder.log();
    let cap = folder.spec()?.map_or(u64::MAX, |spec| spec.log_cap);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .map_err(RecordError::io(&path))?;
    let have = file.metadata().map_err(RecordError::io(&path))?.len();
    let (mut seen, mut kept) = (0_u64, have);
    let mut output = engine.output(id);
    loop {
        let piece = match tokio::time::timeout(SILENCE, output.next()).await {
            Ok(Some(piece)) => piece?,
            Ok(None) => break,
            Err(_) => {
                return Err(EngineError::Timeout {
                    call: "logs",
                    seconds: SILENCE.as_secs(),
                }
                .into());
            }
        };
        let known = usize::try_from(have.saturating_sub(seen)).unwrap_or(usize::MAX);
        seen += piece.len() as u64;
        let room = usize::try_from(cap.saturating_sub(kept)).unwrap_or(usize::MAX);
        let fresh = piece.get(known.min(piece.len())..).unwrap_or_default();
        let fresh = fresh.get(..room.min(fresh.len())).unwrap_or_default();
        file.write_all(fresh).map_err(RecordError::io(&path))?;
        kept += fresh.len() as u64;
    }
    Ok(())
}
