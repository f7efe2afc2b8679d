//! Starting what waits for a GPU. Anybody who comes by does it, so a run needs no process of its own to wait.

use super::call::Call;
use super::launch::{self, Scene};
use super::look::{self, Stage};
use super::session::{Peer, Session};
use super::settle;
use crate::leases::{Refused, Reserved, Wish, choose, usable};
use crate::queue::{self, Ahead, Order};
use crate::record::RunFolder;
use crate::series::Moment;
use chrono::Utc;
use farrun_protocol::gpu::HeldLease;
use farrun_protocol::lease::Wait;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::verdict::Reason;
use farrun_protocol::{Failure, RunId};
use std::sync::Arc;

/// What one look at the line has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Advanced {
    /// Runs that were started, or settled because they waited for too long.
    pub(crate) done: Vec<RunId>,
    /// How many wait on.
    pub(crate) waiting: usize,
}

/// Starts what can be started, first to last, and ends what has waited for long enough. Costs one listing of a folder
/// when nothing waits. Needs no controller: how each run's engine is reached is in its order.
pub(crate) async fn advance(session: &Session) -> Result<Advanced, Failure> {
    let _own = session.advancing.lock().await;
    let mut advanced = Advanced::default();
    let mut waiting = Vec::new();
    for order in queue::line(&session.context.state)? {
        let folder = session.folder(&order.run_id);
        match tidy(session, &folder, &order).await {
            Ok(Some(spec)) => waiting.push((order, folder, spec)),
            Ok(None) => advanced.done.push(order.run_id),
            // One damaged folder must not hold up the others.
            Err(_) => {}
        }
    }
    if waiting.is_empty() {
        return Ok(advanced);
    }
    let mut scene = None;
    // Those of other accounts have their places between ours.
    let mut kept: Vec<Reserved> = Vec::new();
    for (order, folder, spec) in waiting {
        let peer = Peer::new(
            &session.context,
            order.controller_id.clone(),
            order.docker.clone(),
        )?;
        let scene = match &mut scene {
            Some(scene) => scene,
            none => none.insert(Scene::look(session, &peer.engine).await?),
        };
        let held = scene.held(session, &peer.engine).await?;
        let others = Ahead {
            own: Vec::new(),
            ..Ahead::of(&session.context.state, Some(&scene.locks), Some(&order))?
        };
        let reserved = [kept.clone(), others.reserved(&scene.report)].concat();
        if try_start(session, &peer, scene, &held, &reserved, &folder, &spec).await {
            advanced.done.push(order.run_id);
            *scene = Scene::look(session, &peer.engine).await?;
            continue;
        }
        advanced.waiting = advanced.waiting.saturating_add(1);
        kept.extend(
            usable(&scene.report, &Wish::of(&spec))
                .into_iter()
                .map(|uuid| Reserved {
                    uuid,
                    run_id: Some(order.run_id.clone()),
                }),
        );
    }
    Ok(advanced)
}

/// As [`advance`], beside what the caller does, unless somebody is at it.
pub(crate) fn advance_beside(session: &Arc<Session>) {
    if session.advancing.try_lock().is_ok() {
        let own = Arc::clone(session);
        tokio::spawn(async move { advance(&own).await });
    }
}

/// The order of a run that still waits; `None` when it does not any more.
async fn tidy(session: &Session, folder: &RunFolder, order: &Order) -> Result<Option<RunSpec>, Failure> {
    let spec = folder.spec()?;
    if spec.is_none() || folder.settled()?.is_some() {
        folder.leave_queue()?;
        return Ok(None);
    }
    if !order.has_expired(Utc::now(), &Moment::now()) {
        return Ok(spec);
    }
    let Some(_lock) = folder.try_lock()? else {
        return Ok(spec);
    };
    if folder.settled()?.is_none() && folder.queued().exists() && folder.start_intent()?.is_none() {
        let seconds = match spec.as_ref().map(|spec| spec.placement.wait) {
            Some(Wait::Seconds(seconds)) => seconds,
            _ => 0,
        };
        let waited = format!("{seconds} s");
        settle::settle_refused(session, folder, Reason::WaitExpired, &waited, None).await?;
    }
    Ok(None)
}

/// Whether the run was started or has otherwise left the line.
async fn try_start(
    session: &Session,
    peer: &Peer,
    scene: &Scene,
    held: &[HeldLease],
    reserved: &[Reserved],
    folder: &RunFolder,
    spec: &RunSpec,
) -> bool {
    if !matches!(folder.start_intent(), Ok(None)) {
        return has_left(session, peer, folder).await;
    }
    match choose(&scene.report, held, reserved, &Wish::of(spec)) {
        Ok(_) => {}
        Err(Refused::NotFree(gpus)) => {
            let _ = folder.write_waits_for(&gpus);
            return false;
        }
        Err(_) => return false,
    }
    // Whoever has the lock launches, stops or settles it.
    let Ok(Some(lock)) = folder.try_lock() else {
        return false;
    };
    let started = launch::proceed_and_settle(session, peer, spec, folder, &lock, &Call::unheard()).await;
    started.is_ok() && !folder.queued().exists()
}

/// Whether a run whose start was ordered has left the line: whoever ordered the start may have died right after it.
async fn has_left(session: &Session, peer: &Peer, folder: &RunFolder) -> bool {
    let Ok(Some(lock)) = folder.try_lock() else {
        return false;
    };
    match look::look(&peer.engine, folder).await.map(|look| look.stage) {
        Ok(Stage::Live) => folder.leave_queue().is_ok(),
        Ok(Stage::Ended) => settle::settle(peer, session, folder, &lock, None).await.is_ok(),
        Ok(Stage::Prepared) => {
            let Ok(Some(spec)) = folder.spec() else {
                return false;
            };
            let call = Call::unheard();
            let started = launch::proceed_and_settle(session, peer, &spec, folder, &lock, &call).await;
            started.is_ok() && !folder.queued().exists()
        }
        Ok(Stage::Moving) | Err(_) => false,
    }
}
