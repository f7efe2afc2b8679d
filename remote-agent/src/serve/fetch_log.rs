//! Run-log bytes from an offset: a long poll.

use super::call::{Call, cancelled};
use super::facts;
use super::log_reader::LogReader;
use super::session::Session;
use super::turns::Answered;
use crate::record::RunFolder;
use farrun_protocol::log::{LogChunk, LogEnd, MAX_CHUNK};
use farrun_protocol::message::FetchLog;
use farrun_protocol::spec::Capture;
use farrun_protocol::{ErrorCode, Failure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Longest wait for a byte.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often the engine is asked whether a silent job still runs.
const LOOK_APART: Duration = Duration::from_secs(5);
/// How often it is asked once PID 1 has written its record: the container follows within milliseconds.
const LOOK_SOON: Duration = Duration::from_millis(30);
/// How often the engine is asked for output when it captures it.
const LOOK_FOR_OUTPUT: Duration = Duration::from_millis(500);

/// Bytes of a log, and what is held until they are queued for the peer.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(super) chunk: LogChunk,
    /// Lets the request behind this one go on.
    pub(super) answered: Answered,
    /// Their room among the chunks of this conversation.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

pub(crate) async fn fetch_log(
    session: &Arc<Session>,
    fetch: FetchLog,
    call: &Call,
) -> Result<Fetched, Failure> {
    session.peer()?;
    let folder = session.folder(&fetch.run_id);
    let reader = session.reader(&fetch.run_id)?;
    let offset = tokio::select! {
        () = call.cancel.cancelled() => return Err(cancelled()),
        offset = reader.turns.wait(fetch.place, fetch.offset) => offset.ok_or_else(cancelled)?,
    };
    let fetch = FetchLog { offset, ..fetch };
    check(&reader, &fetch)?;
    let engine_capture = folder.spec()?.is_some_and(|spec| spec.capture == Capture::Docker);
    let deadline = Instant::now() + Duration::from_millis(fetch.wait).min(LONGEST_WAIT);
    loop {
        // The record of the end is read first: a log that was complete then is complete now.
        let end = folder.settled()?.map(|settled| settled.log);
        let room = match reader.length()? > fetch.offset {
            true => tokio::select! {
                () = call.cancel.cancelled() => return Err(cancelled()),
                room = Arc::clone(&session.chunks).acquire_owned() => room.ok(),
            },
            // There is nothing to read into memory.
            false => None,
        };
        let chunk = read(&reader, &fetch, end)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if !chunk.bytes.is_empty() || chunk.end.is_some() || left.is_zero() {
            let reaches = chunk.offset + chunk.bytes.len() as u64;
            return Ok(Fetched {
                answered: reader.turns.answered(fetch.place, reaches),
                chunk,
                room,
            });
        }
        drop(room);
        let waiting = wait_for_news(session, &folder, &reader, engine_capture, left);
        tokio::select! {
            () = call.cancel.cancelled() => return Err(cancelled()),
            () = waiting => {}
        }
    }
}

/// Proves that the caller's bytes are those of this log.
fn check(reader: &LogReader, fetch: &FetchLog) -> Result<(), Failure> {
    let refused = |code| Err(Failure::from(code));
    if fetch
        .generation
        .as_ref()
        .is_some_and(|generation| *generation != reader.generation)
    {
        return refused(ErrorCode::GenerationChanged);
    }
    if fetch.offset > reader.length()? {
        return refused(ErrorCode::OffsetBeyondEnd);
    }
    match &fetch.tail_sha256 {
        Some(tail) if *tail != reader.tail_sha256(fetch.offset)? => refused(ErrorCode::TailMismatch),
        _ => Ok(()),
    }
}

fn read(reader: &LogReader, fetch: &FetchLog, end: Option<LogEnd>) -> Result<LogChunk, Failure> {
    let available = reader.length()?.saturating_sub(fetch.offset);
    let max = available.min(fetch.max).min(MAX_CHUNK as u64);
    let mut bytes = reader.read(fetch.offset, usize::try_from(max).unwrap_or_default())?;
    if let Some(end) = &end {
        // Whoever appends after the end, it is not part of the run's log.
        let left = end.length.saturating_sub(fetch.offset);
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    }
    let reaches = fetch.offset + bytes.len() as u64;
    Ok(LogChunk {
        generation: reader.generation.clone(),
        offset: fetch.offset,
        end: end.filter(|end| reaches >= end.length),
        bytes: bytes.into(),
    })
}

/// Waits for bytes, or for the end of the run, which is settled on the way.
async fn wait_for_news(
    session: &Arc<Session>,
    folder: &RunFolder,
    reader: &LogReader,
    engine_capture: bool,
    left: Duration,
) {
    let recorded = matches!(folder.exit(), Ok(Some(_)));
    let apart = match (recorded, engine_capture) {
        (true, _) => LOOK_SOON,
        (false, true) => LOOK_FOR_OUTPUT,
        (false, false) => LOOK_APART,
    };
    let limit = left.min(apart);
    if !is_due(reader, apart) {
        return reader.changed(limit).await;
    }
    let (session, folder) = (Arc::clone(session), folder.clone());
    // On its own, so that settling a large run does not start anew with every poll that gives up, and an engine
    // that hangs keeps no byte back.
    let mut look = tokio::spawn(async move { facts::settle_if_ended(&session, &folder).await });
    tokio::select! {
        _ = tokio::time::timeout(left, &mut look) => {}
        () = reader.changed(left) => {}
    }
}

fn is_due(reader: &LogReader, apart: Duration) -> bool {
    let mut last = match reader.last_look.lock() {
        Ok(last) => last,
        Err(poisoned) => poisoned.into_inner(),
    };
    if last.is_some_and(|last| last.elapsed() < apart) {
        return false;
    }
    *last = Some(Instant::now());
    true
}
