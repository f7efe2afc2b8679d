//! `farrun sync`

use super::view::{RunView, Runs, document};
use super::{Context, find, launching};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::host::Link;
use crate::model::{Run, RunStatus};
use crate::run::collect::{self, Collected};
use crate::run::follow::{self, Ended};
use crate::run::{RunError, diagnose, reconcile, why};
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
    if let Some(name) = &args.host {
        find::host(&controller, name).await?;
    }
    let reconciled = reconcile::all_asking(&controller, args.host.as_deref(), PATIENCE).await?;
    let mut exit = Exit::Completed;
    for (host, cause) in &reconciled.silent {
        context.ui.warning(format!("`{host}` did not answer ({cause})"));
        exit = Exit::Unreachable;
    }
    let ended = vec![RunStatus::Downloading, RunStatus::Failed, RunStatus::Cancelled];
    let ended = RunFilter {
        statuses: ended,
        host: args.host,
        ..RunFilter::default()
    };
    let mut hosts: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for run in controller.store.runs(&ended).await? {
        if is_due(&run) || diagnose::is_to_fetch(&controller, &run).await? {
            hosts.entry(run.host.clone()).or_default().push(run);
        }
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
                // Evidence that stays away is no failure of anything.
                if runs.iter().any(is_due) {
                    exit = Exit::Unreachable;
                }
                continue;
            }
        };
        for run in runs {
            match bring(&controller, &link, &run).await {
                Ok(collected) => brought.extend(collected),
                Err(error) if context.interrupt.is_cancelled() => return Err(error.into()),
                // One run that cannot be brought must not keep the others.
                Err(error) => {
                    context.ui.warning(format!("{} was not brought: {error}", run.id));
                    exit = CommandError::from(error).exit;
                }
            }
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
        context.ui.note(if exit == Exit::Unreachable {
            "nothing was due on the hosts that answered"
        } else {
            "nothing was due"
        });
    }
    for run in reconciled.changed.iter().filter(|run| run.status.is_final()) {
        context.ui.note(format!("{} {}", run.id, run.status));
    }
    for collected in brought {
        let run = collected.run.clone();
        launching::finish(context, &Ended::of(&controller, run, Some(collected)).await?);
    }
    Ok(exit)
}

/// Whether something of an ended run is still only on its host.
fn is_due(run: &Run) -> bool {
    run.status == RunStatus::Downloading
        || (run.launched_at.is_some() && run.log_path.is_some() && !run.log_complete)
}

/// Brings the log, and the outputs of a run that ended well or the evidence of one that failed.
async fn bring(controller: &Controller, link: &Link, run: &Run) -> Result<Option<Collected>, RunError> {
    match follow::mirror_rest(controller, link, run).await {
        // The host has nothing left of a run that failed long ago.
        Err(error) if follow::is_unknown(&error) && run.status.is_final() => return Ok(None),
        mirrored => mirrored?,
    }
    why::in_passing(controller, link, run).await;
    if run.status != RunStatus::Downloading {
        return Ok(None);
    }
    collect::collect(controller, link, &run.id).await.map(Some)
}
