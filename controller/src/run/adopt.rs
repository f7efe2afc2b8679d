//! Rebuilds rows from what a host knows: a second laptop, or a lost database.

use super::order::{LocalPaths, blank};
use super::{RunError, reconcile};
use crate::controller::{Controller, Event};
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
    let mut adopted = Vec::new();
    if let Some(run) = run {
        let facts = link.client.runs(vec![run.clone()]).await?;
        if facts.is_empty() {
            return Err(RunError::NoRun(run.clone()));
        }
        adopt_these(controller, &link, host, Some(run), facts, &mut adopted).await?;
    } else {
        let mut after = None;
        loop {
            let (facts, next) = link.client.runs_page(after).await?;
            adopt_these(controller, &link, host, None, facts, &mut adopted).await?;
            if next.is_none() {
                break;
            }
            after = next;
        }
    }
    link.session.close().await;
    Ok(adopted)
}

async fn adopt_these(
    controller: &Controller,
    link: &Link,
    host: &Host,
    run: Option<&RunId>,
    facts: Vec<RunFacts>,
    adopted: &mut Vec<Run>,
) -> Result<(), RunError> {
    for facts in facts {
        if run.is_some_and(|run| run != &facts.run_id) {
            let what = format!("facts of `{}`, which was not asked for", facts.run_id);
            return Err(RunError::Hostile {
                host: host.name.clone(),
                what,
            });
        }
        let known = controller.store.run(&facts.run_id).await?;
        if let Some(elsewhere) = known.filter(|known| known.host != host.name) {
            let (id, other) = (&facts.run_id, &elsewhere.host);
            let warning = format!(
                "`{}` says that it has {id}, which was ordered from `{other}`; left alone",
                host.name
            );
            controller.tell(&Event::Warning(&warning));
            continue;
        }
        adopted.push(adopt_one(controller, link, host, facts).await?);
    }
    Ok(())
}

#[tracing::instrument(skip_all, fields(run = %facts.run_id, host = %host.name))]
async fn adopt_one(
    controller: &Controller,
    link: &Link,
    host: &Host,
    facts: RunFacts,
) -> Result<Run, RunError> {
    let id = facts.run_id.clone();
    let owned = &facts.controller_id == controller.store.controller_id()
        || facts.adopted_by.contains(controller.store.controller_id());
    let facts = if owned {
        facts
    } else {
        link.client.adopt(id.clone()).await?
    };
    if controller.store.run(&id).await?.is_none() {
        let spec = link.client.spec(id.clone()).await?;
        if spec.run_id != id || spec.check().is_err() {
            let what = format!("an order for `{id}` that no agent would accept");
            return Err(RunError::Hostile {
                host: host.name.clone(),
                what,
            });
        }
        let mut run = row(controller, host, spec, &facts);
        // The prompt's row is not on the host: the run belongs to it only where it is known here.
        run.prompt_id = match &run.spec.prompt_id {
            Some(prompt) => controller.store.prompt(prompt).await?.map(|prompt| prompt.id),
            None => None,
        };
        if let Created::Existing(run) = controller.store.create_run(&run).await? {
            return Ok(*run);
        }
        controller.store.add_event(&id, "adopted", &host.name).await?;
    }
    reconcile::apply(controller, &link.host, &id, &facts).await
}

fn row(controller: &Controller, host: &Host, spec: RunSpec, facts: &RunFacts) -> Run {
    let paths = LocalPaths::of(&controller.config, &spec);
    Run {
        controller_id: facts.controller_id.clone(),
        status: RunStatus::Queued,
        launched_at: Some(Utc::now()),
        ..blank(&host.name, spec, &paths)
    }
}
