//! Brings an order to its host: inputs by content, then the one idempotent request that starts it.
//!
//! Everything here may be repeated: an interrupted launch is taken up by calling it again, and the host executes the
//! command at most once.

use super::owner::Owner;
use super::reach::{Reach, may_pass};
use super::{RunError, explain, gpu_words, order, reconcile, refusal, stop, upload};
use crate::agent::AgentError;
use crate::controller::{Controller, Event};
use crate::host::{Link, LinkError};
use crate::model::{Run, RunStatus};
use chrono::Utc;
use farrun_protocol::gpu::Device;
use farrun_protocol::message::{Launch, Progress, Secret};
use farrun_protocol::record::RunFacts;
use farrun_protocol::spec::Gpus;
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, Failure, RunId};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long the host may take to confirm that an interrupted launch is stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How often it is asked, and how often the row of an order that another process works on is looked at.
const LOOK_APART: Duration = Duration::from_millis(200);
/// How long a host that was there may stay away before a launch gives up on it for now.
const PATIENCE: Duration = Duration::from_secs(120);

/// Launches a pending run, over as many links as it takes. Answers with its row and the link, on which it can be
/// followed at once.
///
/// # Errors
/// The host is out of reach (the run stays pending and can be attached), or the host refused the order (the run has
/// failed, and its row says why; the error is returned as well when nothing was executed). When the user interrupted,
/// the run is cancelled, unless the host may have started it and did not confirm that it is stopped.
#[tracing::instrument(skip_all, fields(run = %id, host))]
pub async fn launch(
    controller: &Controller,
    id: &RunId,
    secrets: BTreeMap<String, Secret>,
) -> Result<(Run, Option<Arc<Link>>), RunError> {
    let run = take(controller, id).await?;
    if run.launched_at.is_some() || run.status.is_settled() {
        return Ok((run, None));
    }
    let mut reach = Reach::new(controller, &run, None, PATIENCE);
    match carry(&mut reach, &secrets).await {
        Ok((run, link)) => Ok((run, Some(link))),
        Err(error) => Err(after_failure(controller, id, error).await?),
    }
}

/// Marks this process as the one that works on the order, once no other living one does.
async fn take(controller: &Controller, id: &RunId) -> Result<Run, RunError> {
    controller.row(id).await?;
    let machine = controller.store.machine();
    let mut told = false;
    loop {
        let mut elsewhere = false;
        let (run, ours) = controller
            .store
            .change_run(id, |row| {
                if row.launched_at.is_some() || row.status.is_settled() {
                    return true;
                }
                elsewhere = Owner::is_elsewhere(row, machine);
                let ours = !elsewhere && !Owner::is_other(row);
                if ours {
                    let asked = Owner::has_asked(row);
                    row.owner = Some(Owner::this(machine).having_asked(asked).to_string());
                }
                ours
            })
            .await?;
        if elsewhere {
            return Err(RunError::OrderedElsewhere(id.clone()));
        }
        if ours {
            return Ok(run);
        }
        if !std::mem::replace(&mut told, true) {
            controller.tell(&Event::Note(&format!(
                "another command is starting {id}; waiting for it"
            )));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_APART) => {}
            () = controller.interrupt.cancelled() => {
                return Err(RunError::Interrupted { detached: Some(id.clone()) });
            }
        }
    }
}

/// Repeats the launch over new links until one lasts.
async fn carry(
    reach: &mut Reach<'_>,
    secrets: &BTreeMap<String, Secret>,
) -> Result<(Run, Arc<Link>), RunError> {
    loop {
        let link = reach.link().await?;
        match attempt(reach.controller, &link, &reach.run.id, secrets).await {
            Ok(run) => return Ok((run, link)),
            Err(error) if may_pass(&error) => reach.lost(&error).await,
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(
    controller: &Controller,
    link: &Link,
    id: &RunId,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Run, RunError> {
    // Until the host is asked to start it, the user may leave at any moment.
    let known = tokio::select! {
        known = prepare(controller, link, id, secrets) => known?,
        () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
    };
    if let Some(run) = known {
        return Ok(run);
    }
    let run = announce(controller, id).await?;
    if run.status.is_settled() {
        return Ok(run);
    }
    start(controller, link, &run, secrets.clone()).await
}

/// Brings everything to the host that the order needs. Answers with the run when the host has it already, or it is over.
async fn prepare(
    controller: &Controller,
    link: &Link,
    id: &RunId,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Option<Run>, RunError> {
    let run = controller.row(id).await?;
    if Owner::has_asked(&run) {
        reconcile::runs_on(controller, link, std::slice::from_ref(id)).await?;
    }
    let run = controller.row(id).await?;
    if run.launched_at.is_some() || run.status.is_settled() {
        return Ok(Some(run));
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
    require_device(link, &run).await?;
    let sources = order::sources(&controller.config, id)?;
    upload::send_inputs(controller, link, &host, &run, &sources).await?;
    Ok(None)
}

/// Writes down that the host is being asked to start the run, unless somebody cancelled it meanwhile: what happens
/// from now on only the host knows.
async fn announce(controller: &Controller, id: &RunId) -> Result<Run, RunError> {
    let asking = Owner::this(controller.store.machine()).having_asked(true);
    let mark = |row: &mut Run| {
        if row.launched_at.is_none() && !row.status.is_settled() {
            row.owner = Some(asking.to_string());
        }
    };
    Ok(controller.store.change_run(id, mark).await?.0)
}

/// What a failed launch leaves in the row: cancelled when the user interrupted, failed when the host refused for good,
/// and otherwise pending, because attaching may succeed later. What the host was asked for stays to be asked about.
async fn after_failure(controller: &Controller, id: &RunId, error: RunError) -> Result<RunError, RunError> {
    if matches!(error, RunError::Interrupted { .. }) {
        order::cancel(controller, id).await?;
    }
    let refused = match &error {
        RunError::Link(LinkError::Agent(AgentError::Failed(failure)))
            if !refusal::is_passing(failure.code) =>
        {
            Some((refusal::reason(failure.code), refusal::detail(failure)))
        }
        RunError::InputGone { path, file, .. } => {
            let file = file.as_ref().map(|file| format!(" (`{}`)", file.display()));
            let gone = format!("input `{path}`{} is gone", file.unwrap_or_default());
            Some((Reason::NotLaunched, Some(gone)))
        }
        RunError::InputChanged { path } => Some((
            Reason::NotLaunched,
            Some(format!("input `{}` changed before it was sent", path.display())),
        )),
        _ => None,
    };
    let own_words = match &error {
        RunError::Link(LinkError::Agent(AgentError::Failed(failure))) => refusal::own_words(failure),
        _ => None,
    };
    let said = error.to_string();
    tracing::warn!(error = ?said, refused = refused.is_some(), "The order was not carried out");
    let settle = |row: &mut Run| {
        if row.launched_at.is_some() || row.status.is_settled() {
            return;
        }
        let asked = Owner::has_asked(row);
        row.owner = asked.then(|| Owner::nobody().having_asked(true).to_string());
        if let Some((reason, detail)) = refused
            && !asked
        {
            row.status = RunStatus::Failed;
            row.reason = Some(reason);
            let detail = detail.unwrap_or(said);
            let message = || explain::without_record(reason, Some(&detail), &row.spec);
            row.error_message = Some(own_words.unwrap_or_else(message));
            row.ended_at = Some(Utc::now());
        }
    };
    let (run, ()) = controller.store.change_run(id, settle).await?;
    if run.status.is_settled() {
        order::forget(&controller.config, id);
    }
    Ok(error)
}

/// A host on which jobs have no GPU is no place for one that needs it: that is said before anything is sent.
async fn require_device(link: &Link, run: &Run) -> Result<(), RunError> {
    if run.spec.gpus == Gpus::None {
        return Ok(());
    }
    let report = link.client.gpus(None, false).await?;
    if report.device.device == Device::Cuda && report.device.broken.is_none() {
        return Ok(());
    }
    let trouble = report.device.broken.as_ref().or(report.trouble.as_ref());
    let failure = match trouble {
        Some(trouble) => Failure::new(ErrorCode::NoGpu, gpu_words::no_gpu(Some(trouble))),
        None => ErrorCode::NoGpu.into(),
    };
    Err(AgentError::Failed(failure).into())
}

/// The one request that starts the job.
async fn start(
    controller: &Controller,
    link: &Link,
    run: &Run,
    secrets: BTreeMap<String, Secret>,
) -> Result<Run, RunError> {
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
    tokio::pin!(launched);
    let answer = tokio::select! {
        answer = &mut launched => answer,
        () = controller.interrupt.cancelled() => {
            let withdrawn = withdraw(controller, link, &run.id, launched);
            if let Ok(withdrawn) = tokio::time::timeout(STOP_PATIENCE, withdrawn).await {
                withdrawn?;
            }
            return Err(RunError::Interrupted { detached: None });
        }
    };
    controller.tell(&Event::StepDone);
    match answer {
        Ok(facts) => reconcile::apply(controller, &link.host, &run.id, &facts).await,
        Err(AgentError::Failed(failure)) => not_started(controller, link, run, failure).await,
        Err(error) => Err(error.into()),
    }
}

/// Asks until the host says that the run is stopped or that it does not know it. The request may be anywhere between
/// here and a running container.
async fn withdraw(
    controller: &Controller,
    link: &Link,
    id: &RunId,
    mut launched: Pin<&mut impl Future<Output = Result<RunFacts, AgentError>>>,
) -> Result<(), RunError> {
    let mut answered = false;
    loop {
        match link.client.stop_run(id.clone(), 0, true).await {
            Ok(facts) => {
                return reconcile::apply(controller, &link.host, id, &facts)
                    .await
                    .map(drop);
            }
            // An order that was answered and is not known was not taken.
            Err(error) if stop::code(&error) == Some(ErrorCode::RunUnknown) && answered => {
                return order::not_taken(controller, id).await;
            }
            Err(error) if stop::code(&error) == Some(ErrorCode::RunUnknown) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            _ = &mut launched, if !answered => answered = true,
            () = tokio::time::sleep(LOOK_APART) => {}
        }
    }
}

/// The host could not carry out the order; it may have got as far as starting the job all the same.
async fn not_started(
    controller: &Controller,
    link: &Link,
    run: &Run,
    failure: Failure,
) -> Result<Run, RunError> {
    match link.client.runs(vec![run.id.clone()]).await?.pop() {
        Some(facts) if reconcile::is_started(&facts) => {
            reconcile::apply(controller, &link.host, &run.id, &facts).await
        }
        Some(_) => Err(AgentError::Failed(failure).into()),
        None => {
            order::not_taken(controller, &run.id).await?;
            Err(AgentError::Failed(failure).into())
        }
    }
}

#[cfg(test)]
mod tests;
