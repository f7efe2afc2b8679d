//! What a host is, what its GPUs do and how its runs stand, asked for at once.

use super::RunError;
use super::owner::Owner;
use super::reconcile::{self, Looked};
use crate::controller::Controller;
use crate::host::Link;
use crate::model::{Host, HostReport};
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::message::HostFacts;
use futures_util::future::join_all;
use std::future::Future;
use std::time::Duration;

/// How long a host may take until its agent talks.
pub const CONNECT: Duration = Duration::from_secs(10);
/// How long each answer may take after that. The agent answers within two seconds whatever Docker and `nvidia-smi` do;
/// the rest is for the way.
pub const ANSWER: Duration = Duration::from_secs(4);

/// What is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// What the host is and holds.
    pub host: bool,
    /// How its unsettled runs stand.
    pub runs: bool,
    /// Age of GPU figures that will do, in milliseconds; the agent's time to live when none.
    pub max_age: Option<u64>,
    /// Whether the agent finds out anew what jobs compute with.
    pub detect: bool,
}

/// What was answered; each part, or why it is missing. A part that was not asked for is `Ok(None)`.
#[derive(Debug)]
pub struct Seen {
    /// When the answers were here, by our clock.
    pub at: DateTime<Utc>,
    /// From a ping to its answer.
    pub round_trip: Option<Duration>,
    /// Version of the agent.
    pub version: String,
    /// What the host is and holds.
    pub facts: Result<Option<HostFacts>, String>,
    /// What its GPUs are and do.
    pub gpus: Result<GpuReport, String>,
    /// How its runs stand.
    pub runs: Result<Looked, String>,
}

impl Seen {
    /// The halves that are worth keeping for the time when the host says nothing.
    pub fn report(&self) -> HostReport {
        HostReport {
            facts: self
                .facts
                .as_ref()
                .ok()
                .and_then(|facts| Some((facts.clone()?, self.at))),
            gpus: self.gpus.as_ref().ok().map(|gpus| (gpus.clone(), self.at)),
        }
    }
}

/// Dials hosts and asks them, all at once. Each answers, or why it is out of reach, in words.
///
/// # Errors
/// The user interrupted: then nothing is known of any of them.
pub async fn dial_all(
    controller: &Controller,
    hosts: &[Host],
    wish: Wish,
) -> Result<Vec<Result<Seen, String>>, RunError> {
    let dialled = join_all(hosts.iter().map(|host| dial(controller, host, wish)));
    let answers = tokio::select! {
        biased;
        () = controller.interrupt.cancelled() => None,
        answers = dialled => Some(answers),
    };
    // A dial hears of the interrupt as well, and may answer with it first.
    let kept = answers.filter(|_| !controller.interrupt.is_cancelled());
    kept.ok_or(RunError::Interrupted { detached: None })
}

async fn dial(controller: &Controller, host: &Host, wish: Wish) -> Result<Seen, String> {
    let link = match tokio::time::timeout(CONNECT, controller.contact_unasked(host)).await {
        Ok(link) => link.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {} s", CONNECT.as_secs())),
    };
    let seen = through(controller, &link, wish).await;
    link.session.close().await;
    Ok(seen)
}

/// Asks a host over a link that is there: every request leaves at once.
pub async fn through(controller: &Controller, link: &Link, wish: Wish) -> Seen {
    let facts = async {
        match wish.host {
            true => within("the host", link.client.host()).await.map(Some),
            false => Ok(None),
        }
    };
    let runs = async {
        match wish.runs {
            true => within("runs", runs(controller, link)).await,
            false => Ok(Looked::default()),
        }
    };
    let (facts, gpus, runs, round_trip) = tokio::join!(
        facts,
        within("GPUs", link.client.gpus(wish.max_age, wish.detect)),
        runs,
        link.session.round_trip(ANSWER),
    );
    Seen {
        at: Utc::now(),
        round_trip: round_trip.ok(),
        version: link.hello.version.clone(),
        facts,
        gpus,
        runs,
    }
}

async fn runs(controller: &Controller, link: &Link) -> Result<Looked, super::RunError> {
    let open = controller.store.unsettled_runs(Some(&link.host)).await?;
    // Of one that was asked for and never acknowledged, the host may know more than we do.
    let ids: Vec<RunId> = open
        .into_iter()
        .filter(|run| Owner::has_asked(run) && !Owner::is_other(run))
        .map(|run| run.id)
        .collect();
    // An empty list asks for all of them.
    if ids.is_empty() {
        return Ok(Looked::default());
    }
    reconcile::look(controller, link, &ids).await
}

async fn within<T, E: std::fmt::Display>(
    what: &str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer about {what} within {} s", ANSWER.as_secs())),
    }
}
