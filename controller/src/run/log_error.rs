//! Logs that a host could not store whole: written into the history of the run once, and told from there.

use super::{RunError, explain};
use crate::controller::Controller;
use farrun_protocol::RunId;
use farrun_protocol::record::RunFacts;

/// Kind of the event.
const KIND: &str = "log_error";

/// Writes down what the exit record says about the log, unless it was written before.
pub(super) async fn note(controller: &Controller, id: &RunId, facts: &RunFacts) -> Result<(), RunError> {
    let exit = facts.settled.as_ref().and_then(|settled| settled.exit.as_ref());
    let Some((error, exit)) = exit.and_then(|exit| Some((exit.log_error.as_ref()?, exit))) else {
        return Ok(());
    };
    if of(controller, id).await?.is_none() {
        let detail = explain::log_error(error, exit.dropped);
        controller.store.add_event(id, KIND, &detail).await?;
    }
    Ok(())
}

/// Why the log of a run is not all that its job wrote, when its host could not store all of it.
///
/// # Errors
/// The database.
pub async fn of(controller: &Controller, id: &RunId) -> Result<Option<String>, RunError> {
    let events = controller.store.events(id).await?;
    let told = events.into_iter().find(|event| event.kind == KIND);
    Ok(told.map(|event| event.detail))
}
