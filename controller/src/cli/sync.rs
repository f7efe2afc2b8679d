//! `farrun sync`

use super::view::{RunView, Runs, document};
use super::{Context, launching};
use crate::error::{CommandError, Exit};
use crate::model::RunStatus;
use crate::run::follow::{self, Ended};
use crate::run::{collect, reconcile};
use crate::store::RunFilter;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a host may take to answer a sync.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `farrun sync`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  farrun sync          settles every run, brings logs and outputs; deploy/ has a systemd timer for it")]
pub struct Args {
    /// Only this host
    #[arg(long)]
    host: Option<String>,
}

/// Settles every run, then brings every log and output that is due.
///
/// # Errors
/// The database. A host that is out of reach is a warning, and the exit code says so.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let reconciled = reconcile::all(&controller, PATIENCE).await?;
    let mut exit = Exit::Completed;
    for (host, cause) in &reconciled.silent {
        context.ui.warning(format!("`{host}` did not answer ({cause})"));
        exit = Exit::Unreachable;
    }
    let due = RunFilter {
        statuses: vec![RunStatus::Downloading],
        host: args.host,
        ..RunFilter::default()
    };
    let mut hosts: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for run in controller.store.runs(&due).await? {
        hosts.entry(run.host.clone()).or_default().push(run);
    }
    let mut brought = Vec::new();
    for (name, runs) in hosts {
        let Some(host) = controller.store.host(&name).await? else {
            continue;
        };
        let link = match controller.contact(&host).await {
            Ok(link) => link,
            Err(error) => {
                context.ui.warning(format!("`{name}`: {error}"));
                exit = Exit::Unreachable;
                continue;
            }
        };
        for run in runs {
            follow::mirror_rest(&controller, &link, &run).await?;
            let collected = collect::collect(&controller, &link, &run.id).await?;
            brought.push(collected);
        }
        link.session.close().await;
    }
    if context.ui.is_json() {
        let runs = brought
            .iter()
            .map(|collected| RunView::from(&collected.run))
            .collect();
        let silent_hosts = reconciled.silent.iter().map(|(host, _)| host.as_str()).collect();
        context
            .ui
            .json(&document("farrun.runs/1", Runs { runs, silent_hosts }));
        return Ok(exit);
    }
    if brought.is_empty() && reconciled.changed.is_empty() {
        context.ui.note("nothing was due");
    }
    for run in reconciled.changed.iter().filter(|run| run.status.is_final()) {
        context.ui.note(format!("{} {}", run.id, run.status));
    }
    for collected in brought {
        launching::finish(
            context,
            &Ended {
                run: collected.run.clone(),
                collected: Some(collected),
            },
        );
    }
    Ok(exit)
}
