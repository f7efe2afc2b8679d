//! From a resolved recipe and the flags to an order, and the plan that shows it.

use super::launch_args::LaunchArgs;
use super::placement_args::ANY;
use super::{Context, find};
use crate::controller::Controller;
use crate::error::CommandError;
use crate::model::{Prompt, Run};
use crate::recipe::{GpuNeed, Resolved, Source};
use crate::run::order::LocalPaths;
use crate::run::{Order, OrderInput, OrderSource, RunError};
use crate::run::{choose, gpu_words};
use crate::ui::{escape, format};
use farrun_protocol::lease::Wait;
use farrun_protocol::spec::{Gpus, ParentOutput, RunSpec};
use farrun_protocol::{RunId, spec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a run is about, apart from its recipe.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The id it will have.
    pub run_id: RunId,
    /// What kind of run.
    pub operation: String,
    /// Name of its prompt or image; names its folder.
    pub name: String,
    /// Its prompt.
    pub prompt: Option<Prompt>,
    /// The run whose output it works on.
    pub parent: Option<Run>,
    /// Recipe it is resolved from.
    pub recipe: Option<String>,
}

impl Subject {
    /// A new run of a prompt.
    pub fn of_prompt(operation: &str, prompt: Prompt, recipe: String) -> Self {
        Self {
            run_id: RunId::random(),
            operation: operation.to_owned(),
            name: prompt.name.clone(),
            prompt: Some(prompt),
            parent: None,
            recipe: Some(recipe),
        }
    }
}

/// A spec with what the flags say and nothing else.
pub fn draft(controller: &Controller, subject: &Subject, image: String, args: &LaunchArgs) -> RunSpec {
    let gpus = args.place.gpus.clone().unwrap_or_default();
    RunSpec {
        format: spec::FORMAT,
        run_id: subject.run_id.clone(),
        prompt_id: subject.prompt.as_ref().map(|prompt| prompt.id.clone()),
        controller_id: controller.store.controller_id().clone(),
        operation: subject.operation.clone(),
        name: subject.name.clone(),
        created_at: chrono::Utc::now(),
        recipe: subject.recipe.clone(),
        parameters: BTreeMap::new(),
        image,
        pull: args.pull_image.unwrap_or_default(),
        entrypoint: None,
        command: Vec::new(),
        working_dir: None,
        user: None,
        env: args.env.iter().cloned().collect(),
        secret_names: args.secret_names(),
        mounts: args.mount.clone(),
        inputs: Vec::new(),
        inputs_target: "/farrun/inputs".to_owned(),
        outputs_target: "/farrun/outputs".to_owned(),
        required_outputs: Vec::new(),
        placement: args.place.placement(&gpus, Wait::No),
        gpus,
        shm_size: args.shm,
        ipc_host: false,
        memory_limit: args.memory,
        network: None,
        time_limit: args.time_limit,
        grace: spec::DEFAULT_GRACE,
        log_cap: args.log_cap.unwrap_or(controller.config.log_cap),
        capture: spec::Capture::Init,
        result: None,
    }
}

/// Makes an order of a resolved recipe and the flags.
pub fn order(
    controller: &Controller,
    host: &str,
    subject: &Subject,
    resolved: Resolved,
    args: &LaunchArgs,
) -> Order {
    let gpus = args.place.gpus.clone().unwrap_or(match resolved.gpus {
        GpuNeed::None => Gpus::None,
        GpuNeed::All => Gpus::All,
        GpuNeed::Count(count) => Gpus::Count(count),
    });
    let recipe_cap = Some(resolved.log_cap).filter(|cap| *cap != spec::DEFAULT_LOG_CAP);
    let spec = RunSpec {
        parameters: resolved.parameters,
        pull: resolved.pull,
        entrypoint: resolved.entrypoint,
        command: resolved.command,
        working_dir: resolved.working_dir,
        user: resolved.user,
        env: resolved.env,
        mounts: resolved.mounts,
        inputs_target: resolved.inputs_target,
        outputs_target: resolved.outputs_target,
        required_outputs: resolved.required_outputs,
        placement: args.place.placement(&gpus, Wait::Until),
        gpus,
        shm_size: resolved.shm_size,
        ipc_host: resolved.ipc_host,
        memory_limit: resolved.memory,
        network: resolved.network,
        time_limit: resolved.time_limit,
        grace: resolved.grace,
        log_cap: args.log_cap.or(recipe_cap).unwrap_or(controller.config.log_cap),
        capture: resolved.capture,
        ..draft(controller, subject, resolved.image, args)
    };
    let parent_outputs = subject
        .parent
        .as_ref()
        .and_then(|parent| parent.outputs_path.clone())
        .map(PathBuf::from);
    let inputs = resolved
        .inputs
        .into_iter()
        .map(|input| OrderInput {
            path: input.path_in_inputs,
            source: match input.source {
                Source::Local(path) => OrderSource::Local(path),
                Source::Inline(bytes) => OrderSource::Inline(bytes),
                Source::Parent {
                    run_id,
                    path,
                    size,
                    content,
                } => OrderSource::Parent {
                    local: parent_outputs
                        .as_ref()
                        .map(|folder| folder.join(&path))
                        .filter(|file| file.is_file()),
                    output: ParentOutput { run_id, path },
                    size,
                    content,
                },
            },
        })
        .collect();
    Order {
        host: host.to_owned(),
        spec,
        inputs,
        parent_run: subject.parent.as_ref().map(|parent| parent.id.clone()),
        key: args.key.clone(),
    }
}

/// The host for a run, by flag, configuration or being the only one; [`ANY`] is chosen when the order is complete.
///
/// # Errors
/// None is named and there is not exactly one.
pub async fn host(controller: &Controller, args: &LaunchArgs) -> Result<String, CommandError> {
    if args.place.any_host() {
        return Ok(ANY.to_owned());
    }
    let host = find::host_for_run(controller, args.place.host.as_deref()).await?;
    Ok(host.name)
}

/// As [`host`], where a run that is named decides when no flag does.
///
/// # Errors
/// As [`host`].
pub async fn host_or_of(
    controller: &Controller,
    args: &LaunchArgs,
    run: &Run,
) -> Result<String, CommandError> {
    match args.place.host {
        Some(_) => host(controller, args).await,
        None => find::host(controller, &run.host).await.map(|host| host.name),
    }
}

/// Decides on a host for an order that leaves it open, and says why.
///
/// # Errors
/// No host could ever carry it out, or the database.
pub async fn decide_host(
    context: &Context,
    controller: &Controller,
    order: &mut Order,
) -> Result<(), CommandError> {
    if order.host != ANY {
        return Ok(());
    }
    let best = choose::choose(controller, &order.spec).await?;
    context.ui.note(format!(
        "`{}` fits best: {}",
        best.host,
        escape::line(best.fit.because())
    ));
    order.host = best.host;
    Ok(())
}

/// The plan that `--dry-run` shows.
#[derive(Debug, Serialize)]
struct Plan<'a> {
    host: &'a str,
    spec: &'a RunSpec,
    inputs: Vec<String>,
    log_path: PathBuf,
    outputs_path: PathBuf,
}

/// Shows the plan of an order and starts nothing.
///
/// # Errors
/// The order is not acceptable.
pub fn show_plan(context: &Context, controller: &Controller, order: &Order) -> Result<(), CommandError> {
    order.spec.check().map_err(RunError::from)?;
    let paths = LocalPaths::of(&controller.config, &order.spec);
    let inputs: Vec<String> = order.inputs.iter().map(describe).collect();
    if context.ui.is_json() {
        let plan = Plan {
            host: &order.host,
            spec: &order.spec,
            inputs,
            log_path: paths.log,
            outputs_path: paths.outputs,
        };
        context
            .ui
            .json_line(&super::view::document("farrun.plan/1", plan));
        return Ok(());
    }
    let spec = &order.spec;
    let mounts: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| {
            let only = if mount.read_only { " (read only)" } else { "" };
            format!("{} -> {}{only}", mount.source, mount.target)
        })
        .collect();
    let size = |bytes: Option<u64>| bytes.map(format::bytes).unwrap_or_default();
    let time = |seconds: u64| format::duration(Duration::from_secs(seconds));
    let fields = [
        ("host", order.host.clone()),
        ("operation", spec.operation.clone()),
        ("image", spec.image.clone()),
        ("command", format::words(&spec.command)),
        ("working in", spec.working_dir.clone().unwrap_or_default()),
        ("user", spec.user.clone().unwrap_or_default()),
        ("network", spec.network.clone().unwrap_or_default()),
        ("gpus", gpus(spec)),
        ("memory", size(spec.memory_limit)),
        ("/dev/shm", size(spec.shm_size)),
        ("time limit", spec.time_limit.map(time).unwrap_or_default()),
        (
            "environment",
            spec.env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        ("secrets", spec.secret_names.join(" ")),
        ("mounts", mounts.join(", ")),
        ("inputs", inputs.join(", ")),
        ("log", paths.log.display().to_string()),
        ("outputs", paths.outputs.display().to_string()),
    ];
    let given: Vec<_> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    context.ui.fields(&given);
    context.ui.note("nothing was started");
    Ok(())
}

/// The GPUs of an order in words: `1, with 40.0 GiB free, waits in line`.
fn gpus(spec: &RunSpec) -> String {
    let place = &spec.placement;
    let mut words = vec![spec.gpus.label()];
    if spec.gpus == Gpus::None {
        return words.remove(0);
    }
    words.extend(
        place
            .min_free
            .map(|memory| format!("with {} free", gpu_words::mebibytes(memory))),
    );
    if place.share {
        words.push("shared".to_owned());
    }
    words.push(match place.wait {
        Wait::No => "refused when none is free".to_owned(),
        Wait::Until => "waits in line".to_owned(),
        Wait::Seconds(seconds) => format!("waits in line for at most {seconds} s"),
    });
    if place.priority != 0 {
        words.push(format!("priority {}", place.priority));
    }
    words.join(", ")
}

fn describe(input: &OrderInput) -> String {
    match &input.source {
        OrderSource::Local(path) => format!("{} <- {}", input.path, path.display()),
        OrderSource::Inline(bytes) => format!("{} <- {} generated bytes", input.path, bytes.len()),
        OrderSource::Content { content, .. } => format!("{} <- content {content}", input.path),
        OrderSource::Parent { output, .. } => format!("{} <- {}:{}", input.path, output.run_id, output.path),
    }
}
