//! Brings a run's outputs home, verified, and completes it.

use super::bulk::{Bulk, further};
use super::manifest_of::ManifestRead;
use super::order::place_here;
use super::upload::watch;
use super::{RunError, enhance, manifest_of, pulled, reconcile, stop};
use crate::controller::{Controller, Event};
use crate::host::{Link, LinkError};
use crate::model::{Host, OutputRecord, Prompt, Run, RunStatus};
use crate::ssh::transfer::{Progress as TransferProgress, Sftp, Transfer, TransferError, Wanted, is_busy};
use chrono::Utc;
use farrun_protocol::manifest::{self, Manifest, Skipped};
use farrun_protocol::message::{ManifestReply, Progress};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, RunId};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a download of another command is looked at.
const LOOK_APART: Duration = Duration::from_millis(200);
/// How long it may go on before it is told of: one that was given up ends with its last block.
const SOON: Duration = Duration::from_secs(1);
/// How often what it has brought is looked for after its end.
const AFTERWARDS: u32 = 10;

/// What was brought home.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The run as it is now.
    pub run: Run,
    /// Folder of the outputs.
    pub folder: PathBuf,
    /// Files that are here and verified.
    pub files: usize,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// What lies in the outputs folder on the host and was not brought, with the reason.
    pub skipped: Vec<String>,
    /// The prompt that was made of its result, or why the result is none.
    pub made: Option<Result<Prompt, String>>,
}

/// Pulls the outputs of an ended run over a link.
///
/// A run that succeeded becomes `completed` when every output is here and verified; any other end stays what it is.
///
/// # Errors
/// The run is active, the link broke (what arrived is kept and the next pull goes on there), or the disk is full.
#[tracing::instrument(skip_all, fields(run = %id, host = %link.host))]
pub async fn collect(controller: &Controller, link: &Link, id: &RunId) -> Result<Collected, RunError> {
    let run = controller.row(id).await?;
    let host = controller.host_of(id, &run.host).await?;
    let bulk = Bulk::begin(controller, &host, id);
    collect_over(controller, link, id, bulk).await
}

/// As [`collect`], over a connection for files that was begun before.
///
/// # Errors
/// As [`collect`].
pub async fn collect_over(
    controller: &Controller,
    link: &Link,
    id: &RunId,
    bulk: Bulk,
) -> Result<Collected, RunError> {
    let run = place_here(controller, controller.row(id).await?).await?;
    let host = controller.host_of(id, &run.host).await?;
    if link.host != run.host {
        // Another host that does not know the run says nothing about its outputs.
        return Err(RunError::NoHost {
            run: id.clone(),
            host: run.host,
        });
    }
    let reply = match hash_outputs(controller, link, id).await {
        Err(RunError::Link(LinkError::Agent(error))) => match stop::code(&error) {
            Some(ErrorCode::RunActive) => return Err(RunError::Active(id.clone())),
            Some(ErrorCode::RunUnknown) if run.status == RunStatus::Downloading => {
                reconcile::lose(controller, &run, Reason::OutputsLost).await?;
                return Err(RunError::OutputsGone {
                    run: id.clone(),
                    host: run.host,
                });
            }
            Some(ErrorCode::RunUnknown) => {
                return Err(RunError::OutputsGone {
                    run: id.clone(),
                    host: run.host,
                });
            }
            _ => return Err(LinkError::from(error).into()),
        },
        other => other?,
    };
    let folder = run
        .outputs_path
        .as_ref()
        .map(PathBuf::from)
        .ok_or_else(|| RunError::NoRun(id.clone()))?;
    let mut bulk = Some(bulk);
    let here = loop {
        if let Some(here) = brought_by_another(controller, id, &reply, &folder).await? {
            break here;
        }
        let files = bulk.take().unwrap_or_else(|| Bulk::begin(controller, &host, id));
        match bring(controller, &host, files, id, &reply, &folder).await {
            // Another command was faster.
            Err(RunError::Link(LinkError::Transfer(TransferError::Busy { .. }))) => {}
            brought => break brought?,
        }
    };
    // Before the run is called completed: nobody looks at it again afterwards.
    let made = match run.status {
        RunStatus::Downloading => enhance::write_back(controller, &run, &folder).await?,
        _ => None,
    };
    let (run, ()) = controller
        .store
        .change_run(id, |row| {
            if row.status == RunStatus::Downloading {
                row.status = RunStatus::Completed;
            }
        })
        .await?;
    Ok(Collected {
        run,
        folder,
        files: here.files,
        bytes: reply.bytes,
        skipped: here
            .skipped
            .iter()
            .map(|skipped| format!("{} ({:?})", skipped.path, skipped.reason))
            .collect(),
        made,
    })
}

/// What of a manifest is told once its files are here.
struct Here {
    files: usize,
    skipped: Vec<Skipped>,
}

impl From<Manifest> for Here {
    fn from(manifest: Manifest) -> Self {
        Self {
            files: manifest.files.len(),
            skipped: manifest.skipped,
        }
    }
}

/// Waits while another command of this machine brings the outputs. Answers when they are here, brought by it or earlier.
async fn brought_by_another(
    controller: &Controller,
    id: &RunId,
    reply: &ManifestReply,
    folder: &Path,
) -> Result<Option<Here>, RunError> {
    let start = Instant::now();
    let (mut told, mut tries) = (false, 1);
    loop {
        if is_busy(folder) {
            // What it has brought it writes down a moment after it let go.
            tries = AFTERWARDS;
            if start.elapsed() > SOON && !std::mem::replace(&mut told, true) {
                controller.tell(&Event::Note(&format!(
                    "another command is bringing the outputs of {id}; waiting for it"
                )));
            }
        } else {
            if let Some(manifest) = recall(controller, id, reply, folder).await? {
                return Ok(Some(manifest.into()));
            }
            tries -= 1;
            if tries == 0 {
                return Ok(None);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_APART) => {}
            () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
        }
    }
}

/// Connects, reads the manifest and brings every output that it names.
async fn bring(
    controller: &Controller,
    host: &Host,
    bulk: Bulk,
    id: &RunId,
    reply: &ManifestReply,
    folder: &Path,
) -> Result<Here, RunError> {
    let (session, sftp) = bulk.ready(controller, host).await?;
    if let Some(pack) = pack(reply) {
        sftp.open_early(pack);
    }
    let read = manifest_of::read(&sftp, &host.name, Some(id), reply, manifest::MAX_SIZE).await?;
    let here = fetch(controller, host, sftp, reply, read, folder).await?;
    // It is over; the host is not waited for.
    tokio::spawn(session.close());
    Ok(here)
}

/// The manifest, when exactly it was brought home before, its files are as they were left, and the database says so too.
async fn recall(
    controller: &Controller,
    id: &RunId,
    reply: &ManifestReply,
    folder: &Path,
) -> Result<Option<Manifest>, RunError> {
    let (state, run) = (controller.config.state_folder.clone(), id.clone());
    let (sha256, folder) = (reply.sha256.clone(), folder.to_path_buf());
    let look = tokio::task::spawn_blocking(move || pulled::still_here(&state, &run, &sha256, &folder));
    let Ok(Some(manifest)) = look.await else {
        return Ok(None);
    };
    let recorded = controller.store.outputs_total(id).await?;
    let all = manifest.files.len() as u64;
    Ok(Some(manifest).filter(|_| recorded.files == all && recorded.pulled == all))
}

/// Brings every output here, records it, and remembers that it is here. There is one list of them in memory at a time.
async fn fetch(
    controller: &Controller,
    host: &Host,
    sftp: Sftp,
    reply: &ManifestReply,
    read: ManifestRead,
    folder: &Path,
) -> Result<Here, RunError> {
    let ManifestRead { manifest, bytes } = read;
    let id = manifest.run_id;
    pulled::forget(&controller.config.state_folder, &id);
    let (pack, outputs) = (pack(reply).map(Arc::from), Arc::from(reply.outputs.as_str()));
    let wanted = Wanted::of_manifest(manifest.files, &outputs, pack.as_ref());
    // Written down meanwhile; a database that refuses does not end the transfer.
    let recording = controller.store.set_outputs(&id, wanted.iter().map(record));
    let downloading = download(controller, host, sftp, reply, &wanted, folder);
    let ((), recorded) = tokio::try_join!(downloading, async { Ok::<_, RunError>(recording.await) })?;
    recorded?;
    let now = Utc::now();
    let all = wanted.iter().map(record);
    if !controller.store.mark_all_pulled(&id, all, now).await? {
        // Another controller wrote down something else meanwhile; these are the ones that are here.
        let pulled = wanted.iter().map(|file| OutputRecord {
            pulled_at: Some(now),
            ..record(file)
        });
        controller.store.set_outputs(&id, pulled).await?;
    }
    if let Some(bytes) = bytes {
        pulled::keep(&controller.config.state_folder, &id, &bytes);
    }
    Ok(Here {
        files: wanted.len(),
        skipped: manifest.skipped,
    })
}

async fn hash_outputs(controller: &Controller, link: &Link, id: &RunId) -> Result<ManifestReply, RunError> {
    let hashing = link.client.outputs(id.clone(), |progress| {
        if let Progress::Hashing { bytes_done, bytes } = progress {
            controller.tell(&Event::HashingOutputs {
                done: bytes_done,
                total: bytes,
            });
        }
    });
    let reply = tokio::select! {
        reply = hashing => reply?,
        () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
    };
    controller.tell(&Event::StepDone);
    Ok(reply)
}

/// What the database knows of an output.
fn record(file: &Wanted) -> OutputRecord {
    let large = file.size > manifest::BLOCK;
    OutputRecord {
        path: file.path.clone(),
        size: file.size,
        sha256: file.sha256.clone().filter(|_| !large),
        blocks: large.then(|| manifest::hash_of_blocks(file.size, &file.blocks)),
        pulled_at: None,
    }
}

fn pack(reply: &ManifestReply) -> Option<&str> {
    reply.pack.as_deref().filter(|path| path.starts_with('/'))
}

async fn download(
    controller: &Controller,
    host: &Host,
    sftp: Sftp,
    reply: &ManifestReply,
    wanted: &[Wanted],
    folder: &Path,
) -> Result<(), RunError> {
    let progress = TransferProgress::new();
    let transfer = Transfer::growing(sftp, further(controller, host));
    let work = async {
        Ok(transfer
            .download(wanted, folder, &progress, &Default::default())
            .await?)
    };
    let tick = || {
        controller.tell(&Event::Downloading {
            done: progress.bytes_done(),
            total: reply.bytes,
        })
    };
    watch(controller, work, tick).await?;
    controller.tell(&Event::StepDone);
    Ok(())
}
