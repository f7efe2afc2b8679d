//! `farrun gpu`

mod holder;
pub(crate) mod plot;
mod prometheus;
pub(crate) mod table;

use super::view::document;
use super::{Context, find};
use crate::error::{CommandError, Exit};
use crate::model::Host;
use crate::run::look::{self, Wish};
use crate::ui::format;
use chrono::{DateTime, Utc};
use farrun_protocol::gpu::GpuReport;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `farrun gpu`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  farrun gpu
  farrun gpu gpu1 --json
  farrun gpu --detect gpu1
  farrun gpu --run @last
  farrun gpu --run @last --svg gpu.svg
  farrun gpu --prometheus > /var/lib/node_exporter/farrun.prom")]
pub struct Args {
    /// Only these hosts
    hosts: Vec<String>,
    /// Have each host find out anew what jobs compute with, instead of believing what was found within the hour
    #[arg(long, conflicts_with = "offline")]
    detect: bool,
    /// Print the figures for Prometheus: its text format, for a textfile collector
    #[arg(long)]
    prometheus: bool,
    /// Plot what the GPUs of this run did: memory, utilisation, temperature, power
    #[arg(long, value_name = "RUN", conflicts_with_all = ["hosts", "detect", "prometheus", "offline"])]
    run: Option<String>,
    /// With `--run`: write the plot to this file instead
    #[arg(long, value_name = "FILE", requires = "run")]
    svg: Option<PathBuf>,
    /// Ask no host; show what was last known
    #[arg(long)]
    offline: bool,
}

/// What is known of the GPUs of one host.
#[derive(Debug, Serialize)]
struct HostGpus<'a> {
    host: &'a str,
    /// `up`, `down` or `not asked`.
    link: &'static str,
    /// Why there is no answer.
    cause: Option<String>,
    /// When the report came here.
    gpus_at: Option<DateTime<Utc>>,
    gpus: Option<GpuReport>,
}

/// Shows GPUs and the processes that use them.
///
/// # Errors
/// A host does not exist, or the database. A host that does not answer is shown with what it said last.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    if context.ui.is_json() && (args.prometheus || args.svg.is_some()) {
        return Err(CommandError::usage(
            "`--json` goes neither with `--prometheus` nor with `--svg`",
        ));
    }
    if let Some(reference) = &args.run {
        return plot::run(reference, args.svg.as_deref(), context).await;
    }
    let controller = context.controller().await?;
    let hosts = find::hosts(&controller, &args.hosts).await?;
    let wish = Wish {
        detect: args.detect,
        ..Wish::default()
    };
    let answers: Vec<_> = match args.offline {
        true => hosts.iter().map(|_| None).collect(),
        false => {
            let answers = look::dial_all(&controller, &hosts, wish).await?;
            answers.into_iter().map(Some).collect()
        }
    };
    let mut reports = Vec::new();
    let mut known = Vec::new();
    for (host, answer) in hosts.iter().zip(answers) {
        let mut gpus = host_gpus(host, answer);
        match (&gpus.gpus, gpus.gpus_at) {
            (Some(report), Some(at)) => reports.push((
                host.name.as_str(),
                crate::model::HostReport {
                    facts: None,
                    gpus: Some((report.clone(), at)),
                },
            )),
            _ => {
                let last = controller.store.report(&host.name).await?.gpus;
                (gpus.gpus, gpus.gpus_at) = last.unzip();
            }
        }
        known.push(gpus);
    }
    controller.store.keep_reports(&reports).await?;
    if args.prometheus {
        context.ui.verbatim(&prometheus::exposition(&known, Utc::now()));
    } else if context.ui.is_json() {
        context
            .ui
            .json(&document("farrun.gpus/1", serde_json::json!({ "hosts": known })));
    } else {
        known.iter().for_each(|gpus| print(context, gpus));
    }
    Ok(Exit::Completed)
}

fn host_gpus(host: &Host, answer: Option<Result<look::Seen, String>>) -> HostGpus<'_> {
    let (link, cause, gpus) = match answer {
        None => ("not asked", None, None),
        Some(Err(cause)) => ("down", Some(cause), None),
        Some(Ok(seen)) => match seen.gpus {
            Ok(report) => ("up", None, Some((report, seen.at))),
            Err(cause) => ("up", Some(cause), None),
        },
    };
    let (gpus, gpus_at) = gpus.unzip();
    HostGpus {
        host: &host.name,
        link,
        cause,
        gpus_at,
        gpus,
    }
}

fn print(context: &Context, known: &HostGpus<'_>) {
    let ui = &context.ui;
    let now = Utc::now();
    let mut fields = vec![("host", known.host.to_owned())];
    if known.link != "up" || known.cause.is_some() {
        let cause = known
            .cause
            .as_ref()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        fields.push(("link", format!("{}{cause}", known.link)));
    }
    let (Some(report), Some(at)) = (&known.gpus, known.gpus_at) else {
        fields.push(("gpus", "never told".to_owned()));
        ui.fields(&fields);
        ui.line("");
        return;
    };
    if known.link != "up" || known.cause.is_some() {
        fields.push(("as of", format::age(at, now)));
    }
    fields.extend(lines(report, later(at, now)));
    ui.fields(&fields);
    if !report.gpus.is_empty() {
        ui.table(&table::gpus(report, later(at, now)));
    }
    for dash in table::dashes(report) {
        ui.wrapped(format!("  - {dash}"), 4);
    }
    for remark in table::remarks(report) {
        ui.wrapped(format!("  {remark}"), 4);
    }
    let processes = table::processes(report);
    if !processes.is_empty() {
        ui.line("");
        ui.table(&processes);
    }
    if let Some(hint) = table::hint(known.host, report) {
        ui.hint(hint);
    }
    ui.line("");
}

/// Headline, troubles and what jobs compute with, as fields.
pub(crate) fn lines(report: &GpuReport, later: u64) -> Vec<(&'static str, String)> {
    let mut fields = vec![("gpus", table::headline(report, later))];
    for (trouble, remedy) in table::troubles(report) {
        let remedy = remedy.map(|remedy| format!("\n{remedy}")).unwrap_or_default();
        fields.push(("trouble", format!("{trouble}{remedy}")));
    }
    let broken = report.device.broken.is_some();
    if broken || !report.gpus.is_empty() {
        let state = if broken { " (broken)" } else { "" };
        fields.push((
            "jobs get",
            format!("DEVICE={}{state}", report.device.device.as_str()),
        ));
    }
    fields
}

/// Milliseconds between an answer and now.
pub(crate) fn later(at: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - at).num_milliseconds()).unwrap_or(0)
}
