//! `farrun completions SHELL`

use super::{Cli, Context};
use crate::error::{CommandError, Exit};
use clap::CommandFactory as _;

/// Arguments of `farrun completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  farrun completions bash > ~/.local/share/bash-completion/completions/farrun"
)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// None; a closed pipe is not one.
pub fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "farrun", &mut script);
    context.ui.verbatim(&String::from_utf8_lossy(&script));
    Ok(Exit::Completed)
}
