//! `farrun inference`

use super::launch_args::LaunchArgs;
use super::ordering::{self, Subject};
use super::recipe::{self, RecipeArgs};
use super::{Context, find, launching};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::Run;
use crate::run::Order;
use farrun_protocol::lease::Wait;
use farrun_protocol::spec::Gpus;
use std::collections::BTreeMap;

/// Arguments of `farrun inference`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun inference city --set seed=7
  farrun inference city harbour desert          each a run of its own; they wait in line for the host's GPUs
  farrun inference city --detach --json
  farrun inference --help-recipe                what --set understands")]
pub struct Args {
    /// Prompts: ids, prefixes or names
    #[arg(required_unless_present = "help_recipe")]
    prompts: Vec<String>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    launch: LaunchArgs,
}

/// Runs inference for every prompt: in line on the host where runs wait for GPUs, else one after the other.
///
/// # Errors
/// A prompt, parameter or input is wrong (nothing was started then), or a run could not be carried out.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    const OPERATION: &str = "inference";
    let recipe = args.recipe.find(context)?;
    if args.recipe.help_recipe {
        return recipe::print_help(context, &recipe, OPERATION);
    }
    if args.prompts.len() > 1 && args.launch.key.is_some() {
        return Err(
            CommandError::usage("several prompts are several runs, so `--key` takes only one")
                .hint("start them one by one"),
        );
    }
    let controller = context.controller().await?;
    let host = ordering::host(&controller, &args.launch).await?;
    // Everything is checked before anything is started.
    let mut orders = Vec::new();
    for reference in &args.prompts {
        let prompt = find::prompt(&controller, reference).await?;
        let subject = Subject::of_prompt(OPERATION, prompt, args.recipe.reference(context));
        let resolved = recipe::resolve(
            &recipe,
            &subject,
            &args.recipe.set,
            &[],
            args.launch.overrides(args.recipe.image.clone()),
        )?;
        orders.push(ordering::order(
            &controller,
            &host,
            &subject,
            resolved,
            &args.launch,
        ));
    }
    if args.prompts.len() > 1 && orders.iter().all(waits_in_line) {
        return one_after_the_other_there(context, &controller, orders, &args.launch).await;
    }
    if args.prompts.len() > 1 && args.launch.detach {
        return Err(CommandError::usage(
            "only runs that wait for a GPU stand in line on the host, so `--detach` takes one prompt here",
        )
        .hint("start them one by one, or stay attached"));
    }
    let secrets = launching::secrets(context, &args.launch)?;
    let (count, mut exit) = (orders.len(), Exit::Completed);
    let mut orders = orders.into_iter();
    while let Some(order) = orders.next() {
        let ended = launching::carry_out_with(context, &controller, order, &args.launch, secrets.clone())
            .await
            .map_err(|error| not_ordered(error, orders.as_slice()))?;
        if let Some(ended) = ended {
            let this = launching::finish_one_of(context, &ended, count);
            exit = if exit == Exit::Completed { this } else { exit };
        }
    }
    Ok(exit)
}

/// Adds to an error which of several orders it kept from being placed.
fn not_ordered(error: CommandError, orders: &[Order]) -> CommandError {
    if orders.is_empty() {
        return error;
    }
    let names: Vec<&str> = orders.iter().map(|order| order.spec.name.as_str()).collect();
    error.hint(format!("not ordered: {}", names.join(", ")))
}

/// Adds to an error which runs of the same command go on.
fn ordered(error: CommandError, runs: &[Run]) -> CommandError {
    if runs.is_empty() {
        return error;
    }
    let ids: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
    let ids = ids.join(" ");
    error.hint(format!(
        "ordered before: {ids}; `farrun wait {ids}` brings what they make"
    ))
}

/// Whether the host keeps an order until a GPU is free for it.
fn waits_in_line(order: &Order) -> bool {
    order.spec.gpus != Gpus::None && order.spec.placement.wait != Wait::No
}

/// Hands every order to its host, which runs them as GPUs come free, and follows them in turn unless detached.
async fn one_after_the_other_there(
    context: &Context,
    controller: &Controller,
    orders: Vec<Order>,
    args: &LaunchArgs,
) -> Result<Exit, CommandError> {
    let (count, mut exit) = (orders.len(), Exit::Completed);
    let secrets = launching::secrets(context, args)?;
    let mut runs = Vec::new();
    let mut orders = orders.into_iter();
    while let Some(order) = orders.next() {
        let name = order.spec.name.clone();
        let sent = launching::send(context, controller, order, args, secrets.clone()).await;
        let sent = sent.map_err(|error| ordered(not_ordered(error, orders.as_slice()), &runs))?;
        let Some(run) = sent else {
            continue;
        };
        // Told at once: whatever becomes of the next order, this one is on its host.
        if args.detach {
            let this = launching::leave_one_of(context, run.clone(), count);
            exit = if exit == Exit::Completed { this } else { exit };
        } else {
            context.ui.note(format!("{} was ordered ({name})", run.id));
        }
        runs.push(run);
    }
    if args.detach {
        return Ok(exit);
    }
    for (at, run) in runs.iter().enumerate() {
        let rest = runs.get(at + 1..).unwrap_or_default();
        let (run, none) = (run.clone(), BTreeMap::new());
        let ended = launching::start_and_follow(context, controller, run, none, false, args.patience)
            .await
            .map_err(|error| ordered(error, rest))?;
        let this = launching::finish_one_of(context, &ended, count);
        exit = if exit == Exit::Completed { this } else { exit };
    }
    Ok(exit)
}
