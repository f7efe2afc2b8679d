//! `farrun gc`

use super::launch_args::parse_seconds;
use super::view::document;
use super::{Context, find};
use crate::error::{CommandError, Exit};
use crate::model::{Run, RunStatus};
use crate::run::{garbage, reconcile};
use crate::store::RunFilter;
use crate::ui::{Table, format};
use chrono::{TimeDelta, Utc};
use farrun_protocol::message::Garbage;

/// Arguments of `farrun gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun gc --host gpu1 --dry-run
  farrun gc --host gpu1 --older-than 7d --keep-failed

What goes: containers and folders of completed runs whose outputs are here, and of
runs that failed or were cancelled, with what they left (bring it with `farrun pull`
first, or keep it with `--keep-failed`); then inputs and agents that nothing needs.
The log of a run is brought here before it goes. Logs and outputs here stay.")]
pub struct Args {
    /// The host; without it the configured one, or the only one
    #[arg(long)]
    host: Option<String>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Keep what failed runs left
    #[arg(long)]
    keep_failed: bool,
    /// Only runs that ended longer ago than this (`7d`)
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    older_than: Option<u64>,
}

/// Lists or removes what a host no longer needs.
///
/// # Errors
/// The host is out of reach, or the database.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = find::host_for_run(&controller, args.host.as_deref()).await?;
    reconcile::all(&controller, Some(&host.name), reconcile::BRIEF).await?;
    let filter = RunFilter {
        host: Some(host.name.clone()),
        ..RunFilter::default()
    };
    let mut runs = controller.store.runs(&filter).await?;
    runs.retain(|run| may_go(run, &args));
    let mut items = garbage::collect(&controller, &host, runs, args.dry_run).await?;
    // What went in an earlier round is no news.
    items.retain(|item| !(item.kind == "run" && item.kept.as_deref() == Some("unknown")));
    if context.ui.is_json() {
        context.ui.json(&document(
            "farrun.garbage/1",
            serde_json::json!({ "dry_run": args.dry_run, "items": items }),
        ));
    } else {
        print(context, &items, args.dry_run);
    }
    Ok(Exit::Completed)
}

fn may_go(run: &Run, args: &Args) -> bool {
    let old_enough = match (args.older_than, run.ended_at) {
        (Some(seconds), Some(ended)) => {
            // A span that no clock can hold is longer than any run is old.
            let span = i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds);
            span.is_some_and(|span| Utc::now() - ended >= span)
        }
        (Some(_), None) => false,
        (None, _) => true,
    };
    let kept = args.keep_failed && run.status == RunStatus::Failed;
    run.status.is_final() && run.launched_at.is_some() && old_enough && !kept
}

fn print(context: &Context, items: &[Garbage], dry_run: bool) {
    if items.is_empty() {
        context.ui.note("nothing to remove");
        return;
    }
    let mut table = Table::new(["WHAT", "NAME", "SIZE", "KEPT BECAUSE"]);
    for item in items {
        table.row([
            item.kind.clone(),
            item.name.clone(),
            format::bytes(item.bytes),
            item.kept.clone().unwrap_or_default(),
        ]);
    }
    context.ui.table(&table);
    let freed = items.iter().filter(|item| item.kept.is_none());
    let bytes = freed.fold(0u64, |sum, item| sum.saturating_add(item.bytes));
    let verb = if dry_run { "would be freed" } else { "freed" };
    context.ui.note(format!("{} {verb}", format::bytes(bytes)));
}
