//! What a host no longer needs, and its removal. Nothing goes that was not listed.

use super::{RunError, follow, pulled};
use crate::controller::Controller;
use crate::host::Link;
use crate::model::{Host, Run};
use farrun_protocol::message::{Collect, Garbage};

/// Runs that one request names: a request and its answer must fit a frame.
const MOST_RUNS: usize = 500;

/// Lists what would go from a host, or removes it.
///
/// `runs` are final runs; the host refuses any that is still active. What is missing here of a run's log is fetched
/// before the run goes, and a run whose log cannot be had whole stays.
///
/// # Errors
/// The host is out of reach, the local disk is full, or the database.
pub async fn collect(
    controller: &Controller,
    host: &Host,
    runs: Vec<Run>,
    dry_run: bool,
) -> Result<Vec<Garbage>, RunError> {
    let link = controller.contact(host).await?;
    let mut run_ids = Vec::new();
    for run in runs {
        if dry_run || run.log_complete || has_log(controller, &link, &run).await? {
            run_ids.push(run.id);
        }
    }
    let mut items = Vec::new();
    let (ids, rest) = run_ids.split_at(run_ids.len().saturating_sub(run_ids.len() % MOST_RUNS));
    for run_ids in ids.chunks(MOST_RUNS) {
        let order = Collect {
            dry_run,
            run_ids: run_ids.to_vec(),
            agents: false,
            blobs: false,
        };
        items.extend(link.client.collect(order).await?);
    }
    if !dry_run {
        // Nothing can be pulled of them any more.
        run_ids
            .iter()
            .for_each(|run| pulled::forget(&controller.config.state_folder, run));
    }
    let order = Collect {
        dry_run,
        run_ids: rest.to_vec(),
        agents: true,
        blobs: true,
    };
    items.extend(link.client.collect(order).await?);
    link.session.close().await;
    Ok(items)
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
