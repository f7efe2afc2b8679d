//! What went wrong beside a run without being the cause of its end: written into its history, and told from there.

use super::RunError;
use crate::controller::Controller;
use crate::model::RunEvent;
use farrun_protocol::RunId;
use farrun_protocol::record::RunFacts;
use farrun_protocol::verdict::RunResult;

/// Kind of the event.
const KIND: &str = "warning";
/// Longest quotation of a host, in characters.
const MOST: usize = 500;

/// Writes a warning down, unless it is there.
///
/// # Errors
/// The database.
pub async fn add(controller: &Controller, id: &RunId, warning: &str) -> Result<(), RunError> {
    let events = controller.store.events(id).await?;
    if !of(&events).contains(&warning) {
        controller.store.add_event(id, KIND, warning).await?;
    }
    Ok(())
}

/// The warnings of a history.
pub fn of(events: &[RunEvent]) -> Vec<&str> {
    let warnings = events.iter().filter(|event| event.kind == KIND);
    warnings.map(|event| event.detail.as_str()).collect()
}

/// Writes down what a host's facts warn of.
pub(super) async fn note(controller: &Controller, id: &RunId, facts: &RunFacts) -> Result<(), RunError> {
    let Some(settled) = facts.settled.as_deref() else {
        return Ok(());
    };
    for warning in [memory(settled), engine(settled)].into_iter().flatten() {
        add(controller, id, &warning).await?;
    }
    Ok(())
}

/// An end that was told without the engine lacks what only the engine knows.
fn engine(settled: &farrun_protocol::record::Settled) -> Option<String> {
    let error = settled.engine_error.as_deref()?;
    let line: Vec<&str> = error.split_whitespace().collect();
    let line: String = line.join(" ").chars().take(MOST).collect();
    Some(format!(
        "the container engine did not answer when the end was recorded, so what only it knows of the container is \
         missing ({line})"
    ))
}

/// A job that succeeded although processes of it died for want of memory may have less to show for it than it should.
fn memory(settled: &farrun_protocol::record::Settled) -> Option<String> {
    let kills = settled.exit.as_ref().map_or(0, |exit| exit.oom_kills);
    let flagged = settled
        .container
        .as_ref()
        .is_some_and(|container| container.oom_killed);
    if settled.verdict.result != RunResult::Succeeded || (kills == 0 && !flagged) {
        return None;
    }
    Some(match kills {
        0 | 1 => "the kernel ended a process of the job for want of memory; the job went on and succeeded"
            .to_owned(),
        _ => format!(
            "the kernel ended {kills} processes of the job for want of memory; the job went on and succeeded"
        ),
    })
}
