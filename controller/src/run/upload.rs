//! Sends the inputs of an order that its host does not have, by content, over as many connections as help.

use super::RunError;
use super::lanes::Lanes;
use super::order::{Sources, hash_file};
use crate::agent::{AgentError, Client};
use crate::controller::{Controller, Event};
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use crate::ssh::transfer::{Outgoing, Progress as TransferProgress, Told, TransferError};
use farrun_protocol::manifest::BLOCK;
use farrun_protocol::message::InputState;
use farrun_protocol::spec::Input;
use farrun_protocol::{ErrorCode, layout};
use futures_util::StreamExt as _;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often progress of a transfer is told.
const TICK: Duration = Duration::from_millis(100);
/// Inputs that a host verifies at the same time.
const AT_ONCE: usize = 8;

/// An input that its host does not have.
#[derive(Debug, Clone)]
struct Missing {
    input: Input,
    /// Where it goes.
    remote: String,
    /// How long an earlier upload has made it.
    have: u64,
}

/// Sends what the host does not have yet.
pub(super) async fn send_inputs(
    controller: &Controller,
    link: &Link,
    host: &Host,
    run: &Run,
    sources: &Sources,
) -> Result<(), RunError> {
    if run.spec.inputs.is_empty() {
        return Ok(());
    }
    let states = link.client.check_inputs(run.spec.inputs.clone()).await?;
    let mut missing: Vec<Missing> = Vec::new();
    for (input, state) in run.spec.inputs.iter().zip(states) {
        if let InputState::Missing { path: remote, have } = state
            && !missing.iter().any(|known| known.input.content == input.content)
        {
            let input = input.clone();
            missing.push(Missing { input, remote, have });
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let uploading = |row: &mut Run| {
        if row.status.may_become(RunStatus::Uploading) {
            row.status = RunStatus::Uploading;
        }
    };
    controller.store.change_run(&run.id, uploading).await?;
    let total = missing
        .iter()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.input.size));
    let progress = TransferProgress::new();
    let upload = upload(controller, link, host, run, sources, &missing, &progress);
    watch(controller, upload, || {
        controller.tell(&Event::Uploading {
            done: progress.bytes_done(),
            total,
        })
    })
    .await?;
    controller.tell(&Event::StepDone);
    Ok(())
}

async fn upload(
    controller: &Controller,
    link: &Link,
    host: &Host,
    run: &Run,
    sources: &Sources,
    missing: &[Missing],
    progress: &TransferProgress,
) -> Result<(), RunError> {
    let mut files = Vec::with_capacity(missing.len());
    for entry in missing {
        files.push(outgoing(run, sources, entry)?);
    }
    for (entry, file) in missing.iter().zip(&files) {
        if sources.is_unread(&entry.input.content) {
            prove(controller, &entry.input, &file.local).await?;
        }
    }
    let rejected = send(controller, link, host, missing, &files, progress).await?;
    if rejected.is_empty() {
        return Ok(());
    }
    // What an earlier upload left was damaged, or the file is not what was ordered: once more from the start.
    let (missing, files): (Vec<Missing>, Vec<Outgoing>) = missing
        .iter()
        .zip(files)
        .enumerate()
        .filter(|(index, _)| rejected.contains(index))
        .map(|(_, (entry, file))| (entry.clone(), Outgoing { begun: false, ..file }))
        .unzip();
    let rejected = send(controller, link, host, &missing, &files, progress).await?;
    match rejected.first().and_then(|index| files.get(*index)) {
        Some(file) => Err(RunError::InputChanged {
            path: file.local.clone(),
        }),
        None => Ok(()),
    }
}

/// Sends files and has them verified while they arrive. Answers with those whose content was not what it should be.
async fn send(
    controller: &Controller,
    link: &Link,
    host: &Host,
    missing: &[Missing],
    files: &[Outgoing],
    progress: &TransferProgress,
) -> Result<Vec<usize>, RunError> {
    let lanes = Lanes::new(controller.dialer(), host);
    let left = missing.iter().fold(0u64, |sum, entry| {
        sum.saturating_add(entry.input.size.saturating_sub(entry.have))
    });
    let upload = lanes.upload(link, left).await?;
    let (telling, told) = mpsc::unbounded_channel();
    let sending = async {
        match upload.send(files, progress, telling).await {
            Ok(_) => Ok(()),
            Err(error) => Err(why_not_sent(&link.client, &host.name, left, error).await),
        }
    };
    let ((), rejected) = tokio::try_join!(sending, verify(&link.client, missing, told))?;
    lanes.close().await;
    Ok(rejected)
}

/// Has each input verified: small ones once they are there, large ones while they arrive.
async fn verify(
    client: &Client,
    missing: &[Missing],
    mut told: mpsc::UnboundedReceiver<Told>,
) -> Result<Vec<usize>, RunError> {
    let mut followed = HashSet::new();
    let verdicts = futures_util::stream::poll_fn(move |context| told.poll_recv(context))
        .filter_map(|told| {
            let next = match told {
                Told::Begun(index) => {
                    let entry = missing.get(index).filter(|entry| entry.input.size > BLOCK);
                    entry.map(|entry| (index, entry, followed.insert(index)))
                }
                Told::Arrived(index) if followed.contains(&index) => None,
                Told::Arrived(index) => missing.get(index).map(|entry| (index, entry, false)),
            };
            std::future::ready(next)
        })
        .map(|(index, entry, arriving)| async move {
            let Input { content, size, .. } = &entry.input;
            let verdict = match arriving {
                true => client.follow_input(content.clone(), *size).await,
                false => client.commit_input(content.clone(), *size).await,
            };
            (index, verdict)
        })
        .buffer_unordered(AT_ONCE);
    let mut verdicts = std::pin::pin!(verdicts);
    let mut rejected = Vec::new();
    while let Some((index, verdict)) = verdicts.next().await {
        match verdict {
            Ok(()) => {}
            Err(AgentError::Failed(failure)) if is_rejection(failure.code) => rejected.push(index),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rejected)
}

/// Whether sending the content anew can help. It is missing when another upload of it took it away.
fn is_rejection(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::HashMismatch | ErrorCode::InputMissing)
}

/// SFTP has no word for a full disk; the agent knows.
async fn why_not_sent(client: &Client, host: &str, needed: u64, error: TransferError) -> RunError {
    if error.is_here() || error.is_connection() {
        return error.into();
    }
    match client.host().await {
        Ok(facts) if facts.disk_free < needed => RunError::HostFull {
            host: host.to_owned(),
            free: facts.disk_free,
            needed,
        },
        _ => error.into(),
    }
}

/// Reads a file that had the right content when an earlier run was ordered.
async fn prove(controller: &Controller, input: &Input, local: &Path) -> Result<(), RunError> {
    controller.tell(&Event::HashingInputs { files: 1 });
    let (file, interrupt) = (local.to_owned(), controller.interrupt.clone());
    let wanted = input.content.clone();
    let hashing = tokio::task::spawn_blocking(move || hash_file(&file, Some(&wanted), &interrupt));
    let hashed = hashing.await.map_err(|error| RunError::Input {
        path: local.to_owned(),
        source: std::io::Error::other(error),
    })??;
    match hashed == (input.content.clone(), input.size) {
        true => Ok(()),
        false => Err(RunError::InputChanged {
            path: local.to_owned(),
        }),
    }
}

fn outgoing(run: &Run, sources: &Sources, missing: &Missing) -> Result<Outgoing, RunError> {
    let Missing { input, remote, have } = missing;
    let gone = |file: Option<&Path>| RunError::InputGone {
        run: run.id.clone(),
        path: input.path.clone(),
        output: input.parent.clone().map(Box::new),
        file: file.map(Path::to_owned),
    };
    if !sources.is_remembered() {
        return Err(RunError::OrderedElsewhere(run.id.clone()));
    }
    let local = sources.file(&input.content).ok_or_else(|| gone(None))?;
    match std::fs::metadata(local) {
        Ok(facts) if facts.len() == input.size => Ok(Outgoing {
            local: local.to_owned(),
            remote: remote.clone(),
            marks: layout::marks(remote),
            begun: *have > 0,
        }),
        Ok(_) => Err(RunError::InputChanged {
            path: local.to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(gone(Some(local))),
        Err(source) => Err(RunError::Input {
            path: local.to_owned(),
            source,
        }),
    }
}

/// Drives `work`, calling `tick` ten times a second, until it ends or the user interrupts.
pub(super) async fn watch<T>(
    controller: &Controller,
    work: impl Future<Output = Result<T, RunError>>,
    tick: impl Fn(),
) -> Result<T, RunError> {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => tick(),
            () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
        }
    }
}
