//! `farrun gc`

mod here;

use crate::cli::launch_args::parse_seconds;
use crate::cli::view::document;
use crate::cli::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{Host, Run, RunStatus};
use crate::run::{garbage, reconcile};
use crate::store::RunFilter;
use crate::ui::{Table, format};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::message::Garbage;
use std::collections::BTreeMap;

/// Arguments of `farrun gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun gc --host gpu1 --dry-run
  farrun gc --host gpu1 --older-than 7d --keep-failed
  farrun gc rs_k3v9 --yes                       this one, whatever it left there
  farrun gc --here --older-than 30d             evidence on this machine, not on a host

What goes: containers and folders of runs that have ended and whose outputs are here
or that left none, with the evidence about them; evidence about the host; then inputs
and agents that nothing needs. The log of a run is brought here before it goes. Logs,
outputs and evidence here stay.

With --here: evidence of runs that have ended and of hosts, and records that nothing
needs; logs and outputs only with --logs and --outputs. The list of runs stays.

A run that failed or was cancelled and left outputs that are not here stays. Bring
them with `farrun pull`, or give them up: name the run, or say --discard-unpulled.

The list is shown and nothing is removed before you agree, at the terminal or by --yes.")]
pub struct Args {
    /// Only these runs, also with outputs that are not here; or a host
    #[arg(value_name = "RUN|HOST")]
    what: Vec<String>,
    /// The host; without it that of the named runs, the configured one, or the only one
    #[arg(long)]
    host: Option<String>,
    /// What lies on this machine, not on a host
    #[arg(long, conflicts_with = "discard_unpulled")]
    here: bool,
    /// With --here also logs; a log that its host has removed is lost
    #[arg(long, requires = "here")]
    logs: bool,
    /// With --here also outputs; those that their host has removed are lost
    #[arg(long, requires = "here")]
    outputs: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Remove without asking
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,
    /// Keep what failed runs left
    #[arg(long)]
    keep_failed: bool,
    /// Also runs with outputs that are not here; those outputs are lost
    #[arg(long)]
    discard_unpulled: bool,
    /// Also images that `scripts/build-demo-image` made, unless a container uses them
    #[arg(long, conflicts_with = "here")]
    demo_images: bool,
    /// Only runs that ended, and evidence that was collected, longer ago than this (`7d`)
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    older_than: Option<u64>,
}

/// Lists or removes what a host no longer needs.
///
/// # Errors
/// A named run is active or elsewhere, nobody agreed, the host is out of reach, or the database.
pub async fn run(mut args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    if let Some(host) = host_among(&controller, &args).await? {
        args.what.retain(|name| *name != host);
        args.host = Some(host);
    }
    if args.here {
        return here::run(args, &controller, context).await;
    }
    let (host, runs) = candidates(&controller, &args).await?;
    let listed = Listed::of(&runs);
    let also = garbage::Also {
        unpulled: args.discard_unpulled || !args.what.is_empty(),
        // Who names a run means that run.
        diagnostics: args.what.is_empty().then(|| args.older_than.unwrap_or_default()),
        images: args.demo_images,
    };
    let mut plan = garbage::plan(&controller, &host, runs, also).await?;
    // What went in an earlier round is no news.
    plan.items
        .retain(|item| !(item.kind == "run" && item.kept.as_deref() == Some("unknown")));
    if args.dry_run || plan.is_empty() {
        print(context, &listed, &mut plan.items, args.dry_run);
        return Ok(Exit::Completed);
    }
    if !args.yes {
        print(context, &listed, &mut plan.items, true);
        if let Some(exit) = agreed(context, &format!("remove this from `{}`?", host.name))? {
            return Ok(exit);
        }
    }
    let mut items = garbage::remove(&controller, &host, plan).await?;
    print(context, &listed, &mut items, false);
    Ok(Exit::Completed)
}

/// Asks whether what is listed may go; the exit code when it may not.
fn agreed(context: &Context, question: &str) -> Result<Option<Exit>, CommandError> {
    // A document is one: a plan and what came of it would be two.
    let answer = if context.ui.is_json() {
        None
    } else {
        context.ui.ask(question)
    };
    match answer {
        Some(true) => Ok(None),
        Some(false) => {
            context.ui.note("nothing was removed");
            Ok(Some(Exit::Refused))
        }
        None => Err(
            CommandError::usage("nothing was removed: nobody was there to agree")
                .hint("say `--yes` to remove what is listed, or `--dry-run` to only list it"),
        ),
    }
}

/// The host that was named in the place of runs.
async fn host_among(controller: &Controller, args: &Args) -> Result<Option<String>, CommandError> {
    let [name] = args.what.as_slice() else {
        return Ok(None);
    };
    let found = controller.store.host(name).await?;
    Ok(found.filter(|_| args.host.is_none()).map(|host| host.name))
}

/// The host, and those of its runs that may go.
async fn candidates(controller: &Controller, args: &Args) -> Result<(Host, Vec<Run>), CommandError> {
    let mut named = Vec::new();
    for reference in &args.what {
        named.push(find::run(controller, reference).await?);
    }
    let of_the_first = named.first().map(|run| run.host.as_str());
    let host = find::host_for_run(controller, args.host.as_deref().or(of_the_first)).await?;
    if let Some(elsewhere) = named.iter().find(|run| run.host != host.name) {
        let (id, other) = (&elsewhere.id, &elsewhere.host);
        return Err(CommandError::usage(format!(
            "{id} ran on `{other}`, not on `{}`",
            host.name
        )));
    }
    reconcile::all(controller, Some(&host.name), reconcile::BRIEF).await?;
    let filter = RunFilter {
        host: Some(host.name.clone()),
        ..RunFilter::default()
    };
    let mut runs = controller.store.runs(&filter).await?;
    if !named.is_empty() {
        runs.retain(|run| named.iter().any(|named| named.id == run.id));
        if let Some(active) = runs.iter().find(|run| !run.status.is_final()) {
            let (id, status) = (&active.id, active.status);
            return Err(CommandError::refused(format!("{id} is {status}")).hint(format!(
                "bring it to its end with `farrun attach {id}` or `farrun stop {id}`"
            )));
        }
    }
    // What was never launched left nothing there.
    runs.retain(|run| run.launched_at.is_some() && may_go(run, args));
    Ok((host, runs))
}

fn may_go(run: &Run, args: &Args) -> bool {
    let old_enough = args.older_than.is_none_or(|seconds| {
        // A span that no clock can hold is longer than any run is old.
        let span = i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds);
        // What was refused has no end of its own.
        let ended = run.ended_at.unwrap_or(run.updated_at);
        span.is_some_and(|span| Utc::now() - ended >= span)
    });
    let kept = args.keep_failed && run.status == RunStatus::Failed;
    // What it left may be what a success left; who names it means it all the same.
    let unclear = run.awaits_engine() && args.what.is_empty();
    run.status.is_final() && old_enough && !kept && !unclear
}

/// How much of what goes is evidence; nothing when none is.
fn evidence(items: &[Garbage]) -> Option<String> {
    let goes = items.iter().filter(|item| item.kept.is_none());
    let sizes: Vec<u64> = goes
        .filter_map(|item| match item.kind.as_str() {
            "diagnostics" => Some(item.bytes),
            _ => item.diagnostics,
        })
        .collect();
    let bytes = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size));
    let count = match sizes.len() {
        0 => return None,
        1 => "1 bundle".to_owned(),
        count => format!("{count} bundles"),
    };
    Some(format!("diagnostics among it: {count}, {}", format::bytes(bytes)))
}

/// What runs are called and when they ended: by their ids alone nobody knows them.
struct Listed(BTreeMap<String, (String, Option<DateTime<Utc>>)>);

impl Listed {
    fn of(runs: &[Run]) -> Self {
        let of = |run: &Run| (run.id.to_string(), (run.spec.name.clone(), run.ended_at));
        Self(runs.iter().map(of).collect())
    }

    fn ended_at(&self, item: &Garbage) -> Option<DateTime<Utc>> {
        self.0.get(&item.name)?.1
    }

    /// Its name, and how long ago it ended; nothing of what is no run.
    fn words(&self, item: &Garbage, now: DateTime<Utc>) -> [String; 2] {
        let known = self.0.get(&item.name).filter(|_| item.kind == "run");
        known.map_or_else(Default::default, |(name, ended)| {
            [
                name.clone(),
                ended.map(|at| format::age(at, now)).unwrap_or_default(),
            ]
        })
    }
}

fn print(context: &Context, listed: &Listed, items: &mut [Garbage], dry_run: bool) {
    // As in the list of runs, the newest first; then what belongs to none.
    items.sort_by_key(|item| (item.kind != "run", std::cmp::Reverse(listed.ended_at(item))));
    if context.ui.is_json() {
        context.ui.json(&document(
            "farrun.garbage/1",
            serde_json::json!({ "dry_run": dry_run, "items": items }),
        ));
        return;
    }
    if items.is_empty() {
        context.ui.note("nothing to remove");
        return;
    }
    let mut table = Table::new(["WHAT", "ID", "NAME", "ENDED", "SIZE", "KEPT BECAUSE"]);
    let now = Utc::now();
    for item in &*items {
        let [name, ended] = listed.words(item, now);
        table.row([
            item.kind.clone(),
            item.name.clone(),
            name,
            ended,
            format::bytes(item.bytes),
            item.kept.clone().unwrap_or_default(),
        ]);
    }
    context.ui.table(&table);
    let freed = items.iter().filter(|item| item.kept.is_none());
    let bytes = freed.fold(0u64, |sum, item| sum.saturating_add(item.bytes));
    let verb = if dry_run { "would be freed" } else { "freed" };
    context.ui.note(format!("{} {verb}", format::bytes(bytes)));
    if let Some(evidence) = evidence(items) {
        context.ui.note(evidence);
    }
    if items
        .iter()
        .any(|item| item.kept.as_deref() == Some(garbage::UNPULLED))
    {
        context
            .ui
            .hint("bring unpulled outputs with `farrun pull RUN`, or give them up with `--discard-unpulled`");
    }
}
