//! What is known about hosts, for people.

use super::Known;
use crate::agent::AgentError;
use crate::cli::gpu::{self, later, table};
use crate::cli::outcome::{elapsed, state};
use crate::error::CommandError;
use crate::model::{Run, RunStatus};
use crate::run::{estimate, gpu_words, quiet, residence};
use crate::ui::{Cell, Table, Tone, Ui, format};
use chrono::{DateTime, Utc};
use farrun_protocol::Failure;
use farrun_protocol::message::{HostFacts, OurContainer};

/// Runs that went on or ended since somebody looked last.
pub(super) fn changes(ui: &Ui, known: &[Known]) {
    let now = Utc::now();
    let changed: Vec<&Run> = known.iter().flat_map(Known::changed).collect();
    if changed.is_empty() {
        return;
    }
    let mut table = Table::new(["SINCE THE LAST LOOK", "NAME", "HOST", "STATE", "WHEN", "WHY"]);
    for run in changed {
        let tone = match run.status {
            RunStatus::Failed => Tone::Bad,
            RunStatus::Downloading | RunStatus::Completed => Tone::Good,
            _ => Tone::Plain,
        };
        table.row([
            Cell::new(run.id.as_str()),
            Cell::new(&run.spec.name),
            Cell::new(&run.host),
            Cell::new(state(run)).tone(tone),
            Cell::new(
                run.ended_at
                    .or(run.started_at)
                    .map_or_else(|| "-".to_owned(), |at| format::age(at, now)),
            ),
            Cell::new(run.error_message.as_deref().unwrap_or_default()),
        ]);
    }
    ui.table(&table);
    ui.line("");
}

/// One host: link, engine, disk, GPUs, runs.
pub(super) fn host(ui: &Ui, known: &Known) {
    let now = Utc::now();
    let mut fields = vec![("host", known.host.name.clone()), ("link", link(known, now))];
    fields.extend(known.missing().into_iter().map(|why| ("missing", why.to_owned())));
    let up = known.seen().is_some();
    if let Some((facts, at)) = known.facts() {
        if !up {
            fields.push(("last known", format::age(at, now)));
        }
        fields.extend(fact_fields(facts, up));
    }
    if let Some((report, at)) = known.gpus() {
        fields.extend(gpu::lines(report, later(at, now)));
    }
    ui.fields(&fields);
    if let Some((report, at)) = known.gpus().filter(|(report, _)| !report.gpus.is_empty()) {
        ui.table(&table::gpus(report, later(at, now)));
        for dash in table::dashes(report) {
            ui.wrapped(format!("  - {dash}"), 4);
        }
        for remark in table::remarks(report) {
            ui.wrapped(format!("  {remark}"), 4);
        }
    }
    let containers = known
        .seen()
        .and_then(|_| known.facts())
        .map(|(facts, _)| facts.containers.as_slice())
        .unwrap_or_default();
    runs(ui, known);
    strangers(ui, known, containers);
    if let Some(hint) = known
        .gpus()
        .and_then(|(report, _)| table::hint(&known.host.name, report))
    {
        ui.hint(hint);
    }
    ui.line("");
}

fn link(known: &Known, now: DateTime<Utc>) -> String {
    let Some(seen) = known.seen() else {
        let cause = known
            .cause()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        let last = known
            .host
            .last_seen
            .map_or_else(|| "never".to_owned(), |at| format::age(at, now));
        return format!("{}{cause} (last seen {last})", known.link());
    };
    let trip = seen
        .round_trip
        .map(|time| format!(", {} ms", time.as_millis()))
        .unwrap_or_default();
    format!("up{trip}, agent {}", seen.version)
}

fn fact_fields(facts: &HostFacts, up: bool) -> Vec<(&'static str, String)> {
    let engine = match &facts.engine {
        Ok(engine) => {
            let restore = if engine.live_restore {
                "live-restore"
            } else {
                "no live-restore"
            };
            format!(
                "Docker {}, {restore}, {}",
                engine.version,
                if engine.gpus { "GPUs" } else { "no GPUs" }
            )
        }
        Err(failure) => format!("not usable: {}", words(failure)),
    };
    let free = |free, total| format!("{} free of {}", format::bytes(free), format::bytes(total));
    let mut fields = vec![
        ("engine", engine),
        ("disk", free(facts.disk_free, facts.disk_total)),
        ("memory", free(facts.memory_available, facts.memory_total)),
    ];
    if facts.residence.is_some() {
        fields.push(("after a boot", residence::words(facts.residence).to_owned()));
    }
    // What was true at another time says nothing now.
    if up {
        fields.push(("load", facts.load.clone()));
    }
    fields
}

/// What a host could not do, without our codes.
pub(super) fn words(failure: &Failure) -> String {
    let told = CommandError::from(AgentError::Failed(failure.clone()));
    let parts: Vec<String> = std::iter::once(told.message).chain(told.causes).collect();
    parts.join(": ")
}

fn runs(ui: &Ui, known: &Known) {
    if known.runs.is_empty() {
        return;
    }
    let mut table = Table::new(["RUN", "NAME", "KIND", "STATE", "FOR", "GPU", "LOG"]);
    for (run, estimate) in known.estimated() {
        let facts = known.facts_of(run);
        let elapsed = elapsed(run).map(|elapsed| estimate::beside(&elapsed, estimate.usual));
        table.row([
            run.id.to_string(),
            run.spec.name.clone(),
            run.operation.clone(),
            state(run),
            elapsed.unwrap_or_else(|| "-".to_owned()),
            given(run),
            facts.map_or_else(|| "-".to_owned(), |facts| format::bytes(facts.log_length)),
        ]);
    }
    ui.table(&table);
    for (run, estimate) in known.estimated() {
        let facts = known.facts_of(run);
        if let Some(place) = facts.and_then(|facts| facts.queue.as_ref()) {
            let starts = estimate
                .starts_in
                .map(|wait| format!(", starts in {}", estimate::about(wait)))
                .unwrap_or_default();
            ui.wrapped(
                format!("  {} waits: {}{starts}", run.id, gpu_words::place(place)),
                4,
            );
        }
        if let Some(warning) = facts.and_then(quiet::warning) {
            ui.warning(format!("{} may hang: {warning}", run.id));
            ui.hint(format!("see `farrun logs {} --tail 20`", run.id));
        }
    }
}

/// The places of a run's GPUs, or what it ordered.
pub(crate) fn given(run: &Run) -> String {
    match &run.lease {
        Some(lease) => {
            let places: Vec<String> = lease.gpus.iter().map(|gpu| gpu.index.to_string()).collect();
            places.join(",")
        }
        None if run.gpus == "none" => "-".to_owned(),
        None => run.gpus.clone(),
    }
}

/// Live containers with our label that this database does not know as active.
fn strangers(ui: &Ui, known: &Known, containers: &[OurContainer]) {
    for container in containers
        .iter()
        .filter(|container| matches!(container.status.as_str(), "running" | "paused"))
    {
        if !known.runs.iter().any(|run| run.id == container.run_id) {
            ui.warning(format!(
                "{} runs there and is not known here as active",
                container.run_id
            ));
            ui.hint(format!(
                "take it over with `farrun adopt {} --host {}`",
                container.run_id, known.host.name
            ));
        }
    }
}
