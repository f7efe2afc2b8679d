//! `farrun show`

use super::outcome::{elapsed, state};
use super::prompt;
use super::view::{RunDetail, RunView, document};
use super::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{OutputRecord, Run, RunEvent, RunStatus};
use crate::run::{log_error, reconcile};
use crate::ui::{Table, format};

/// Arguments of `farrun show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  farrun show @last\n  farrun show city\n  farrun show rs_k3v9 --json")]
pub struct Args {
    /// A run (`rs_…` or its beginning, `@last`) or a prompt (its name, `ps_…` or its beginning)
    what: String,
    /// Ask no host; show what was last known
    #[arg(long)]
    offline: bool,
}

/// Shows everything that is known about a run or a prompt.
///
/// # Errors
/// There is no such thing, or the database.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    if !args.what.starts_with("rs_") && args.what != "@last" {
        return prompt::show(&controller, context, &args.what).await;
    }
    let mut run = find::run(&controller, &args.what).await?;
    if !args.offline && !run.status.is_settled() {
        for (host, cause) in reconcile::all(&controller, Some(&run.host), reconcile::BRIEF)
            .await?
            .silent
        {
            context.ui.warning(format!("`{host}` did not answer ({cause})"));
        }
        run = controller.store.run(&run.id).await?.unwrap_or(run);
    }
    let outputs = controller.store.outputs(&run.id).await?;
    let events = controller.store.events(&run.id).await?;
    let log_error = log_error::of(&controller, &run.id).await?;
    if context.ui.is_json() {
        let detail = RunDetail {
            run: RunView {
                log_error: log_error.as_deref(),
                ..RunView::from(&run)
            },
            spec: &run.spec,
            outputs: &outputs,
            events: &events,
        };
        context.ui.json(&document("farrun.run_detail/1", detail));
        return Ok(Exit::Completed);
    }
    let mut fields = fields(&controller, &run);
    fields.extend(log_error.map(|error| ("log error", error)));
    context.ui.fields(&fields);
    print_outputs(context, &outputs);
    print_events(context, &events);
    Ok(Exit::Completed)
}

fn fields(controller: &Controller, run: &Run) -> Vec<(&'static str, String)> {
    let moment = |time: Option<_>| time.map_or_else(|| "-".to_owned(), format::time);
    let mut fields = vec![
        ("run", run.id.to_string()),
        ("state", state(run)),
        ("kind", run.operation.clone()),
        ("name", run.spec.name.clone()),
        ("host", run.host.clone()),
    ];
    let mut optional = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    optional("prompt", run.prompt_id.as_ref().map(ToString::to_string));
    optional("parent", run.parent_run.as_ref().map(ToString::to_string));
    optional("recipe", run.recipe.clone());
    optional("why", run.error_message.clone());
    let told = run.reason.filter(|_| run.status != RunStatus::Completed);
    optional("reason", told.map(|reason| reason.code().to_owned()));
    optional("exit code", run.exit_code.map(|code| code.to_string()));
    optional(
        "signal",
        run.signal
            .map(|signal| crate::run::explain::signal_name(Some(signal))),
    );
    optional("took", elapsed(run));
    fields.push(("image", run.spec.image.clone()));
    fields.push(("command", format::words(&run.spec.command)));
    fields.push(("gpus", run.gpus.clone()));
    let mut optional = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    optional(
        "container",
        run.container_id.as_ref().map(|id| id.chars().take(12).collect()),
    );
    optional("image id", run.image_digest.clone());
    optional("log", run.log_path.clone());
    optional(
        "log size",
        run.log_length.map(|length| {
            format!(
                "{}{}",
                format::bytes(length),
                if run.log_complete {
                    " (complete, verified)"
                } else {
                    " on the host"
                }
            )
        }),
    );
    optional("outputs", run.outputs_path.clone());
    fields.push(("ordered", format::time(run.created_at)));
    fields.push(("started", moment(run.started_at)));
    fields.push(("ended", moment(run.ended_at)));
    if !run.status.is_settled() {
        fields.push(("confirmed", moment(run.confirmed_at)));
    }
    if &run.controller_id != controller.store.controller_id() {
        fields.push(("ordered by", run.controller_id.to_string()));
    }
    fields
}

fn print_outputs(context: &Context, outputs: &[OutputRecord]) {
    if outputs.is_empty() {
        return;
    }
    let mut table = Table::new(["OUTPUT", "SIZE", "HERE", "SHA-256"]);
    for output in outputs {
        table.row([
            output.path.clone(),
            format::bytes(output.size),
            if output.pulled_at.is_some() { "yes" } else { "no" }.to_owned(),
            output.sha256.as_str().chars().take(16).collect(),
        ]);
    }
    context.ui.line("");
    context.ui.table(&table);
}

fn print_events(context: &Context, events: &[RunEvent]) {
    if events.is_empty() {
        return;
    }
    let mut table = Table::new(["WHEN", "EVENT", "DETAIL"]);
    for event in events {
        table.row([format::time(event.at), event.kind.clone(), event.detail.clone()]);
    }
    context.ui.line("");
    context.ui.table(&table);
}
