//! `farrun tell`: what this program starts itself with, to tell of a run's end.

use super::{Context, find};
use crate::error::{CommandError, Exit};
use crate::notify;

/// Arguments of `farrun tell`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  farrun tell rs_k3v9")]
pub struct Args {
    /// The run
    run: String,
}

/// Runs the hook of the configuration, once per run and machine.
///
/// # Errors
/// There is no such run, or the database.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let run = find::run(&controller, &args.run).await?;
    notify::tell(&controller, &run).await?;
    Ok(Exit::Completed)
}
