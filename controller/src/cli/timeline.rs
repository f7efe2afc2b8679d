//! `farrun timeline`

use super::view::document;
use super::{Context, find};
use crate::error::{CommandError, Exit};
use crate::run::timeline::{self, Entry};
use crate::run::{reconcile, series};
use crate::ui::format;
use chrono::{DateTime, Utc};

/// Arguments of `farrun timeline`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  farrun timeline @last\n  farrun timeline rs_k3v9 --json")]
pub struct Args {
    /// A run (`rs_…`, a prefix, `@last`)
    run: String,
    /// Ask no host; tell what is known here
    #[arg(long)]
    offline: bool,
}

/// Tells what happened to a run: its history, changes of GPU memory and the lines of its log at that moment.
///
/// # Errors
/// There is no such run, or the database. A host that does not answer costs only the samples.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let mut run = find::run(&controller, &args.run).await?;
    let mut samples = Vec::new();
    if !args.offline && run.launched_at.is_some() {
        if !run.status.is_settled() {
            reconcile::all(&controller, Some(&run.host), reconcile::BRIEF).await?;
            run = controller.store.run(&run.id).await?.unwrap_or(run);
        }
        match series::of(&controller, &run).await {
            Ok(found) => samples = found,
            Err(error) => context
                .ui
                .warning(format!("what its GPUs did is not known: {error}")),
        }
    }
    let events = controller.store.events(&run.id).await?;
    let story = timeline::of(&run, &events, &samples);
    if context.ui.is_json() {
        let data = serde_json::json!({ "run_id": run.id, "samples": samples.len(), "entries": story });
        context.ui.json(&document("farrun.timeline/1", data));
        return Ok(Exit::Completed);
    }
    for entry in &story {
        for line in lines(entry, run.started_at) {
            context.ui.line(line);
        }
    }
    if story
        .iter()
        .any(|entry| entry.log_offset.is_some() && entry.kind == "memory")
        && !run.log_complete
    {
        context.ui.hint(format!(
            "`farrun logs {}` brings the rest of its log here, so that more lines are shown",
            run.id
        ));
    }
    Ok(Exit::Completed)
}

/// An entry with its time, its distance from the start and the lines of the log below it.
fn lines(entry: &Entry, started: Option<DateTime<Utc>>) -> Vec<String> {
    let since = started.map_or_else(String::new, |started| match (entry.at - started).to_std() {
        Ok(later) => format!("+{}", format::duration(later)),
        Err(_) => String::new(),
    });
    // One line each, whatever a job or a host wrote: `ui` escapes the rest.
    let folded = entry.detail.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = vec![format!(
        "{}  {since:>11}  {:<9} {folded}",
        format::time(entry.at),
        entry.kind
    )];
    lines.extend(
        entry
            .log
            .iter()
            .map(|line| format!("{:34}  | {}", "", crate::ui::escape::line(line))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log_cannot_pass_for_ours() {
        let entry = Entry {
            at: "2026-03-01T10:02:05Z".parse().unwrap(),
            kind: "memory".to_owned(),
            detail: "GPU 0: 0.1 GiB -> 58.6 GiB".to_owned(),
            log_offset: Some(7),
            log: vec!["loading\u{1b}[2J\n2026 ended".to_owned()],
        };
        let told = lines(&entry, Some("2026-03-01T10:00:00Z".parse().unwrap()));
        assert_eq!(told.len(), 2);
        assert!(
            told[0].ends_with("   +2 m 05 s  memory    GPU 0: 0.1 GiB -> 58.6 GiB"),
            "{told:?}"
        );
        assert_eq!(told[1].trim_start(), r"| loading\x1b[2J\n2026 ended");
    }
}
