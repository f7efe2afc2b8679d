//! Telling the user of this machine that a run has ended, by the hook of the configuration.
//!
//! Whoever finds a run ended starts a process that tells and is not waited for: neither the command nor another run is
//! held up by a hook that hangs, and it goes on when the command ends.

use crate::controller::Controller;
use crate::model::{Run, RunStatus};
use crate::run::{RunError, warnings};
use farrun_protocol::RunId;
use farrun_protocol::notify::{Event, carry_out};
use farrun_protocol::verdict::{Reason, RunResult};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The verb of the process that tells.
pub const VERB: &str = "tell";

/// Starts the process that tells of a run. Whatever keeps it from starting is a warning in the telemetry.
pub fn begin(run: &RunId, config: Option<&Path>) {
    let started = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.args([VERB, run.as_str()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C in this terminal is not meant for it.
        command.process_group(0).spawn()
    });
    match started {
        // Reaped where this process lives on.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => tracing::warn!(%run, %error, "Nobody can be told of the end"),
    }
}

/// Runs the hook for a run, unless it was run before on this machine or there is none.
///
/// # Errors
/// The database. A hook that fails is a warning of the run.
pub async fn tell(controller: &Controller, run: &Run) -> Result<(), RunError> {
    let Some(hook) = &controller.config.notify else {
        return Ok(());
    };
    if !run.status.is_settled() || !controller.store.claim_notification(&run.id).await? {
        return Ok(());
    }
    let call = hook.call(&event(run));
    let outcome = tokio::task::spawn_blocking(move || carry_out(&call)).await;
    let problem = match outcome {
        Ok(outcome) => outcome.problem(),
        Err(error) => Some(error.to_string()),
    };
    if let Some(problem) = problem {
        let warning = format!("the {} of this machine failed: {problem}", hook.shown());
        warnings::add(controller, &run.id, &warning).await?;
    }
    Ok(())
}

/// A run's end as its row tells it.
fn event(run: &Run) -> Event {
    let status = match run.status {
        RunStatus::Failed => RunResult::Failed,
        RunStatus::Cancelled => RunResult::Cancelled,
        _ => RunResult::Succeeded,
    };
    Event {
        schema: "farrun.notification/1".to_owned(),
        text: String::new(),
        run_id: run.id.clone(),
        name: run.spec.name.clone(),
        host: run.host.clone(),
        operation: run.operation.clone(),
        prompt_id: run.prompt_id.clone(),
        status,
        reason: run.reason.unwrap_or(Reason::Unknown),
        error_message: run.error_message.clone(),
        exit_code: run.exit_code,
        signal: run.signal,
        started_at: run.started_at,
        ended_at: run.ended_at,
    }
    .worded()
}
