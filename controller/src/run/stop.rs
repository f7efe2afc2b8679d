//! Ends exactly one run: asks first, or kills.

use super::{RunError, order, reconcile};
use crate::agent::AgentError;
use crate::controller::Controller;
use crate::host::LinkError;
use crate::model::Run;
use farrun_protocol::{ErrorCode, RunId};

/// Stops a run. `grace` seconds lie between SIGTERM and SIGKILL; `kill` sends SIGKILL at once.
///
/// # Errors
/// The run has ended before, belongs to somebody else, or its host is out of reach.
pub async fn stop(
    controller: &Controller,
    id: &RunId,
    grace: Option<u64>,
    kill: bool,
) -> Result<Run, RunError> {
    let run = controller
        .store
        .run(id)
        .await?
        .ok_or_else(|| RunError::NoRun(id.clone()))?;
    if run.status.is_settled() {
        return Err(RunError::Ended {
            run: id.clone(),
            status: run.status.to_string(),
        });
    }
    let host = controller.host_of(id, &run.host).await?;
    let link = match controller.contact(&host).await {
        Ok(link) => link,
        // The host never acknowledged it, so there is nothing to stop there that we know of.
        Err(RunError::Link(_)) if run.launched_at.is_none() => return order::cancel(controller, id).await,
        Err(error) => return Err(error),
    };
    let grace = grace.unwrap_or(run.spec.grace);
    controller
        .store
        .add_event(id, "stop", if kill { "kill" } else { "stop" })
        .await?;
    let stopped = link.client.stop_run(id.clone(), grace, kill).await;
    let run = match stopped {
        Ok(facts) => reconcile::apply(controller, &facts).await?,
        Err(error) => match code(&error) {
            Some(ErrorCode::RunUnknown) if run.launched_at.is_none() => order::cancel(controller, id).await?,
            Some(ErrorCode::NotOwner) => return Err(RunError::NotOwner(id.clone())),
            _ => return Err(LinkError::from(error).into()),
        },
    };
    link.session.close().await;
    Ok(run)
}

/// The agent's code of a failure, when it is one.
pub(super) fn code(error: &AgentError) -> Option<ErrorCode> {
    match error {
        AgentError::Failed(failure) => Some(failure.code),
        _ => None,
    }
}
