//! `farrun stop`

use super::launch_args::parse_seconds;
use super::{Context, find, outcome};
use crate::error::{CommandError, Exit};
use crate::model::RunStatus;
use crate::run::stop;

/// Arguments of `farrun stop`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  farrun stop @last\n  farrun stop rs_k3v9 --grace 60s\n  farrun stop rs_k3v9 --kill"
)]
pub struct Args {
    /// The run: id or its beginning, a prompt's or run's name for its newest run, or `@last`
    run: String,
    /// Time between asking (SIGTERM) and ending (SIGKILL); default the recipe's, else 10 s
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, conflicts_with = "kill")]
    grace: Option<u64>,
    /// End it at once (SIGKILL)
    #[arg(long)]
    kill: bool,
}

/// Ends exactly this run.
///
/// # Errors
/// It has ended, belongs to somebody else, or its host is out of reach.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let run = find::run(&controller, &args.run).await?;
    let id = run.id.clone();
    let run = tokio::select! {
        stopped = stop::stop(&controller, &id, args.grace, args.kill) => stopped?,
        () = context.interrupt.cancelled() => {
            return Err(
                CommandError::new(Exit::Detached, format!("interrupted before `{}` had said how {id} ended", run.host))
                    .hint(format!("look with `farrun show {id}`; `farrun stop {id} --kill` ends it at once")),
            );
        }
    };
    outcome::print(context, &run, None);
    // What was asked for is done, whatever the run's outcome is called.
    Ok(if run.status == RunStatus::Cancelled || run.status.is_settled() {
        Exit::Completed
    } else {
        Exit::Refused
    })
}
