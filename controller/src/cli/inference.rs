//! `farrun inference`

use super::launch_args::LaunchArgs;
use super::ordering::{self, Subject};
use super::recipe::{self, RecipeArgs};
use super::{Context, find, launching};
use crate::error::{CommandError, Exit};

/// Arguments of `farrun inference`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun inference city --set seed=7
  farrun inference city harbour desert          one after the other, each a run of its own
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

/// Runs inference for every prompt, one after the other.
///
/// # Errors
/// A prompt, parameter or input is wrong (nothing was started then), or a run could not be carried out.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    const OPERATION: &str = "inference";
    let recipe = args.recipe.find(context)?;
    if args.recipe.help_recipe {
        return recipe::print_help(context, &recipe, OPERATION);
    }
    if args.prompts.len() > 1 && (args.launch.detach || args.launch.key.is_some()) {
        return Err(CommandError::usage(
            "several prompts run one after the other, so `--detach` and `--key` take only one",
        )
        .hint("start them one by one, or stay attached"));
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
    let mut exit = Exit::Completed;
    for order in orders {
        if let Some(ended) = launching::carry_out(context, &controller, order, &args.launch).await? {
            let this = launching::finish_one_of(context, &ended, args.prompts.len());
            exit = if exit == Exit::Completed { this } else { exit };
        }
    }
    Ok(exit)
}
