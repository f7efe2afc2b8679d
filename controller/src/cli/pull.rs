//! `farrun pull`

use super::{Context, find, launching, outcome};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{OutputRecord, Run, RunStatus};
use crate::run::bulk::Bulk;
use crate::run::collect::{collect, collect_over};
use crate::run::{RunError, follow, reconcile, why};
use crate::store::OUTPUTS_PAGE;
use std::path::Path;

/// Arguments of `farrun pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun pull @last
  farrun pull rs_k3v9          also brings what a failed run left")]
pub struct Args {
    /// The run: id or its beginning, a prompt's or run's name for its newest run, or `@last`
    run: String,
}

/// Brings the outputs and the rest of the log of an ended run here.
///
/// # Errors
/// The run is active, its host is out of reach, or the local disk is full.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let run = find::run(&controller, &args.run).await?;
    let host = controller.host_of(&run.id, &run.host).await?;
    // Both connections at once, where the host is known; the second one asks nothing.
    let bulk = host
        .last_seen
        .is_some()
        .then(|| Bulk::begin(&controller, &host, &run.id));
    let link = controller.contact(&host).await?;
    if !run.log_complete && run.launched_at.is_some() {
        follow::mirror_rest(&controller, &link, &run).await?;
    }
    // What has ended stays ended; only an open run has something new to tell.
    if !run.status.is_settled() {
        reconcile::runs_on(&controller, &link, std::slice::from_ref(&run.id)).await?;
    }
    let run = controller.store.run(&run.id).await?.unwrap_or(run);
    why::in_passing(&controller, &link, &run).await;
    let collected = match bulk {
        Some(bulk) => collect_over(&controller, &link, &run.id, bulk).await,
        None => collect(&controller, &link, &run.id).await,
    };
    // The goodbye is sent; its answer is of no interest.
    tokio::spawn(link.session.close());
    let collected = match collected {
        Err(RunError::OutputsGone { .. }) if is_here(&controller, &run).await? => {
            return Ok(already_here(context, &run));
        }
        collected => collected?,
    };
    let run = &collected.run;
    // The pull succeeded, also when the run had failed.
    if context.ui.is_json() {
        outcome::print(context, run, None);
        return Ok(Exit::Completed);
    }
    let brought = launching::brought(context, &collected);
    let brought = if brought.is_empty() {
        "none"
    } else {
        brought.as_str()
    };
    context
        .ui
        .note(format!("outputs of {} ({}): {brought}", run.id, run.status));
    context.ui.line(collected.folder.display().to_string());
    Ok(Exit::Completed)
}

/// Whether every output of a completed run lies here, so that a host that has forgotten it is no loss.
async fn is_here(controller: &Controller, run: &Run) -> Result<bool, CommandError> {
    let Some(folder) = run
        .outputs_path
        .as_deref()
        .filter(|_| run.status == RunStatus::Completed)
    else {
        return Ok(false);
    };
    let lies_here = |output: &OutputRecord| {
        let facts = Path::new(folder).join(&output.path).metadata();
        output.pulled_at.is_some() && facts.is_ok_and(|facts| facts.len() == output.size)
    };
    let mut after = None;
    loop {
        let (outputs, next) = controller
            .store
            .outputs_page(&run.id, after.as_deref(), OUTPUTS_PAGE)
            .await?;
        if !outputs.iter().all(lies_here) {
            return Ok(false);
        }
        if next.is_none() {
            return Ok(true);
        }
        after = next;
    }
}

fn already_here(context: &Context, run: &Run) -> Exit {
    if context.ui.is_json() {
        outcome::print(context, run, None);
    } else {
        context.ui.note(format!(
            "`{}` keeps nothing of {} any more; all of its outputs are here",
            run.host, run.id
        ));
        context.ui.line(run.outputs_path.as_deref().unwrap_or_default());
    }
    Exit::Completed
}
