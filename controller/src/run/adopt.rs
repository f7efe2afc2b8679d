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

/// Greatest log cap of an order that is taken over unasked, in bytes, unless the configuration has a greater one.
pub const UNASKED: u64 = 1 << 30;

/// Adopts one run of a host, or every run it knows, with a log cap of at most `most` bytes: how much a run log may take
/// of this disk stands in the order, and of an adopted run only its host tells the order.
///
/// # Errors
/// The host is out of reach, does not know the run, or says that its log may be longer; or the database.
pub async fn adopt(
    controller: &Controller,
    host: &Host,
    run: Option<&RunId>,
    most: u64,
) -> Result<Vec<Run>, RunError> {
    let adoption = Adoption {
        controller,
        host,
        most,
    };
    let link = controller.contact(host).await?;
    let mut adopted = Vec::new();
    if let Some(run) = run {
        let facts = link.client.runs(vec![run.clone()]).await?;
        if facts.is_empty() {
            return Err(RunError::NoRun(run.clone()));
        }
        adoption.these(&link, Some(run), facts, &mut adopted).await?;
    } else {
        let mut after = None;
        loop {
            let (facts, next) = link.client.runs_page(after).await?;
            adoption.these(&link, None, facts, &mut adopted).await?;
            if next.is_none() {
                break;
            }
            after = next;
        }
    }
    link.session.close().await;
    Ok(adopted)
}

/// What every run of one command has in common.
struct Adoption<'a> {
    controller: &'a Controller,
    host: &'a Host,
    /// Greatest log cap that is taken over.
    most: u64,
}

impl Adoption<'_> {
    async fn these(
        &self,
        link: &Link,
        wanted: Option<&RunId>,
        facts: Vec<RunFacts>,
        adopted: &mut Vec<Run>,
    ) -> Result<(), RunError> {
        let host = &self.host.name;
        for facts in facts {
            let id = facts.run_id.clone();
            if wanted.is_some_and(|wanted| wanted != &id) {
                return Err(self.hostile(format!("facts of `{id}`, which was not asked for")));
            }
            let known = self.controller.store.run(&id).await?;
            if let Some(elsewhere) = known.filter(|known| &known.host != host) {
                let other = &elsewhere.host;
                self.warn(&format!(
                    "`{host}` says that it has {id}, which was ordered from `{other}`; left alone"
                ));
                continue;
            }
            match self.one(link, facts).await {
                Ok(run) => adopted.push(run),
                // Among all runs of a host, one like that is no reason to leave the others.
                Err(error @ RunError::LogCapTooLarge { .. }) if wanted.is_none() => {
                    self.warn(&format!("{error}; left alone"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[tracing::instrument(skip_all, fields(run = %facts.run_id, host = %self.host.name))]
    async fn one(&self, link: &Link, facts: RunFacts) -> Result<Run, RunError> {
        let (id, store) = (facts.run_id.clone(), &self.controller.store);
        let order = match store.run(&id).await? {
            Some(_) => None,
            None => Some(self.order(link, &id).await?),
        };
        let owned =
            &facts.controller_id == store.controller_id() || facts.adopted_by.contains(store.controller_id());
        let facts = if owned {
            facts
        } else {
            link.client.adopt(id.clone()).await?
        };
        if let Some(spec) = order {
            let mut run = row(self.controller, self.host, spec, &facts);
            // The prompt's row is not on the host: the run belongs to it only where it is known here.
            run.prompt_id = match &run.spec.prompt_id {
                Some(prompt) => store.prompt(prompt).await?.map(|prompt| prompt.id),
                None => None,
            };
            if let Created::Existing(run) = store.create_run(&run).await? {
                return Ok(*run);
            }
            store.add_event(&id, "adopted", &self.host.name).await?;
        }
        reconcile::apply(self.controller, &link.host, &id, &facts).await
    }

    /// The order of a run as its host has it, when it is one that could have been ordered here.
    async fn order(&self, link: &Link, id: &RunId) -> Result<RunSpec, RunError> {
        let spec = link.client.spec(id.clone()).await?;
        if &spec.run_id != id || spec.check().is_err() {
            return Err(self.hostile(format!("an order for `{id}` that no agent would accept")));
        }
        if spec.log_cap > self.most {
            return Err(RunError::LogCapTooLarge {
                host: self.host.name.clone(),
                run: id.clone(),
                claimed: spec.log_cap,
                most: self.most,
            });
        }
        Ok(spec)
    }

    fn hostile(&self, what: String) -> RunError {
        RunError::Hostile {
            host: self.host.name.clone(),
            what,
        }
    }

    fn warn(&self, text: &str) {
        self.controller.tell(&Event::Warning(text));
    }
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
