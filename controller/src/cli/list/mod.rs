//! `farrun list`

mod table;

use super::view::{Summaries, SummaryView, document};
use super::{Context, find};
use crate::error::{CommandError, Exit};
use crate::model::RunStatus;
use crate::run::reconcile;
use crate::store::{RunFilter, RunSummary};

/// Arguments of `farrun list`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  farrun list --status failed\n  farrun list --host gpu1 --limit 200 --json"
)]
pub struct Args {
    /// Only runs in this state: pending, uploading, queued, running, downloading, completed, failed or cancelled; may
    /// be given several times
    #[arg(long, value_name = "STATE")]
    status: Vec<RunStatus>,
    /// Only runs of this prompt
    #[arg(long, value_name = "PROMPT")]
    prompt: Option<String>,
    /// Only runs on this host
    #[arg(long)]
    host: Option<String>,
    /// Only runs of this kind (inference, upscale, …)
    #[arg(long)]
    operation: Option<String>,
    /// At most this many, newest first
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Ask no host; show what was last known
    #[arg(long)]
    offline: bool,
}

/// Lists runs, after settling what happened while nobody looked.
///
/// # Errors
/// The database, or a prompt that does not exist.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let prompt = match &args.prompt {
        Some(reference) => Some(find::prompt(&controller, reference).await?.id),
        None => None,
    };
    let silent = if args.offline {
        Vec::new()
    } else {
        reconcile::all(&controller, args.host.as_deref(), reconcile::BRIEF)
            .await?
            .silent
    };
    let filter = RunFilter {
        statuses: args.status,
        prompt,
        host: args.host,
        operation: args.operation,
        limit: Some(args.limit),
        ..RunFilter::default()
    };
    let runs = controller.store.run_summaries(&filter).await?;
    if context.ui.is_json() {
        let silent_hosts = silent.iter().map(|(host, _)| host.as_str()).collect();
        context.ui.json(&document(
            "farrun.run_list/1",
            Summaries {
                runs: runs.iter().map(SummaryView::from).collect(),
                silent_hosts,
            },
        ));
        return Ok(Exit::Completed);
    }
    for (host, cause) in &silent {
        context.ui.warning(format!(
            "`{host}` did not answer; its runs are shown as last known ({cause})"
        ));
    }
    if runs.is_empty() {
        context.ui.note("no runs");
    } else {
        let width = context.ui.stdout_is_tty().then(|| context.ui.width());
        context.ui.table(&table::table(&runs, width));
        if let Some(run) = unexplained(&runs) {
            let hint = format!("`farrun why {}` shows what is known of its end", run.id);
            context.ui.hint(hint);
        }
    }
    Ok(Exit::Completed)
}

/// The newest run that failed, when no cause of it is known; an older one has been passed over already.
fn unexplained(runs: &[RunSummary]) -> Option<&RunSummary> {
    let newest = runs.iter().find(|run| run.status == RunStatus::Failed);
    newest.filter(|run| run.finding.is_none())
}

#[cfg(test)]
mod tests {
    use super::table::tests::summary;
    use super::*;

    #[test]
    fn only_the_newest_run_that_failed_is_pointed_at() {
        let well = summary("rs_aaaaaaaa", RunStatus::Completed, None);
        let known = summary("rs_bbbbbbbb", RunStatus::Failed, Some("time_limit"));
        let unknown = summary("rs_cccccccc", RunStatus::Failed, None);
        let told = |runs: &[RunSummary]| unexplained(runs).map(|run| run.id.to_string());
        assert_eq!(
            told(&[well.clone(), unknown.clone(), known.clone()]).as_deref(),
            Some("rs_cccccccc")
        );
        assert_eq!(told(&[well, known, unknown]), None);
    }
}
