//! `farrun gc --here`: what lies on this machine.

use super::{Args, agreed, may_go};
use crate::cli::view::document;
use crate::cli::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::Run;
use crate::run::local_garbage::{self, Hosts, Item, Wants};
use crate::store::RunFilter;
use crate::ui::{Table, format};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Lists or removes what lies here of runs that have ended.
pub(super) async fn run(
    args: Args,
    controller: &Controller,
    context: &Context,
) -> Result<Exit, CommandError> {
    let runs = candidates(controller, &args).await?;
    let span = args.older_than.map(Duration::from_secs);
    let wants = Wants {
        logs: args.logs,
        outputs: args.outputs,
        of_no_run: args.what.is_empty() && args.host.is_none(),
        of_hosts: match &args.host {
            _ if !args.what.is_empty() => None,
            Some(host) => Some(Hosts::Named(host.clone())),
            None => Some(Hosts::All),
        },
        before: span.map(|span| {
            let then = SystemTime::now().checked_sub(span);
            // A span that no clock can hold is longer than anything is old.
            then.unwrap_or(SystemTime::UNIX_EPOCH)
        }),
    };
    let items = local_garbage::plan(controller, &runs, &wants).await?;
    if args.dry_run || items.is_empty() {
        print(context, controller, &items, args.dry_run);
        return Ok(Exit::Completed);
    }
    if !args.yes {
        print(context, controller, &items, true);
        if let Some(exit) = agreed(context, "remove this from this machine?")? {
            return Ok(exit);
        }
    }
    let items = local_garbage::remove(controller, items).await?;
    print(context, controller, &items, false);
    Ok(Exit::Completed)
}

async fn candidates(controller: &Controller, args: &Args) -> Result<Vec<Run>, CommandError> {
    let mut runs = Vec::new();
    for reference in &args.what {
        let run = find::run(controller, reference).await?;
        if !run.status.is_final() {
            let (id, status) = (&run.id, run.status);
            return Err(CommandError::refused(format!("{id} is {status}")).hint(format!(
                "bring it to its end with `farrun attach {id}` or `farrun stop {id}`"
            )));
        }
        runs.push(run);
    }
    if args.what.is_empty() {
        let filter = RunFilter {
            host: args.host.clone(),
            ..RunFilter::default()
        };
        runs = controller.store.runs(&filter).await?;
    }
    runs.retain(|run| may_go(run, args));
    Ok(runs)
}

fn print(context: &Context, controller: &Controller, items: &[Item], dry_run: bool) {
    if context.ui.is_json() {
        context.ui.json(&document(
            "farrun.local_garbage/1",
            serde_json::json!({ "dry_run": dry_run, "items": items }),
        ));
        return;
    }
    if items.is_empty() {
        context.ui.note("nothing to remove");
        return;
    }
    let mut table = Table::new(["WHAT", "OF", "SIZE", "WHERE"]);
    // What all paths begin with would leave no room for what tells them apart.
    let outputs = &controller.config.outputs;
    let below = |path: &Path| path.strip_prefix(outputs).unwrap_or(path).display().to_string();
    for item in items {
        table.row([
            item.kind.to_owned(),
            item.name.clone(),
            format::bytes(item.bytes),
            below(&item.path),
        ]);
    }
    context.ui.table(&table);
    if items.iter().any(|item| item.path.starts_with(outputs)) {
        let outputs = outputs.display();
        context
            .ui
            .note(format!("what begins without `/` lies below {outputs}"));
    }
    let bytes = items
        .iter()
        .fold(0u64, |sum, item| sum.saturating_add(item.bytes));
    let verb = if dry_run { "would be freed" } else { "freed" };
    context.ui.note(format!("{} {verb}", format::bytes(bytes)));
}
