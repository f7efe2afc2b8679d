//! Brings a run's outputs home, verified, and completes it.

use super::launch::watch;
use super::{RunError, reconcile, stop};
use crate::controller::{Controller, Event};
use crate::host::{Link, LinkError};
use crate::model::{Host, OutputRecord, Run, RunStatus};
use crate::ssh::Session;
use crate::ssh::transfer::{More, Progress as TransferProgress, Sftp, Transfer, Wanted};
use chrono::{DateTime, Utc};
use farrun_protocol::manifest::{self, Manifest};
use farrun_protocol::message::{ManifestReply, Progress};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, RunId, Sha256};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

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
}

/// Pulls the outputs of an ended run over a link.
///
/// A run that succeeded becomes `completed` when every output is here and verified; any other end stays what it is.
///
/// # Errors
/// The run is active, the link broke (what arrived is kept and the next pull goes on there), or the disk is full.
pub async fn collect(controller: &Controller, link: &Link, id: &RunId) -> Result<Collected, RunError> {
    let run = controller
        .store
        .run(id)
        .await?
        .ok_or_else(|| RunError::NoRun(id.clone()))?;
    let host = controller.host_of(id, &run.host).await?;
    collect_over(controller, link, id, Bulk::begin(controller, &host)).await
}

/// A connection for files that is made while other things are asked.
#[derive(Debug)]
pub struct Bulk(tokio_util::task::AbortOnDropHandle<Result<(Session, Sftp), LinkError>>);

impl Bulk {
    /// Begins to connect, asking nobody anything.
    pub fn begin(controller: &Controller, host: &Host) -> Self {
        let (dialer, host) = (controller.dialer().unasking(), host.clone());
        let connecting = tokio::spawn(async move { dialer.files(&host).await });
        Self(tokio_util::task::AbortOnDropHandle::new(connecting))
    }

    /// The connection; one that was not to be had unasked is made again.
    async fn ready(self, controller: &Controller, host: &Host) -> Result<(Session, Sftp), LinkError> {
        match self.0.await {
            Ok(Ok(files)) if !files.0.is_closed() => Ok(files),
            _ => controller.dialer().files(host).await,
        }
    }
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
    let run = controller
        .store
        .run(id)
        .await?
        .ok_or_else(|| RunError::NoRun(id.clone()))?;
    let host = controller.host_of(id, &run.host).await?;
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
    let (session, sftp) = bulk.ready(controller, &host).await?;
    let manifest = read_manifest(&sftp, &host.name, id, &reply).await?;
    let folder = run
        .outputs_path
        .as_ref()
        .map(PathBuf::from)
        .ok_or_else(|| RunError::NoRun(id.clone()))?;
    remember(controller, id, &manifest, None).await?;
    download(controller, &host, sftp, &reply, &manifest, &folder).await?;
    session.close().await;
    remember(controller, id, &manifest, Some(Utc::now())).await?;
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
        files: manifest.files.len(),
        bytes: reply.bytes,
        skipped: manifest
            .skipped
            .iter()
            .map(|skipped| format!("{} ({:?})", skipped.path, skipped.reason))
            .collect(),
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

/// Reads the manifest, which is only as good as its hash and its paths.
async fn read_manifest(
    sftp: &Sftp,
    host: &str,
    id: &RunId,
    reply: &ManifestReply,
) -> Result<Manifest, RunError> {
    let hostile = |what: &str| RunError::Hostile {
        host: host.to_owned(),
        what: what.to_owned(),
    };
    if reply.size > manifest::MAX_SIZE {
        return Err(hostile("a manifest larger than any manifest"));
    }
    let bytes = sftp.read_small(&reply.path, reply.size).await?;
    if Sha256::of(&bytes) != reply.sha256 {
        return Err(hostile("a manifest that does not hash to what was announced"));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| hostile(&format!("a manifest that cannot be read: {error}")))?;
    let total = manifest
        .files
        .iter()
        .try_fold(0u64, |sum, file| sum.checked_add(file.size));
    if manifest.format != manifest::FORMAT || &manifest.run_id != id || total != Some(reply.bytes) {
        return Err(hostile("a manifest of something else"));
    }
    if let Some(file) = manifest
        .files
        .iter()
        .find(|file| !manifest::is_safe_path(&file.path))
    {
        return Err(hostile(&format!(
            "an output path that leaves its folder: {:?}",
            file.path
        )));
    }
    Ok(manifest)
}

async fn remember(
    controller: &Controller,
    id: &RunId,
    manifest: &Manifest,
    pulled_at: Option<DateTime<Utc>>,
) -> Result<(), RunError> {
    let outputs: Vec<OutputRecord> = manifest
        .files
        .iter()
        .map(|file| OutputRecord {
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
            pulled_at,
        })
        .collect();
    controller.store.set_outputs(id, &outputs).await?;
    Ok(())
}

async fn download(
    controller: &Controller,
    host: &Host,
    sftp: Sftp,
    reply: &ManifestReply,
    manifest: &Manifest,
    folder: &std::path::Path,
) -> Result<(), RunError> {
    let pack: Option<Arc<str>> = reply
        .pack
        .as_deref()
        .filter(|path| path.starts_with('/'))
        .map(Arc::from);
    let wanted: Vec<Wanted> = manifest
        .files
        .iter()
        .map(|file| Wanted::from_manifest(file, &reply.outputs, pack.as_ref()))
        .collect();
    let progress = TransferProgress::new();
    let transfer = Transfer::growing(sftp, further(controller, host));
    let work = async {
        Ok(transfer
            .download(&wanted, folder, &progress, &Default::default())
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

/// Opens further connections to the host of a download; they end with it.
fn further(controller: &Controller, host: &Host) -> More {
    let (dialer, host) = (controller.dialer().unasking(), host.clone());
    let sessions: Arc<Mutex<Vec<Session>>> = Arc::default();
    More::new(move || {
        let (dialer, host, sessions) = (dialer.clone(), host.clone(), Arc::clone(&sessions));
        Box::pin(async move {
            let (session, sftp) = dialer.files(&host).await.ok()?;
            sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(session);
            Some(sftp)
        })
    })
}
