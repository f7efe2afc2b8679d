//! Brings an order to its host: inputs by content, then the one idempotent request that starts it.
//!
//! Everything here may be repeated: an interrupted launch is taken up by calling it again, and the host executes the
//! command at most once.

use super::order::Sources;
use super::owner::Owner;
use super::{RunError, explain, order, reconcile};
use crate::agent::{AgentError, Client};
use crate::controller::{Controller, Event};
use crate::host::{Link, LinkError};
use crate::model::{Host, Run, RunStatus};
use crate::ssh::Session;
use crate::ssh::transfer::{Progress as TransferProgress, Sftp};
use chrono::Utc;
use farrun_protocol::message::{InputState, Launch, Progress, Secret};
use farrun_protocol::record::RunFacts;
use farrun_protocol::spec::Input;
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, RunId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long the host may take to confirm that an interrupted launch is stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often progress of a transfer is told.
const TICK: Duration = Duration::from_millis(100);
/// Most connections that carry inputs.
const MOST_LANES: usize = 4;
/// Inputs that together are smaller are sent over one connection.
const WORTH_LANES: u64 = 16 * 1024 * 1024;
/// From this round trip on, one connection cannot fill the way to the host.
const FAR: Duration = Duration::from_millis(15);

/// Launches a pending run. Answers with its row and the link, on which it can be followed at once.
///
/// # Errors
/// The host is out of reach (the run stays pending and can be attached), or the host refused the order (the run has
/// failed, and its row says why; the error is returned as well when nothing was executed).
pub async fn launch(
    controller: &Controller,
    id: &RunId,
    secrets: BTreeMap<String, Secret>,
) -> Result<(Run, Option<Link>), RunError> {
    let run = take(controller, id).await?;
    if run.launched_at.is_some() || run.status.is_settled() {
        return Ok((run, None));
    }
    let missing: Vec<String> = run
        .spec
        .secret_names
        .iter()
        .filter(|name| !secrets.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(RunError::SecretsNeeded {
            run: id.clone(),
            names: missing,
        });
    }
    let host = controller.host_of(id, &run.host).await?;
    let outcome = async {
        let link = controller.contact(&host).await?;
        let sources = order::sources(&controller.config, id)?;
        send_inputs(controller, &link, &host, &run, &sources).await?;
        let facts = start(controller, &link, &run, secrets).await?;
        Ok((reconcile::apply(controller, &facts).await?, Some(link)))
    };
    match outcome.await {
        Ok(launched) => Ok(launched),
        Err(error) => Err(after_failure(controller, &run, error).await?),
    }
}

/// Marks this process as the one that works on the order.
async fn take(controller: &Controller, id: &RunId) -> Result<Run, RunError> {
    if controller.store.run(id).await?.is_none() {
        return Err(RunError::NoRun(id.clone()));
    }
    let (run, ()) = controller
        .store
        .change_run(id, |row| {
            if row.launched_at.is_none() && !row.status.is_settled() {
                row.owner = Some(Owner::this().to_string());
            }
        })
        .await?;
    Ok(run)
}

/// What a failed launch leaves in the row: cancelled when the user interrupted, failed when the host refused for good,
/// and otherwise pending, because attaching may succeed later.
async fn after_failure(controller: &Controller, run: &Run, error: RunError) -> Result<RunError, RunError> {
    if matches!(error, RunError::Interrupted { .. }) {
        order::cancel(controller, &run.id).await?;
        return Ok(error);
    }
    let refused = match &error {
        RunError::Link(LinkError::Agent(AgentError::Failed(failure))) => {
            Some((refusal(failure.code), failure.detail.clone()))
        }
        RunError::InputGone { path, .. } => {
            Some((Reason::NotLaunched, Some(format!("input `{path}` is gone"))))
        }
        RunError::InputChanged { path } => Some((
            Reason::NotLaunched,
            Some(format!("input `{}` changed before it was sent", path.display())),
        )),
        _ => None,
    };
    let said = error.to_string();
    controller
        .store
        .change_run(&run.id, |row| {
            row.owner = None;
            if let Some((reason, detail)) = refused
                && !row.status.is_final()
                && row.launched_at.is_none()
            {
                row.status = RunStatus::Failed;
                row.reason = Some(reason);
                let detail = detail.unwrap_or(said);
                row.error_message = Some(explain::without_record(reason, Some(&detail), &row.spec));
                row.ended_at = Some(Utc::now());
            }
        })
        .await?;
    Ok(error)
}

fn refusal(code: ErrorCode) -> Reason {
    match code {
        ErrorCode::DockerRefused | ErrorCode::MountMissing => Reason::EngineRefused,
        _ => Reason::NotLaunched,
    }
}

/// Sends what the host does not have yet.
async fn send_inputs(
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
    controller
        .store
        .change_run(&run.id, |row| row.status = RunStatus::Uploading)
        .await?;
    let total = missing.iter().map(|(input, ..)| input.size).sum();
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
    match link.session.round_trip(STOP_PATIENCE).await {
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
    sftp.upload(local, remote, (*have).min(input.size), progress)
        .await?;
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

/// The one request that starts the job.
async fn start(
    controller: &Controller,
    link: &Link,
    run: &Run,
    secrets: BTreeMap<String, Secret>,
) -> Result<RunFacts, RunError> {
    controller.tell(&Event::Starting {
        run: run.id.as_str(),
        host: &link.host,
    });
    let image = &run.spec.image;
    let order = Launch {
        spec: run.spec.clone(),
        secrets,
    };
    let launched = link.client.launch(order, |progress| {
        if let Progress::Pulling {
            bytes_done, bytes, ..
        } = progress
        {
            controller.tell(&Event::PullingImage {
                image,
                done: bytes_done,
                total: bytes,
            });
        }
    });
    tokio::select! {
        facts = launched => {
            controller.tell(&Event::StepDone);
            Ok(facts?)
        }
        () = controller.interrupt.cancelled() => {
            // The request may be anywhere between here and a running container: ask until the host says it is stopped.
            let stop = link.client.stop_run(run.id.clone(), 0, true);
            if let Ok(Ok(facts)) = tokio::time::timeout(STOP_PATIENCE, stop).await {
                reconcile::apply(controller, &facts).await?;
            }
            Err(RunError::Interrupted { detached: None })
        }
    }
}
