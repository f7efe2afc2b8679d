//! `farrun status`

use super::outcome::{elapsed, state};
use super::view::{RunView, document};
use super::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{Host, Run};
use crate::run::reconcile;
use crate::ui::{Table, format};
use chrono::{DateTime, Utc};
use farrun_protocol::message::{HostFacts, OurContainer};
use futures_util::future::join_all;
use serde::Serialize;
use std::time::Duration;

/// How long each host may take.
const BUDGET: Duration = Duration::from_secs(10);

/// Arguments of `farrun status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  farrun status\n  farrun status gpu1 --json")]
pub struct Args {
    /// Only these hosts
    hosts: Vec<String>,
    /// Ask no host; show what was last known
    #[arg(long)]
    offline: bool,
}

/// What is known about one host.
#[derive(Debug, Serialize)]
struct HostStatus<'a> {
    host: &'a Host,
    /// `up`, `down` or `not asked`.
    link: &'static str,
    /// Why it is down.
    cause: Option<String>,
    /// From a ping to its answer, in milliseconds.
    round_trip_ms: Option<u64>,
    agent_version: Option<String>,
    facts: Option<HostFacts>,
    last_seen: Option<DateTime<Utc>>,
    runs: Vec<RunView<'a>>,
}

struct Answer {
    round_trip: Option<Duration>,
    version: String,
    facts: HostFacts,
}

/// Shows hosts with their link, containers and active runs.
///
/// # Errors
/// A host does not exist, or the database. A host that does not answer is shown as down.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let mut hosts = Vec::new();
    for name in &args.hosts {
        hosts.push(find::host(&controller, name).await?);
    }
    if args.hosts.is_empty() {
        hosts = controller.store.hosts().await?;
    }
    let answers = if args.offline {
        hosts.iter().map(|_| None).collect()
    } else {
        join_all(
            hosts
                .iter()
                .map(|host| async { Some(ask(&controller, host).await) }),
        )
        .await
    };
    let mut runs = Vec::new();
    for host in &hosts {
        runs.push(controller.store.unsettled_runs(Some(&host.name)).await?);
    }
    let statuses: Vec<HostStatus<'_>> = hosts
        .iter()
        .zip(answers)
        .zip(&runs)
        .map(|((host, answer), runs)| host_status(host, answer, runs))
        .collect();
    if context.ui.is_json() {
        context.ui.json(&document(
            "farrun.status/1",
            serde_json::json!({ "hosts": statuses }),
        ));
        return Ok(Exit::Completed);
    }
    if statuses.is_empty() {
        context
            .ui
            .note("no hosts; add one with `farrun host add NAME --address user@host`");
    }
    for (status, runs) in statuses.iter().zip(&runs) {
        print(context, status, runs);
    }
    Ok(Exit::Completed)
}

/// One connection: settles the host's runs, then asks what it is and holds.
async fn ask(controller: &Controller, host: &Host) -> Result<Answer, String> {
    let asked = async {
        let link = controller
            .contact(host)
            .await
            .map_err(|error| error.to_string())?;
        let open = controller
            .store
            .unsettled_runs(Some(&host.name))
            .await
            .map_err(|error| error.to_string())?;
        let ids: Vec<_> = open
            .into_iter()
            .filter(|run| run.launched_at.is_some())
            .map(|run| run.id)
            .collect();
        if !ids.is_empty() {
            reconcile::runs_on(controller, &link, &ids)
                .await
                .map_err(|error| error.to_string())?;
        }
        let (facts, round_trip) = tokio::join!(
            link.client.host(),
            link.session.round_trip(Duration::from_secs(5))
        );
        let facts = facts.map_err(|error| error.to_string())?;
        let answer = Answer {
            round_trip: round_trip.ok(),
            version: link.hello.version.clone(),
            facts,
        };
        link.session.close().await;
        Ok(answer)
    };
    match tokio::time::timeout(BUDGET, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", BUDGET.as_secs())),
    }
}

fn host_status<'a>(
    host: &'a Host,
    answer: Option<Result<Answer, String>>,
    runs: &'a [Run],
) -> HostStatus<'a> {
    let (link, cause, answer) = match answer {
        None => ("not asked", None, None),
        Some(Ok(answer)) => ("up", None, Some(answer)),
        Some(Err(cause)) => ("down", Some(cause), None),
    };
    HostStatus {
        host,
        link,
        cause,
        round_trip_ms: answer
            .as_ref()
            .and_then(|answer| answer.round_trip)
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        agent_version: answer.as_ref().map(|answer| answer.version.clone()),
        facts: answer.map(|answer| answer.facts),
        last_seen: host.last_seen,
        runs: runs.iter().map(RunView::from).collect(),
    }
}

fn print(context: &Context, status: &HostStatus<'_>, runs: &[Run]) {
    let ui = &context.ui;
    let now = Utc::now();
    let mut fields = vec![("host", status.host.name.clone())];
    match (status.link, &status.cause) {
        ("up", _) => {
            let trip = status
                .round_trip_ms
                .map(|ms| format!(", {ms} ms"))
                .unwrap_or_default();
            let version = status.agent_version.clone().unwrap_or_default();
            fields.push(("link", format!("up{trip}, agent {version}")));
        }
        (link, cause) => {
            let cause = cause
                .as_ref()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            let seen = status
                .last_seen
                .map_or_else(|| "never".to_owned(), |seen| format::age(seen, now));
            fields.push(("link", format!("{link}{cause} (last seen {seen})")));
        }
    }
    if let Some(facts) = &status.facts {
        fields.extend(fact_fields(facts));
    }
    ui.fields(&fields);
    let containers = status
        .facts
        .as_ref()
        .map(|facts| facts.containers.as_slice())
        .unwrap_or_default();
    print_runs(context, runs, containers, now);
    print_strangers(context, &status.host.name, runs, containers);
    ui.line("");
}

fn fact_fields(facts: &HostFacts) -> Vec<(&'static str, String)> {
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
        Err(failure) => format!("not usable: {failure}"),
    };
    vec![
        ("engine", engine),
        (
            "disk",
            format!(
                "{} free of {}",
                format::bytes(facts.disk_free),
                format::bytes(facts.disk_total)
            ),
        ),
        (
            "memory",
            format!(
                "{} free of {}",
                format::bytes(facts.memory_available),
                format::bytes(facts.memory_total)
            ),
        ),
        ("load", facts.load.clone()),
    ]
}

fn print_runs(context: &Context, runs: &[Run], containers: &[OurContainer], now: DateTime<Utc>) {
    if runs.is_empty() {
        return;
    }
    let mut table = Table::new(["RUN", "NAME", "KIND", "STATE", "FOR", "CONFIRMED", "CONTAINER"]);
    for run in runs {
        let container = containers.iter().find(|container| container.run_id == run.id);
        table.row([
            run.id.to_string(),
            run.spec.name.clone(),
            run.operation.clone(),
            state(run),
            elapsed(run).unwrap_or_else(|| "-".to_owned()),
            run.confirmed_at
                .map_or_else(|| "-".to_owned(), |at| format::age(at, now)),
            container.map_or_else(
                || "-".to_owned(),
                |container| {
                    format!(
                        "{} {}",
                        container.id.chars().take(12).collect::<String>(),
                        container.status
                    )
                },
            ),
        ]);
    }
    context.ui.table(&table);
}

/// Live containers with our label that this database does not know as active.
fn print_strangers(context: &Context, host: &str, runs: &[Run], containers: &[OurContainer]) {
    for container in containers
        .iter()
        .filter(|container| matches!(container.status.as_str(), "running" | "paused"))
    {
        if !runs.iter().any(|run| run.id == container.run_id) {
            context.ui.warning(format!(
                "{} runs there and is not known here as active",
                container.run_id
            ));
            context.ui.hint(format!(
                "take it over with `farrun adopt {} --host {host}`",
                container.run_id
            ));
        }
    }
}
