//! `farrun status`

mod print;
mod view;
mod watch;

use super::view::document;
use super::{Context, find, or_interrupted};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{Host, HostReport, Run};
use crate::run::estimate::{self, Estimate};
use crate::run::look::{self, Seen, Wish};
use std::collections::BTreeMap;
use view::HostStatus;

/// Arguments of `farrun status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  farrun status\n  farrun status gpu1 --json\n  farrun status --offline\n  farrun status --watch"
)]
pub struct Args {
    /// Only these hosts
    hosts: Vec<String>,
    /// Ask no host; show what was last known
    #[arg(long)]
    offline: bool,
    /// Show hosts, GPUs, runs and a log on the whole terminal, live
    #[arg(long, short, conflicts_with = "offline")]
    watch: bool,
}

/// Everything is asked, of every host at once.
const WISH: Wish = Wish {
    host: true,
    runs: true,
    max_age: None,
    detect: false,
};

/// What is known about one host: what it said now, and what it said last.
struct Known {
    host: Host,
    /// None when it was not asked.
    answer: Option<Result<Seen, String>>,
    /// What it said last, as far as it did not say it now.
    last: HostReport,
    /// Its active runs.
    runs: Vec<Run>,
    /// What can be told of how long each of them takes.
    estimates: Vec<Estimate>,
}

/// Shows hosts with their link, GPUs, containers and active runs.
///
/// # Errors
/// A host does not exist, or the database. A host that does not answer is shown as down, with what it said last.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let hosts = find::hosts(&controller, &args.hosts).await?;
    if args.watch {
        return watch::run(hosts, context).await;
    }
    or_interrupted(context, once(&controller, hosts, args.offline, context)).await
}

async fn once(
    controller: &Controller,
    hosts: Vec<Host>,
    offline: bool,
    context: &Context,
) -> Result<Exit, CommandError> {
    let known = know(controller, hosts, offline).await?;
    if context.ui.is_json() {
        let hosts: Vec<HostStatus<'_>> = known.iter().map(HostStatus::from).collect();
        context.ui.json(&document(
            "farrun.status/1",
            serde_json::json!({ "hosts": hosts }),
        ));
        return Ok(Exit::Completed);
    }
    if known.is_empty() {
        context
            .ui
            .note("no hosts; add one with `farrun host add NAME --address user@host`");
    }
    print::changes(&context.ui, &known);
    for host in &known {
        print::host(&context.ui, host);
    }
    Ok(Exit::Completed)
}

async fn know(controller: &Controller, hosts: Vec<Host>, offline: bool) -> Result<Vec<Known>, CommandError> {
    let answers: Vec<_> = match offline {
        true => hosts.iter().map(|_| None).collect(),
        false => {
            let answers = look::dial_all(controller, &hosts, WISH).await?;
            answers.into_iter().map(Some).collect()
        }
    };
    let mut reports = Vec::new();
    for (host, answer) in hosts.iter().zip(&answers) {
        if let Some(Ok(seen)) = answer {
            reports.push((host.name.as_str(), seen.report()));
        }
    }
    controller.store.keep_reports(&reports).await?;
    let mut runs: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for run in controller.store.unsettled_runs(None).await? {
        runs.entry(run.host.clone()).or_default().push(run);
    }
    let mut known = Vec::new();
    for (host, answer) in hosts.into_iter().zip(answers) {
        let whole =
            matches!(&answer, Some(Ok(seen)) if seen.gpus.is_ok() && matches!(seen.facts, Ok(Some(_))));
        let last = match whole {
            true => HostReport::default(),
            false => controller.store.report(&host.name).await?,
        };
        let mut host = Known {
            runs: runs.remove(&host.name).unwrap_or_default(),
            estimates: Vec::new(),
            host,
            answer,
            last,
        };
        for run in &host.runs {
            let place = host.facts_of(run).and_then(|facts| facts.queue.as_deref());
            let estimate = estimate::of(&controller.store, run, place).await?;
            host.estimates.push(estimate);
        }
        known.push(host);
    }
    Ok(known)
}

impl Known {
    /// Its active runs, each with what can be told of how long it takes.
    fn estimated(&self) -> impl Iterator<Item = (&Run, Estimate)> {
        let estimates = self.estimates.iter().copied();
        self.runs
            .iter()
            .zip(estimates.chain(std::iter::repeat(Estimate::default())))
    }

    fn seen(&self) -> Option<&Seen> {
        self.answer.as_ref()?.as_ref().ok()
    }
}

#[cfg(test)]
mod tests;
