//! `farrun diagnose`

use super::view::document;
use super::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{Host, Run};
use crate::run::diagnose::{self, Brought, Wanted};
use crate::run::{follow, reconcile, why};
use crate::ui::{Table, format};
use farrun_protocol::diagnostics::Outcome;
use serde::Serialize;

/// Arguments of `farrun diagnose`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun diagnose rs_k3v9            what was collected when it failed
  farrun diagnose rs_k3v9 --anew     collected again, as the host is now
  farrun diagnose gpu1               the host: GPUs, driver, engine, disks, kernel log

Values of secrets and of the job's environment are replaced on the host, before anything is sent.
`farrun why RUN` reads the evidence of a run.")]
pub struct Args {
    /// A host by its name, or a run: id or its beginning, a prompt's or run's name for its newest run, or `@last`
    #[arg(value_name = "RUN|HOST")]
    what: String,
    /// Collect again, although the evidence of the run is there
    #[arg(long)]
    anew: bool,
}

/// Has the evidence of a run or a host collected, and brings it here.
///
/// # Errors
/// There is no such run or host, the run was never launched, its host is out of reach, or the local disk refuses.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    if let Some(host) = controller.store.host(&args.what).await? {
        let link = controller.contact(&host).await?;
        let brought = diagnose::of_host(&controller, &link, &host).await;
        tokio::spawn(link.session.close());
        print(context, None, &host, &brought?);
        return Ok(Exit::Completed);
    }
    let run = find::run(&controller, &args.what).await?;
    let host = controller.host_of(&run.id, &run.host).await?;
    let brought = of_run(&controller, &host, run.clone(), args.anew).await?;
    print(context, Some(&run), &host, &brought);
    Ok(Exit::Completed)
}

async fn of_run(controller: &Controller, host: &Host, run: Run, anew: bool) -> Result<Brought, CommandError> {
    if run.launched_at.is_none() && run.status.is_final() {
        let id = &run.id;
        let message = format!("{id} was not launched, so its host has no evidence of it");
        return Err(CommandError::not_found(message).hint(format!(
            "`farrun why {id}` tells what is known here, `farrun diagnose {}` collects evidence of the host",
            host.name
        )));
    }
    let link = controller.contact(host).await?;
    if !run.status.is_settled() {
        reconcile::runs_on(controller, &link, std::slice::from_ref(&run.id)).await?;
    }
    let wanted = if anew { Wanted::Anew } else { Wanted::Kept };
    let brought = diagnose::of_run(controller, &link, &run, wanted).await;
    tokio::spawn(link.session.close());
    let brought = match brought {
        Err(error) if follow::is_unknown(&error) => return Err(removed(&run)),
        brought => brought?,
    };
    why::conclude_in_passing(controller, &run).await;
    Ok(brought)
}

/// The host acknowledged the run and knows it no more: it was removed there.
fn removed(run: &Run) -> CommandError {
    let (id, host) = (&run.id, &run.host);
    CommandError::not_found(format!(
        "what `{host}` had of {id} was removed there, its evidence as well"
    ))
    .hint(format!(
        "`farrun why {id}` tells what is known here, `farrun diagnose {host}` collects evidence of the host"
    ))
}

/// What `--json` prints.
#[derive(Serialize)]
struct EvidenceView<'a> {
    run_id: Option<&'a str>,
    host: &'a str,
    folder: &'a std::path::Path,
    bundle: &'a farrun_protocol::diagnostics::Bundle,
}

fn print(context: &Context, run: Option<&Run>, host: &Host, brought: &Brought) {
    let ui = &context.ui;
    if ui.is_json() {
        let view = EvidenceView {
            run_id: run.map(|run| run.id.as_str()),
            host: &host.name,
            folder: &brought.folder,
            bundle: &brought.bundle,
        };
        ui.json(&document("farrun.evidence/1", view));
        return;
    }
    ui.table(&table(brought));
    let redacted: u64 = brought
        .bundle
        .redactions
        .values()
        .fold(0, |sum, count| sum.saturating_add(*count));
    if redacted > 0 {
        ui.note(format!("{redacted} values were replaced on the host"));
    }
    ui.line("");
    ui.line(brought.folder.display().to_string());
    match run {
        // Of a run that has not ended `why` has nothing to tell.
        Some(run) if run.status.is_settled() => ui.hint(format!("`farrun why {}` reads it", run.id)),
        _ => {}
    }
}

fn table(brought: &Brought) -> Table {
    let mut table = Table::new(["FILE", "SIZE", "TOOK", "WHAT IS MISSING"]);
    for item in &brought.bundle.items {
        let (size, missing) = match &item.outcome {
            Outcome::Collected => (format::bytes(item.bytes), String::new()),
            Outcome::Partial { why } => (format::bytes(item.bytes), format!("a part: {why}")),
            Outcome::Missing { why } => ("-".to_owned(), why.clone()),
        };
        let took = format::duration(std::time::Duration::from_millis(item.took_ms));
        table.row([item.file.clone(), size, took, missing]);
    }
    table
}
