//! Logs that a host could not store whole: written into the history of the run once, and told from there.

use super::{RunError, explain};
use crate::controller::Controller;
use farrun_protocol::RunId;
use farrun_protocol::record::RunFacts;

/// Kind of the event.
const KIND: &str = "log_error";

/// Writes down what the record of the end says about the log, unless it was written before.
pub(super) async fn note(controller: &Controller, id: &RunId, facts: &RunFacts) -> Result<(), RunError> {
    let Some(settled) = &facts.settled else {
        return Ok(());
    };
    let exit = settled.exit.as_ref();
    let of_exit = exit.and_then(|exit| Some(explain::log_error(exit.log_error.as_ref()?, exit.dropped)));
    let of_engine = settled.log_error.as_deref().map(explain::engine_log_error);
    let Some(detail) = of_exit.or(of_engine) else {
        return Ok(());
    };
    if of(controller, id).await?.is_none() {
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
