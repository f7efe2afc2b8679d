//! Sends the inputs of an order that its host does not have, by content, over as many connections as help.

use super::RunError;
use super::order::Sources;
use crate::agent::{AgentError, Client};
use crate::controller::{Controller, Event};
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use crate::ssh::Session;
use crate::ssh::transfer::{Progress as TransferProgress, Sftp, TransferError};
use farrun_protocol::ErrorCode;
use farrun_protocol::message::InputState;
use farrun_protocol::spec::Input;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often progress of a transfer is told.
const TICK: Duration = Duration::from_millis(100);
/// How long a ping may take that tells how far away a host is.
const PING: Duration = Duration::from_secs(15);
/// Most connections that carry inputs.
const MOST_LANES: usize = 4;
/// Inputs that together are smaller are sent over one connection.
const WORTH_LANES: u64 = 16 * 1024 * 1024;
/// From this round trip on, one connection cannot fill the way to the host.
const FAR: Duration = Duration::from_millis(15);

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
    let mut missing: Vec<(Input, String, u64)> = Vec::new();
    for (input, state) in run.spec.inputs.iter().zip(states) {
        if let InputState::Missing { path, have } = state
            && !missing.iter().any(|(known, ..)| known.sha256 == input.sha256)
        {
            missing.push((input.clone(), path, have));
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
        .fold(0u64, |sum, (input, ..)| sum.saturating_add(input.size));
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
    missing: &[(Input, String, u64)],
    progress: &TransferProgress,
) -> Result<(), RunError> {
    let first = controller.dialer().files(host).await?;
    let further = further_lanes(link, missing).await;
    let dialer = controller.dialer().unasking();
    let joining = (0..further).map(|_| dialer.files(host));
    // What else is to be had; the first one alone is enough.
    let joined = futures_util::future::join_all(joining).await;
    let lanes: Vec<(Session, Sftp)> = std::iter::once(first)
        .chain(joined.into_iter().flatten())
        .collect();
    let next = AtomicUsize::new(0);
    let sending = lanes.iter().map(|(_, sftp)| async {
        while let Some(entry) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            send(&link.client, sftp, run, sources, entry, progress).await?;
        }
        Ok::<(), RunError>(())
    });
    futures_util::future::try_join_all(sending).await?;
    for (session, _) in lanes {
        session.close().await;
    }
    Ok(())
}

/// SFTP has no word for a full disk; the agent knows.
async fn why_not_sent(client: &Client, host: &str, input: &Input, error: TransferError) -> RunError {
    if error.is_here() || error.is_connection() {
        return error.into();
    }
    match client.host().await {
        Ok(facts) if facts.disk_free < input.size => RunError::HostFull {
            host: host.to_owned(),
            free: facts.disk_free,
            needed: input.size,
        },
        _ => error.into(),
    }
}

/// How many connections beside the first are worth making: at a distance each carries no more than the window of the
/// host's SSH server allows.
async fn further_lanes(link: &Link, missing: &[(Input, String, u64)]) -> usize {
    let left: u64 = missing
        .iter()
        .map(|(input, _, have)| input.size.saturating_sub(*have))
        .sum();
    if missing.len() < 2 || left < WORTH_LANES {
        return 0;
    }
    match link.session.round_trip(PING).await {
        Ok(trip) if trip >= FAR => missing.len().min(MOST_LANES) - 1,
        _ => 0,
    }
}

async fn send(
    client: &Client,
    sftp: &Sftp,
    run: &Run,
    sources: &Sources,
    (input, remote, have): &(Input, String, u64),
    progress: &TransferProgress,
) -> Result<(), RunError> {
    let gone = || RunError::InputGone {
        run: run.id.clone(),
        path: input.path.clone(),
    };
    let local = sources.file(&input.sha256).ok_or_else(gone)?;
    match std::fs::metadata(local) {
        Ok(facts) if facts.len() == input.size => {}
        Ok(_) => {
            return Err(RunError::InputChanged {
                path: local.to_owned(),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
        Err(source) => {
            return Err(RunError::Input {
                path: local.to_owned(),
                source,
            });
        }
    }
    let sent = sftp
        .upload(local, remote, (*have).min(input.size), progress)
        .await;
    if let Err(error) = sent {
        return Err(why_not_sent(client, &run.host, input, error).await);
    }
    let committed = client.commit_input(input.sha256.clone(), input.size).await;
    if !is_hash_mismatch(&committed) {
        return Ok(committed?);
    }
    // What an earlier upload left was damaged, or the file is not what was ordered: once more from the start.
    sftp.upload(local, remote, 0, progress).await?;
    let again = client.commit_input(input.sha256.clone(), input.size).await;
    if is_hash_mismatch(&again) {
        return Err(RunError::InputChanged {
            path: local.to_owned(),
        });
    }
    Ok(again?)
}

fn is_hash_mismatch<T>(result: &Result<T, AgentError>) -> bool {
    matches!(result, Err(AgentError::Failed(failure)) if failure.code == ErrorCode::HashMismatch)
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
