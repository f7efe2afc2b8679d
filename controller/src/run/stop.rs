//! Ends exactly one run: asks first, or kills.

use super::owner::Owner;
use super::{RunError, order, reconcile};
use crate::agent::AgentError;
use crate::controller::Controller;
use crate::host::{Link, LinkError};
use crate::model::Run;
use farrun_protocol::{ErrorCode, RunId};
use std::time::{Duration, Instant};

/// How long an order that another command has just sent may take to be known to the host.
const UNDER_WAY: Duration = Duration::from_secs(10);
const LOOK_APART: Duration = Duration::from_millis(200);

/// Stops a run. `grace` seconds lie between SIGTERM and SIGKILL; `kill` sends SIGKILL at once.
///
/// # Errors
/// The run has ended before, belongs to somebody else, or its host is out of reach.
#[tracing::instrument(skip_all, fields(run = %id, host))]
pub async fn stop(
    controller: &Controller,
    id: &RunId,
    grace: Option<u64>,
    kill: bool,
) -> Result<Run, RunError> {
    let run = controller.row(id).await?;
    if run.status.is_settled() {
        return Err(RunError::Ended {
            run: id.clone(),
            status: run.status.to_string(),
        });
    }
    tracing::Span::current().record("host", &run.host);
    let host = controller.host_of(id, &run.host).await?;
    let link = match controller.contact(&host).await {
        Ok(link) => link,
        // The host was never asked to start it, so there is nothing to stop there.
        Err(RunError::Link(_)) if !Owner::has_asked(&run) => {
            return cancelled(order::cancel(controller, id).await?);
        }
        Err(error) => return Err(error),
    };
    let grace = grace.unwrap_or(run.spec.grace);
    controller
        .store
        .add_event(id, "stop", if kill { "kill" } else { "stop" })
        .await?;
    let stopped = stop_there(controller, &link, id, grace, kill).await;
    link.session.close().await;
    stopped
}

async fn stop_there(
    controller: &Controller,
    link: &Link,
    id: &RunId,
    grace: u64,
    kill: bool,
) -> Result<Run, RunError> {
    let deadline = Instant::now() + UNDER_WAY;
    loop {
        let error = match link.client.stop_run(id.clone(), grace, kill).await {
            Ok(facts) => return reconcile::apply(controller, &link.host, id, &facts).await,
            Err(error) => error,
        };
        match code(&error) {
            Some(ErrorCode::RunUnknown) => {}
            Some(ErrorCode::NotOwner) => return Err(RunError::NotOwner(id.clone())),
            _ => return Err(LinkError::from(error).into()),
        }
        let run = controller.row(id).await?;
        if run.launched_at.is_some() {
            return Err(LinkError::from(error).into());
        }
        if !Owner::has_asked(&run) || !Owner::is_other(&run) || Instant::now() > deadline {
            if !Owner::is_other(&run) {
                order::not_taken(controller, id).await?;
            }
            return cancelled(order::cancel(controller, id).await?);
        }
        // Another command's order is on its way to the host.
        tokio::time::sleep(LOOK_APART).await;
    }
}

/// A row that should be cancelled now. When another command was faster, its run is not.
fn cancelled(run: Run) -> Result<Run, RunError> {
    if run.status.is_settled() {
        Ok(run)
    } else {
        Err(RunError::BeingStarted(run.id))
    }
}

/// The agent's code of a failure, when it is one.
pub(super) fn code(error: &AgentError) -> Option<ErrorCode> {
    match error {
        AgentError::Failed(failure) => Some(failure.code),
        _ => None,
    }
}
