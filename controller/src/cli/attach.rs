//! `farrun attach`

use super::launch_args::parse_seconds;
use super::{Context, find, launching, secrets};
use crate::error::{CommandError, Exit};
use crate::mirror;
use crate::model::RunStatus;
use crate::run::device;
use crate::run::follow::{Following, follow};

/// Arguments of `farrun attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun attach @last
  farrun attach rs_k3v9 --tail 20

An order that was interrupted before its host acknowledged it is taken up where it stopped.")]
pub struct Args {
    /// The run: id or its beginning, a prompt's or run's name for its newest run, or `@last`
    run: String,
    /// Begin the log with its last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Give up on a host that stays out of reach for this time (`2h`); the run goes on. Without it: never on a
    /// terminal, else after 15 minutes
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    patience: Option<u64>,
    /// A secret that an interrupted order needs again
    #[arg(long, value_name = "NAME[=SOURCE]")]
    secret: Vec<String>,
}

/// Follows a run to its end and brings its outputs here.
///
/// # Errors
/// There is no such run, or its host stayed away.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let run = find::run(&controller, &args.run).await?;
    if run.launched_at.is_none() && !run.status.is_settled() {
        let secrets = secrets::read(context, &args.secret)?;
        let ended =
            launching::start_and_follow(context, &controller, run, secrets, false, args.patience).await?;
        return Ok(launching::finish(context, &ended));
    }
    let id = run.id.clone();
    match run.status {
        RunStatus::Running => device::tell_running(&controller, &run),
        // One in line is told as soon as it runs.
        RunStatus::Queued => {}
        _ => launching::head(context, &run),
    }
    let from = args.tail.map_or(mirror::From::Start, mirror::From::Lines);
    let following = Following {
        from,
        show: !context.ui.is_json(),
        pull: true,
        patience: launching::patience(context, args.patience),
    };
    let ended = follow(&controller, run, None, following).await;
    context.ui.log_end();
    let ended = ended.map_err(|error| launching::left(&id, error))?;
    Ok(launching::finish(context, &ended))
}
