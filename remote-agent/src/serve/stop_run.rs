//! Asking a job to end, or ending it.

use super::call::{Call, cancelled};
use super::facts;
use super::session::{Peer, Session, unknown};
use crate::docker::EngineError;
use crate::record::RunFolder;
use farrun_protocol::record::{Phase, RunFacts};
use farrun_protocol::{ErrorCode, Failure, Reply, RunId};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long the end may take once the last signal was sent.
const AFTER_SIGNAL: Duration = Duration::from_secs(5);
/// As [`AFTER_SIGNAL`], when there was no grace: a kernel that is busy takes its time.
const AFTER_KILL: Duration = Duration::from_secs(15);
const LOOK_APART: Duration = Duration::from_millis(50);

pub(crate) async fn stop_run(
    session: &Session,
    run_id: &RunId,
    grace: u64,
    kill: bool,
    call: &Call,
) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    let folder = session.folder(run_id);
    require_owner(peer, &folder)?;
    if folder.settled()?.is_none() {
        peer.engine.agree().await?;
        folder.write_stop_intent(&peer.controller_id)?;
    }
    let limit = if kill {
        AFTER_KILL
    } else {
        AFTER_SIGNAL.saturating_add(Duration::from_secs(grace))
    };
    let deadline = Instant::now() + limit;
    let mut sent: Option<JoinHandle<Result<(), EngineError>>> = None;
    loop {
        let facts = facts::facts(peer, session, &folder, None)
            .await?
            .ok_or_else(|| unknown(run_id))?;
        if facts.phase == Phase::Settled || Instant::now() >= deadline {
            return Ok(Reply::Run(Box::new(facts)));
        }
        if sent.is_none() && facts.phase == Phase::Running {
            sent = send(peer, &facts, grace, kill);
        }
        if sent.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(outcome) = sent.take_if(|sent| sent.is_finished())
            && let Ok(Err(error)) = outcome.await
        {
            return Err(error.into());
        }
        tokio::select! {
            () = call.cancel.cancelled() => return Err(cancelled()),
            () = tokio::time::sleep(LOOK_APART) => {}
        }
    }
}

/// Has the engine carry out the stop. It does so to the end even when this conversation breaks off.
fn send(
    peer: &Peer,
    facts: &RunFacts,
    grace: u64,
    kill: bool,
) -> Option<JoinHandle<Result<(), EngineError>>> {
    let id = facts.container.as_ref()?.id.clone();
    let engine = peer.engine.clone();
    Some(tokio::spawn(async move {
        if kill {
            engine.kill(&id).await
        } else {
            engine.stop(&id, grace).await
        }
    }))
}

/// Refuses unless this controller ordered or adopted the run.
pub(crate) fn require_owner(peer: &Peer, folder: &RunFolder) -> Result<(), Failure> {
    let spec = folder.spec()?.ok_or_else(|| unknown(folder.run_id()))?;
    if spec.controller_id == peer.controller_id || folder.adopted()?.contains(&peer.controller_id) {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::NotOwner, spec.controller_id))
}
