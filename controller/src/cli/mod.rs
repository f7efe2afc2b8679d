//! The command line: one file per verb, each an `Args` and one function that translates, calls a story and prints.

pub mod adopt;
pub mod answer;
pub mod attach;
pub mod completions;
pub mod diagnose;
pub mod enhance;
pub mod find;
pub mod gc;
pub mod gpu;
pub mod host;
pub mod inference;
pub mod launch_args;
pub mod launching;
pub mod list;
pub mod logs;
pub mod man;
pub mod ordering;
pub mod outcome;
pub mod placement_args;
pub mod progress;
pub mod prompt;
pub mod pull;
pub mod recipe;
pub mod rerun;
pub mod run;
pub mod secrets;
pub mod show;
pub mod status;
pub mod stop;
pub mod sync;
pub mod tell;
pub mod timeline;
pub mod upscale;
pub mod view;
pub mod wait;
pub mod why;

use crate::config::Config;
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::ui::Ui;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Heading of the options that every verb has.
const GLOBAL: &str = "Global options";

const AFTER_HELP: &str = "\
Examples:
  farrun host add gpu1 --address me@203.0.113.7 --identity ~/.ssh/id_ed25519
  farrun prompt create \"a neon city in the rain\" --name city
  farrun inference city --set steps=35
  farrun upscale @last
  farrun run nvidia/cuda:12.4.1-base-ubuntu22.04 --gpus all -- nvidia-smi

A run or prompt is named by its id or any unambiguous prefix of it. A prompt's name
stands for it or for its newest run, a run's name for the newest of that name, `@last`
for the newest prompt or run.

Defaults come from ~/.config/farrun/config.toml, FARRUN_HOST, FARRUN_RECIPE, FARRUN_OUTPUTS
and FARRUN_DATABASE. Outputs arrive in ~/farrun/outputs unless told otherwise.

Exit codes:
  0 completed    1 the run failed    2 usage        3 host unreachable
  4 not found    5 refused           6 host key     7 cancelled
  8 our own fault                    130 detached by Ctrl-C";

/// Run inference on GPU hosts you reach by SSH as if they were here
#[derive(Debug, Parser)]
#[command(name = "farrun", version, about, after_help = AFTER_HELP, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Print JSON on stdout: one document, or one line for each of several runs. An error prints none
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Show no progress and no notes
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Show farrun's own messages (telemetry) on stderr; twice for all of them
    #[arg(long, short, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Use this configuration file
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add, list, change and remove hosts
    #[command(subcommand)]
    Host(host::Command),
    /// Create, list and search prompts
    #[command(subcommand)]
    Prompt(prompt::Command),
    /// Run inference for one or several prompts
    Inference(inference::Args),
    /// Upscale the output of a run
    Upscale(upscale::Args),
    /// Let a model rewrite a prompt
    Enhance(enhance::Args),
    /// Run any image on a host
    Run(run::Args),
    /// List runs
    List(list::Args),
    /// Show a run or a prompt
    Show(show::Args),
    /// Tell what happened to a run, with what its GPUs did and its log said then
    Timeline(timeline::Args),
    /// Tell why a run failed, what speaks for it and what to try
    Why(why::Args),
    /// Collect the evidence of a run or a host, and bring it here
    Diagnose(diagnose::Args),
    /// Print a run's log
    Logs(logs::Args),
    /// Follow a run to its end and bring its outputs here
    Attach(attach::Args),
    /// Wait until runs have ended and bring their outputs here
    Wait(wait::Args),
    /// Ask a run to end, or end it
    Stop(stop::Args),
    /// Run again what was run before
    Rerun(rerun::Args),
    /// Bring the outputs of a run here
    Pull(pull::Args),
    /// Bring everything here that is due
    Sync(sync::Args),
    /// Take over runs of another laptop or a lost database
    Adopt(adopt::Args),
    /// Show hosts, their GPUs and active runs
    Status(status::Args),
    /// Show GPUs and the processes that use them
    Gpu(gpu::Args),
    /// Remove what a host no longer needs
    Gc(gc::Args),
    /// List, show and check recipes
    #[command(subcommand)]
    Recipe(recipe::Command),
    /// Tell of a run's end by the hook of the configuration; farrun does so by itself
    #[command(hide = true)]
    Tell(tell::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

/// What every verb gets.
pub struct Context {
    /// The only writer to the terminal.
    pub ui: Ui,
    /// The settled configuration.
    pub config: Config,
    /// Cancelled by Ctrl-C, SIGTERM and SIGHUP.
    pub interrupt: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Context")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Opens the database and gathers what stories need.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub async fn controller(&self) -> Result<Controller, CommandError> {
        self.controller_that(false).await
    }

    /// As [`Self::controller`]; `accept_new` accepts unknown host keys without asking.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub async fn controller_that(&self, accept_new: bool) -> Result<Controller, CommandError> {
        let ask = Arc::new(answer::TerminalAnswer::new(self.ui.clone(), accept_new));
        let observer = Arc::new(progress::TerminalObserver::new(
            self.ui.clone(),
            self.interrupt.clone(),
        ));
        Ok(Controller::open(self.config.clone(), self.interrupt.clone(), ask, observer).await?)
    }
}

/// Carries out one command.
///
/// # Errors
/// Whatever keeps the command from doing what was asked.
pub async fn dispatch(command: Command, context: &Context) -> Result<Exit, CommandError> {
    match command {
        Command::Host(command) => or_interrupted(context, host::run(command, context)).await,
        Command::Prompt(command) => prompt::run(command, context).await,
        Command::Inference(args) => inference::run(args, context).await,
        Command::Upscale(args) => upscale::run(args, context).await,
        Command::Enhance(args) => enhance::run(args, context).await,
        Command::Run(args) => run::run(args, context).await,
        Command::List(args) => or_interrupted(context, list::run(args, context)).await,
        Command::Show(args) => or_interrupted(context, show::run(args, context)).await,
        Command::Timeline(args) => or_interrupted(context, timeline::run(args, context)).await,
        Command::Why(args) => or_interrupted(context, why::run(args, context)).await,
        Command::Diagnose(args) => diagnose::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Attach(args) => attach::run(args, context).await,
        Command::Wait(args) => wait::run(args, context).await,
        Command::Stop(args) => stop::run(args, context).await,
        Command::Rerun(args) => rerun::run(args, context).await,
        Command::Pull(args) => pull::run(args, context).await,
        Command::Sync(args) => sync::run(args, context).await,
        Command::Adopt(args) => or_interrupted(context, adopt::run(args, context)).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Gpu(args) => or_interrupted(context, gpu::run(args, context)).await,
        Command::Gc(args) => or_interrupted(context, gc::run(args, context)).await,
        Command::Recipe(command) => recipe::run(command, context),
        Command::Tell(args) => tell::run(args, context).await,
        Command::Completions(args) => completions::run(&args, context),
        Command::Man(args) => man::run(&args, context),
    }
}

/// How long a command may take to notice by itself that the user wants it to end.
const NOTICE: Duration = Duration::from_secs(1);

/// Carries out a command that starts and follows no run, until the user wants out: it may be left anywhere, as it may
/// be killed anywhere.
async fn or_interrupted(
    context: &Context,
    work: impl Future<Output = Result<Exit, CommandError>>,
) -> Result<Exit, CommandError> {
    let unnoticed = async {
        context.interrupt.cancelled().await;
        tokio::time::sleep(NOTICE).await;
    };
    tokio::select! {
        done = work => done,
        () = unnoticed => Err(CommandError::new(Exit::Detached, "interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The commands that do something, below those that only group others.
    fn verbs(command: &clap::Command) -> Vec<clap::Command> {
        if !command.has_subcommands() {
            return vec![command.clone()];
        }
        command.get_subcommands().flat_map(verbs).collect()
    }

    #[test]
    fn every_verb_explains_itself_with_an_example_that_is_one() {
        for verb in verbs(&Cli::command()) {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = help.lines().skip(1).find(|line| line.starts_with("  farrun "));
            let example = example.unwrap_or_else(|| panic!("{} has no example", verb.get_name()));
            assert!(example.contains(verb.get_name()), "{example}");
        }
    }
}
