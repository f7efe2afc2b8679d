//! `farrun wait`

use super::{Context, find, launching};
use crate::error::{CommandError, Exit};
use crate::mirror;
use crate::run::follow::{Following, follow};

/// Arguments of `farrun wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  farrun wait rs_k3v9 rs_8m2c && echo all of them completed")]
pub struct Args {
    /// The runs
    #[arg(required = true)]
    runs: Vec<String>,
    /// Leave the outputs on the host
    #[arg(long)]
    no_pull: bool,
}

/// Waits for runs, mirrors their logs and brings their outputs here.
///
/// # Errors
/// A run does not exist, or its host stayed away.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let mut exit = Exit::Completed;
    for reference in &args.runs {
        let run = find::run(&controller, reference).await?;
        let id = run.id.clone();
        let following = Following {
            from: mirror::From::Start,
            show: false,
            pull: !args.no_pull,
        };
        let ended = follow(&controller, run, None, following)
            .await
            .map_err(|error| launching::left(&id, error))?;
        let this = launching::finish(context, &ended);
        exit = if exit == Exit::Completed { this } else { exit };
    }
    Ok(exit)
}
