//! `farrun upscale`

use super::launch_args::LaunchArgs;
use super::ordering::{self, Subject};
use super::recipe::{self, RecipeArgs};
use super::{Context, find, launching};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{Run, RunStatus};
use crate::run::{collect, reconcile};
use farrun_protocol::RunId;

/// Arguments of `farrun upscale`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun upscale @last
  farrun upscale rs_k3v9 --set weight=0.6
  farrun upscale --help-recipe")]
pub struct Args {
    /// The run whose output is upscaled: id or its beginning, a prompt's name, or `@last`
    #[arg(required_unless_present = "help_recipe")]
    run: Option<String>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    launch: LaunchArgs,
}

/// Upscales the output of a run, where it lies when it still lies there.
///
/// # Errors
/// The parent did not succeed or has no such output, or the run could not be carried out.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    const OPERATION: &str = "upscale";
    let Some(reference) = args.run.clone().filter(|_| !args.recipe.help_recipe) else {
        return recipe::print_help(context, &args.recipe.find(context)?, OPERATION);
    };
    let controller = context.controller().await?;
    let parent = settled_parent(&controller, &reference).await?;
    // The same recipe made the parent, unless another one is asked for.
    let recipe_args = args.recipe.or_of(&parent);
    let recipe = recipe_args.find(context)?;
    let host = ordering::host_or_of(&controller, &args.launch, &parent).await?;
    let outputs = parent_outputs(&controller, &parent).await?;
    let prompt = match &parent.prompt_id {
        Some(id) => controller.store.prompt(id).await?,
        None => None,
    };
    let subject = Subject {
        run_id: RunId::random(),
        operation: OPERATION.to_owned(),
        name: parent.spec.name.clone(),
        prompt,
        parent: Some(parent),
        recipe: Some(recipe_args.reference(context)),
    };
    let resolved = recipe::resolve(
        &recipe,
        &subject,
        &recipe_args.set,
        &outputs,
        args.launch.overrides(recipe_args.image.clone()),
    )?;
    let order = ordering::order(&controller, &host, &subject, resolved, &args.launch);
    let ended = launching::carry_out(context, &controller, order, &args.launch).await?;
    Ok(ended.map_or(Exit::Completed, |ended| launching::finish(context, &ended)))
}

/// The parent, once it has ended well.
pub(super) async fn settled_parent(controller: &Controller, reference: &str) -> Result<Run, CommandError> {
    let mut run = find::run(controller, reference).await?;
    if !run.status.is_settled() {
        reconcile::all(controller, Some(&run.host), reconcile::BRIEF).await?;
        run = controller.store.run(&run.id).await?.unwrap_or(run);
    }
    match run.status {
        RunStatus::Completed | RunStatus::Downloading => Ok(run),
        status if status.is_final() => Err(CommandError::refused(format!(
            "{} is {status}, so it has no output to upscale",
            run.id
        ))),
        status => Err(CommandError::refused(format!("{} is {status}", run.id))
            .hint(format!("wait for it with `farrun attach {}`", run.id))),
    }
}

/// What the parent left; asked of its host when it was never brought here.
async fn parent_outputs(
    controller: &Controller,
    parent: &Run,
) -> Result<Vec<crate::model::OutputRecord>, CommandError> {
    let known = controller.store.outputs(&parent.id).await?;
    if !known.is_empty() {
        return Ok(known);
    }
    // Its own host, wherever the upscale is to run.
    let host = controller.host_of(&parent.id, &parent.host).await?;
    let link = controller.contact(&host).await?;
    collect::collect(controller, &link, &parent.id).await?;
    link.session.close().await;
    Ok(controller.store.outputs(&parent.id).await?)
}
