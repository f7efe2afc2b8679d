//! `farrun pull`

use super::{Context, find, launching};
use crate::error::{CommandError, Exit};
use crate::run::collect::collect;
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
    let link = controller.contact(&host).await?;
    if !run.log_complete && run.launched_at.is_some() {
        follow::mirror_rest(&controller, &link, &run).await?;
    }
    reconcile::runs_on(&controller, &link, std::slice::from_ref(&run.id)).await?;
    let collected = collect(&controller, &link, &run.id).await?;
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
