//! Where a run stands, told from its folder and its container. An end that is noticed on the way is settled.

use super::look::{PATIENCE, Stage, look, look_without_engine};
use super::session::{Peer, Session};
use super::settle;
use crate::diagnostics;
use crate::notify;
use crate::queue;
use crate::record::{Lock, RecordError, RunFolder};
use crate::series;
use chrono::{DateTime, Utc};
use farrun_protocol::Failure;
use farrun_protocol::record::{Phase, RunFacts, Settled};
use farrun_protocol::spec::Capture;
use std::path::Path;
use std::time::Duration;

/// The facts of a run; `None` when the host has no order of that name. `lock` is the run's, when the caller holds
/// it already. An engine that fails leaves the phase unclear.
pub(crate) async fn facts(
    peer: &Peer,
    session: &Session,
    folder: &RunFolder,
    lock: Option<&Lock>,
) -> Result<Option<RunFacts>, Failure> {
    let Some(mut facts) = stored(&session.context.state, folder)? else {
        return Ok(None);
    };
    if let Some(settled) = facts.settled.take() {
        if settled.awaits_engine() {
            facts.settled = tell_anew(peer, session, folder, lock).await?.map(Box::new);
        }
        let settled = facts.settled.get_or_insert(settled);
        facts.container.clone_from(&settled.container);
        facts.log_length = settled.log.length;
        return Ok(Some(facts));
    }
    let locks = session.locks().ok();
    facts.queue = queue::place(&session.context.state, locks.as_ref(), folder)?.map(Box::new);
    let Ok(look) = look_without_engine(&peer.engine, folder, PATIENCE).await else {
        return Ok(Some(facts));
    };
    if look.stage != Stage::Prepared {
        facts.queue = None;
    }
    facts.container = look.container.as_ref().map(|found| found.facts.clone());
    facts.phase = match look.stage {
        Stage::Prepared if facts.queue.is_some() => Phase::Queued,
        Stage::Prepared => Phase::Prepared,
        Stage::Live => Phase::Running,
        Stage::Moving | Stage::Ended => Phase::Unclear,
    };
    match look.stage {
        Stage::Live => {
            super::launch::deliver_secrets_again(&peer.engine, folder, &look).await;
            add_signs_of_life(&mut facts, folder);
        }
        Stage::Ended => {
            let own = if lock.is_none() { folder.try_lock()? } else { None };
            if let Some(lock) = lock.or(own.as_ref()) {
                let settled = settle::settle(peer, session, folder, lock, look.silent.as_ref()).await?;
                facts.settled = settled.map(Box::new);
            }
        }
        Stage::Prepared | Stage::Moving => {}
    }
    if let Some(settled) = &facts.settled {
        facts.phase = Phase::Settled;
        facts.container.clone_from(&settled.container);
        facts.log_length = settled.log.length;
    }
    Ok(Some(facts))
}

/// Asks the engine again how a run ended of which it had said nothing, unless somebody is at it.
async fn tell_anew(
    peer: &Peer,
    session: &Session,
    folder: &RunFolder,
    lock: Option<&Lock>,
) -> Result<Option<Settled>, Failure> {
    let looked = tokio::time::timeout(PATIENCE, look(&peer.engine, folder)).await;
    if !matches!(looked, Ok(Ok(look)) if look.stage == Stage::Ended) {
        return Ok(None);
    }
    let own = if lock.is_none() { folder.try_lock()? } else { None };
    match lock.or(own.as_ref()) {
        Some(lock) => settle::settle(peer, session, folder, lock, None).await,
        None => Ok(None),
    }
}

/// What a job that runs was last seen to do. Where the engine captures, nobody sees when something is printed.
fn add_signs_of_life(facts: &mut RunFacts, folder: &RunFolder) {
    let Some(container) = facts
        .container
        .as_ref()
        .filter(|container| !container.engine_capture)
    else {
        return;
    };
    let written = std::fs::metadata(folder.log()).and_then(|log| log.modified());
    facts.last_output_at = written.ok().filter(|_| facts.log_length > 0).map(DateTime::from);
    let since = facts.last_output_at.or(container.started_at);
    facts.silent_seconds = since.map(|since| {
        let silent = Utc::now().signed_duration_since(since).num_seconds();
        u64::try_from(silent).unwrap_or_default()
    });
    if facts.lease.as_ref().is_some_and(|lease| !lease.gpus.is_empty()) {
        facts.gpu_idle_seconds = series::idle(folder);
    }
}

/// What the folder alone tells.
pub(crate) fn stored(state: &Path, folder: &RunFolder) -> Result<Option<RunFacts>, RecordError> {
    let (Some(spec), Some(spec_sha256)) = (folder.spec()?, folder.spec_sha256()?) else {
        return Ok(None);
    };
    let settled = folder.settled()?;
    let lease = folder.lease()?;
    Ok(Some(RunFacts {
        run_id: spec.run_id,
        controller_id: spec.controller_id,
        adopted_by: folder.adopted()?,
        prompt_id: spec.prompt_id,
        spec_sha256,
        phase: if settled.is_some() {
            Phase::Settled
        } else {
            Phase::Unclear
        },
        container: settled.as_ref().and_then(|settled| settled.container.clone()),
        image_digest: folder.image_digest()?,
        log_length: settled
            .as_ref()
            .map_or_else(|| folder.log_length(), |settled| settled.log.length),
        // A series that cannot be read must not hide the run.
        gpu_summary: lease.as_ref().and_then(|_| series::summary(folder).ok()?),
        lease,
        queue: None,
        device: folder.device()?,
        settled: settled.map(Box::new),
        diagnosed_at: diagnostics::explained_at(state, folder),
        last_output_at: None,
        silent_seconds: None,
        gpu_idle_seconds: None,
        notified: notify::told(folder),
    }))
}

/// Settles a run whose container has ended, unless somebody is at it. Where the engine captures the output, what
/// it has is fetched on the way.
pub(crate) async fn settle_if_ended(session: &Session, folder: &RunFolder) -> Result<(), Failure> {
    settle_if_ended_at(session.peer()?, session, folder).await
}

/// As [`settle_if_ended`], where the run's engine is another than the conversation's, or there is no conversation.
pub(crate) async fn settle_if_ended_at(
    peer: &Peer,
    session: &Session,
    folder: &RunFolder,
) -> Result<(), Failure> {
    let Some(lock) = folder.try_lock()? else {
        return Ok(());
    };
    if folder.settled()?.is_some() {
        return Ok(());
    }
    let look = look_without_engine(&peer.engine, folder, Duration::MAX).await?;
    match look.stage {
        Stage::Ended => {
            settle::settle(peer, session, folder, &lock, look.silent.as_ref()).await?;
        }
        Stage::Live => {
            super::launch::deliver_secrets_again(&peer.engine, folder, &look).await;
            if let (Some(container), Some(Capture::Docker)) =
                (&look.container, folder.spec()?.map(|spec| spec.capture))
            {
                let reader = session.reader(folder.run_id())?;
                let mut open = reader.output.lock().await;
                settle::follow_output(&peer.engine, folder, &container.facts.id, &mut open).await?;
            }
        }
        Stage::Prepared | Stage::Moving => {}
    }
    Ok(())
}
