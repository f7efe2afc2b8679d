//! Prints how a run stands, and says with which exit code.

use super::Context;
use super::view::{RunView, document, has_living_owner, is_interrupted};
use crate::diagnosis::PROBABLY;
use crate::error::Exit;
use crate::model::{Run, RunStatus};
use crate::store::RunSummary;
use crate::ui::{escape, format};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::verdict::Reason;

/// What the evidence of a run shows beyond the line that says how it ended.
pub fn cause(run: &Run) -> Option<String> {
    let (code, reason) = (run.finding.as_deref()?, run.reason);
    let says_the_same = match reason {
        Some(Reason::OutOfMemory) => ["memory_limit", "host_out_of_memory"].contains(&code),
        Some(reason) => code == reason.code(),
        None => false,
    };
    let text = run.finding_text.as_deref().filter(|_| !says_the_same);
    text.map(in_a_sentence)
}

/// A cause behind a colon of ours: `probably the disk was full`.
pub fn in_a_sentence(finding: &str) -> String {
    match finding.strip_prefix(PROBABLY) {
        Some(sentence) => format!("probably {sentence}"),
        None => finding.to_owned(),
    }
}

/// The exit code that tells a run's outcome.
pub fn exit_of(run: &Run) -> Exit {
    match run.status {
        RunStatus::Failed => Exit::RunFailed,
        RunStatus::Cancelled => Exit::Cancelled,
        _ => Exit::Completed,
    }
}

/// How old a confirmation may be that lets a run be called running.
const PROOF: TimeDelta = TimeDelta::seconds(60);

/// Whether the host confirmed less than a minute ago that a run stands where its row says; a settled run needs no
/// confirmation, and one that was never launched has none.
pub fn is_confirmed(status: RunStatus, confirmed_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    status.is_settled() || confirmed_at.is_some_and(|at| now - at < PROOF)
}

/// The state in words: `running`, `running (last confirmed 5 min ago)`, `pending (interrupted)`.
fn words(
    status: RunStatus,
    interrupted: bool,
    confirmed_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> String {
    match status {
        RunStatus::Downloading => "downloading (outputs on host)".to_owned(),
        status if interrupted => format!("{status} (interrupted)"),
        RunStatus::Queued | RunStatus::Running if !is_confirmed(status, confirmed_at, now) => {
            match confirmed_at {
                Some(at) => format!("{status} (last confirmed {})", format::age(at, now)),
                None => format!("{status} (never confirmed)"),
            }
        }
        status => status.to_string(),
    }
}

/// As [`state`], of a summary.
pub fn summary_state(run: &RunSummary) -> String {
    let early = matches!(run.status, RunStatus::Pending | RunStatus::Uploading);
    words(
        run.status,
        early && !has_living_owner(run.owner.as_deref()),
        run.confirmed_at,
        Utc::now(),
    )
}

/// The state in words; a run is called running only with proof that is younger than a minute.
pub fn state(run: &Run) -> String {
    words(run.status, is_interrupted(run), run.confirmed_at, Utc::now())
}

/// Prints the end of a command about one run: the JSON document, or a few lines on stderr.
pub fn print(context: &Context, run: &Run, brought: Option<&str>) -> Exit {
    print_with(context, run, brought, None)
}

/// As [`print()`]; `log_error` says why the log is not all that the job wrote.
pub fn print_with(context: &Context, run: &Run, brought: Option<&str>, log_error: Option<&str>) -> Exit {
    let ui = &context.ui;
    if ui.is_json() {
        let view = RunView {
            log_error,
            ..RunView::from(run)
        };
        ui.json_line(&document("farrun.run/1", view));
        return exit_of(run);
    }
    let id = &run.id;
    match run.status {
        RunStatus::Completed => {
            ui.note(format!("{id} completed{}", duration(run)));
            if let Some(brought) = brought.filter(|brought| !brought.is_empty()) {
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
                // What never started has no log.
                let see = match run.started_at {
                    Some(_) => format!("see `farrun why {id}` and `farrun logs {id} --tail 50`"),
                    None => format!("see `farrun why {id}`"),
                };
                let cause: Vec<String> = cause(run).map(|cause| escape::line(&cause)).into_iter().collect();
                ui.error(format!("{id} failed: {why}"), &cause, &[see]);
            } else {
                ui.note(format!("{id} was cancelled: {why}"));
            }
        }
        _ => ui.note(format!("{id} is {} on `{}`", state(run), run.host)),
    }
    if let Some(log) = run.log_path.as_ref().filter(|_| run.started_at.is_some()) {
        ui.note(format!("log: {log}"));
    }
    if let Some(error) = log_error {
        ui.warning(format!("the log is not whole: {}", escape::line(error)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_needs_proof_younger_than_a_minute() {
        let now = Utc::now();
        let ago = |seconds| Some(now - TimeDelta::seconds(seconds));
        let shown = |status, at| words(status, false, at, now);
        assert_eq!(shown(RunStatus::Running, ago(59)), "running");
        assert_eq!(
            shown(RunStatus::Running, ago(61)),
            "running (last confirmed 1 min ago)"
        );
        assert_eq!(
            shown(RunStatus::Queued, ago(7200)),
            "queued (last confirmed 2 h ago)"
        );
        assert_eq!(shown(RunStatus::Running, None), "running (never confirmed)");
        assert_eq!(shown(RunStatus::Failed, None), "failed");
        assert_eq!(
            words(RunStatus::Pending, true, None, now),
            "pending (interrupted)"
        );
    }
}
