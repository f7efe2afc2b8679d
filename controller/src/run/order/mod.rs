//! An order: what the user wants run, with its inputs hashed and remembered until the host has acknowledged it.
//!
//! The row in the database holds the resolved spec. Which local files the inputs come from is this machine's
//! business and lies in `<state>/orders/<run_id>/`, so that an interrupted upload can be taken up by a later
//! process. The folder goes when the run is settled.

use super::owner::Owner;
use super::{RunError, explain};
use crate::config::Config;
use crate::controller::{Controller, Event};
use crate::model::run::MAX_LOG_PATH;
use crate::model::{Run, RunStatus};
use crate::store::Created;
use chrono::Utc;
use farrun_protocol::RunId;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::verdict::Reason;
use std::path::PathBuf;

mod inputs;

pub use inputs::{OrderInput, OrderSource, Sources, files_of, forget};
use inputs::{folder, hash_inputs, keep_files, write_sources};
pub(super) use inputs::{hash_file, sources};

/// What the user wants run.
#[derive(Debug, Clone)]
pub struct Order {
    /// Name of the host.
    pub host: String,
    /// The spec without its inputs.
    pub spec: RunSpec,
    /// Its inputs.
    pub inputs: Vec<OrderInput>,
    /// The run whose output it works on.
    pub parent_run: Option<RunId>,
    /// Key that makes a repeated order find the first.
    pub key: Option<String>,
}

/// An order that was written down, or found written down under its key.
#[derive(Debug)]
pub enum Placed {
    /// A new run, pending.
    New(Run),
    /// The run that the same key found.
    Existing(Run),
}

/// Hashes the inputs, writes the order's row and remembers where its inputs come from. Nothing is sent to the host.
///
/// # Errors
/// An unreadable input, a spec no agent would accept, a log path that is too long, or the database. When the user
/// interrupted, nothing was written down.
pub async fn place(controller: &Controller, order: Order) -> Result<Placed, RunError> {
    controller.tell(&Event::HashingInputs {
        files: order.inputs.len(),
    });
    let Order {
        host,
        mut spec,
        inputs,
        parent_run,
        key,
    } = order;
    let folder = folder(&controller.config, &spec.run_id);
    let interrupt = controller.interrupt.clone();
    let hashed = tokio::task::spawn_blocking(move || hash_inputs(inputs, &folder, &interrupt));
    let hashed = hashed.await.map_err(|error| RunError::Local {
        path: PathBuf::from("inputs"),
        source: std::io::Error::other(error),
    })?;
    let (inputs, sources) = hashed.inspect_err(|_| forget(&controller.config, &spec.run_id))?;
    controller.tell(&Event::StepDone);
    spec.inputs = inputs;
    spec.check()?;
    if controller.interrupt.is_cancelled() {
        forget(&controller.config, &spec.run_id);
        return Err(RunError::Interrupted { detached: None });
    }
    let run = row(controller, &host, spec, parent_run, key)?;
    if !run.spec.inputs.is_empty()
        && let Err(error) = write_sources(&controller.config, &run.id, &sources)
    {
        forget(&controller.config, &run.id);
        return Err(error);
    }
    let mut created = controller.store.create_run(&run).await;
    if let Ok(Created::Existing(earlier)) = &created
        && gives_key_up(earlier)
    {
        let free = |row: &mut Run| row.key = row.key.take().filter(|_| !gives_key_up(row));
        controller.store.change_run(&earlier.id, free).await?;
        created = controller.store.create_run(&run).await;
    }
    match created {
        Ok(Created::New) => {
            keep_files(&controller.config, &run.id, &sources);
            Ok(Placed::New(run))
        }
        Ok(Created::Existing(earlier)) => {
            forget(&controller.config, &run.id);
            Ok(Placed::Existing(place_here(controller, *earlier).await?))
        }
        Err(error) => {
            forget(&controller.config, &run.id);
            Err(error.into())
        }
    }
}

fn row(
    controller: &Controller,
    host: &str,
    spec: RunSpec,
    parent_run: Option<RunId>,
    key: Option<String>,
) -> Result<Run, RunError> {
    let paths = LocalPaths::of(&controller.config, &spec);
    if paths.log.to_string_lossy().chars().count() > MAX_LOG_PATH {
        return Err(RunError::LogPathTooLong { path: paths.log });
    }
    Ok(Run {
        parent_run,
        key,
        owner: Some(Owner::this(controller.store.machine()).to_string()),
        created_at: Utc::now(),
        ..blank(host, spec, &paths)
    })
}

/// The row of an order of which nothing else is known.
pub(super) fn blank(host: &str, spec: RunSpec, paths: &LocalPaths) -> Run {
    Run {
        id: spec.run_id.clone(),
        prompt_id: spec.prompt_id.clone(),
        parent_run: None,
        host: host.to_owned(),
        controller_id: spec.controller_id.clone(),
        operation: spec.operation.clone(),
        recipe: spec.recipe.clone(),
        status: RunStatus::Pending,
        reason: None,
        error_message: None,
        exit_code: None,
        signal: None,
        finding: None,
        finding_text: None,
        diagnosed_at: None,
        gpus: spec.gpus.label(),
        lease: None,
        gpu_summary: None,
        log_path: Some(paths.log.to_string_lossy().into_owned()),
        outputs_path: Some(paths.outputs.to_string_lossy().into_owned()),
        diagnostics_path: None,
        log_length: None,
        log_sha256: None,
        log_complete: false,
        container_id: None,
        image_digest: None,
        key: None,
        owner: None,
        created_at: spec.created_at,
        launched_at: None,
        started_at: None,
        ended_at: None,
        confirmed_at: None,
        updated_at: Utc::now(),
        spec,
    }
}

/// Where a run's log and outputs lie on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPaths {
    /// The mirror.
    pub log: PathBuf,
    /// Folder of verified outputs.
    pub outputs: PathBuf,
    /// Folder of the evidence of its end.
    pub diagnostics: PathBuf,
}

impl LocalPaths {
    /// The paths that follow from operation, name and id.
    pub fn of(config: &Config, spec: &RunSpec) -> Self {
        use crate::model::slug::UPSCALED;
        let id = &spec.run_id;
        let (folder, log) = match spec.operation.as_str() {
            "enhance" => ("prompt_enhancement".to_owned(), format!("op_{id}.log")),
            "upscale" => (format!("{}{UPSCALED}", spec.name), format!("run_{id}.log")),
            _ => (spec.name.clone(), format!("run_{id}.log")),
        };
        let folder = config.outputs.join(folder);
        Self {
            log: folder.join("logs").join(log),
            outputs: folder.join("runs").join(id.as_str()),
            diagnostics: folder.join("diagnostics").join(id.as_str()),
        }
    }
}

/// Gives a run a place on this machine, where another one that shares the database has ordered it.
///
/// # Errors
/// The database.
pub async fn place_here(controller: &Controller, run: Run) -> Result<Run, RunError> {
    if run.outputs_path.is_some() {
        return Ok(run);
    }
    let paths = LocalPaths::of(&controller.config, &run.spec);
    let place = |row: &mut Run| {
        if row.outputs_path.is_none() {
            row.log_path = Some(paths.log.to_string_lossy().into_owned());
            row.outputs_path = Some(paths.outputs.to_string_lossy().into_owned());
        }
    };
    Ok(controller.store.change_run(&run.id, place).await?.0)
}

/// Whether an order lets go of its key: one that was cancelled, or refused, before its host had acknowledged it has
/// done nothing that a repeated order could do twice. What ended without a word of the host may have run all the same.
fn gives_key_up(run: &Run) -> bool {
    use Reason::{EngineRefused, GpuRefused, NotLaunched};
    let refused = matches!(run.reason, Some(NotLaunched | GpuRefused | EngineRefused));
    run.launched_at.is_none()
        && match run.status {
            RunStatus::Cancelled => true,
            RunStatus::Failed => refused && !Owner::has_asked(run),
            _ => false,
        }
}

/// Cancels an order that the host was not asked to start. One that it may know is left as it is.
///
/// # Errors
/// The database.
pub async fn cancel(controller: &Controller, run: &RunId) -> Result<Run, RunError> {
    let (run, ()) = controller
        .store
        .change_run(run, |row| {
            if row.status.is_settled() || Owner::has_asked(row) {
                return;
            }
            row.status = RunStatus::Cancelled;
            row.reason = Some(Reason::Interrupted);
            row.error_message = Some(explain::without_record(Reason::Interrupted, None, &row.spec));
            row.owner = None;
            row.ended_at = Some(Utc::now());
        })
        .await?;
    if run.status.is_settled() {
        forget(&controller.config, &run.id);
    }
    Ok(run)
}

/// Writes down that the host does not know an order after all.
///
/// # Errors
/// The database.
pub async fn not_taken(controller: &Controller, run: &RunId) -> Result<(), RunError> {
    let unmark = |row: &mut Run| {
        if row.launched_at.is_none() && !row.status.is_settled() {
            row.owner = Some(Owner::this(controller.store.machine()).to_string());
        }
    };
    controller.store.change_run(run, unmark).await?;
    Ok(())
}
