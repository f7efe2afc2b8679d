//! `farrun show`

use super::outcome::{elapsed, in_a_sentence, state};
use super::prompt;
use super::view::{RunDetail, RunView, document};
use super::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{OutputRecord, OutputsTotal, Run, RunEvent, RunStatus};
use crate::run::{device, log_error, notified, reconcile, series, warnings};
use crate::store::OUTPUTS_PAGE;
use crate::ui::{Table, format};
use farrun_protocol::Sha256;
use farrun_protocol::lease::Lease;
use farrun_protocol::series::GpuSummary;

/// Outputs that are listed at most: a list of every one that a run can have takes hundreds of MiB here.
const MOST_LISTED: i64 = 10_000;
/// Charts that are shown unasked.
const PLOTTED: usize = 4;

/// Arguments of `farrun show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun show @last
  farrun show city
  farrun show rs_k3v9 --json
  farrun show @last --outputs 5000   a longer list of what it left")]
pub struct Args {
    /// A run (`rs_…` or its beginning, its name, `@last`) or a prompt (its name, `ps_…` or its beginning)
    what: String,
    /// Ask no host; show what was last known
    #[arg(long)]
    offline: bool,
    /// List at most so many outputs, up to 10000; how many there are is told in any case
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=MOST_LISTED))]
    outputs: u32,
}

/// Shows everything that is known about a run or a prompt.
///
/// # Errors
/// There is no such thing, or the database.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    if !args.what.starts_with("rs_") && args.what != "@last" {
        // Where no prompt has that name, a run may.
        let named = match find::is_prompt(&controller, &args.what).await? {
            true => None,
            false => find::newest_of_name(&controller, &args.what).await?,
        };
        return match named {
            Some(run) => show_run(&controller, context, &args, run).await,
            None => prompt::show(&controller, context, &args.what).await,
        };
    }
    let run = find::run(&controller, &args.what).await?;
    show_run(&controller, context, &args, run).await
}

async fn show_run(
    controller: &Controller,
    context: &Context,
    args: &Args,
    mut run: Run,
) -> Result<Exit, CommandError> {
    if !args.offline && (!run.status.is_settled() || run.awaits_engine()) {
        for (host, cause) in reconcile::all(controller, Some(&run.host), reconcile::BRIEF)
            .await?
            .silent
        {
            context.ui.warning(format!("`{host}` did not answer ({cause})"));
        }
        run = controller.store.run(&run.id).await?.unwrap_or(run);
    }
    if !args.offline && run.status.is_settled() {
        notified::refresh(controller, &run, reconcile::BRIEF).await?;
    }
    let total = controller.store.outputs_total(&run.id).await?;
    let outputs = first_outputs(controller, &run, args.outputs as usize).await?;
    let events = controller.store.events(&run.id).await?;
    let log_error = log_error::of(controller, &run.id).await?;
    if context.ui.is_json() {
        let detail = RunDetail {
            run: RunView {
                log_error: log_error.as_deref(),
                ..RunView::from(&run)
            },
            spec: &run.spec,
            outputs_total: total,
            outputs: &outputs,
            warnings: warnings::of(&events),
            events: &events,
        };
        context.ui.json(&document("farrun.run_detail/1", detail));
        return Ok(Exit::Completed);
    }
    let mut fields = fields(controller, &run);
    fields.extend(log_error.map(|error| ("log error", error)));
    let warned = warnings::of(&events).into_iter();
    fields.extend(warned.map(|warning| ("warning", warning.to_owned())));
    context.ui.fields(&fields);
    if !args.offline && context.ui.stdout_is_tty() && run.gpu_summary.is_some() {
        print_plot(controller, context, &run).await;
    }
    print_outputs(context, &outputs, total);
    print_events(context, &events);
    if run.status == RunStatus::Failed {
        let tells = match &run.finding {
            Some(_) => "tells why it failed",
            None => "shows what is known of its end",
        };
        context.ui.hint(format!("`farrun why {}` {tells}", run.id));
    }
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
    optional("cause", run.finding_text.as_deref().map(in_a_sentence));
    optional("finding", run.finding.clone());
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
    fields.push(("device", device::of(&run.spec).to_owned()));
    fields.push(("gpus", run.lease.as_ref().map_or_else(|| run.gpus.clone(), given)));
    let mut optional = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    optional("did", run.gpu_summary.as_ref().map(summary));
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
    optional("evidence", run.diagnostics_path.clone());
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

/// The GPUs of a lease: `2 (H100 80GB HBM3, 79.6 GiB, GPU-aaaa…)`.
fn given(lease: &Lease) -> String {
    let gpus: Vec<String> = lease
        .gpus
        .iter()
        .map(|gpu| {
            let memory = gpu
                .memory_total
                .map(|mebibytes| format!(", {:.1} GiB", mebibytes as f64 / 1024.0))
                .unwrap_or_default();
            let shared = if lease.shared { ", shared" } else { "" };
            let model = super::gpu::table::model(&gpu.name);
            format!("{} ({model}{memory}{shared}, {})", gpu.index, gpu.uuid)
        })
        .collect();
    gpus.join("\n")
}

/// What a run did to its GPUs: `peak 61.0 GiB, mean 87 %, at most 71 °C, about 55.2 Wh; 3 of 120 samples missing`.
pub(crate) fn summary(summary: &GpuSummary) -> String {
    let mut parts = Vec::new();
    parts.extend(
        summary
            .peak_memory
            .map(|mebibytes| format!("peak {:.1} GiB", mebibytes as f64 / 1024.0)),
    );
    parts.extend(
        summary
            .mean_utilization
            .map(|percent| format!("mean {percent} %")),
    );
    parts.extend(
        summary
            .max_temperature
            .map(|degrees| format!("at most {degrees} °C")),
    );
    parts.extend(
        summary
            .energy
            .map(|milliwatt_hours| format!("about {:.1} Wh", milliwatt_hours as f64 / 1000.0)),
    );
    if parts.is_empty() {
        parts.push("nothing is known".to_owned());
    }
    let mut text = parts.join(", ");
    if summary.gaps > 0 {
        let all = summary.samples.saturating_add(summary.gaps);
        text.push_str(&format!("; {} of {all} samples are missing", summary.gaps));
    }
    if summary.shared {
        text.push_str("; others shared the GPUs, so the figures are not this run's alone");
    }
    if summary.intruders {
        text.push_str("; somebody else's process was on them");
    }
    text
}

/// Memory and utilisation in small. What the host does not tell in a moment is left out.
async fn print_plot(controller: &Controller, context: &Context, run: &Run) {
    let samples = tokio::time::timeout(reconcile::BRIEF, series::in_passing(controller, run)).await;
    let Ok(Ok(samples)) = samples else { return };
    let mut plot = super::gpu::plot::plot(run, &samples);
    plot.series
        .retain(|series| series.name.contains(" memory ") || series.name.ends_with("utilisation"));
    plot.series.truncate(PLOTTED);
    if plot.series.is_empty() {
        return;
    }
    context.ui.line("");
    for line in plot.lines(context.ui.width(), 2) {
        context.ui.line(line);
    }
    context
        .ui
        .hint(format!("`farrun gpu --run {}` plots everything", run.id));
}

/// The first outputs of a run, at most `most`.
async fn first_outputs(
    controller: &Controller,
    run: &Run,
    most: usize,
) -> Result<Vec<OutputRecord>, CommandError> {
    let mut outputs = Vec::new();
    let mut after = None;
    while outputs.len() < most {
        let page = (most - outputs.len()).min(OUTPUTS_PAGE);
        let (mut found, next) = controller
            .store
            .outputs_page(&run.id, after.as_deref(), page)
            .await?;
        outputs.append(&mut found);
        if next.is_none() {
            break;
        }
        after = next;
    }
    outputs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(outputs)
}

fn print_outputs(context: &Context, outputs: &[OutputRecord], total: OutputsTotal) {
    if total.files == 0 {
        return;
    }
    let mut table = Table::new(["OUTPUT", "SIZE", "HERE", "SHA-256"]);
    for output in outputs {
        table.row([
            output.path.clone(),
            format::bytes(output.size),
            if output.pulled_at.is_some() { "yes" } else { "no" }.to_owned(),
            short(output.sha256.as_ref()),
        ]);
    }
    context.ui.line("");
    if !outputs.is_empty() {
        context.ui.table(&table);
    }
    if let Some(text) = beyond(outputs.len() as u64, total) {
        context.ui.line(text);
    }
}

/// What a list that ends before the last output leaves out.
fn beyond(listed: u64, total: OutputsTotal) -> Option<String> {
    (listed < total.files).then(|| {
        format!(
            "{listed} of {} outputs ({}); {} of them are here; `--outputs N` lists up to {MOST_LISTED}",
            total.files,
            format::bytes(total.bytes),
            total.pulled,
        )
    })
}

/// The beginning of a hash. That of a large output is taken only when something needs it.
fn short(sha256: Option<&Sha256>) -> String {
    sha256.map_or("-".to_owned(), |sha256| {
        sha256.as_str().chars().take(16).collect()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_it_does_not_know() {
        let mut known = GpuSummary {
            peak_memory: Some(62_464),
            mean_utilization: Some(87),
            max_temperature: Some(71),
            energy: Some(55_200),
            samples: 117,
            ..GpuSummary::default()
        };
        assert_eq!(
            summary(&known),
            "peak 61.0 GiB, mean 87 %, at most 71 °C, about 55.2 Wh"
        );
        known.gaps = 3;
        known.intruders = true;
        known.max_temperature = None;
        assert_eq!(
            summary(&known),
            "peak 61.0 GiB, mean 87 %, about 55.2 Wh; 3 of 120 samples are missing; somebody else's process was on them"
        );
        assert_eq!(summary(&GpuSummary::default()), "nothing is known");
    }

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let total = OutputsTotal {
            files: 200_000,
            bytes: 3 << 30,
            pulled: 12,
        };
        assert_eq!(
            beyond(100, total).unwrap(),
            "100 of 200000 outputs (3.0 GiB); 12 of them are here; `--outputs N` lists up to 10000"
        );
        assert_eq!(beyond(200_000, total), None);
    }

    #[test]
    fn a_lease_names_its_gpus() {
        let lease: Lease = serde_json::from_value(serde_json::json!({
            "format": 1, "since": "2026-03-01T10:00:00Z",
            "gpus": [
                { "uuid": "GPU-a", "index": 2, "name": "NVIDIA H100 80GB HBM3", "memory_total": 81559 },
                { "uuid": "GPU-b", "index": 5, "name": "Tesla T4" },
            ],
        }))
        .unwrap();
        assert_eq!(
            given(&lease),
            "2 (H100 80GB HBM3, 79.6 GiB, GPU-a)\n5 (T4, GPU-b)"
        );
    }
}
