//! `farrun host remove`

use super::report;
use crate::cli::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::Host;
use crate::run::{RunError, reconcile, residence};
use crate::store::RunFilter;

/// Arguments of `farrun host remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The host
    name: String,
    /// It is gone for good: its unfinished runs fail as `host_lost`, those whose outputs are not here as `outputs_lost`
    #[arg(long)]
    abandon: bool,
}

pub(super) async fn remove(args: Remove, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = find::host(&controller, &args.name).await?;
    if args.abandon {
        for run in reconcile::abandon(&controller, &host).await? {
            let reason = run
                .reason
                .map(farrun_protocol::verdict::Reason::code)
                .unwrap_or_default();
            context.ui.note(format!("{} failed ({reason})", run.id));
        }
    } else {
        refuse_if_needed(&controller, &host).await?;
        if host.settings.resident.is_some() {
            residence::set(&controller, &host, false)
                .await
                .map_err(|error| still_resident(&host, error))?;
        }
    }
    controller.store.remove_host(&host.name).await?;
    let what = match host.settings.resident {
        Some(_) if args.abandon => "forgotten; what starts there after a restart was left",
        Some(_) => "forgotten; nothing starts there after a restart any more",
        None => "forgotten; nothing on it was touched",
    };
    report(context, what, &host);
    Ok(Exit::Completed)
}

fn still_resident(host: &Host, error: RunError) -> CommandError {
    CommandError::from(error).hint(format!(
        "it starts an agent after a restart, which has to be taken back there; `farrun host remove {} --abandon` leaves it",
        host.name
    ))
}

async fn refuse_if_needed(controller: &Controller, host: &Host) -> Result<(), CommandError> {
    let filter = RunFilter {
        host: Some(host.name.clone()),
        ..RunFilter::default()
    };
    let runs = controller.store.runs(&filter).await.map_err(RunError::from)?;
    let open = runs.iter().filter(|run| !run.status.is_final()).count();
    if open > 0 {
        return Err(CommandError::refused(match open {
            1 => format!("a run on `{}` is not finished", host.name),
            _ => format!("{open} runs on `{}` are not finished", host.name),
        })
        .hint(format!("bring them home with `farrun sync --host {}`", host.name))
        .hint(format!(
            "or give them up with `farrun host remove {} --abandon`",
            host.name
        )));
    }
    Ok(())
}
