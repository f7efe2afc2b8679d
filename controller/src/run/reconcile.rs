//! Brings the database in line with what hosts say.

use super::owner::Owner;
use super::{RunError, explain, log_error, notified, warnings};
use crate::agent::AgentError;
use crate::controller::Controller;
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use chrono::{DateTime, Utc};
use farrun_protocol::lease::Lease;
use farrun_protocol::record::{Phase, RunFacts, Settled};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{ErrorCode, RunId};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long `list` and `show` wait for a host to be there, and for what it says then, before they show what was last
/// known.
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

/// Settles what happened on `host`, or on all hosts, with unfinished runs, within `limit`. Nothing is asked of the user.
///
/// # Errors
/// The database, or the user interrupted. A silent host is no error.
pub async fn all(
    controller: &Controller,
    host: Option<&str>,
    limit: Duration,
) -> Result<Reconciled, RunError> {
    each(controller, host, limit, false).await
}

/// As [`all`], for a user who waits for it: what has to be asked is asked.
///
/// # Errors
/// As [`all`].
pub async fn all_asking(
    controller: &Controller,
    host: Option<&str>,
    limit: Duration,
) -> Result<Reconciled, RunError> {
    each(controller, host, limit, true).await
}

async fn each(
    controller: &Controller,
    host: Option<&str>,
    limit: Duration,
    asking: bool,
) -> Result<Reconciled, RunError> {
    let mut hosts: BTreeMap<String, Vec<RunId>> = BTreeMap::new();
    for run in controller.store.unclear_runs(host).await? {
        // Of one that was asked for and never acknowledged, the host may know more than we do.
        if Owner::has_asked(&run) && !Owner::is_other(&run) {
            hosts.entry(run.host).or_default().push(run.id);
        }
    }
    let asked = futures_util::stream::iter(hosts).map(|(name, runs)| async move {
        let outcome = one(controller, &name, &runs, limit, asking).await;
        (name, outcome)
    });
    let mut reconciled = Reconciled::default();
    let mut answers = asked.buffer_unordered(PARALLEL);
    while let Some((name, outcome)) = answers.next().await {
        match outcome {
            Ok(Some(changed)) => reconciled.changed.extend(changed),
            Ok(None) => reconciled
                .silent
                .push((name, format!("no answer within {} s", limit.as_secs()))),
            Err(RunError::Store(error)) => return Err(error.into()),
            Err(error) => reconciled.silent.push((name, error.to_string())),
        }
    }
    // A host that the user did not wait for is not silent.
    if controller.interrupt.is_cancelled() {
        return Err(RunError::Interrupted { detached: None });
    }
    Ok(reconciled)
}

/// `None` when the host is not there within `limit`, or says nothing for as long. The two are apart: an agent whose engine
/// hangs answers, though late, and what it knows by itself would be lost with the time that dialling took.
#[tracing::instrument(skip_all, fields(host = %host))]
async fn one(
    controller: &Controller,
    host: &str,
    runs: &[RunId],
    limit: Duration,
    asking: bool,
) -> Result<Option<Vec<Run>>, RunError> {
    let Some(host) = controller.store.host(host).await? else {
        return Ok(Some(Vec::new()));
    };
    let contact = async {
        if asking {
            controller.contact(&host).await
        } else {
            controller.contact_unasked(&host).await
        }
    };
    let Ok(link) = tokio::time::timeout(limit, contact).await else {
        return Ok(None);
    };
    let link = link?;
    let changed = tokio::time::timeout(limit, runs_on(controller, &link, runs)).await;
    link.session.close().await;
    changed.ok().transpose()
}

/// Asks a host about runs and writes down what it says; answers with those whose state changed.
///
/// # Errors
/// The link or the database.
pub async fn runs_on(controller: &Controller, link: &Link, runs: &[RunId]) -> Result<Vec<Run>, RunError> {
    Ok(look(controller, link, runs).await?.changed)
}

/// What a host says about runs.
#[derive(Debug, Default)]
pub struct Looked {
    /// Its words; runs that it does not know are absent.
    pub facts: Vec<RunFacts>,
    /// Runs whose state changed, as they are now.
    pub changed: Vec<Run>,
}

/// As [`runs_on`], with the host's words.
///
/// # Errors
/// The link or the database.
pub async fn look(controller: &Controller, link: &Link, runs: &[RunId]) -> Result<Looked, RunError> {
    let facts = link.client.runs(runs.to_vec()).await?;
    let facts: Vec<RunFacts> = facts
        .into_iter()
        .filter(|facts| runs.contains(&facts.run_id))
        .collect();
    let mut by_id: BTreeMap<RunId, &RunFacts> =
        facts.iter().map(|facts| (facts.run_id.clone(), facts)).collect();
    let mut changed = Vec::new();
    for id in runs {
        let Some(before) = controller.store.run(id).await? else {
            continue;
        };
        let run = match by_id.remove(id) {
            // Held by the host and not started: whoever takes the order up again goes on there.
            Some(facts) if before.launched_at.is_none() && !is_started(facts) => None,
            Some(facts) => Some(apply(controller, &link.host, id, facts).await?),
            None => forgotten(controller, link, id).await?,
        };
        changed.extend(run.filter(|run| run.status != before.status || run.reason != before.reason));
    }
    Ok(Looked { facts, changed })
}

/// Whether the host has started a run, or knows that it never will be.
pub fn is_started(facts: &RunFacts) -> bool {
    facts.settled.is_some() || matches!(facts.phase, Phase::Running | Phase::Settled)
}

/// Writes facts that `host` sent about the run `id` into its row.
///
/// # Errors
/// The facts are of another run, or of one that was ordered from another host: no host may settle what is not its
/// own. Otherwise the database.
pub async fn apply(
    controller: &Controller,
    host: &str,
    id: &RunId,
    facts: &RunFacts,
) -> Result<Run, RunError> {
    let hostile = |what: String| RunError::Hostile {
        host: host.to_owned(),
        what,
    };
    if &facts.run_id != id {
        return Err(hostile(format!(
            "facts of `{}` where those of `{id}` were due",
            facts.run_id
        )));
    }
    let now = Utc::now();
    let (run, ours) = controller
        .store
        .change_run(id, |run| {
            let ours = run.host == host;
            if ours {
                apply_facts(run, facts, now);
            }
            ours
        })
        .await?;
    if !ours {
        return Err(hostile(format!("facts of `{id}`, which runs on `{}`", run.host)));
    }
    tracing::debug!(run = %id, host, status = %run.status, reason = ?run.reason, "The host told how the run stands");
    if run.status.is_settled() {
        super::order::forget(&controller.config, &run.id);
    }
    log_error::note(controller, id, facts).await?;
    warnings::note(controller, id, facts).await?;
    notified::note(controller, host, id, facts).await?;
    Ok(run)
}

/// The host did not name a run it had acknowledged. A record that cannot be read at the moment is left out as well,
/// so the run is asked for by itself before it is given up.
async fn forgotten(controller: &Controller, link: &Link, id: &RunId) -> Result<Option<Run>, RunError> {
    let Some(run) = controller.store.run(id).await? else {
        return Ok(None);
    };
    if run.launched_at.is_none() || run.status.is_settled() {
        return Ok(None);
    }
    match link.client.spec(id.clone()).await {
        Err(AgentError::Failed(failure)) if failure.code == ErrorCode::RunUnknown => {}
        Err(AgentError::Failed(failure)) => {
            tracing::warn!(%failure, "The record of the run cannot be read on its host");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Ok(None),
    }
    let (run, ()) = controller
        .store
        .change_run(id, |run| {
            if run.status.is_settled() {
                return;
            }
            run.status = RunStatus::Failed;
            run.reason = Some(Reason::Unknown);
            let detail = Some("the host has no folder of this run any more");
            run.error_message = Some(explain::without_record(Reason::Unknown, detail, &run.spec));
            run.ended_at = run.ended_at.or(Some(Utc::now()));
        })
        .await?;
    Ok(Some(run))
}

/// What facts do to a row. A final state is never touched again, unless its host's engine had yet to say how it came.
pub fn apply_facts(run: &mut Run, facts: &RunFacts, now: DateTime<Utc>) {
    if let Some(container) = &facts.container {
        let is_id = container.id.len() == 64 && container.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        run.container_id = Some(container.id.clone())
            .filter(|_| is_id)
            .or(run.container_id.take());
        let digest = facts.image_digest.as_ref().filter(|digest| is_image_name(digest));
        let digest = digest.or(container.image_id.as_ref().filter(|id| is_image_name(id)));
        run.image_digest = digest.cloned().or(run.image_digest.take());
        run.started_at = run.started_at.or(container.started_at);
    }
    if facts.settled.is_some() || facts.phase != Phase::Unclear {
        run.confirmed_at = Some(now);
    }
    if let Some(lease) = facts.lease.as_ref().filter(|lease| is_lease(lease)) {
        let uuids: Vec<&str> = lease.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        if !uuids.is_empty() {
            run.gpus = uuids.join(",");
        }
        run.lease = Some(lease.clone());
    }
    run.gpu_summary = facts.gpu_summary.clone().or(run.gpu_summary.take());
    run.launched_at = run.launched_at.or(Some(now));
    run.owner = None;
    match (&facts.settled, facts.phase) {
        (Some(settled), _) => apply_settled(run, settled),
        (None, Phase::Running) => advance(run, RunStatus::Running),
        (None, Phase::Prepared | Phase::Queued | Phase::Settled) => advance(run, RunStatus::Queued),
        // The engine did not answer: nothing is claimed, and what was confirmed before keeps its age.
        (None, Phase::Unclear) => {}
    }
}

/// Whether a text from a host can name an image, so that a lie costs its fact and not the row.
fn is_image_name(text: &str) -> bool {
    (1..=500).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a lease could be one: no host has more GPUs, and no driver longer names.
fn is_lease(lease: &Lease) -> bool {
    let plain = |text: &str| text.len() <= 200 && !text.chars().any(char::is_control);
    lease.gpus.len() <= 1024 && lease.gpus.iter().all(|gpu| plain(&gpu.uuid) && plain(&gpu.name))
}

fn advance(run: &mut Run, status: RunStatus) {
    if run.status.may_become(status) {
        run.status = status;
    }
}

fn apply_settled(run: &mut Run, settled: &Settled) {
    // A log that is longer than any file is a lie that no database field holds.
    let length = Some(settled.log.length).filter(|length| i64::try_from(*length).is_ok());
    let told_anew = run.awaits_engine() && !settled.awaits_engine();
    if told_anew {
        // The engine had more of its output, and what was read from the evidence did not know the end.
        run.log_complete &= run.log_length == length && run.log_sha256.as_ref() == Some(&settled.log.sha256);
        (run.finding, run.finding_text, run.diagnosed_at) = (None, None, None);
        // The host collects it anew.
        if settled.verdict.result != RunResult::Succeeded {
            run.diagnostics_path = None;
        }
    }
    run.log_length = length;
    run.log_sha256 = Some(settled.log.sha256.clone());
    if run.status.is_settled() && !told_anew {
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

#[cfg(test)]
mod tests;
