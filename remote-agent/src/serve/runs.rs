//! The facts of runs, and their orders.

use super::advance::advance_beside;
use super::facts;
use super::session::{Session, unknown};
use super::watching;
use crate::record::RunFolder;
use farrun_protocol::message::RunsPage;
use farrun_protocol::record::RunFacts;
use farrun_protocol::{Failure, Reply, RunId};
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a listing waits for the engine in all; what it did not learn by then is unclear. Less than the two seconds that
/// somebody who asks in passing waits, for the answer has a way to go.
const BUDGET: Duration = Duration::from_millis(1500);
/// Runs that are looked at side by side.
const ABREAST: usize = 16;
/// Runs of one page: what is looked at must stay within the budget.
const MOST_OF_A_PAGE: usize = 500;
/// A reply must fit a frame; beyond this many bytes the longest parts of settled runs stay out.
const LARGE: usize = 900 * 1024;

pub(crate) async fn runs(
    session: &Arc<Session>,
    run_ids: Vec<RunId>,
    page: Option<RunsPage>,
) -> Result<Reply, Failure> {
    session.peer()?;
    // What waits is started by whoever comes by; nobody who asks waits for that.
    advance_beside(session);
    if let Some(page) = page.filter(|_| run_ids.is_empty()) {
        return page_of(session, page).await;
    }
    let run_ids = if run_ids.is_empty() { all(session) } else { run_ids };
    let deadline = Instant::now() + BUDGET;
    let mut answers = stream::iter(run_ids)
        .map(|run_id| of_one(session, run_id, deadline))
        .buffered(ABREAST);
    let mut runs = Vec::new();
    while let Some(answer) = answers.next().await {
        runs.extend(answer?);
    }
    watching::for_runs(session, &runs);
    let (runs, next) = (fitting(runs), None);
    Ok(Reply::Runs { runs, next })
}

/// As many runs as fit a frame, by ascending id.
async fn page_of(session: &Arc<Session>, page: RunsPage) -> Result<Reply, Failure> {
    let mut run_ids = all(session);
    run_ids.retain(|run_id| page.after.as_ref().is_none_or(|after| run_id > after));
    let last = run_ids.last().cloned();
    run_ids.truncate(MOST_OF_A_PAGE);
    let deadline = Instant::now() + BUDGET;
    let mut answers = stream::iter(run_ids)
        .map(|run_id| async move { (run_id.clone(), of_one(session, run_id, deadline).await) })
        .buffered(ABREAST);
    let (mut runs, mut size, mut reached) = (Vec::new(), 0, None);
    while let Some((run_id, facts)) = answers.next().await {
        let facts = facts?;
        let this = facts.as_ref().map_or(0, size_of);
        if size + this > LARGE && !runs.is_empty() {
            break;
        }
        size += this;
        runs.extend(facts);
        reached = Some(run_id);
    }
    watching::for_runs(session, &runs);
    let next = reached.filter(|reached| Some(reached) != last.as_ref());
    let runs = fitting(runs);
    Ok(Reply::Runs { runs, next })
}

/// Every run that has a folder.
pub(crate) fn all(session: &Session) -> Vec<RunId> {
    let folder = session.context.state.join("runs");
    let mut run_ids: Vec<RunId> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    run_ids.sort();
    run_ids
}

async fn of_one(
    session: &Arc<Session>,
    run_id: RunId,
    deadline: Instant,
) -> Result<Option<RunFacts>, Failure> {
    let folder = session.folder(&run_id);
    let own = (Arc::clone(session), folder.clone());
    // On its own, so that settling goes on when the listing has to answer.
    let look = tokio::spawn(async move {
        let (session, folder) = own;
        facts::facts(session.peer()?, &session, &folder, None).await
    });
    match tokio::time::timeout_at(deadline, look).await {
        Ok(Ok(Ok(facts))) => Ok(facts),
        // A damaged or newer record of one run must not hide the others.
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => {
            Ok(facts::stored(&session.context.state, &folder).unwrap_or_default())
        }
    }
}

/// Takes the parts out of settled runs that a listing can do without, when it would not fit a frame otherwise.
fn fitting(mut runs: Vec<RunFacts>) -> Vec<RunFacts> {
    if runs.iter().map(size_of).sum::<usize>() > LARGE {
        for run in &mut runs {
            run.container = run.container.take().filter(|_| run.settled.is_none());
            if let Some(settled) = &mut run.settled {
                settled.exit = None;
                settled.container = None;
            }
        }
    }
    runs
}

fn size_of(run: &RunFacts) -> usize {
    serde_json::to_vec(run).map_or(0, |json| json.len())
}

pub(crate) fn spec(session: &Session, run_id: &RunId) -> Result<Reply, Failure> {
    session.peer()?;
    let spec = session.folder(run_id).spec()?.ok_or_else(|| unknown(run_id))?;
    Ok(Reply::Spec(Box::new(spec)))
}

/// The facts of a run that must exist.
pub(crate) async fn known(session: &Session, folder: &RunFolder) -> Result<RunFacts, Failure> {
    facts::facts(session.peer()?, session, folder, None)
        .await?
        .ok_or_else(|| unknown(folder.run_id()))
}
