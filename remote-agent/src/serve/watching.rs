//! Getting the account's observer to live while there is something to observe.

use super::Context;
use super::diagnose::of_run as diagnose_run;
use super::session::{Peer, Session};
use crate::record::RunFolder;
use crate::watch::Ensured;
use crate::{diagnostics, notify, queue, watch};
use farrun_protocol::diagnostics::Trigger;
use farrun_protocol::record::{Phase, RunFacts};
use farrun_protocol::verdict::{RunResult, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

/// A host on which no observer can live is not asked for one again and again.
const TRIED_APART: Duration = Duration::from_secs(5);
/// How often an observer is tried for after a failure.
const ATTEMPTS: usize = 3;
/// How long the answer to an order that waits is held back, so that it says that somebody watches the line.
const COMES_UP: Duration = Duration::from_millis(500);

/// After a launch: the process is started before the answer, for the conversation may end with it.
pub(crate) async fn after_launch(session: &Arc<Session>, facts: &mut RunFacts) {
    if !is_wanted(facts) {
        return for_evidence(session);
    }
    match &mut facts.queue {
        Some(place) => place.watched = place.watched || ensure(session, COMES_UP).await,
        None => {
            ensure(session, Duration::ZERO).await;
        }
    }
}

/// Beside an answer that tells about these runs.
pub(crate) fn for_runs(session: &Arc<Session>, runs: &[RunFacts]) {
    if runs
        .iter()
        .any(|facts| is_wanted(facts) || is_unexplained(session, facts))
    {
        beside(session);
    }
}

/// Beside the answer to a hello, when runs wait or somebody is to be told of an end.
pub(crate) fn for_line(session: &Arc<Session>) {
    let own = Arc::clone(session);
    session.starting.spawn(async move {
        if queue::line(&own.context.state).is_ok_and(|line| !line.is_empty())
            || notify::is_due(&own.context.state)
        {
            ensure(&own, Duration::ZERO).await;
        }
    });
}

/// Beside the answer to an order of a job that is over already: an earlier one whose evidence is still to be collected
/// gets its observer all the same.
fn for_evidence(session: &Arc<Session>) {
    let own = Arc::clone(session);
    session.starting.spawn(async move {
        let state = own.context.state.clone();
        let left = tokio::task::spawn_blocking(move || !diagnostics::unexplained(&state).is_empty());
        if own.context.watch && left.await.unwrap_or_default() {
            ensure(&own, Duration::ZERO).await;
        }
    });
}

/// Beside an answer that may have settled a run: telling of an end is the observer's.
pub(crate) fn for_notifications(session: &Arc<Session>) {
    if notify::is_due(&session.context.state) {
        beside(session);
    }
}

fn is_wanted(facts: &RunFacts) -> bool {
    matches!(facts.phase, Phase::Running | Phase::Queued)
}

/// Whether the evidence of how it ended is still to be collected: whoever was to do it is gone.
fn is_unexplained(session: &Session, facts: &RunFacts) -> bool {
    let failed = facts.settled.as_ref().map(|settled| settled.verdict.result);
    facts.diagnosed_at.is_none()
        && failed.is_some_and(|result| result != RunResult::Succeeded)
        && !diagnostics::is_explained(&session.context.state, &session.folder(&facts.run_id))
}

fn beside(session: &Arc<Session>) {
    let own = Arc::clone(session);
    session
        .starting
        .spawn(async move { ensure(&own, Duration::ZERO).await });
}

async fn ensure(session: &Session, patience: Duration) -> bool {
    Watch::of(session).ensure(patience).await
}

/// What getting an observer to live needs of a session.
#[derive(Debug, Clone)]
struct Watch {
    context: Context,
    tried: Arc<Mutex<Option<Instant>>>,
    starting: TaskTracker,
}

impl Watch {
    fn of(session: &Session) -> Self {
        Self {
            context: session.context.clone(),
            tried: Arc::clone(&session.watch_tried),
            starting: session.starting.clone(),
        }
    }

    /// Answers whether one lives, at the latest after `patience`.
    async fn ensure(&self, patience: Duration) -> bool {
        if !self.context.watch {
            return false;
        }
        let may_start = {
            let mut tried = self.tried.lock().await;
            let may_start = tried.is_none_or(|at| at.elapsed() >= TRIED_APART);
            if may_start {
                *tried = Some(Instant::now());
            }
            may_start
        };
        let own = self.clone();
        let ensured = tokio::task::spawn_blocking(move || {
            if may_start && watch::ensure(&own.context) == Ensured::MakesRoom {
                let context = own.context.clone();
                // The end of the conversation waits for it.
                own.starting.spawn_blocking(move || watch::succeed(&context));
            }
            watch::comes_up(&own.context, patience)
        });
        ensured.await.unwrap_or_default()
    }
}

/// After an end was recorded: whatever did not succeed gets its evidence collected by an observer, beside whatever is
/// going on here. Where none can live it is collected here, as long as the conversation lasts; where none is wanted it
/// is collected on request only.
pub(crate) fn after_end(session: &Session, peer: Option<&Peer>, folder: &RunFolder, verdict: &Verdict) {
    // The observer looks at every end itself.
    if verdict.result == RunResult::Succeeded || session.observes {
        return;
    }
    if !session.context.watch {
        diagnostics::forget_secrets(folder);
        return;
    }
    let watch = Watch::of(session);
    let (own, folder) = (peer.cloned(), folder.clone());
    let first = watch.clone();
    let first = session
        .starting
        .spawn(async move { first.ensure(COMES_UP).await });
    tokio::spawn(async move {
        let mut lives = first.await.unwrap_or_default();
        for _ in 1..ATTEMPTS {
            if lives {
                return;
            }
            tokio::time::sleep(TRIED_APART).await;
            lives = watch.ensure(COMES_UP).await;
        }
        if lives {
            return;
        }
        let Some(peer) = own.or_else(|| docker_of(&watch.context, &folder)) else {
            return;
        };
        let session = Arc::new(Session::new(watch.context));
        diagnose_run(&session, &peer, &folder, Trigger::Failure, false, |_| {}).await;
    });
}

fn docker_of(context: &Context, folder: &RunFolder) -> Option<Peer> {
    let spec = folder.spec().ok()??;
    Peer::new(context, spec.controller_id, folder.docker_settings()).ok()
}
