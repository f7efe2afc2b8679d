//! `farrun rerun`

use super::launch_args::{LaunchArgs, parse_pair};
use super::ordering::{self, Subject};
use super::recipe::{self, RecipeArgs};
use super::{Context, find, launching};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::Run;
use crate::run::{Order, OrderInput, OrderSource, order};
use farrun_protocol::RunId;
use std::path::Path;

/// Arguments of `farrun rerun`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun rerun @last
  farrun rerun rs_k3v9 --set steps=20 --shm 16g --host gpu2

Secrets are asked for again: they are kept nowhere.")]
pub struct Args {
    /// The run: id or its beginning, a prompt's or run's name for its newest run, or `@last`
    run: String,
    /// Change a parameter of its recipe; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    launch: LaunchArgs,
}

/// Orders again what was ordered before, with changes, as a new run.
///
/// # Errors
/// The run does not exist, its prompt or recipe is gone, or the new run could not be carried out.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let old = find::run(&controller, &args.run).await?;
    let host = ordering::host_or_of(&controller, &args.launch, &old).await?;
    let mut launch = args.launch.clone();
    for name in &old.spec.secret_names {
        if !launch
            .secret
            .iter()
            .any(|given| given.split('=').next() == Some(name))
        {
            launch.secret.push(name.clone());
        }
    }
    let order = if old.recipe.is_some() {
        from_recipe(context, &controller, &host, &old, &args.set, &launch).await?
    } else if args.set.is_empty() {
        from_spec(&controller, &host, &old, &launch)?
    } else {
        return Err(CommandError::usage(format!(
            "{} was made without a recipe, so it has no parameters to set",
            old.id
        )));
    };
    let ended = launching::carry_out(context, &controller, order, &launch).await?;
    Ok(ended.map_or(Exit::Completed, |ended| launching::finish(context, &ended)))
}

async fn from_recipe(
    context: &Context,
    controller: &Controller,
    host: &str,
    old: &Run,
    changes: &[(String, String)],
    launch: &LaunchArgs,
) -> Result<Order, CommandError> {
    let recipe_args = RecipeArgs::of(old);
    let recipe = recipe_args.find(context)?;
    let prompt = match &old.prompt_id {
        Some(id) => controller.store.prompt(id).await?,
        None => None,
    };
    let parent = match &old.parent_run {
        Some(id) => controller.store.run(id).await?,
        None => None,
    };
    let outputs = match &parent {
        Some(parent) => controller.store.outputs(&parent.id).await?,
        None => Vec::new(),
    };
    let subject = Subject {
        run_id: RunId::random(),
        operation: old.operation.clone(),
        name: old.spec.name.clone(),
        prompt,
        parent,
        recipe: old.recipe.clone(),
    };
    let mut set: Vec<(String, String)> = old
        .spec
        .parameters
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            )
        })
        .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name))
        .collect();
    set.extend(changes.iter().cloned());
    let resolved = recipe::resolve(
        &recipe,
        &subject,
        &set,
        &outputs,
        launch.overrides(Some(old.spec.image.clone())),
    )?;
    let mut order = ordering::order(controller, host, &subject, resolved, launch);
    // What was changed on the command line then is changed again, unless it is changed otherwise now.
    if launch.place.gpus.is_none() {
        order.spec.gpus = old.spec.gpus.clone();
    }
    order.spec.placement = launch.place.changed(&order.spec.gpus, &old.spec.placement);
    let (spec, earlier) = (&mut order.spec, &old.spec);
    for (name, value) in &earlier.env {
        spec.env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    for mount in &earlier.mounts {
        if spec.mounts.iter().all(|other| other.target != mount.target) {
            spec.mounts.push(mount.clone());
        }
    }
    spec.time_limit = launch.time_limit.or(earlier.time_limit).or(spec.time_limit);
    spec.memory_limit = launch.memory.or(earlier.memory_limit).or(spec.memory_limit);
    spec.shm_size = launch.shm.or(earlier.shm_size).or(spec.shm_size);
    spec.log_cap = launch.log_cap.unwrap_or(earlier.log_cap);
    spec.result.clone_from(&earlier.result);
    Ok(order)
}

/// A run of an image is ordered again as it was. Its inputs are found on the host by content, or sent from the files that
/// they were, as long as those have the same content.
fn from_spec(
    controller: &Controller,
    host: &str,
    old: &Run,
    launch: &LaunchArgs,
) -> Result<Order, CommandError> {
    let files = order::files_of(&controller.config, &old.id)?;
    let mut spec = old.spec.clone();
    spec.run_id = RunId::random();
    spec.controller_id = controller.store.controller_id().clone();
    spec.created_at = chrono::Utc::now();
    spec.env.extend(launch.env.iter().cloned());
    spec.secret_names = launch.secret_names();
    spec.mounts
        .retain(|mount| launch.mount.iter().all(|other| other.target != mount.target));
    spec.mounts.extend(launch.mount.iter().cloned());
    spec.memory_limit = launch.memory.or(spec.memory_limit);
    if let Some(gpus) = &launch.place.gpus {
        spec.gpus = gpus.clone();
    }
    spec.placement = launch.place.changed(&spec.gpus, &old.spec.placement);
    spec.shm_size = launch.shm.or(spec.shm_size);
    spec.time_limit = launch.time_limit.or(spec.time_limit);
    spec.log_cap = launch.log_cap.unwrap_or(spec.log_cap);
    spec.pull = launch.pull_image.unwrap_or(spec.pull);
    let inputs = std::mem::take(&mut spec.inputs)
        .into_iter()
        .map(|input| OrderInput {
            path: input.path,
            source: match input.parent {
                Some(output) => OrderSource::Parent {
                    output,
                    size: input.size,
                    content: input.content,
                    local: None,
                },
                None => OrderSource::Content {
                    local: files.file(&input.content).map(Path::to_owned),
                    content: input.content,
                    size: input.size,
                },
            },
        })
        .collect();
    Ok(Order {
        host: host.to_owned(),
        spec,
        inputs,
        parent_run: old.parent_run.clone(),
        key: launch.key.clone(),
    })
}
