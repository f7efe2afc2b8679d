//! `farrun wait`

use super::launch_args::parse_seconds;
use super::{Context, find, launching};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::mirror;
use crate::model::Run;
use crate::run::RunError;
use crate::run::follow::{Ended, Following, follow_beside};
use crate::run::links::Links;
use crate::run::owner::Owner;
use futures_util::StreamExt as _;
use std::time::Duration;

/// How often the row of an order that another command is launching is looked at.
const LOOK_APART: Duration = Duration::from_millis(200);
/// Most runs that are followed at the same time.
const AT_ONCE: usize = 64;

/// Arguments of `farrun wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  farrun wait rs_k3v9 rs_8m2c && echo all of them completed")]
pub struct Args {
    /// The runs: ids or their beginnings, prompts' names for their newest runs, or `@last`
    #[arg(required = true)]
    runs: Vec<String>,
    /// Give up on a host that stays out of reach for this time (`2h`); the run goes on. Without it: never on a
    /// terminal, else after 15 minutes
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    patience: Option<u64>,
    /// Leave the outputs on the host
    #[arg(long)]
    no_pull: bool,
}

/// Waits for runs, mirrors their logs and brings their outputs here.
///
/// # Errors
/// A run does not exist, or the host of the only one stayed away. What keeps one of several from being waited for is
/// told, and the others are waited for.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let mut runs: Vec<Run> = Vec::with_capacity(args.runs.len());
    for reference in &args.runs {
        let run = find::run(&controller, reference).await?;
        if runs.iter().all(|known| known.id != run.id) {
            runs.push(run);
        }
    }
    let following = Following {
        from: mirror::From::Start,
        show: false,
        pull: !args.no_pull,
        patience: launching::patience(context, args.patience),
    };
    let (count, links) = (runs.len(), Links::default());
    // All at once, told in the order in which they were named.
    let mut ends = futures_util::stream::iter(runs)
        .map(|run| one(&controller, run, &links, following))
        .buffered(AT_ONCE);
    let mut exit = Exit::Completed;
    while let Some(ended) = ends.next().await {
        let this = match ended {
            Ok(ended) => launching::finish_one_of(context, &ended, count),
            // One run that cannot be waited for must not keep the others.
            Err(error) if count > 1 && !context.interrupt.is_cancelled() => {
                context.ui.error(&error.message, &error.causes, &error.hints);
                error.exit
            }
            Err(error) => return Err(error),
        };
        exit = if exit == Exit::Completed { this } else { exit };
    }
    Ok(exit)
}

async fn one(
    controller: &Controller,
    run: Run,
    links: &Links,
    following: Following,
) -> Result<Ended, CommandError> {
    let id = run.id.clone();
    let run = acknowledged(controller, run).await?;
    follow_beside(controller, run, links, following)
        .await
        .map_err(|error| launching::left(&id, error))
}

/// Waits for another command that is launching the run; an order that nobody works on would be waited for in vain.
async fn acknowledged(controller: &Controller, mut run: Run) -> Result<Run, CommandError> {
    while run.launched_at.is_none() && !run.status.is_settled() {
        let id = run.id.clone();
        if Owner::is_elsewhere(&run, controller.store.machine()) {
            return Err(RunError::OrderedElsewhere(run.id).into());
        }
        if !Owner::is_other(&run) && !Owner::has_asked(&run) {
            return Err(CommandError::refused(format!(
                "{id} was interrupted before its host had acknowledged it"
            ))
            .hint(format!(
                "take it up with `farrun attach {id}`, or drop it with `farrun stop {id}`"
            )));
        }
        if !Owner::is_other(&run) {
            return Ok(run);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_APART) => {}
            () = controller.interrupt.cancelled() => {
                return Err(launching::left(&id, RunError::Interrupted { detached: Some(id.clone()) }));
            }
        }
        run = find::run(controller, id.as_str()).await?;
    }
    Ok(run)
}
