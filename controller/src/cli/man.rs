//! `farrun man`

use super::{Cli, Context};
use crate::error::{CommandError, Exit};
use clap::CommandFactory as _;

/// Arguments of `farrun man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  farrun man | man -l -\n  farrun man host add | man -l -")]
pub struct Args {
    /// The verb whose page is wanted, such as `host add`
    verb: Vec<String>,
}

/// Prints the page in troff.
///
/// # Errors
/// There is no such verb.
pub fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let mut command = Cli::command();
    command.build();
    for word in &args.verb {
        let missing = || CommandError::usage(format!("there is no verb `{}`", args.verb.join(" ")));
        command = command.find_subcommand(word).cloned().ok_or_else(missing)?;
    }
    let mut page = Vec::new();
    let failed = |error: std::io::Error| CommandError::new(Exit::Internal, error.to_string());
    clap_mangen::Man::new(command).render(&mut page).map_err(failed)?;
    context.ui.verbatim(&String::from_utf8_lossy(&page));
    Ok(Exit::Completed)
}
