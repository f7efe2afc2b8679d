//! From an order and an image to a container.

use super::{Stop, prepare};
use crate::docker::{BindMount, ImageFacts, LogBudget, NewContainer};
use crate::gpu;
use crate::leases::{LockFolder, file_name};
use crate::record::RunFolder;
use crate::serve::{Context, inputs};
use chrono::{SecondsFormat, Utc};
use farrun_protocol::layout;
use farrun_protocol::lease::Lease;
use farrun_protocol::spec::{Capture, RunSpec};
use farrun_protocol::verdict::Reason;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The GPUs of a run and where their locks lie.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) lease: &'a Lease,
    pub(super) locks: &'a LockFolder,
}

impl Given<'_> {
    fn uuids(&self) -> Vec<String> {
        self.lease.gpus.iter().map(|gpu| gpu.uuid.clone()).collect()
    }

    /// Where each lock file lies on the host, and inside.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let names = self.lease.gpus.iter().filter_map(|gpu| file_name(&gpu.uuid));
        names
            .enumerate()
            .map(|(number, name)| {
                let inside = format!("{}/{number}", layout::CONTAINER_LOCKS);
                (self.locks.path().join(name), inside)
            })
            .collect()
    }
}

/// The container of a run.
pub(super) fn container(
    context: &Context,
    spec: &RunSpec,
    folder: &RunFolder,
    image: &ImageFacts,
    given: Option<&Given<'_>>,
) -> Result<NewContainer, Stop> {
    let job = job(spec, image);
    if job.is_empty() {
        return Err(Stop::refused(
            Reason::CommandNotFound,
            "neither the order nor the image names a command",
        ));
    }
    let by_init = spec.capture == Capture::Init;
    let mut env: Vec<String> = spec
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    env.push(format!("FARRUN_RUN_ID={}", spec.run_id));
    let uuids = given.map(Given::uuids).unwrap_or_default();
    if !uuids.is_empty() {
        env.push(format!("{}={}", layout::ENV_GPUS, uuids.join(",")));
    }
    env.extend(
        gpu::device_for_run(spec).map(|device| format!("{}={}", gpu::DEVICE_VARIABLE, device.as_str())),
    );
    Ok(NewContainer {
        name: layout::container_name(&spec.run_id),
        // The id, not the name: the name may point to another image a moment later.
        image: image.id.clone(),
        labels: labels(context, spec, &uuids),
        env,
        user: spec.user.clone(),
        argv: if by_init {
            with_init(spec, image, given, job)
        } else {
            job
        },
        working_dir: spec.working_dir.clone().filter(|_| !by_init),
        mounts: mounts(context, spec, folder, given),
        gpus: uuids,
        shm_size: spec.shm_size,
        ipc_host: spec.ipc_host,
        memory_limit: spec.memory_limit,
        network: spec.network.clone(),
        open_stdin: by_init && !spec.secret_names.is_empty(),
        stop_timeout: spec.grace,
        stop_signal: by_init.then(|| "SIGTERM".to_owned()),
        log: if by_init {
            LogBudget::Small
        } else {
            LogBudget::Bytes(spec.log_cap)
        },
    })
}

/// Program and arguments of the job: an entrypoint of the order drops the image's command, as engines do.
fn job(spec: &RunSpec, image: &ImageFacts) -> Vec<String> {
    let (entrypoint, default) = match &spec.entrypoint {
        Some(entrypoint) => (entrypoint.as_slice(), &[][..]),
        None => (image.entrypoint.as_slice(), image.command.as_slice()),
    };
    let command = if spec.command.is_empty() {
        default
    } else {
        &spec.command
    };
    entrypoint.iter().chain(command).cloned().collect()
}

fn with_init(spec: &RunSpec, image: &ImageFacts, given: Option<&Given<'_>>, job: Vec<String>) -> Vec<String> {
    let mut argv: Vec<String> = [
        layout::CONTAINER_AGENT,
        "init",
        "--record",
        layout::CONTAINER_RECORD,
        "--cap",
        &spec.log_cap.to_string(),
        "--grace",
        &spec.grace.to_string(),
    ]
    .map(str::to_owned)
    .into();
    if let Some(limit) = spec.time_limit {
        argv.extend(["--time-limit".to_owned(), limit.to_string()]);
    }
    if let Some(folder) = spec.working_dir.as_ref().or(image.working_dir.as_ref()) {
        argv.extend(["--working-dir".to_owned(), folder.clone()]);
    }
    if !spec.secret_names.is_empty() {
        argv.push("--secrets".to_owned());
    }
    if let Some(given) = given {
        let flag = if given.lease.shared {
            "--shared-lock"
        } else {
            "--lock"
        };
        let locks = given
            .files()
            .into_iter()
            .map(|(_, inside)| [flag.to_owned(), inside]);
        let gpus = given.uuids().into_iter().map(|uuid| ["--gpu".to_owned(), uuid]);
        argv.extend(locks.chain(gpus).flatten());
    }
    argv.push("--".to_owned());
    argv.extend(job);
    argv
}

fn labels(context: &Context, spec: &RunSpec, gpus: &[String]) -> BTreeMap<String, String> {
    let started = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut labels = BTreeMap::from([
        ("run_id".to_owned(), spec.run_id.to_string()),
        ("start_time".to_owned(), started),
        ("operation".to_owned(), spec.operation.clone()),
        (layout::LABEL_RUN.to_owned(), spec.run_id.to_string()),
        (
            layout::LABEL_CONTROLLER.to_owned(),
            spec.controller_id.to_string(),
        ),
        (layout::LABEL_SPEC.to_owned(), spec.sha256().to_string()),
        (
            layout::LABEL_GPUS.to_owned(),
            if gpus.is_empty() {
                "none".to_owned()
            } else {
                gpus.join(",")
            },
        ),
        (layout::LABEL_AGENT.to_owned(), context.agent_sha256.to_string()),
    ]);
    if spec.placement.share && !gpus.is_empty() {
        labels.insert(layout::LABEL_SHARED.to_owned(), "true".to_owned());
    }
    if let Some(prompt_id) = &spec.prompt_id {
        labels.insert("prompt_id".to_owned(), prompt_id.to_string());
    }
    labels
}

fn mounts(
    context: &Context,
    spec: &RunSpec,
    folder: &RunFolder,
    given: Option<&Given<'_>>,
) -> Vec<BindMount> {
    let mount = |source: &Path, target: &str, read_only| BindMount {
        source: source.to_string_lossy().into_owned(),
        target: target.to_owned(),
        read_only,
    };
    let mut mounts = vec![
        mount(&folder.inputs(), &spec.inputs_target, true),
        mount(&folder.outputs(), &spec.outputs_target, false),
    ];
    for (blob, path) in inputs::mounted(&context.state, &spec.inputs) {
        let target = format!("{}/{path}", spec.inputs_target.trim_end_matches('/'));
        mounts.push(mount(&blob, &target, true));
    }
    // Where the image's own program is PID 1, ours only looks whether the GPUs are there.
    if spec.capture == Capture::Init || given.is_some() {
        mounts.push(mount(&context.agent, layout::CONTAINER_AGENT, true));
    }
    if spec.capture == Capture::Init {
        mounts.push(mount(&folder.record(), layout::CONTAINER_RECORD, false));
        // Only the files of its own GPUs, so that a job cannot lock those of others.
        for (file, inside) in given.map(Given::files).unwrap_or_default() {
            mounts.push(mount(&file, &inside, true));
        }
    }
    for wanted in &spec.mounts {
        let source = prepare::source(&context.home, wanted);
        mounts.push(mount(&source, &wanted.target, wanted.read_only));
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(entrypoint: Option<&[&str]>, command: &[&str]) -> RunSpec {
        let mut spec: RunSpec = serde_json::from_value(serde_json::json!({
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run",
            "name": "x", "created_at": "2026-01-02T03:04:05Z", "image": "x",
            "inputs_target": "/i", "outputs_target": "/o",
        }))
        .unwrap();
        spec.entrypoint = entrypoint.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        spec.command = command.iter().map(|word| (*word).to_owned()).collect();
        spec
    }

    #[test]
    fn argv_follows_the_engines_rules() {
        let image = ImageFacts {
            entrypoint: vec!["entry".into()],
            command: vec!["default".into()],
            ..ImageFacts::default()
        };
        for (entrypoint, command, expected) in [
            (None, &[][..], &["entry", "default"][..]),
            (None, &["own"], &["entry", "own"]),
            (Some(&["other"][..]), &[], &["other"]),
            (Some(&["other"]), &["own"], &["other", "own"]),
            (Some(&[]), &["own"], &["own"]),
            (Some(&[]), &[], &[]),
        ] {
            assert_eq!(job(&spec(entrypoint, command), &image), expected);
        }
    }

    #[test]
    fn init_gets_the_orders_limits() {
        let mut order = spec(None, &["job"]);
        order.time_limit = Some(5);
        order.secret_names = vec!["TOKEN".into()];
        order.working_dir = Some("/w".into());
        let argv = with_init(&order, &ImageFacts::default(), None, vec!["job".into()]);
        assert_eq!(
            argv.join(" "),
            "/.farrun/farrun-agent init --record /.farrun/record --cap 100000000 --grace 10 --time-limit 5 \
             --working-dir /w --secrets -- job"
        );
    }
}
