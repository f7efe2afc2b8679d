//! Prints how a run stands, and says with which exit code.

use super::Context;
use super::view::{RunView, document, has_living_owner, is_interrupted};
use crate::error::Exit;
use crate::model::{Run, RunStatus};
use crate::store::RunSummary;
use crate::ui::{escape, format};
use chrono::{DateTime, Utc};

/// The exit code that tells a run's outcome.
pub fn exit_of(run: &Run) -> Exit {
    match run.status {
        RunStatus::Failed => Exit::RunFailed,
        RunStatus::Cancelled => Exit::Cancelled,
        _ => Exit::Completed,
    }
}

/// As [`state`], of a summary.
pub fn summary_state(run: &RunSummary) -> String {
    match run.status {
        RunStatus::Pending | RunStatus::Uploading if !has_living_owner(run.owner.as_deref()) => {
            format!("{} (interrupted)", run.status)
        }
        RunStatus::Downloading => "downloading (outputs on host)".to_owned(),
        status => status.to_string(),
    }
}

/// The state in words: `running`, `pending (interrupted)`, `downloading (outputs on host)`.
pub fn state(run: &Run) -> String {
    match run.status {
        RunStatus::Downloading => "downloading (outputs on host)".to_owned(),
        status if is_interrupted(run) => format!("{status} (interrupted)"),
        status => status.to_string(),
    }
}

/// Prints the end of a command about one run: the JSON document, or a few lines on stderr.
pub fn print(context: &Context, run: &Run, brought: Option<&str>) -> Exit {
    let ui = &context.ui;
    if ui.is_json() {
        ui.json(&document("farrun.run/1", RunView::from(run)));
        return exit_of(run);
    }
    let id = &run.id;
    match run.status {
        RunStatus::Completed => {
            ui.note(format!("{id} completed{}", duration(run)));
            if let Some(brought) = brought {
                ui.note(format!("outputs: {brought}"));
            }
        }
        RunStatus::Downloading => ui.note(format!(
            "{id} ended well; its outputs are still on `{}`",
            run.host
        )),
        RunStatus::Failed | RunStatus::Cancelled => {
            let why = run.error_message.as_deref().map(escape::line).unwrap_or_default();
            if run.status == RunStatus::Failed {
                ui.error(
                    format!("{id} failed: {why}"),
                    &[],
                    &[format!("see `farrun logs {id} --tail 50` and `farrun show {id}`")],
                );
            } else {
                ui.note(format!("{id} was cancelled: {why}"));
            }
        }
        _ => ui.note(format!("{id} is {} on `{}`", state(run), run.host)),
    }
    if let Some(log) = run.log_path.as_ref().filter(|_| run.started_at.is_some()) {
        ui.note(format!("log: {log}"));
    }
    exit_of(run)
}

/// ` in 2 m 05 s`, when it is known.
pub fn duration(run: &Run) -> String {
    elapsed(run).map(|text| format!(" in {text}")).unwrap_or_default()
}

/// How long the job ran, or has been running.
pub fn elapsed(run: &Run) -> Option<String> {
    took(run.started_at, run.ended_at, run.status)
}

/// From start to end, or to now while it runs.
pub fn took(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>, status: RunStatus) -> Option<String> {
    let start = start?;
    let end = end.or_else(|| (!status.is_settled()).then(Utc::now))?;
    Some(format::duration((end - start).to_std().unwrap_or_default()))
}
