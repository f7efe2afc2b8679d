//! Rebuilds rows from what a host knows: a second laptop, or a lost database.

use super::order::LocalPaths;
use super::{RunError, reconcile};
use crate::controller::Controller;
use crate::host::Link;
use crate::model::{Host, Run, RunStatus};
use crate::store::Created;
use chrono::Utc;
use farrun_protocol::RunId;
use farrun_protocol::record::RunFacts;
use farrun_protocol::spec::RunSpec;

/// Adopts one run of a host, or every run it knows.
///
/// # Errors
/// The host is out of reach, does not know the run, or the database.
pub async fn adopt(controller: &Controller, host: &Host, run: Option<&RunId>) -> Result<Vec<Run>, RunError> {
    let link = controller.contact(host).await?;
    let facts = link.client.runs(run.cloned().into_iter().collect()).await?;
    if let Some(run) = run
        && facts.is_empty()
    {
        return Err(RunError::NoRun(run.clone()));
    }
    let mut adopted = Vec::new();
    for facts in facts {
        adopted.push(adopt_one(controller, &link, host, facts).await?);
    }
    link.session.close().await;
    Ok(adopted)
}

async fn adopt_one(
    controller: &Controller,
    link: &Link,
    host: &Host,
    facts: RunFacts,
) -> Result<Run, RunError> {
    let owned = &facts.controller_id == controller.store.controller_id()
        || facts.adopted_by.contains(controller.store.controller_id());
    let facts = if owned {
        facts
    } else {
        link.client.adopt(facts.run_id.clone()).await?
    };
    if controller.store.run(&facts.run_id).await?.is_none() {
        let spec = link.client.spec(facts.run_id.clone()).await?;
        if spec.run_id != facts.run_id || spec.check().is_err() {
            let what = format!("an order for `{}` that no agent would accept", facts.run_id);
            return Err(RunError::Hostile {
                host: host.name.clone(),
                what,
            });
        }
        let run = row(controller, host, spec, &facts);
        if let Created::Existing(run) = controller.store.create_run(&run).await? {
            return Ok(*run);
        }
        controller
            .store
            .add_event(&facts.run_id, "adopted", &host.name)
            .await?;
    }
    reconcile::apply(controller, &facts).await
}

fn row(controller: &Controller, host: &Host, spec: RunSpec, facts: &RunFacts) -> Run {
    let paths = LocalPaths::of(&controller.config, &spec);
    let now = Utc::now();
    Run {
        id: facts.run_id.clone(),
        // The prompt's row is not on the host; its id stays in the spec.
        prompt_id: None,
        parent_run: None,
        host: host.name.clone(),
        controller_id: facts.controller_id.clone(),
        operation: spec.operation.clone(),
        recipe: spec.recipe.clone(),
        status: RunStatus::Queued,
        reason: None,
        error_message: None,
        exit_code: None,
        signal: None,
        gpus: spec.gpus.label(),
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
        launched_at: Some(now),
        started_at: None,
        ended_at: None,
        confirmed_at: None,
        updated_at: now,
        spec,
    }
}
