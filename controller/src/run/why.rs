//! Why a run ended as it did: brings its evidence here where it can be had, reads it, and keeps what was found.

use super::diagnose::{self, Wanted};
use super::{RunError, bundle, follow};
use crate::controller::{Controller, Event};
use crate::diagnosis::{self, Diagnosis, Facts};
use crate::host::Link;
use crate::model::run::MAX_FINDING;
use crate::model::{HostReport, Run, RunStatus};
use chrono::{TimeDelta, Utc};
use farrun_protocol::gpu::GpuReport;
use std::path::{Path, PathBuf};

/// How far from a run's end a host's last word about its GPUs still says something about it.
const NEAR: TimeDelta = TimeDelta::minutes(2);

/// What is known about the end of a run.
#[derive(Debug)]
pub struct Why {
    /// The run as it is now.
    pub run: Run,
    /// What its evidence shows; none for a run that did not fail.
    pub diagnosis: Option<Diagnosis>,
    /// Where the host's evidence lies here.
    pub folder: Option<PathBuf>,
    /// Why there is none.
    pub absent: Option<String>,
}

/// Tells why a run ended, from the evidence of its host where that is here or can be fetched, else from what is here.
/// With `ask`, a host whose evidence is not here is asked for it.
///
/// # Errors
/// The database, or the user interrupted. A host that is out of reach is no error: [`Why::absent`] says so.
#[tracing::instrument(skip_all, fields(run = %run.id))]
pub async fn of(controller: &Controller, run: Run, ask: bool) -> Result<Why, RunError> {
    let mut absent = None;
    let ended_badly = matches!(run.status, RunStatus::Failed | RunStatus::Cancelled);
    if ended_badly && diagnose::is_missing_here(&run) {
        absent = match fetch(controller, &run, ask).await {
            Ok(()) => None,
            Err(Absent::Said(why)) => Some(why),
            Err(Absent::Error(error)) => return Err(error),
        };
    }
    let run = again(controller, run).await?;
    let diagnosis = conclude(controller, &run).await?;
    let run = again(controller, run).await?;
    Ok(Why {
        folder: folder(&run).map(Path::to_owned),
        run,
        diagnosis,
        absent,
    })
}

/// Brings the evidence of a run that has just been found to have failed, reads it and keeps what was found. Waits a
/// bounded while, and changes nothing about how the run ended: what goes wrong is a warning.
pub async fn in_passing(controller: &Controller, link: &Link, run: &Run) {
    if run.status != RunStatus::Failed {
        return;
    }
    diagnose::in_passing(controller, link, run).await;
    conclude_in_passing(controller, run).await;
}

/// Reads what is here of a run that failed, and keeps what was found; what goes wrong is a warning.
pub async fn conclude_in_passing(controller: &Controller, run: &Run) {
    let concluded = async {
        let run = again(controller, run.clone()).await?;
        if run.status == RunStatus::Failed {
            conclude(controller, &run).await?;
        }
        Ok::<_, RunError>(())
    };
    if let Err(error) = concluded.await {
        controller.tell(&Event::Warning(&format!(
            "the cause of {}'s end could not be kept: {error}",
            run.id
        )));
    }
}

/// Where the evidence of a run lies, when it is here.
fn folder(run: &Run) -> Option<&Path> {
    let folder = run.diagnostics_path.as_deref().map(Path::new);
    folder.filter(|folder| bundle::read(folder).is_some())
}

async fn again(controller: &Controller, run: Run) -> Result<Run, RunError> {
    Ok(controller.store.run(&run.id).await?.unwrap_or(run))
}

/// Why evidence was not brought.
enum Absent {
    /// It cannot be had now, for this reason.
    Said(String),
    /// Nothing more can be told.
    Error(RunError),
}

async fn fetch(controller: &Controller, run: &Run, ask: bool) -> Result<(), Absent> {
    let said = |why: &str| Err(Absent::Said(why.to_owned()));
    if run.launched_at.is_none() {
        return said("the order was not carried out, so its host has nothing of it");
    }
    if !diagnose::is_due(run) {
        return said("its host was given up");
    }
    if !ask {
        return said("its host was not asked");
    }
    let host = match controller.store.host(&run.host).await {
        Ok(Some(host)) => host,
        Ok(None) => return said("its host is not known here any more"),
        Err(error) => return Err(Absent::Error(error.into())),
    };
    let brought = async {
        let link = controller.contact(&host).await?;
        // The whole log says more than its excerpts; without it those have to do.
        if !run.log_complete
            && let Err(error) = follow::mirror_rest(controller, &link, run).await
        {
            tracing::info!(%error, "The rest of the log was not brought");
        }
        let brought = diagnose::of_run(controller, &link, run, Wanted::Kept).await;
        // The goodbye is sent; its answer is of no interest.
        tokio::spawn(link.session.close());
        brought
    };
    match brought.await {
        Ok(_) => Ok(()),
        Err(error @ (RunError::Store(_) | RunError::Interrupted { .. })) => Err(Absent::Error(error)),
        Err(error) if follow::is_unknown(&error) => said("its host has nothing of it any more"),
        Err(error) => {
            controller.tell(&Event::StepDone);
            said(&diagnose::explain(&error))
        }
    }
}

/// Reads the evidence of a run and writes down what was found, when that is news.
async fn conclude(controller: &Controller, run: &Run) -> Result<Option<Diagnosis>, RunError> {
    let report = controller.store.report(&run.host).await?;
    let (read, gpus) = (run.clone(), gpus_then(report, run));
    let diagnosis = tokio::task::spawn_blocking(move || {
        let facts = Facts {
            gpus: gpus.as_ref(),
            ..Facts::of(&read)
        };
        diagnosis::read(folder(&read), &facts)
    });
    // A reader that gave up has found nothing; what is known otherwise is told all the same.
    let diagnosis = diagnosis.await.unwrap_or_else(|error| {
        tracing::error!(%error, "The evidence could not be read");
        None
    });
    let Some(diagnosis) = diagnosis else {
        return Ok(None);
    };
    let (finding, text) = match diagnosis::short(&diagnosis) {
        Some((code, text)) => (
            Some(code.to_owned()),
            Some(text.chars().take(MAX_FINDING).collect::<String>()),
        ),
        None => (None, None),
    };
    let mut news = false;
    let keep = |row: &mut Run| {
        news = row.diagnosed_at.is_none() || row.finding != finding;
        if news || row.finding_text != text {
            row.finding.clone_from(&finding);
            row.finding_text.clone_from(&text);
            row.diagnosed_at = Some(Utc::now());
        }
    };
    controller.store.change_run(&run.id, keep).await?;
    if news {
        let found = text.as_deref().unwrap_or("no known cause");
        controller.store.add_event(&run.id, "diagnosed", found).await?;
    }
    Ok(Some(diagnosis))
}

/// What a host said of its GPUs, when it said so about the time at which a run on it ended.
fn gpus_then(report: HostReport, run: &Run) -> Option<GpuReport> {
    let (gpus, at) = report.gpus?;
    let ended = run.ended_at?;
    ((at - ended).abs() < NEAR).then_some(gpus)
}
