//! Settling: gathering the evidence of a run that has ended, opening its outputs, and writing `settled.json` once.

mod open_outputs;
mod output;

pub(crate) use open_outputs::{make_removable, needs_opening, open_to_account};
pub(crate) use output::{OpenOutput, fetch_output, follow_output};

use super::call::blocking;
use super::look::{self, Look, Stage};
use super::session::{Peer, Session};
use super::watching;
use crate::docker::{Engine, EngineError};
use crate::notify;
use crate::record::{Lock, RecordError, RunFolder, boot_id, booted_at, file_sha256};
use chrono::{DateTime, Utc};
use farrun_protocol::log::LogEnd;
use farrun_protocol::record::{ContainerFacts, ExitRecord, Settled};
use farrun_protocol::spec::{Capture, RunSpec};
use farrun_protocol::verdict::{Evidence, Reason, RunResult, Silence, Verdict, judge};
use farrun_protocol::{ErrorCode, Failure, Generation, Sha256};
use std::path::Path;

/// Longest quote of an engine or kernel in a verdict, in characters.
const DETAIL: usize = 2000;
/// How long an engine is waited for that has just answered, or was not asked yet.
const LOOK: std::time::Duration = std::time::Duration::from_secs(10);
/// How long after a container's end an engine that answers is still believed to hand out its log sometime.
const PATIENCE_WITH_LOG: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// Settles a run whose container no longer lives; `None` when there is nothing to settle yet. `_lock` is the run's.
/// `silent` is what the engine has just answered with, when it said nothing of use: it is not asked again then. A record
/// that awaits the engine's word is told anew when there is one.
pub(crate) async fn settle(
    peer: &Peer,
    session: &Session,
    folder: &RunFolder,
    _lock: &Lock,
    silent: Option<&EngineError>,
) -> Result<Option<Settled>, Failure> {
    let before = folder.settled()?;
    if before.as_ref().is_some_and(|before| !before.awaits_engine()) {
        return Ok(before);
    }
    let Some(spec) = folder.spec()? else {
        return Ok(None);
    };
    // Looked at again under the lock: whoever held it before may have started the container.
    let look = match silent {
        Some(error) => look::look_at_host(folder, error)?,
        None => Some(look::look_without_engine(&peer.engine, folder, LOOK).await?),
    };
    let Some(look) = look.filter(|look| look.stage == Stage::Ended) else {
        return Ok(before);
    };
    if before.is_some() && look.silent.is_some() {
        return Ok(before);
    }
    // A folder whose launch was interrupted very early has no record yet.
    folder.make_skeleton()?;
    let container = look.container.as_ref().map(|found| found.facts.clone());
    let log_error = match (&container, spec.capture) {
        (Some(container), Capture::Docker) => last_output(peer, folder, container).await?,
        _ => None,
    };
    let exit = folder.exit()?;
    let evidence = evidence(session, &peer.engine, folder, &spec, &look, exit.clone()).await?;
    let mut verdict = judge(&evidence);
    let image = container
        .as_ref()
        .and_then(|container| container.image_id.clone());
    let engine_error = look.silent.as_ref().map(|error| detail(&error.to_string()));
    let outputs_error = match &engine_error {
        // Whoever asks for the outputs opens them then.
        Some(error) => needs_opening(folder).await.then(|| error.clone()),
        None => {
            let image = image.as_deref().unwrap_or(&spec.image);
            open_to_account(&peer.engine, &session.context, folder, image).await
        }
    };
    demand_outputs(&mut verdict, folder, &spec);
    let is_by = |reason| verdict.reason == reason;
    let recorded = record(folder, verdict.clone(), exit, container).await?;
    let ended_at = match (is_by(Reason::HostReboot), &recorded.exit) {
        (true, None) => recorded.ended_at.map(|ended| {
            let started = look.intent.as_ref().map(|intent| intent.at);
            before_the_boot(ended, evidence.booted_at, started)
        }),
        _ => recorded.ended_at,
    };
    let settled = Settled {
        booted_at: evidence.booted_at.filter(|_| is_by(Reason::HostReboot)),
        engine_started_at: evidence
            .engine_started_at
            .filter(|_| is_by(Reason::EngineRestart) && !evidence.engine_down),
        outputs_error,
        engine_error,
        log_error,
        ended_at,
        ..recorded
    };
    // Who was told of the end is not told again what became known since.
    if before.is_none() {
        notify::mark(folder);
    }
    folder.write_settled(&settled)?;
    watching::after_end(session, Some(peer), folder, &settled.verdict);
    Ok(Some(settled))
}

/// Fetches what the engine still has of an ended container's output. An engine that cannot read its own log, or a disk
/// that takes no more, must not keep the run from ending: the answer is why the log is not whole. An error is what may
/// pass, and is tried again by whoever looks next.
async fn last_output(
    peer: &Peer,
    folder: &RunFolder,
    container: &ContainerFacts,
) -> Result<Option<String>, Failure> {
    let Err(failure) = fetch_output(&peer.engine, folder, &container.id).await else {
        return Ok(None);
    };
    let may_pass = matches!(
        failure.code,
        ErrorCode::DockerUnreachable | ErrorCode::DockerDenied | ErrorCode::DockerTimeout
    );
    if may_pass {
        let over = container
            .finished_at
            .map(|at| Utc::now().signed_duration_since(at));
        if over.is_none_or(|over| over < PATIENCE_WITH_LOG) {
            return Err(failure);
        }
        // An engine that answers everything but this has a log that it cannot hand out.
        look::look(&peer.engine, folder).await?;
    }
    tracing::warn!(run = %folder.run_id(), %failure, "The engine's copy of the output cannot be fetched whole");
    let words = failure.detail.unwrap_or_else(|| failure.code.to_string());
    Ok(Some(words.chars().take(DETAIL).collect()))
}

/// Settles a run that an engine refused to make or start. The caller holds the lock.
pub(crate) async fn settle_refused(
    session: &Session,
    folder: &RunFolder,
    reason: Reason,
    detail: &str,
    container: Option<ContainerFacts>,
) -> Result<(), Failure> {
    folder.make_skeleton()?;
    let verdict = Verdict {
        result: RunResult::Failed,
        reason,
        exit_code: None,
        signal: None,
        detail: Some(self::detail(detail)),
    };
    let settled = record(folder, verdict, None, container).await?;
    notify::mark(folder);
    folder.write_settled(&settled)?;
    watching::after_end(session, None, folder, &settled.verdict);
    Ok(())
}

/// A job that a restart of the host took without a record was over when the host was booted: the engine, and whoever
/// looks, come later. Not where that boot was before its start, by a clock that was set meanwhile.
fn before_the_boot(
    ended: DateTime<Utc>,
    booted: Option<DateTime<Utc>>,
    started: Option<DateTime<Utc>>,
) -> DateTime<Utc> {
    booted
        .filter(|booted| *booted < ended && started.is_some_and(|started| started < *booted))
        .unwrap_or(ended)
}

/// As much of a quote as a record holds.
fn detail(quote: &str) -> String {
    quote.chars().take(DETAIL).collect()
}

async fn evidence(
    session: &Session,
    engine: &Engine,
    folder: &RunFolder,
    spec: &RunSpec,
    look: &Look,
    exit: Option<ExitRecord>,
) -> Result<Evidence, Failure> {
    let container = look.container.as_ref().map(|found| found.facts.clone());
    let engine_started_at = engine.started_at();
    let started_at = container.as_ref().and_then(|container| container.started_at);
    let outlived = engine_started_at
        .zip(started_at)
        .is_some_and(|(engine, started)| started < engine);
    // Asked only where it matters. An engine that does not say takes its containers along, as they do by default.
    let live_restore = match &look.silent {
        Some(_) => engine.last_known_live_restore(&session.context.engine_facts()),
        None => outlived && engine.live_restore().await.unwrap_or_default(),
    };
    Ok(Evidence {
        exit,
        claimed: folder.claimed(),
        container,
        stop_requested_at: folder.stop_requested_at()?,
        boot_id_then: look.intent.as_ref().and_then(|intent| intent.boot_id.clone()),
        boot_id_now: Some(boot_id()),
        booted_at: booted_at(),
        engine_started_at,
        live_restore,
        engine_down: matches!(look.silent, Some(EngineError::Unreachable { .. })),
        silence: look.silent.as_ref().map(|_| Silence {
            engine_captured: spec.capture == Capture::Docker,
            seen_alive_at: folder.seen_alive_at(),
        }),
    })
}

/// A success without an output that the order demands is none.
fn demand_outputs(verdict: &mut Verdict, folder: &RunFolder, spec: &RunSpec) {
    if verdict.result != RunResult::Succeeded {
        return;
    }
    // What the account cannot see because the engine was down and could not open it may well be there.
    let is_there = |path: &Path| match std::fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    let exists = |path: &&String| {
        farrun_protocol::manifest::is_safe_path(path) && is_there(&folder.outputs().join(path))
    };
    let missing: Vec<&str> = spec
        .required_outputs
        .iter()
        .filter(|path| !exists(path))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        verdict.result = RunResult::Failed;
        verdict.reason = Reason::OutputMissing;
        verdict.detail = Some(missing.join("\n").chars().take(DETAIL).collect());
    }
}

async fn record(
    folder: &RunFolder,
    verdict: Verdict,
    exit: Option<ExitRecord>,
    container: Option<ContainerFacts>,
) -> Result<Settled, Failure> {
    let times = |of_exit: Option<DateTime<Utc>>, of_engine: fn(&ContainerFacts) -> Option<DateTime<Utc>>| {
        of_exit.or_else(|| container.as_ref().and_then(of_engine))
    };
    let started_at = times(exit.as_ref().and_then(|exit| exit.started_at), |container| {
        container.started_at
    });
    let ended_at = times(exit.as_ref().map(|exit| exit.ended_at), |container| {
        container.finished_at
    });
    let log = log_end(folder, exit.as_ref()).await?;
    let generation = folder.generation()?.unwrap_or_else(Generation::random);
    Ok(Settled {
        started_at,
        ended_at: Some(ended_at.unwrap_or_else(Utc::now)),
        exit,
        container,
        ..Settled::of(folder.run_id().clone(), verdict, log, generation)
    })
}

/// PID 1's word for length and hash if the file still has that length, else a hash of what lies there.
async fn log_end(folder: &RunFolder, exit: Option<&ExitRecord>) -> Result<LogEnd, RecordError> {
    let length = folder.log_length();
    if let Some(exit) = exit.filter(|exit| exit.log.length == length) {
        return Ok(exit.log.clone());
    }
    if length == 0 {
        return Ok(LogEnd {
            length,
            sha256: Sha256::of(b""),
        });
    }
    let path = folder.log();
    let hashed = blocking({
        let path = path.clone();
        move || Ok(file_sha256(&path)?)
    });
    let (sha256, length) = hashed.await.map_err(|failure| RecordError::Damaged {
        path,
        detail: failure.to_string(),
    })?;
    Ok(LogEnd { length, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_ended_before_the_boot_that_took_it() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let ended = |booted, started| before_the_boot(at(1000), booted, started);
        assert_eq!(ended(Some(at(600)), Some(at(500))), at(600));
        // By a clock that was set, or without one of the moments.
        assert_eq!(ended(Some(at(400)), Some(at(500))), at(1000));
        assert_eq!(ended(Some(at(1001)), Some(at(500))), at(1000));
        assert_eq!(ended(None, Some(at(500))), at(1000));
        assert_eq!(ended(Some(at(600)), None), at(1000));
    }
}
