//! `farrun logs`

use super::{Context, find, launching, outcome};
use crate::error::{CommandError, Exit};
use crate::mirror;
use crate::run::follow::{self, Following};

/// Arguments of `farrun logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun logs @last -f
  farrun logs rs_k3v9 --tail 50
  farrun logs rs_k3v9 --offset 1048576 > rest.log

The log is mirrored byte for byte; on a terminal control sequences other than colours are shown escaped.
With --json the log goes to its file alone, and stdout gets one document with `log_path` and `log_complete`.")]
pub struct Args {
    /// The run: id or its beginning, a prompt's or run's name for its newest run, or `@last`
    run: String,
    /// Go on until the run has ended
    #[arg(long, short)]
    follow: bool,
    /// Begin with the last lines
    #[arg(long, value_name = "LINES", conflicts_with = "offset")]
    tail: Option<u64>,
    /// Begin behind this many bytes
    #[arg(long, value_name = "BYTES")]
    offset: Option<u64>,
    /// Ask no host; print what is here
    #[arg(long, conflicts_with = "follow")]
    offline: bool,
}

/// Prints a run's log, from here or from its host.
///
/// # Errors
/// There is no such run, or its host is out of reach while its log is not whole here.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let printed = print(args, context).await;
    // `| head` has what it wanted.
    if context.ui.stdout_closed() {
        return Ok(Exit::Completed);
    }
    printed
}

async fn print(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let run = find::run(&controller, &args.run).await?;
    let from = match (args.tail, args.offset) {
        (Some(lines), _) => mirror::From::Lines(lines),
        (_, Some(offset)) => mirror::From::Offset(offset),
        _ => mirror::From::Start,
    };
    let whole = run.log_complete
        && run
            .log_path
            .as_deref()
            .is_some_and(|path| std::path::Path::new(path).exists());
    let (id, show) = (run.id.clone(), !context.ui.is_json());
    // Before what the job wrote, and never where a program reads it.
    if context.ui.stdout_is_tty() && context.ui.draws_bars() {
        launching::head(context, &run);
    }
    if whole || args.offline {
        if show {
            follow::tell_local(&controller, &run, from)?;
        }
    } else if args.follow {
        let following = Following {
            from,
            show,
            pull: false,
            patience: launching::patience(context, None),
        };
        let ended = follow::follow(&controller, run, None, following).await;
        context.ui.log_end();
        ended.map_err(|error| launching::left(&id, error))?;
    } else if run.launched_at.is_some() {
        if let Err(error) = follow::catch_up(&controller, &run, from, show).await {
            // What is here is better than nothing, and the exit code still says that it is not all.
            if show {
                follow::tell_local(&controller, &run, from)?;
            }
            context.ui.log_end();
            return Err(error.into());
        }
    } else {
        context
            .ui
            .note(format!("{} was not launched, so it has no log", run.id));
    }
    context.ui.log_end();
    if !show && let Some(run) = controller.store.run(&id).await? {
        outcome::print(context, &run, None);
    }
    // What was asked for was printed, however the run ended.
    Ok(Exit::Completed)
}
