//! What a host no longer needs, and its removal. Nothing goes that was not listed.

use super::{RunError, follow, pulled};
use crate::controller::Controller;
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use farrun_protocol::RunId;
use farrun_protocol::message::{Collect, Garbage};
use std::collections::BTreeMap;

/// Runs that one request names: a request and its answer must fit a frame.
const MOST_RUNS: usize = 500;
/// Runs that are taken for gone when inputs are looked for; of more, some inputs are listed only the next time.
const MOST_GONE: usize = 40_000;
/// Names that one request has.
const MOST_NAMES: usize = 5000;
/// Why a run stays that has outputs which are not here.
pub const UNPULLED: &str = "unpulled";

/// What would go from a host.
#[derive(Debug, Default)]
pub struct Plan {
    /// Everything that was looked at; what stays says why.
    pub items: Vec<Garbage>,
    /// The runs among it that would go.
    pub runs: Vec<Run>,
    also: Also,
}

impl Plan {
    /// Whether anything would go.
    pub fn is_empty(&self) -> bool {
        self.items.iter().all(|item| item.kept.is_some())
    }
}

/// What goes besides runs that are here whole, and what nobody needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Also {
    /// Runs with outputs that are not here; those are lost.
    pub unpulled: bool,
    /// Evidence about the host that is at least so many seconds old.
    pub diagnostics: Option<u64>,
    /// Images of the demo.
    pub images: bool,
}

/// Lists what would go from a host. `runs` are final runs.
///
/// # Errors
/// The host is out of reach, or the database.
pub async fn plan(
    controller: &Controller,
    host: &Host,
    runs: Vec<Run>,
    also: Also,
) -> Result<Plan, RunError> {
    let link = controller.contact(host).await?;
    let mut plan = Plan {
        also,
        ..Plan::default()
    };
    let mut by_id: BTreeMap<String, Run> = runs.into_iter().map(|run| (run.id.to_string(), run)).collect();
    let run_ids: Vec<RunId> = by_id.values().map(|run| run.id.clone()).collect();
    for run_ids in run_ids.chunks(MOST_RUNS) {
        for mut item in link.client.collect(of_runs(run_ids, true)).await? {
            let Some(run) = by_id.remove(&item.name) else {
                continue;
            };
            if item.kept.is_none() && !also.unpulled && has_more(controller, &run, item.outputs).await? {
                item.kept = Some(UNPULLED.to_owned());
            }
            if item.kept.is_none() {
                plan.runs.push(run);
            }
            plan.items.push(item);
        }
    }
    let order = Collect {
        agents: true,
        blobs: true,
        as_if_gone: plan
            .runs
            .iter()
            .take(MOST_GONE)
            .map(|run| run.id.clone())
            .collect(),
        diagnostics: also.diagnostics,
        images: also.images,
        ..of_runs(&[], true)
    };
    plan.items.extend(link.client.collect(order).await?);
    link.session.close().await;
    Ok(plan)
}

/// Removes what was planned. What is missing here of a run's log is fetched before the run goes, and a run whose log
/// cannot be had whole stays.
///
/// # Errors
/// The host is out of reach, the local disk is full, or the database.
pub async fn remove(controller: &Controller, host: &Host, plan: Plan) -> Result<Vec<Garbage>, RunError> {
    let link = controller.contact(host).await?;
    let also = plan.also;
    let mut run_ids = Vec::new();
    for run in plan.runs {
        if run.log_complete || has_log(controller, &link, &run).await? {
            run_ids.push(run.id);
        }
    }
    // Since the user agreed more may have come that nothing needs.
    let goes = plan.items.iter().filter(|item| item.kept.is_none());
    let listed: Vec<String> = goes
        .filter(|item| item.kind != "run")
        .map(|item| item.name.clone())
        .collect();
    // What stays was said before, and is not asked about again.
    let mut items: Vec<Garbage> = plan
        .items
        .into_iter()
        .filter(|item| item.kept.is_some())
        .collect();
    for run_ids in run_ids.chunks(MOST_RUNS) {
        items.extend(link.client.collect(of_runs(run_ids, false)).await?);
    }
    // Nothing can be pulled of them any more.
    run_ids
        .iter()
        .for_each(|run| pulled::forget(&controller.config.state_folder, run));
    for only in listed.chunks(MOST_NAMES) {
        let order = Collect {
            agents: true,
            blobs: true,
            diagnostics: also.diagnostics,
            images: also.images,
            only: Some(only.to_vec()),
            ..of_runs(&[], false)
        };
        items.extend(link.client.collect(order).await?);
    }
    link.session.close().await;
    Ok(items)
}

fn of_runs(run_ids: &[RunId], dry_run: bool) -> Collect {
    Collect {
        dry_run,
        run_ids: run_ids.to_vec(),
        agents: false,
        blobs: false,
        as_if_gone: Vec::new(),
        diagnostics: None,
        images: false,
        only: None,
    }
}

/// Whether the host has outputs of a run that are not here. A completed run has all of them here; of others the files
/// are counted, and what cannot be counted may be there.
async fn has_more(controller: &Controller, run: &Run, files: Option<u64>) -> Result<bool, RunError> {
    if run.status == RunStatus::Completed || files == Some(0) {
        return Ok(false);
    }
    let pulled = controller.store.outputs_total(&run.id).await?.pulled;
    Ok(files.is_none_or(|files| files > pulled))
}

/// Brings the rest of a run's log here. A host that has removed the run already has nothing to lose.
async fn has_log(controller: &Controller, link: &Link, run: &Run) -> Result<bool, RunError> {
    if run.log_path.is_none() {
        return Ok(true);
    }
    match follow::mirror_rest(controller, link, run).await {
        Ok(()) => Ok(controller
            .store
            .run(&run.id)
            .await?
            .is_some_and(|run| run.log_complete)),
        Err(error) if follow::is_unknown(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
