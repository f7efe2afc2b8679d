//! Has a host collect the evidence of a run or of itself, and brings it here.
//!
//! What goes wrong with it is told and changes nothing: neither how a run ended nor with which code a command does.

use super::order::LocalPaths;
use super::{RunError, bundle, follow, local_garbage};
use crate::controller::{Controller, Event};
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::diagnostics::{self, Bundle};
use farrun_protocol::message::{ManifestReply, Progress};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, RunId};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command that only learns of a failure waits for its evidence: a host takes a minute at most to collect.
const PATIENCE: Duration = Duration::from_secs(75);

/// Evidence that is here.
#[derive(Debug, Clone)]
pub struct Brought {
    /// What it is and what it lacks.
    pub bundle: Bundle,
    /// Where it lies.
    pub folder: PathBuf,
}

/// How evidence is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What was collected when the run failed, or now where nothing was.
    Kept,
    /// As the host is now.
    Anew,
}

/// Whether a host can have evidence of a run: it acknowledged its order, and was not given up since.
pub fn is_due(run: &Run) -> bool {
    let ended_badly = matches!(run.status, RunStatus::Failed | RunStatus::Cancelled);
    ended_badly && run.launched_at.is_some() && run.reason != Some(Reason::HostLost)
}

/// Whether a host probably still has the evidence of a run that is not here, and nobody removed it here.
///
/// # Errors
/// The database.
pub async fn is_to_fetch(controller: &Controller, run: &Run) -> Result<bool, RunError> {
    let kept = TimeDelta::days(diagnostics::KEPT_DAYS);
    let lately = run.ended_at.is_some_and(|ended| Utc::now() - ended < kept);
    if !lately || run.status != RunStatus::Failed || !is_due(run) || !is_missing_here(run) {
        return Ok(false);
    }
    let events = controller.store.events(&run.id).await?;
    let mut removed = events.iter().filter(|event| event.kind == local_garbage::REMOVED);
    Ok(!removed.any(|event| event.detail == local_garbage::DIAGNOSTICS))
}

/// Whether the evidence of a run's end was never brought here, or is gone from here.
pub fn is_missing_here(run: &Run) -> bool {
    let folder = run.diagnostics_path.as_deref().map(Path::new);
    // What was collected while it ran says nothing of its end. Both times are of the host's clock.
    let of_its_end = |bundle: &Bundle| run.ended_at.is_none_or(|ended| bundle.ended_at >= ended);
    !folder.and_then(bundle::read).as_ref().is_some_and(of_its_end)
}

/// Brings the evidence of a run here and writes down where it lies.
///
/// # Errors
/// The host does not know the run or cannot be talked to, or the local disk or the database refuses.
#[tracing::instrument(skip_all, fields(run = %run.id, host = %link.host))]
pub async fn of_run(
    controller: &Controller,
    link: &Link,
    run: &Run,
    wanted: Wanted,
) -> Result<Brought, RunError> {
    let folder = LocalPaths::of(&controller.config, &run.spec).diagnostics;
    let host = controller.host_of(&run.id, &run.host).await?;
    let brought = bring(controller, link, &host, Some(&run.id), wanted, &|_| {
        folder.clone()
    })
    .await?;
    let path = brought.folder.to_string_lossy().into_owned();
    let place = |row: &mut Run| row.diagnostics_path = Some(path);
    controller.store.change_run(&run.id, place).await?;
    Ok(brought)
}

/// Brings the evidence of a host as it is now.
///
/// # Errors
/// The host cannot be talked to, or the local disk refuses.
#[tracing::instrument(skip_all, fields(host = %link.host))]
pub async fn of_host(controller: &Controller, link: &Link, host: &Host) -> Result<Brought, RunError> {
    let folder = controller.config.outputs.join("diagnostics").join(&host.name);
    let place = |bundle: &Bundle| folder.join(moment(bundle.began_at));
    bring(controller, link, host, None, Wanted::Anew, &place).await
}

/// A moment as a folder's name: `2026-03-01T10-00-00Z`.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// Brings the evidence of a run that has just been found to have failed, where there is some and it is not here. Waits a
/// bounded while; what goes wrong is a warning.
pub async fn in_passing(controller: &Controller, link: &Link, run: &Run) {
    if !is_due(run) || !is_missing_here(run) {
        return;
    }
    let why = match tokio::time::timeout(PATIENCE, of_run(controller, link, run, Wanted::Kept)).await {
        Ok(Ok(_)) => return,
        // The user wants to go: what happened is known all the same.
        Ok(Err(RunError::Interrupted { .. })) => return,
        // A host that has nothing of the run any more has no evidence of it either.
        Ok(Err(error)) if follow::is_unknown(&error) => return,
        Ok(Err(error)) => explain(&error),
        Err(_) => format!("it was not here after {} s", PATIENCE.as_secs()),
    };
    controller.tell(&Event::StepDone);
    let warning = format!(
        "the evidence of {} could not be brought ({why}); `farrun why {}` tries again",
        run.id, run.id
    );
    controller.tell(&Event::Warning(&warning));
}

/// Why there is no evidence, in one line.
pub fn explain(error: &RunError) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    if let Some(cause) = error.source().map(ToString::to_string)
        && !text.contains(&cause)
    {
        text = format!("{text}: {cause}");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn bring(
    controller: &Controller,
    link: &Link,
    host: &Host,
    run: Option<&RunId>,
    wanted: Wanted,
    place: &(dyn Fn(&Bundle) -> PathBuf + Sync),
) -> Result<Brought, RunError> {
    let (bundle, reply) = ask(controller, link, run, wanted).await?;
    let hostile = |what: &str| RunError::Hostile {
        host: link.host.clone(),
        what: what.to_owned(),
    };
    if bundle.run_id.as_ref() != run || bundle.host_id != link.hello.host_id {
        return Err(hostile("the evidence of something else"));
    }
    let folder = place(&bundle);
    if reply.path.is_empty() {
        bundle::keep_words(&bundle, &folder).await?;
    } else if !bundle::is_here(&folder, &bundle) {
        // Whatever had to be asked was asked for the conversation.
        let (session, sftp) = controller.dialer().unasking().files(host).await?;
        bundle::fetch(controller, host, sftp, run, &reply, &folder).await?;
        // It is over; the host is not waited for.
        tokio::spawn(session.close());
        if bundle::read(&folder).as_ref() != Some(&bundle) {
            return Err(hostile(
                "evidence whose description is another one than announced",
            ));
        }
    }
    Ok(Brought { bundle, folder })
}

/// Has the host collect, which may take it a minute.
async fn ask(
    controller: &Controller,
    link: &Link,
    run: Option<&RunId>,
    wanted: Wanted,
) -> Result<(Bundle, ManifestReply), RunError> {
    let collecting = link
        .client
        .diagnose(run.cloned(), wanted == Wanted::Anew, |progress| {
            if let Progress::Collecting { .. } = progress {
                controller.tell(&Event::CollectingEvidence { host: &link.host });
            }
        });
    let answer = tokio::select! {
        answer = collecting => answer,
        () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
    };
    controller.tell(&Event::StepDone);
    match (answer, run) {
        (Err(error), Some(run)) if super::stop::code(&error) == Some(ErrorCode::RunActive) => {
            Err(RunError::Active(run.clone()))
        }
        (answer, _) => Ok(answer?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_plain_name() {
        let at: DateTime<Utc> = "2026-03-01T10:00:00.5Z".parse().unwrap();
        assert_eq!(moment(at), "2026-03-01T10-00-00Z");
    }
}
