//! Getting the account's observer to live while there is something to observe.

use super::session::Session;
use crate::{notify, queue, watch};
use farrun_protocol::record::{Phase, RunFacts};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A host on which no observer can live is not asked for one again and again.
const TRIED_APART: Duration = Duration::from_secs(5);
/// How long the answer to an order that waits is held back, so that it says that somebody watches the line.
const COMES_UP: Duration = Duration::from_millis(500);

/// After a launch: the process is started before the answer, for the conversation may end with it.
pub(crate) async fn after_launch(session: &Arc<Session>, facts: &mut RunFacts) {
    if !is_wanted(facts) {
        return;
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
    if runs.iter().any(is_wanted) {
        beside(session);
    }
}

/// Beside the answer to a hello, when runs wait or somebody is to be told of an end.
pub(crate) fn for_line(session: &Arc<Session>) {
    let own = Arc::clone(session);
    tokio::spawn(async move {
        if queue::line(&own.context.state).is_ok_and(|line| !line.is_empty())
            || notify::is_due(&own.context.state)
        {
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

fn beside(session: &Arc<Session>) {
    let own = Arc::clone(session);
    tokio::spawn(async move { ensure(&own, Duration::ZERO).await });
}

async fn ensure(session: &Arc<Session>, patience: Duration) -> bool {
    if !session.context.watch {
        return false;
    }
    let may_start = {
        let mut tried = session.watch_tried.lock().await;
        let may_start = tried.is_none_or(|at| at.elapsed() >= TRIED_APART);
        if may_start {
            *tried = Some(Instant::now());
        }
        may_start
    };
    let context = session.context.clone();
    let ensured = tokio::task::spawn_blocking(move || {
        if may_start {
            watch::ensure(&context);
        }
        watch::comes_up(&context, patience)
    });
    ensured.await.unwrap_or_default()
}
