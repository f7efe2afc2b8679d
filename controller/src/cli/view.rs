//! What `--json` prints: versioned shapes, apart from the types inside.

use super::outcome;
use crate::model::{Host, OutputRecord, OutputsTotal, Prompt, Run, RunEvent, RunStatus};
use crate::run::owner::Owner;
use crate::store::RunSummary;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A document: its schema's name and version, then the data.
#[derive(Debug, Serialize)]
pub struct Document<T> {
    /// Such as `farrun.runs/1`; the number grows when a field changes its meaning or goes.
    pub schema: &'static str,
    /// The data.
    #[serde(flatten)]
    pub data: T,
}

/// Wraps data in a document.
pub fn document<T: Serialize>(schema: &'static str, data: T) -> Document<T> {
    Document { schema, data }
}

/// A run.
#[derive(Debug, Serialize)]
pub struct RunView<'a> {
    /// Its id.
    pub id: &'a str,
    /// Name of its prompt or image.
    pub name: &'a str,
    /// Id of its prompt.
    pub prompt_id: Option<&'a str>,
    /// Id of the run whose output it works on.
    pub parent_run: Option<&'a str>,
    /// Name of its host.
    pub host: &'a str,
    /// What kind of run.
    pub operation: &'a str,
    /// Recipe it was resolved from.
    pub recipe: Option<&'a str>,
    /// Where it stands.
    pub status: &'static str,
    /// Whether its order was interrupted before the host acknowledged it; `farrun attach` takes it up.
    pub interrupted: bool,
    /// Whether the host confirmed its state less than a minute ago, or it is settled; else it is what was last known.
    pub confirmed: bool,
    /// Stable code of why it ended so.
    pub reason: Option<&'static str>,
    /// One readable line.
    pub error_message: Option<&'a str>,
    /// Exit code of the job.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Stable code of the cause that its evidence shows.
    pub finding: Option<&'a str>,
    /// The same in one line.
    pub finding_text: Option<&'a str>,
    /// When the evidence was last read.
    pub diagnosed_at: Option<DateTime<Utc>>,
    /// Image it runs.
    pub image: &'a str,
    /// Digest or id of that image.
    pub image_digest: Option<&'a str>,
    /// The engine's id of its container.
    pub container_id: Option<&'a str>,
    /// GPUs it was given.
    pub gpus: &'a str,
    /// The same, as they were when they were given.
    pub lease: Option<&'a farrun_protocol::lease::Lease>,
    /// What it did to them, as far as the host told.
    pub gpu_summary: Option<&'a farrun_protocol::series::GpuSummary>,
    /// Local mirror of its log.
    pub log_path: Option<&'a str>,
    /// Whether that mirror is whole and verified.
    pub log_complete: bool,
    /// Length of the whole log in bytes.
    pub log_length: Option<u64>,
    /// Hash of the whole log.
    pub log_sha256: Option<&'a str>,
    /// Why the log is not all that the job wrote; only in documents about one run, and only when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_error: Option<&'a str>,
    /// Folder of its outputs here.
    pub outputs_path: Option<&'a str>,
    /// Folder of its evidence here.
    pub diagnostics_path: Option<&'a str>,
    /// When it was ordered.
    pub created_at: DateTime<Utc>,
    /// When the host acknowledged it.
    pub launched_at: Option<DateTime<Utc>>,
    /// When the job started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the host last confirmed its state.
    pub confirmed_at: Option<DateTime<Utc>>,
}

impl<'a> From<&'a Run> for RunView<'a> {
    fn from(run: &'a Run) -> Self {
        Self {
            id: run.id.as_str(),
            name: &run.spec.name,
            prompt_id: run.prompt_id.as_ref().map(AsRef::as_ref),
            parent_run: run.parent_run.as_ref().map(AsRef::as_ref),
            host: &run.host,
            operation: &run.operation,
            recipe: run.recipe.as_deref(),
            status: run.status.as_str(),
            interrupted: is_interrupted(run),
            confirmed: outcome::is_confirmed(run.status, run.confirmed_at, Utc::now()),
            reason: run.reason.map(farrun_protocol::verdict::Reason::code),
            error_message: run.error_message.as_deref(),
            exit_code: run.exit_code,
            signal: run.signal,
            finding: run.finding.as_deref(),
            finding_text: run.finding_text.as_deref(),
            diagnosed_at: run.diagnosed_at,
            image: &run.spec.image,
            image_digest: run.image_digest.as_deref(),
            container_id: run.container_id.as_deref(),
            gpus: &run.gpus,
            lease: run.lease.as_ref(),
            gpu_summary: run.gpu_summary.as_ref(),
            log_path: run.log_path.as_deref(),
            log_complete: run.log_complete,
            log_length: run.log_length,
            log_sha256: run.log_sha256.as_ref().map(AsRef::as_ref),
            log_error: None,
            outputs_path: run.outputs_path.as_deref(),
            diagnostics_path: run.diagnostics_path.as_deref(),
            created_at: run.created_at,
            launched_at: run.launched_at,
            started_at: run.started_at,
            ended_at: run.ended_at,
            confirmed_at: run.confirmed_at,
        }
    }
}

/// Whether the process that ordered a run died before the host acknowledged it.
pub fn is_interrupted(run: &Run) -> bool {
    !run.status.is_settled() && run.launched_at.is_none() && !has_living_owner(run.owner.as_deref())
}

/// Whether the process that works on an order lives.
pub fn has_living_owner(owner: Option<&str>) -> bool {
    owner.and_then(Owner::parse).is_some_and(|owner| owner.is_alive())
}

/// A run as a list shows it.
#[derive(Debug, Serialize)]
pub struct SummaryView<'a> {
    #[serde(flatten)]
    summary: &'a RunSummary,
    /// Whether its order was interrupted before the host acknowledged it.
    interrupted: bool,
    /// As [`RunView::confirmed`].
    confirmed: bool,
}

impl<'a> From<&'a RunSummary> for SummaryView<'a> {
    fn from(summary: &'a RunSummary) -> Self {
        let early = matches!(summary.status, RunStatus::Pending | RunStatus::Uploading);
        Self {
            summary,
            interrupted: early && !has_living_owner(summary.owner.as_deref()),
            confirmed: outcome::is_confirmed(summary.status, summary.confirmed_at, Utc::now()),
        }
    }
}

/// Several runs in short.
#[derive(Debug, Serialize)]
pub struct Summaries<'a> {
    /// Newest first.
    pub runs: Vec<SummaryView<'a>>,
    /// Hosts that did not answer, so that their runs are shown as last known.
    pub silent_hosts: Vec<&'a str>,
}

/// A run with what belongs to it.
#[derive(Debug, Serialize)]
pub struct RunDetail<'a> {
    /// The run.
    pub run: RunView<'a>,
    /// The resolved order.
    pub spec: &'a farrun_protocol::spec::RunSpec,
    /// How many of its outputs are known.
    pub outputs_total: OutputsTotal,
    /// Some of them, by path.
    pub outputs: &'a [OutputRecord],
    /// What went wrong beside it without being the cause of its end.
    pub warnings: Vec<&'a str>,
    /// Its history.
    pub events: &'a [RunEvent],
}

/// Several runs.
#[derive(Debug, Serialize)]
pub struct Runs<'a> {
    /// Newest first.
    pub runs: Vec<RunView<'a>>,
    /// Hosts that did not answer, so that their runs are shown as last known.
    pub silent_hosts: Vec<&'a str>,
}

/// Several prompts.
#[derive(Debug, Serialize)]
pub struct Prompts<'a> {
    /// Newest first.
    pub prompts: &'a [Prompt],
}

/// Several hosts.
#[derive(Debug, Serialize)]
pub struct Hosts<'a> {
    /// By name.
    pub hosts: &'a [Host],
}
