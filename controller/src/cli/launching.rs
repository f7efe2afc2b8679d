//! What `inference`, `upscale`, `enhance`, `run` and `rerun` share: their flags, and the way from a resolved recipe to
//! a run that is followed to its end.

use super::{Context, find, outcome, progress, secrets};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::mirror;
use crate::model::{Host, Prompt, Run};
use crate::recipe::{GpuNeed, Overrides, Resolved, Source};
use crate::run::follow::{Ended, Following, follow};
use crate::run::order::{LocalPaths, Placed, place};
use crate::run::{Order, OrderInput, OrderSource, RunError, launch};
use crate::ui::escape;
use farrun_protocol::message::Secret;
use farrun_protocol::spec::{Gpus, Mount, ParentOutput, PullPolicy, RunSpec};
use farrun_protocol::{RunId, spec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Flags of every verb that starts a run.
#[derive(Debug, Clone, clap::Args)]
pub struct LaunchArgs {
    /// Host to run on; without it the configured one, or the only one
    #[arg(long, value_name = "NAME", help_heading = "Where")]
    pub host: Option<String>,
    /// GPUs: `none`, `all`, or UUIDs or indices with commas
    #[arg(long, value_name = "GPUS", value_parser = parse_gpus, help_heading = "Where")]
    pub gpus: Option<Gpus>,
    /// Set a variable of the job's environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, help_heading = "The job")]
    pub env: Vec<(String, String)>,
    #[arg(long, value_name = "NAME[=SOURCE]", help = secrets::HELP, help_heading = "The job")]
    #[allow(missing_docs, reason = "the help text is the documentation")]
    pub secret: Vec<String>,
    /// End the job after this time (`90s`, `30m`, `2h`)
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = "The job")]
    pub time_limit: Option<u64>,
    /// Bytes of the log's head (`100M`); what exceeds them goes to a rolling tail
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "The job")]
    pub log_cap: Option<u64>,
    /// A folder of the host inside the container: `SOURCE:TARGET[:ro]`; `~/…` is the account's home there
    #[arg(long, value_name = "MOUNT", value_parser = parse_mount, help_heading = "The job")]
    pub mount: Vec<Mount>,
    /// Memory limit (`16g`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "The job")]
    pub memory: Option<u64>,
    /// Size of /dev/shm (`8g`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "The job")]
    pub shm: Option<u64>,
    /// When to fetch the image: `missing`, `never` or `always`
    #[arg(long, value_name = "WHEN", value_parser = parse_pull, help_heading = "The job")]
    pub pull_image: Option<PullPolicy>,
    /// Return as soon as the host has acknowledged the order
    #[arg(long, short, help_heading = "How")]
    pub detach: bool,
    /// Show the plan and start nothing
    #[arg(long, help_heading = "How")]
    pub dry_run: bool,
    /// Find the run that an earlier order with this key made, instead of a second one
    #[arg(long, value_name = "KEY", help_heading = "How")]
    pub key: Option<String>,
}

impl LaunchArgs {
    fn secret_names(&self) -> Vec<String> {
        self.secret
            .iter()
            .map(|text| text.split('=').next().unwrap_or(text).to_owned())
            .collect()
    }

    /// What the flags want otherwise than a recipe says.
    pub fn overrides(&self, image: Option<String>) -> Overrides {
        Overrides {
            image,
            pull: self.pull_image,
            gpus: None,
            env: self.env.iter().cloned().collect(),
            mounts: self.mount.clone(),
            time_limit: self.time_limit,
            memory: self.memory,
            shm_size: self.shm,
        }
    }
}

fn parse_mount(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => return Err("expected SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
    };
    Ok(Mount {
        source: (*source).to_owned(),
        target: (*target).to_owned(),
        read_only,
        create: false,
    })
}

/// Reads `none`, `all` or a list.
fn parse_gpus(text: &str) -> Result<Gpus, String> {
    match text {
        "none" => Ok(Gpus::None),
        "all" => Ok(Gpus::All),
        list => {
            let devices: Vec<String> = list.split(',').map(str::trim).map(str::to_owned).collect();
            let plain = |device: &String| {
                !device.is_empty()
                    && device
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '/')
            };
            if devices.iter().all(plain) {
                Ok(Gpus::Devices(devices))
            } else {
                Err("expected `none`, `all`, or UUIDs or indices with commas".to_owned())
            }
        }
    }
}

/// Reads `NAME=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads `90`, `90s`, `30m`, `2h`, `1d` as seconds.
pub fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong = || "expected a time such as `90s`, `30m` or `2h`".to_owned();
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        Some((at, 'd')) => (text.get(..at), 86_400),
        _ => (Some(text), 1),
    };
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    number
        .checked_mul(factor)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(wrong)
}

/// Reads `1048576`, `100M` (decimal), `8g` or `8GiB` (binary for a lower-case letter or `iB`, as Docker does).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size such as `100M`, `8g` or `8GiB`".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "K" | "kB" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "k" | "KiB" => 1 << 10,
        "m" | "MiB" => 1 << 20,
        "g" | "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(factor)
        .filter(|size| *size > 0)
        .ok_or_else(wrong)
}

fn parse_pull(text: &str) -> Result<PullPolicy, String> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        "always" => Ok(PullPolicy::Always),
        _ => Err("expected `missing`, `never` or `always`".to_owned()),
    }
}

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

/// A spec with what the flags say and nothing else.
pub fn draft(controller: &Controller, subject: &Subject, image: String, args: &LaunchArgs) -> RunSpec {
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
        gpus: args.gpus.clone().unwrap_or_default(),
        shm_size: args.shm,
        ipc_host: false,
        memory_limit: args.memory,
        network: None,
        time_limit: args.time_limit,
        grace: spec::DEFAULT_GRACE,
        log_cap: args.log_cap.unwrap_or(controller.config.log_cap),
        capture: spec::Capture::Init,
    }
}

/// Makes an order of a resolved recipe and the flags.
pub fn order(
    controller: &Controller,
    host: &Host,
    subject: &Subject,
    resolved: Resolved,
    args: &LaunchArgs,
) -> Order {
    let gpus = args.gpus.clone().unwrap_or(match resolved.gpus {
        GpuNeed::None => Gpus::None,
        // Which of a host's GPUs are free is for the host to say; until it does, a run sees all of them.
        GpuNeed::All | GpuNeed::Count(_) => Gpus::All,
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
                    sha256,
                } => OrderSource::Parent {
                    local: parent_outputs
                        .as_ref()
                        .map(|folder| folder.join(&path))
                        .filter(|file| file.is_file()),
                    output: ParentOutput { run_id, path },
                    size,
                    sha256,
                },
            },
        })
        .collect();
    Order {
        host: host.name.clone(),
        spec,
        inputs,
        parent_run: subject.parent.as_ref().map(|parent| parent.id.clone()),
        key: args.key.clone(),
    }
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

/// Places an order, launches it and, unless detached, follows it to its end. Answers with the run, and none for a
/// dry run.
///
/// # Errors
/// What keeps the order from being carried out; a run that fails is no error.
pub async fn carry_out(
    context: &Context,
    controller: &Controller,
    order: Order,
    args: &LaunchArgs,
) -> Result<Option<Ended>, CommandError> {
    if args.dry_run {
        return show_plan(context, controller, &order).map(|()| None);
    }
    let secrets = secrets::read(context, &args.secret)?;
    match place(controller, order).await? {
        Placed::Existing(run) => {
            context.ui.note(format!("the key found {}", run.id));
            if args.detach || run.status.is_final() {
                return Ok(Some(Ended { run, collected: None }));
            }
            start_and_follow(context, controller, run, secrets, args.detach)
                .await
                .map(Some)
        }
        Placed::New(run) => start_and_follow(context, controller, run, secrets, args.detach)
            .await
            .map(Some),
    }
}

/// Launches a run unless it was launched, and follows it to its end unless detached.
///
/// # Errors
/// See [`carry_out`].
pub async fn start_and_follow(
    context: &Context,
    controller: &Controller,
    run: Run,
    secrets: BTreeMap<String, Secret>,
    detach: bool,
) -> Result<Ended, CommandError> {
    let id = run.id.clone();
    let (run, link) = launch::launch(controller, &id, secrets)
        .await
        .map_err(|error| not_launched(&id, error))?;
    if detach {
        if let Some(link) = link {
            link.session.close().await;
        }
        return Ok(Ended { run, collected: None });
    }
    if !run.status.is_settled() {
        controller.tell(&crate::controller::Event::Running { run: id.as_str() });
    }
    // With --json stdout carries one document; the log is in its file.
    let following = Following {
        from: mirror::From::Start,
        show: !context.ui.is_json(),
        pull: true,
    };
    let ended = follow(controller, run, link, following).await;
    context.ui.log_end();
    ended.map_err(|error| left(&id, error))
}

/// Adds to an error before the acknowledgement what became of the order.
fn not_launched(id: &RunId, error: RunError) -> CommandError {
    if let RunError::Interrupted { .. } = error {
        return CommandError::new(
            Exit::Cancelled,
            format!("{id} was cancelled: interrupted before the host had acknowledged it"),
        );
    }
    let pending = matches!(&error, RunError::Link(link) if !matches!(link, crate::host::LinkError::Agent(crate::agent::AgentError::Failed(_))));
    let command = CommandError::from(error);
    if pending {
        command.hint(format!(
            "the order is kept; take it up with `farrun attach {id}`, or drop it with `farrun stop {id}`"
        ))
    } else {
        command
    }
}

/// Says what goes on when a command leaves a run that goes on.
pub fn left(id: &RunId, error: RunError) -> CommandError {
    match error {
        RunError::Interrupted { detached: Some(_) } => {
            CommandError::new(Exit::Detached, format!("detached; {id} goes on")).hint(format!(
                "come back with `farrun attach {id}`, end it with `farrun stop {id}`"
            ))
        }
        error => CommandError::from(error).hint(format!(
            "the run is not affected; come back with `farrun attach {id}`"
        )),
    }
}

/// Prints how a run ended and says with which exit code.
pub fn finish(context: &Context, ended: &Ended) -> Exit {
    let brought = ended.collected.as_ref().map(|collected| {
        for skipped in &collected.skipped {
            context
                .ui
                .warning(format!("not brought: {}", escape::line(skipped)));
        }
        let size = progress::count_and_size(collected.files, collected.bytes);
        format!("{} ({size})", collected.folder.display())
    });
    outcome::print(context, &ended.run, brought.as_deref())
}

fn show_plan(context: &Context, controller: &Controller, order: &Order) -> Result<(), CommandError> {
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
        context.ui.json(&super::view::document("farrun.plan/1", plan));
        return Ok(());
    }
    let spec = &order.spec;
    let mounts: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| format!("{} -> {}", mount.source, mount.target))
        .collect();
    context.ui.fields(&[
        ("host", order.host.clone()),
        ("operation", spec.operation.clone()),
        ("image", spec.image.clone()),
        ("command", spec.command.join(" ")),
        ("gpus", spec.gpus.label()),
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
    ]);
    context.ui.note("nothing was started");
    Ok(())
}

fn describe(input: &OrderInput) -> String {
    match &input.source {
        OrderSource::Local(path) => format!("{} <- {}", input.path, path.display()),
        OrderSource::Inline(bytes) => format!("{} <- {} generated bytes", input.path, bytes.len()),
        OrderSource::Content { sha256, .. } => format!("{} <- content {sha256}", input.path),
        OrderSource::Parent { output, .. } => format!("{} <- {}:{}", input.path, output.run_id, output.path),
    }
}

/// The host for a run, by flag, configuration or being the only one.
///
/// # Errors
/// None is named and there is not exactly one.
pub async fn host(controller: &Controller, args: &LaunchArgs) -> Result<Host, CommandError> {
    find::host_for_run(controller, args.host.as_deref()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(parse_seconds("90"), Ok(90));
        assert_eq!(parse_seconds("30m"), Ok(1800));
        assert_eq!(parse_size("100M"), Ok(100_000_000));
        assert_eq!(parse_size("8g"), Ok(8 << 30));
        for wrong in ["", "0", "m", "-1", "1x", "99999999999999999999", "1é"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn gpus_are_words_or_devices() {
        assert_eq!(parse_gpus("none"), Ok(Gpus::None));
        assert_eq!(
            parse_gpus("0,GPU-ab12"),
            Ok(Gpus::Devices(vec!["0".into(), "GPU-ab12".into()]))
        );
        assert!(parse_gpus("0,,1").is_err());
        assert!(parse_gpus("$(x)").is_err());
    }
}
