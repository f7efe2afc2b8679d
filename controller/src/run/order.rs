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
use farrun_protocol::spec::{Input, ParentOutput, RunSpec};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{RunId, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// One input of an order.
#[derive(Debug, Clone)]
pub struct OrderInput {
    /// Path below the run's inputs.
    pub path: String,
    /// Where it comes from.
    pub source: OrderSource,
}

/// Where an input comes from.
#[derive(Debug, Clone)]
pub enum OrderSource {
    /// A file of this machine.
    Local(PathBuf),
    /// Bytes made for this run.
    Inline(Vec<u8>),
    /// Content that the host is expected to have from an earlier order.
    Content {
        /// Its hash.
        sha256: Sha256,
        /// Its size in bytes.
        size: u64,
    },
    /// An output of an earlier run; `local` is its verified copy here, when there is one.
    Parent {
        /// Names the output on the host.
        output: ParentOutput,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        sha256: Sha256,
        /// Its copy here.
        local: Option<PathBuf>,
    },
}

/// Where the content of inputs lies on this machine, by hash.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sources {
    format: u32,
    files: BTreeMap<Sha256, PathBuf>,
}

impl Sources {
    /// The file with this content.
    pub fn file(&self, sha256: &Sha256) -> Option<&Path> {
        self.files.get(sha256).map(PathBuf::as_path)
    }
}

/// An order that was written down, or found written down under its key.
#[derive(Debug)]
pub enum Placed {
    /// A new run, pending.
    New(Run),
    /// The run that the same key found.
    Existing(Run),
}

/// Hashes the inputs, writes the order's row and remembers where its inputs come from. Nothing reaches the host.
///
/// # Errors
/// An unreadable input, a spec no agent would accept, a log path that is too long, or the database.
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
    let hashed = tokio::task::spawn_blocking(move || hash_inputs(inputs, &folder));
    let (inputs, sources) = hashed.await.map_err(|error| RunError::Local {
        path: PathBuf::from("inputs"),
        source: std::io::Error::other(error),
    })??;
    controller.tell(&Event::StepDone);
    spec.inputs = inputs;
    spec.check()?;
    let run = row(controller, &host, spec, parent_run, key)?;
    write_sources(&controller.config, &run.id, &sources)?;
    match controller.store.create_run(&run).await {
        Ok(Created::New) => Ok(Placed::New(run)),
        Ok(Created::Existing(earlier)) => {
            forget(&controller.config, &run.id);
            Ok(Placed::Existing(*earlier))
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
        owner: Some(Owner::this().to_string()),
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
        gpus: spec.gpus.label(),
        lease: None,
        gpu_summary: None,
        log_path: Some(paths.log.to_string_lossy().into_owned()),
        outputs_path: Some(paths.outputs.to_string_lossy().into_owned()),
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
        }
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
            row.owner = Some(Owner::this().to_string());
        }
    };
    controller.store.change_run(run, unmark).await?;
    Ok(())
}

/// Where the inputs of an order come from; empty when it was placed elsewhere.
///
/// # Errors
/// The file exists and cannot be read.
pub fn sources(config: &Config, run: &RunId) -> Result<Sources, RunError> {
    let path = folder(config, run).join("order.json");
    let local = |source| RunError::Local {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| local(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Sources::default()),
        Err(error) => Err(local(error)),
    }
}

/// Removes what was remembered for an order; best effort, for nothing reads it any more.
pub fn forget(config: &Config, run: &RunId) {
    let folder = folder(config, run);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%run, %error, "An order's folder could not be removed");
    }
}

fn folder(config: &Config, run: &RunId) -> PathBuf {
    config.state_folder.join("orders").join(run.as_str())
}

fn write_sources(config: &Config, run: &RunId, sources: &Sources) -> Result<(), RunError> {
    let folder = folder(config, run);
    let path = folder.join("order.json");
    let local = |source| RunError::Local {
        path: path.clone(),
        source,
    };
    make_private(&folder).map_err(local)?;
    let json = serde_json::to_vec(sources).map_err(|error| local(error.into()))?;
    write_private(&path, &json).map_err(local)
}

/// Prompts and paths are nobody else's business.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn hash_inputs(inputs: Vec<OrderInput>, folder: &Path) -> Result<(Vec<Input>, Sources), RunError> {
    let mut sources = Sources {
        format: 1,
        ..Sources::default()
    };
    let mut hashed = Vec::with_capacity(inputs.len());
    for OrderInput { path, source } in inputs {
        let input = match source {
            OrderSource::Local(file) => {
                let (sha256, size) = hash_file(&file)?;
                sources
                    .files
                    .insert(sha256.clone(), std::path::absolute(&file).unwrap_or(file));
                Input {
                    path,
                    sha256,
                    size,
                    parent: None,
                }
            }
            OrderSource::Inline(bytes) => {
                let sha256 = Sha256::of(&bytes);
                let file = folder.join(sha256.as_str());
                let local = |source| RunError::Local {
                    path: file.clone(),
                    source,
                };
                make_private(folder).map_err(local)?;
                write_private(&file, &bytes).map_err(local)?;
                sources.files.insert(sha256.clone(), file);
                Input {
                    path,
                    sha256,
                    size: bytes.len() as u64,
                    parent: None,
                }
            }
            OrderSource::Content { sha256, size } => Input {
                path,
                sha256,
                size,
                parent: None,
            },
            OrderSource::Parent {
                output,
                size,
                sha256,
                local,
            } => {
                sources.files.extend(local.map(|file| (sha256.clone(), file)));
                Input {
                    path,
                    sha256,
                    size,
                    parent: Some(output),
                }
            }
        };
        hashed.push(input);
    }
    Ok((hashed, sources))
}

/// Hash and size of a file.
///
/// # Errors
/// It cannot be read.
pub fn hash_file(path: &Path) -> Result<(Sha256, u64), RunError> {
    use sha2::Digest as _;
    use std::io::Read as _;
    let failed = |source| RunError::Input {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hash = sha2::Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Sha256::from_bytes(hash.finalize().into()), size)),
            Ok(read) => {
                hash.update(buffer.get(..read).unwrap_or_default());
                size += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_again_by_hash() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("in.mp4");
        std::fs::write(&file, b"video").unwrap();
        let inputs = vec![
            OrderInput {
                path: "video.mp4".into(),
                source: OrderSource::Local(file.clone()),
            },
            OrderInput {
                path: "spec.json".into(),
                source: OrderSource::Inline(b"{}".to_vec()),
            },
        ];
        let (inputs, sources) = hash_inputs(inputs, &folder.path().join("order")).unwrap();
        assert_eq!(inputs.iter().map(|input| input.size).collect::<Vec<_>>(), [5, 2]);
        assert_eq!(sources.file(&Sha256::of(b"video")), Some(file.as_path()));
        assert_eq!(
            std::fs::read(sources.file(&Sha256::of(b"{}")).unwrap()).unwrap(),
            b"{}"
        );
    }

    #[test]
    fn an_unreadable_input_is_named() {
        let missing = Path::new("/nonexistent/video.mp4");
        assert!(matches!(hash_file(missing), Err(RunError::Input { path, .. }) if path == missing));
    }
}
