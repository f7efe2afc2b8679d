//! Follows a run to its end: mirrors its log, survives every broken link, settles it and brings its outputs home.

use super::collect::{Collected, collect};
use super::links::Links;
use super::reach::{Reach, may_pass};
use super::{RunError, line, log_error, reconcile, stop, why};
use crate::controller::{Controller, Event};
use crate::host::{Link, LinkError};
use crate::mirror::{self, Followed, Mirror, MirrorError, Options, SourceError};
use crate::model::{Run, RunStatus};
use farrun_protocol::{ErrorCode, RunId};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a host may stay away before a command that nobody watches gives up on it; the run is not affected.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often a host is asked about a run whose log says nothing about its end.
const LOOK_APART: Duration = Duration::from_secs(1);

/// How to follow a run.
#[derive(Debug, Clone, Copy)]
pub struct Following {
    /// Which part of the log is told.
    pub from: mirror::From,
    /// Whether the log is told at all; it is mirrored anyway.
    pub show: bool,
    /// Whether outputs are brought home at the end.
    pub pull: bool,
    /// How long the host may stay away before it is given up; [`Duration::MAX`] for as long as it takes.
    pub patience: Duration,
}

/// How following ended.
#[derive(Debug)]
pub struct Ended {
    /// The run as it is now.
    pub run: Run,
    /// Its outputs, when they were brought home.
    pub collected: Option<Collected>,
    /// Why its log is not all that the job wrote, when the host could not store all of it.
    pub log_error: Option<String>,
    /// Whether it was left alone once the host had acknowledged it, rather than followed.
    pub detached: bool,
}

impl Ended {
    /// A run as it is now.
    ///
    /// # Errors
    /// The database.
    pub async fn of(
        controller: &Controller,
        run: Run,
        collected: Option<Collected>,
    ) -> Result<Self, RunError> {
        let log_error = log_error::of(controller, &run.id).await?;
        Ok(Self {
            run,
            collected,
            log_error,
            detached: false,
        })
    }
}

/// Follows `run` to its end, over `link` first when there is one.
///
/// # Errors
/// The user interrupted (the run goes on), the host stayed away longer than the patience, the local disk or the
/// database failed. Nothing that happens here affects the run.
#[tracing::instrument(skip_all, fields(run = %run.id, host = %run.host))]
pub async fn follow(
    controller: &Controller,
    run: Run,
    link: Option<Arc<Link>>,
    following: Following,
) -> Result<Ended, RunError> {
    follow_sharing(controller, run, link, following, None).await
}

/// As [`follow`], beside others that follow runs of the same hosts over the same links.
///
/// # Errors
/// As [`follow`].
#[tracing::instrument(skip_all, fields(run = %run.id, host = %run.host))]
pub async fn follow_beside(
    controller: &Controller,
    run: Run,
    links: &Links,
    following: Following,
) -> Result<Ended, RunError> {
    follow_sharing(controller, run, None, following, Some(links)).await
}

async fn follow_sharing(
    controller: &Controller,
    mut run: Run,
    link: Option<Arc<Link>>,
    following: Following,
    links: Option<&Links>,
) -> Result<Ended, RunError> {
    let id = run.id.clone();
    // Its host may know by now how it ended; one that is away is not waited for, because the run is over.
    if run.awaits_engine() {
        reconcile::all(controller, Some(&run.host), reconcile::BRIEF).await?;
        run = controller.store.run(&id).await?.unwrap_or(run);
    }
    // What was never started has no log.
    if run.status.is_final() && (run.log_complete || run.launched_at.is_none()) {
        if following.show {
            tell_local(controller, &run, following.from)?;
        }
        return Ended::of(controller, run, None).await;
    }
    let mut reach = Reach::new(controller, &run, link, following.patience).sharing(links);
    let work = async {
        if run.status == RunStatus::Queued {
            line::wait(&mut reach).await?;
        }
        if run.launched_at.is_some() && run.log_path.is_some() {
            mirror_log(&mut reach, following).await?;
        }
        let run = settle(&mut reach).await?;
        let due = run.status == RunStatus::Downloading && following.pull;
        let collected = if due {
            Some(bring_home(&mut reach).await?)
        } else {
            None
        };
        let run = collected.as_ref().map_or(run, |collected| collected.run.clone());
        Ended::of(controller, run, collected).await
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = controller.interrupt.cancelled() => Err(RunError::Interrupted { detached: None }),
    };
    // Whoever noticed the wish to leave first: the run goes on and can be attached to again.
    let mut ended = ended.map_err(|error| match error {
        RunError::Interrupted { .. } => RunError::Interrupted {
            detached: Some(id.clone()),
        },
        other => other,
    })?;
    // Apart from the rest: nothing that happens here changes how the run ended.
    if let Some(link) = reach.at_hand() {
        why::in_passing(controller, &link, &ended.run).await;
        ended.run = controller.store.run(&id).await?.unwrap_or(ended.run);
    }
    Ok(ended)
}

async fn mirror_log(reach: &mut Reach<'_>, following: Following) -> Result<(), RunError> {
    let controller = reach.controller;
    let Some(path) = reach.run.log_path.clone() else {
        return Ok(());
    };
    let mut mirror = Mirror::open(Path::new(&path), &reach.run.id, reach.run.spec.longest_log())?;
    let mut from = following.from;
    loop {
        let link = reach.link().await?;
        let options = Options::to_the_end(from);
        let followed = mirror
            .follow(&link.client, options, &mut |event| {
                tell(controller, following.show, &event)
            })
            .await;
        from = mirror::From::Told;
        match followed {
            Ok(followed) => {
                reach.keep(link);
                return note_log(controller, &reach.run.id, &followed).await;
            }
            Err(MirrorError::Source(SourceError::Lost(cause))) => reach.lost(&cause).await,
            // The host has no folder of it: settling says what that means.
            Err(MirrorError::Source(error)) if error.code() == Some(ErrorCode::RunUnknown) => {
                reach.keep(link);
                return Ok(());
            }
            Err(error) => return Err(disbelieved(error, reach.run)),
        }
    }
}

/// What cannot be true of a log, with the name of who says it.
fn disbelieved(error: MirrorError, run: &Run) -> RunError {
    match error {
        MirrorError::TooLong { run_id, most } => RunError::Hostile {
            host: run.host.clone(),
            what: format!(
                "more than {most} bytes as the log of `{run_id}`, whose order caps it at {}",
                run.spec.log_cap
            ),
        },
        error => error.into(),
    }
}

fn tell(controller: &Controller, show: bool, event: &mirror::Event<'_>) {
    match event {
        mirror::Event::Bytes(bytes) if show => controller.tell(&Event::Log(bytes)),
        mirror::Event::Bytes(_) | mirror::Event::WrittenElsewhere | mirror::Event::TookOver => {}
        mirror::Event::Repaired { had, kept } => controller.tell(&Event::Warning(&format!(
            "the local log held {had} bytes of which the host has {kept}; the rest now is as it is there"
        ))),
        mirror::Event::Replaced { kept } => {
            let kept = kept
                .map(|path| format!("; the old one is kept as `{}`", path.display()))
                .unwrap_or_default();
            controller.tell(&Event::Warning(&format!(
                "the host has another log for this run now{kept}"
            )));
        }
        mirror::Event::DiskFull => {
            controller.tell(&Event::Warning(
                "the local disk is full; the log goes on when there is room",
            ));
        }
        mirror::Event::DiskFreed => controller.tell(&Event::Note("there is room on the local disk again")),
    }
}

async fn note_log(controller: &Controller, run: &RunId, followed: &Followed) -> Result<(), RunError> {
    let Some(end) = followed.end.clone() else {
        return Ok(());
    };
    let complete = followed.complete;
    controller
        .store
        .change_run(run, |row| {
            row.log_length = Some(end.length).filter(|length| i64::try_from(*length).is_ok());
            row.log_sha256 = Some(end.sha256);
            row.log_complete |= complete;
        })
        .await?;
    Ok(())
}

/// Asks the host how the run ended, until it knows.
async fn settle(reach: &mut Reach<'_>) -> Result<Run, RunError> {
    let id = &reach.run.id;
    loop {
        let link = reach.link().await?;
        match reconcile::runs_on(reach.controller, &link, std::slice::from_ref(id)).await {
            Ok(_) => {
                let run = reach.controller.row(id).await?;
                reach.keep(link);
                if run.status.is_settled() || run.launched_at.is_none() {
                    return Ok(run);
                }
                // No log is mirrored here, or the engine is in the middle of something.
                tokio::time::sleep(LOOK_APART).await;
            }
            Err(error) if may_pass(&error) => reach.lost(&error).await,
            Err(error) => return Err(error),
        }
    }
}

async fn bring_home(reach: &mut Reach<'_>) -> Result<Collected, RunError> {
    loop {
        let link = reach.link().await?;
        match collect(reach.controller, &link, &reach.run.id).await {
            Ok(collected) => {
                link.let_go().await;
                return Ok(collected);
            }
            Err(error) if may_pass(&error) => reach.lost(&error).await,
            Err(error) => return Err(error),
        }
    }
}

/// Tells what is here of a run's log.
///
/// # Errors
/// The local file cannot be read.
pub fn tell_local(controller: &Controller, run: &Run, from: mirror::From) -> Result<(), RunError> {
    let Some(path) = run.log_path.as_deref().map(Path::new) else {
        return Ok(());
    };
    let from = match from {
        mirror::From::Offset(offset) => offset,
        mirror::From::Lines(lines) => mirror::read::tail_offset(path, lines)?,
        mirror::From::Start | mirror::From::Told => 0,
    };
    mirror::read::read(path, from, &mut |bytes| controller.tell(&Event::Log(bytes)))?;
    Ok(())
}

/// Fetches what the log holds now, without waiting for more, and tells it if `show`.
///
/// # Errors
/// The host is out of reach, the local disk, or the database.
pub async fn catch_up(
    controller: &Controller,
    run: &Run,
    from: mirror::From,
    show: bool,
) -> Result<(), RunError> {
    let host = controller.host_of(&run.id, &run.host).await?;
    let link = controller.contact(&host).await?;
    mirror_now(controller, &link, run, from, show).await?;
    link.session.close().await;
    Ok(())
}

/// Fetches what the log holds now over a link, without telling it.
///
/// # Errors
/// As [`catch_up`].
pub async fn mirror_rest(controller: &Controller, link: &Link, run: &Run) -> Result<(), RunError> {
    mirror_now(controller, link, run, mirror::From::Start, false).await
}

async fn mirror_now(
    controller: &Controller,
    link: &Link,
    run: &Run,
    from: mirror::From,
    show: bool,
) -> Result<(), RunError> {
    let Some(path) = run.log_path.as_deref() else {
        return Ok(());
    };
    let mut mirror = Mirror::open(Path::new(path), &run.id, run.spec.longest_log())?;
    let mut told = |event: mirror::Event<'_>| tell(controller, show, &event);
    let following = mirror.follow(&link.client, Options::for_now(from), &mut told);
    let followed = tokio::select! {
        followed = following => followed,
        () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: Some(run.id.clone()) }),
    };
    let followed = match followed {
        Err(MirrorError::Source(SourceError::Refused(failure))) => {
            return Err(LinkError::Agent(crate::agent::AgentError::Failed(failure)).into());
        }
        other => other.map_err(|error| disbelieved(error, run))?,
    };
    note_log(controller, &run.id, &followed).await
}

/// Whether an error says that the host does not know the run.
pub fn is_unknown(error: &RunError) -> bool {
    matches!(error, RunError::Link(LinkError::Agent(error)) if stop::code(error) == Some(ErrorCode::RunUnknown))
}
