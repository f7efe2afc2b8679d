//! Brings the database in line with what hosts say.

use super::{RunError, explain};
use crate::controller::Controller;
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use farrun_protocol::record::{Phase, RunFacts, Settled};
use farrun_protocol::verdict::{Reason, RunResult};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long `list` and `show` wait for hosts before they show what was last known.
pub const BRIEF: Duration = Duration::from_secs(2);
/// Hosts asked at the same time.
const PARALLEL: usize = 16;

/// What became of asking hosts.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Runs whose state changed, as they are now.
    pub changed: Vec<Run>,
    /// Hosts that did not answer, with the cause.
    pub silent: Vec<(String, String)>,
}

/// Settles what happened on all hosts with unfinished runs, within `limit`.
///
/// # Errors
/// The database. A silent host is no error.
pub async fn all(controller: &Controller, limit: Duration) -> Result<Reconciled, RunError> {
    let mut hosts: BTreeMap<String, Vec<RunId>> = BTreeMap::new();
    for run in controller.store.unsettled_runs(None).await? {
        if run.launched_at.is_some() {
            hosts.entry(run.host).or_default().push(run.id);
        }
    }
    let asked = futures_util::stream::iter(hosts).map(|(name, runs)| async move {
        let outcome = tokio::time::timeout(limit, one(controller, &name, &runs)).await;
        (name, outcome)
    });
    let mut reconciled = Reconciled::default();
    let mut answers = asked.buffer_unordered(PARALLEL);
    while let Some((name, outcome)) = answers.next().await {
        match outcome {
            Ok(Ok(changed)) => reconciled.changed.extend(changed),
            Ok(Err(RunError::Store(error))) => return Err(error.into()),
            Ok(Err(error)) => reconciled.silent.push((name, error.to_string())),
            Err(_) => reconciled
                .silent
                .push((name, format!("no answer within {} s", limit.as_secs()))),
        }
    }
    Ok(reconciled)
}

async fn one(controller: &Controller, host: &str, runs: &[RunId]) -> Result<Vec<Run>, RunError> {
    let Some(host) = controller.store.host(host).await? else {
        return Ok(Vec::new());
    };
    let link = controller.contact(&host).await?;
    let changed = runs_on(controller, &link, runs).await;
    link.session.close().await;
    changed
}

/// Asks a host about runs and writes down what it says; answers with those whose state changed.
///
/// # Errors
/// The link or the database.
pub async fn runs_on(controller: &Controller, link: &Link, runs: &[RunId]) -> Result<Vec<Run>, RunError> {
    let facts = link.client.runs(runs.to_vec()).await?;
    let mut by_id: BTreeMap<RunId, RunFacts> = facts
        .into_iter()
        .map(|facts| (facts.run_id.clone(), facts))
        .collect();
    let mut changed = Vec::new();
    for id in runs {
        let before = controller.store.run(id).await?.map(|run| run.status);
        let run = match by_id.remove(id) {
            Some(facts) => Some(apply(controller, &facts).await?),
            None => forgotten(controller, id).await?,
        };
        changed.extend(run.filter(|run| Some(run.status) != before));
    }
    Ok(changed)
}

/// Writes facts of a run into its row.
///
/// # Errors
/// The database.
pub async fn apply(controller: &Controller, facts: &RunFacts) -> Result<Run, RunError> {
    let now = Utc::now();
    let (run, ()) = controller
        .store
        .change_run(&facts.run_id, |run| apply_facts(run, facts, now))
        .await?;
    if run.status.is_settled() {
        super::order::forget(&controller.config, &run.id);
    }
    Ok(run)
}

/// The host has no folder of a run it had acknowledged.
async fn forgotten(controller: &Controller, id: &RunId) -> Result<Option<Run>, RunError> {
    let Some(run) = controller.store.run(id).await? else {
        return Ok(None);
    };
    if run.launched_at.is_none() || run.status.is_settled() {
        return Ok(None);
    }
    let (run, ()) = controller
        .store
        .change_run(id, |run| {
            run.status = RunStatus::Failed;
            run.reason = Some(Reason::Unknown);
            let detail = Some("the host has no folder of this run any more");
            run.error_message = Some(explain::without_record(Reason::Unknown, detail, &run.spec));
        })
        .await?;
    Ok(Some(run))
}

/// What facts do to a row. A final state is never touched again.
pub fn apply_facts(run: &mut Run, facts: &RunFacts, now: DateTime<Utc>) {
    if let Some(container) = &facts.container {
        run.container_id = Some(container.id.clone());
        run.image_digest = facts.image_digest.clone().or_else(|| container.image_id.clone());
        run.started_at = run.started_at.or(container.started_at);
    }
    run.confirmed_at = Some(now);
    run.launched_at = run.launched_at.or(Some(now));
    run.owner = None;
    match (&facts.settled, facts.phase) {
        (Some(settled), _) => apply_settled(run, settled),
        (None, Phase::Running) => advance(run, RunStatus::Running),
        (None, Phase::Prepared | Phase::Settled) => advance(run, RunStatus::Queued),
        // The engine did not answer: nothing is claimed, not even that we looked.
        (None, Phase::Unclear) => run.confirmed_at = None,
    }
}

fn advance(run: &mut Run, status: RunStatus) {
    if run.status.may_become(status) {
        run.status = status;
    }
}

fn apply_settled(run: &mut Run, settled: &Settled) {
    run.log_length = Some(settled.log.length);
    run.log_sha256 = Some(settled.log.sha256.clone());
    if run.status.is_settled() {
        return;
    }
    let verdict = &settled.verdict;
    run.status = match verdict.result {
        RunResult::Succeeded => RunStatus::Downloading,
        RunResult::Failed => RunStatus::Failed,
        RunResult::Cancelled => RunStatus::Cancelled,
    };
    run.reason = Some(verdict.reason);
    run.exit_code = verdict.exit_code;
    run.signal = verdict.signal;
    run.error_message = explain::error_message(settled, &run.spec);
    run.started_at = settled.started_at.or(run.started_at);
    run.ended_at = settled.ended_at;
}

/// Ends every unfinished run of a host that is given up.
///
/// # Errors
/// The database.
pub async fn abandon(controller: &Controller, host: &Host) -> Result<Vec<Run>, RunError> {
    let mut ended = Vec::new();
    for run in controller.store.unsettled_runs(Some(&host.name)).await? {
        ended.push(lose(controller, &run, Reason::HostLost).await?);
    }
    let filter = crate::store::RunFilter {
        statuses: vec![RunStatus::Downloading],
        host: Some(host.name.clone()),
        ..Default::default()
    };
    for run in controller.store.runs(&filter).await? {
        ended.push(lose(controller, &run, Reason::OutputsLost).await?);
    }
    Ok(ended)
}

/// Fails a run for a reason that only this side knows.
///
/// # Errors
/// The database.
pub async fn lose(controller: &Controller, run: &Run, reason: Reason) -> Result<Run, RunError> {
    let (run, ()) = controller
        .store
        .change_run(&run.id, |row| {
            if row.status.is_final() {
                return;
            }
            row.status = RunStatus::Failed;
            row.reason = Some(reason);
            row.error_message = Some(explain::without_record(reason, None, &row.spec));
            row.ended_at = row.ended_at.or(Some(Utc::now()));
        })
        .await?;
    Ok(run)
}
