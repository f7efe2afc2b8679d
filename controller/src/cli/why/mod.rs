//! `farrun why`

mod print;
mod surroundings;

use super::view::{RunView, document};
use super::{Context, find, outcome, view};
use crate::controller::Controller;
use crate::diagnosis::page::page;
use crate::error::{CommandError, Exit};
use crate::model::{Run, RunStatus};
use crate::run::order::LocalPaths;
use crate::run::why::{self, Why};
use crate::run::{RunError, reconcile};
use crate::store::RunFilter;
use crate::ui::format;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Arguments of `farrun why`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun why                    the newest run that did not succeed
  farrun why rs_k3v9
  farrun why rs_k3v9 --html     a page to read, print and send

The evidence was collected on the host when the run failed; it is fetched when it is not here yet.
Secrets are not in it. `farrun diagnose RUN --anew` collects again, as the host is now.")]
pub struct Args {
    /// The run: id or its beginning, a prompt's or run's name for its newest run, or `@last`; without it the newest that did not
    /// succeed
    run: Option<String>,
    /// Ask no host; tell what is known here
    #[arg(long)]
    offline: bool,
    /// Write a page with everything, to this file or beside the evidence
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    html: Option<Option<PathBuf>>,
}

/// Tells why a run ended as it did, what speaks for it and what to try.
///
/// # Errors
/// There is no such run, the page cannot be written, or the database. A host that does not answer costs only evidence.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let (run, is_heard) = which(&controller, context, &args).await?;
    let why = why::of(&controller, run, !args.offline).await?;
    let page = match &args.html {
        Some(file) => write_page(&controller, &why, file.clone())?,
        None => None,
    };
    if context.ui.is_json() {
        let view = WhyView {
            run: RunView::from(&why.run),
            diagnosis: why.diagnosis.as_ref(),
            folder: why.folder.as_ref(),
            absent: why.absent.as_deref(),
            page: page.as_ref(),
        };
        context.ui.json(&document("farrun.why/1", view));
        return Ok(Exit::Completed);
    }
    match &why.diagnosis {
        Some(diagnosis) => {
            let width = context.ui.stdout_is_tty().then(|| context.ui.width());
            for line in print::lines(&why, diagnosis, width) {
                context.ui.line(line);
            }
        }
        None => say_why_not(context, &why.run, is_heard),
    }
    if let Some(page) = page {
        context.ui.note(format!("the page is `{}`", page.display()));
    }
    Ok(Exit::Completed)
}

/// Writes the page of a diagnosis to `file`, or beside the run's evidence; nothing of a run that has none.
fn write_page(
    controller: &Controller,
    why: &Why,
    file: Option<PathBuf>,
) -> Result<Option<PathBuf>, CommandError> {
    let Some(diagnosis) = &why.diagnosis else {
        return Ok(None);
    };
    let path = match file {
        Some(file) => file,
        None => {
            let folder = LocalPaths::of(&controller.config, &why.run.spec).diagnostics;
            folder.with_extension("html")
        }
    };
    let plot = crate::cli::gpu::plot::plot(&why.run, &diagnosis.samples);
    let plot = Some(&plot).filter(|plot| !plot.series.is_empty());
    let html = page(diagnosis, &why.run, plot);
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = written.and_then(|()| {
        // It quotes the log, which is nobody else's.
        let mut options = std::fs::File::options();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(html.as_bytes())
    });
    match written {
        Ok(()) => Ok(Some(std::path::absolute(&path).unwrap_or(path))),
        Err(source) => Err(RunError::Local { path, source }.into()),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct WhyView<'a> {
    run: RunView<'a>,
    diagnosis: Option<&'a crate::diagnosis::Diagnosis>,
    folder: Option<&'a PathBuf>,
    absent: Option<&'a str>,
    page: Option<&'a PathBuf>,
}

/// The run that is meant, after settling what happened to it while nobody looked; and whether its host was heard just
/// now, without which nothing is known of what happened since.
async fn which(controller: &Controller, context: &Context, args: &Args) -> Result<(Run, bool), CommandError> {
    let named = match &args.run {
        Some(reference) => Some(find::run(controller, reference).await?),
        None => None,
    };
    let mut unheard = Vec::new();
    let is_open = |run: &Run| !run.status.is_settled() || run.awaits_engine();
    let open = named.as_ref().is_none_or(is_open);
    if open && !args.offline {
        let host = named.as_ref().map(|run| run.host.as_str());
        let reconciled = reconcile::all(controller, host, reconcile::BRIEF).await?;
        for (host, cause) in reconciled.silent {
            context.ui.warning(format!("`{host}` did not answer ({cause})"));
            unheard.push(host);
        }
    }
    let run = match named {
        Some(run) => controller.store.run(&run.id).await?.unwrap_or(run),
        None => newest_without_success(controller, context).await?,
    };
    let is_heard = !args.offline && !unheard.contains(&run.host);
    Ok((run, is_heard))
}

/// The newest run that did not succeed. Which one that is, is said: whoever has just seen an order refused may mean that.
async fn newest_without_success(controller: &Controller, context: &Context) -> Result<Run, CommandError> {
    let filter = RunFilter {
        statuses: vec![RunStatus::Failed, RunStatus::Cancelled],
        limit: Some(1),
        ..RunFilter::default()
    };
    let none = || {
        CommandError::not_found("every run here has succeeded or goes on")
            .hint("`farrun list` shows all runs; an order that was refused outright left none, and said why")
    };
    let run = controller.store.runs(&filter).await?.pop().ok_or_else(none)?;
    context.ui.note(chosen(&run, Utc::now()));
    Ok(run)
}

fn chosen(run: &Run, now: DateTime<Utc>) -> String {
    let what = match run.launched_at {
        Some(_) => "the newest run that did not succeed",
        None => "the newest order that did not succeed; it was never started",
    };
    format!(
        "{} is {what}, ordered {}",
        run.id,
        format::age(run.created_at, now)
    )
}

/// Says of a run without an end that asks why, how it stands.
fn say_why_not(context: &Context, run: &Run, is_heard: bool) {
    let (note, hint) = standing(run, is_heard);
    context.ui.note(note);
    context.ui.hint(hint);
}

fn standing(run: &Run, is_heard: bool) -> (String, String) {
    let (id, host) = (&run.id, &run.host);
    match run.status {
        RunStatus::Running | RunStatus::Queued if !is_heard => {
            let age = run
                .confirmed_at
                .map(|at| format!(", {}", format::age(at, Utc::now())));
            (
                format!(
                    "{id} was {} when `{host}` was last heard{}; what happened to it since is not known",
                    run.status,
                    age.unwrap_or_default()
                ),
                format!("`farrun why {id}` asks `{host}` again"),
            )
        }
        RunStatus::Completed => (
            format!("{id} completed; nothing failed"),
            format!("see `farrun show {id}`"),
        ),
        RunStatus::Downloading => (
            format!("{id} ended well; its outputs are still on `{host}`"),
            format!("bring them here with `farrun pull {id}`"),
        ),
        RunStatus::Running if !outcome::is_confirmed(run.status, run.confirmed_at, Utc::now()) => (
            format!(
                "{id} is {} on `{host}`; nothing is known of an end, and of its life neither",
                outcome::state(run)
            ),
            format!("`farrun host doctor {host}` tells whether its container engine answers"),
        ),
        RunStatus::Running => (
            format!("{id} is {} on `{host}`; it has not failed", outcome::state(run)),
            format!(
                "see `farrun logs {id} --tail 50`; `farrun diagnose {id}` collects evidence of it as it is now"
            ),
        ),
        RunStatus::Queued => (
            format!(
                "{id} is {} on `{host}`; it has not been started",
                outcome::state(run)
            ),
            "`farrun status` shows for what it waits".to_owned(),
        ),
        _ if view::is_interrupted(run) => (
            format!("{id} was interrupted before `{host}` had acknowledged the order"),
            format!("take it up with `farrun attach {id}`, or drop it with `farrun stop {id}`"),
        ),
        status => (
            format!("{id} is {status}; `{host}` has not started it yet"),
            format!("follow it with `farrun attach {id}`"),
        ),
    }
}

#[cfg(test)]
mod tests;
