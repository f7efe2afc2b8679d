//! Starting a run, or finding it started. Repeating it is always safe: each step leaves something behind by which
//! the next attempt sees that it was done, and the one start call is announced in `start.intent` before it is made.

mod compose;
mod gpus;
mod image;
mod prepare;
mod secrets;
mod start;

pub(crate) use gpus::Scene;
pub(crate) use secrets::deliver_again as deliver_secrets_again;

use super::advance::advance;
use super::call::{Call, blocking, cancelled};
use super::facts;
use super::inputs;
use super::look::{self, Look, Stage};
use super::session::{Peer, Session, unknown};
use super::{settle, watching};
use crate::gpu;
use crate::record::{Lock, RunFolder};
use farrun_protocol::message::Launch;
use farrun_protocol::record::ContainerFacts;
use farrun_protocol::spec::{Gpus, RunSpec};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, Failure, Progress, Reply};
use std::sync::Arc;
use std::time::Duration;

/// How long a newcomer waits for those before it to be started.
const ADVANCES: Duration = Duration::from_secs(15);

/// Why a launch did not get to a started container.
#[derive(Debug)]
enum Stop {
    /// Nothing is decided; the same order may be repeated.
    Failed(Failure),
    /// The engine refused for good; the run has ended before it began.
    Refused {
        reason: Reason,
        detail: String,
        container: Option<Box<ContainerFacts>>,
    },
    /// No GPU is given and the order does not wait; nothing came of it, and it is forgotten.
    NotTaken(Failure),
    /// Somebody asked for the run's end meanwhile.
    EndWanted,
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Stop {
    fn refused(reason: Reason, detail: impl ToString) -> Self {
        Self::Refused {
            reason,
            detail: detail.to_string(),
            container: None,
        }
    }
}

pub(crate) async fn launch(session: &Arc<Session>, order: Launch, call: &Call) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    let spec = order.spec;
    prepare::check(session, peer, &spec)?;
    let folder = session.folder(&spec.run_id);
    if !is_stored(&folder, &spec)? {
        // Before the order is stored nothing has an effect, so whatever is wrong is a plain failure.
        peer.engine.agree().await?;
        prepare::require(session, &spec, &order.secrets).await?;
        gpus::require(session, peer, &spec).await?;
        folder.make()?;
    }
    if spec.gpus != Gpus::None {
        // Whoever stands in line goes first.
        advance_for_a_moment(session).await;
    }
    let lock = tokio::select! {
        lock = folder.lock() => lock?,
        () = call.cancel.cancelled() => return Err(cancelled()),
    };
    if !is_stored(&folder, &spec)? {
        secrets::store(&folder, &order.secrets)?;
        folder.write_docker_settings(&peer.docker)?;
        folder.write_spec(&spec)?;
    }
    if folder.settled()?.is_none() {
        proceed_and_settle(session, peer, &spec, &folder, &lock, call).await?;
    }
    let mut facts = facts::facts(peer, session, &folder, Some(&lock))
        .await?
        .ok_or_else(|| unknown(&spec.run_id))?;
    drop(lock);
    watching::after_launch(session, &mut facts).await;
    Ok(Reply::Run(Box::new(facts)))
}

/// Starts what waits, and goes on with it when it takes longer than a newcomer should wait.
async fn advance_for_a_moment(session: &Arc<Session>) {
    let own = Arc::clone(session);
    let advancing = tokio::spawn(async move { advance(&own).await });
    let _ = tokio::time::timeout(ADVANCES, advancing).await;
}

/// Whether this very order is stored already.
fn is_stored(folder: &RunFolder, spec: &RunSpec) -> Result<bool, Failure> {
    match folder.spec_sha256()? {
        None => Ok(false),
        Some(stored) if stored == spec.sha256() => Ok(true),
        Some(stored) => Err(Failure::new(ErrorCode::SpecConflict, stored)),
    }
}

/// Starts a run, or leaves it waiting, and settles one that is refused. The caller holds its lock.
pub(crate) async fn proceed_and_settle(
    session: &Session,
    peer: &Peer,
    spec: &RunSpec,
    folder: &RunFolder,
    lock: &Lock,
    call: &Call,
) -> Result<(), Failure> {
    match proceed(session, peer, spec, folder, call).await {
        Ok(()) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::NotTaken(failure)) => {
            folder.forget_order()?;
            Err(failure)
        }
        Err(Stop::Refused {
            reason,
            detail,
            container,
        }) => settle::settle_refused(session, folder, reason, &detail, container.map(|facts| *facts)).await,
        Err(Stop::EndWanted) => settle::settle(peer, session, folder, lock, None)
            .await
            .map(|_| ()),
    }
}

/// Brings the run as far as it can be brought; each step is skipped when it was done before.
async fn proceed(
    session: &Session,
    peer: &Peer,
    spec: &RunSpec,
    folder: &RunFolder,
    call: &Call,
) -> Result<(), Stop> {
    let look = find(peer, spec, folder).await?;
    match (look.stage, look.container) {
        (Stage::Live, Some(found)) => {
            secrets::deliver(&peer.engine, folder, &found.facts.id).await;
            Ok(())
        }
        (Stage::Prepared, found) if spec.gpus != Gpus::None => {
            lay_out(session, spec, folder).await?;
            let image = image::obtain(&peer.engine, spec, folder, call).await?;
            let run = gpus::Run {
                session,
                peer,
                spec,
                folder,
                image: &image,
            };
            gpus::start(&run, found, call).await
        }
        (Stage::Prepared, Some(found)) => {
            lay_out(session, spec, folder).await?;
            start::start(&peer.engine, spec, folder, &found.facts.id).await
        }
        (Stage::Prepared, None) => {
            // Both to their ends: what is left half done would be in the way of settling a refusal.
            let (laid_out, image) = tokio::join!(
                lay_out(session, spec, folder),
                image::obtain(&peer.engine, spec, folder, call)
            );
            laid_out?;
            let image = image?;
            call.progress(&Progress::Starting);
            let new = compose::container(&session.context, spec, folder, &image, None)?;
            let id = start::create(&peer.engine, spec, folder, &new).await?;
            start::start(&peer.engine, spec, folder, &id).await
        }
        // Somebody tried before and the engine said no; its words are in the container.
        (Stage::Ended, Some(found)) if found.start_failed() && !folder.stop_requested() => {
            let words = found.facts.error.clone().unwrap_or_default();
            Err(start::refusal(spec, &words, Some(found.facts)))
        }
        // What has ended is settled by whoever gathers the facts next.
        (Stage::Ended | Stage::Moving | Stage::Live, _) => Ok(()),
    }
}

/// The run's container, which must be of this order.
async fn find(peer: &Peer, spec: &RunSpec, folder: &RunFolder) -> Result<Look, Stop> {
    let look = look::look(&peer.engine, folder).await?;
    if let Some(found) = &look.container {
        start::require_same_order(spec, found)?;
    }
    Ok(look)
}

async fn lay_out(session: &Session, spec: &RunSpec, folder: &RunFolder) -> Result<(), Stop> {
    let (state, folder, spec) = (session.context.state.clone(), folder.clone(), spec.clone());
    let home = session.context.home.clone();
    blocking(move || {
        folder.make_skeleton()?;
        if let Some(device) = gpu::device_said(&spec) {
            folder.write_device(device)?;
        }
        inputs::lay_out(&state, &folder, &spec.inputs)?;
        prepare::make_mounts(&home, &spec)
    })
    .await?;
    Ok(())
}
