//! `farrun pull`

use super::{Context, find, launching};
use crate::error::{CommandError, Exit};
use crate::run::collect::{Bulk, collect, collect_over};
use crate::run::follow::{self, Ended};
use crate::run::reconcile;

/// Arguments of `farrun pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun pull @last
  farrun pull rs_k3v9          also brings what a failed run left")]
pub struct Args {
    /// The run
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
    let bulk = host.last_seen.is_some().then(|| Bulk::begin(&controller, &host));
    let link = controller.contact(&host).await?;
    if !run.log_complete && run.launched_at.is_some() {
        follow::mirror_rest(&controller, &link, &run).await?;
    }
    reconcile::runs_on(&controller, &link, std::slice::from_ref(&run.id)).await?;
    let collected = match bulk {
        Some(bulk) => collect_over(&controller, &link, &run.id, bulk).await?,
        None => collect(&controller, &link, &run.id).await?,
    };
    link.session.close().await;
    let ended = Ended {
        run: collected.run.clone(),
        collected: Some(collected),
    };
    let folder = ended
        .collected
        .as_ref()
        .map(|collected| collected.folder.display().to_string())
        .unwrap_or_default();
    launching::finish(context, &ended);
    if !context.ui.is_json() {
        context.ui.line(folder);
    }
    // The pull succeeded, also when the run had failed.
    Ok(Exit::Completed)
}
