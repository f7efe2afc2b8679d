//! The facts of runs, and their orders.

use super::advance::advance_beside;
use super::facts;
use super::session::{Session, unknown};
use crate::record::RunFolder;
use farrun_protocol::record::RunFacts;
use farrun_protocol::{Failure, Reply, RunId};
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a listing waits for the engine in all; what it did not learn by then is unclear.
const BUDGET: Duration = Duration::from_secs(2);
/// Runs that are looked at side by side.
const ABREAST: usize = 16;
/// A reply must fit a frame; beyond this many bytes the longest parts of settled runs stay out.
const LARGE: usize = 900 * 1024;

pub(crate) async fn runs(session: &Arc<Session>, run_ids: Vec<RunId>) -> Result<Reply, Failure> {
    session.peer()?;
    // What waits is started by whoever comes by; nobody who asks waits for that.
    advance_beside(session);
    let run_ids = if run_ids.is_empty() { all(session) } else { run_ids };
    let deadline = Instant::now() + BUDGET;
    let mut answers = stream::iter(run_ids)
        .map(|run_id| of_one(session, run_id, deadline))
        .buffered(ABREAST);
    let mut runs = Vec::new();
    while let Some(answer) = answers.next().await {
        runs.extend(answer?);
    }
    Ok(Reply::Runs { runs: fitting(runs) })
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
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => Ok(facts::stored(&folder).unwrap_or_default()),
    }
}

/// Takes the parts out of settled runs that a listing can do without, when it would not fit a frame otherwise.
fn fitting(mut runs: Vec<RunFacts>) -> Vec<RunFacts> {
    let size: usize = runs
        .iter()
        .map(|run| serde_json::to_vec(run).map_or(0, |json| json.len()))
        .sum();
    if size > LARGE {
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
