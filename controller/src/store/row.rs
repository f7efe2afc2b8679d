//! Between a run and its rows.

use super::StoreError;
use super::entity::{run, run_path};
use super::filter::RunSummary;
use super::value::{Record, nanoseconds, sentence, time};
use crate::model::Run;
use crate::model::run::{MAX_FINDING, MAX_LOG_PATH};
use farrun_protocol::RunId;
use farrun_protocol::explain::MAX_ERROR_MESSAGE;
use farrun_protocol::verdict::Reason;
use sea_orm::FromQueryResult;

pub(super) fn record<'a>(database: &'a str, id: &str) -> Record<'a> {
    Record {
        database,
        of: format!("run {id}"),
    }
}

/// Cuts what may be cut and refuses what cannot be kept.
pub(super) fn check(run: &mut Run, database: &str) -> Result<(), StoreError> {
    run.error_message = run
        .error_message
        .take()
        .map(|message| sentence(&message, MAX_ERROR_MESSAGE));
    run.finding_text = run.finding_text.take().map(|text| sentence(&text, MAX_FINDING));
    let length = run.log_path.as_deref().map_or(0, |path| path.chars().count());
    if length > MAX_LOG_PATH {
        return Err(StoreError::LogPathTooLong {
            run: run.id.clone(),
            length,
        });
    }
    record(database, run.id.as_str()).plain(&[
        ("host", Some(&run.host)),
        ("operation", Some(&run.operation)),
        ("name", Some(&run.spec.name)),
        ("recipe", run.recipe.as_deref()),
        ("log_path", run.log_path.as_deref()),
        ("outputs_path", run.outputs_path.as_deref()),
        ("diagnostics_path", run.diagnostics_path.as_deref()),
        ("finding", run.finding.as_deref()),
        ("container_id", run.container_id.as_deref()),
        ("image_digest", run.image_digest.as_deref()),
        ("gpus", Some(&run.gpus)),
        ("key", run.key.as_deref()),
        ("owner", run.owner.as_deref()),
    ])
}

/// The row of a run that [`check`] accepted.
pub(super) fn row(run: &Run, database: &str) -> Result<run::Model, StoreError> {
    let record = record(database, run.id.as_str());
    let spec = String::from_utf8_lossy(&run.spec.canonical()).into_owned();
    Ok(run::Model {
        id: run.id.to_string(),
        prompt_id: run.prompt_id.clone().map(String::from),
        parent_run: run.parent_run.clone().map(String::from),
        host: run.host.clone(),
        controller_id: run.controller_id.to_string(),
        operation: run.operation.clone(),
        name: run.spec.name.clone(),
        recipe: run.recipe.clone(),
        status: run.status.as_str().to_owned(),
        reason: run.reason.map(|reason| reason.code().to_owned()),
        error_message: run.error_message.clone(),
        exit_code: run.exit_code,
        signal: run.signal,
        log_length: run
            .log_length
            .map(|length| record.signed("log_length", length))
            .transpose()?,
        log_sha256: run.log_sha256.clone().map(String::from),
        container_id: run.container_id.clone(),
        image_digest: run.image_digest.clone(),
        gpus: run.gpus.clone(),
        key: run.key.clone(),
        owner: run.owner.clone(),
        created_at: nanoseconds(run.created_at),
        launched_at: run.launched_at.map(nanoseconds),
        started_at: run.started_at.map(nanoseconds),
        ended_at: run.ended_at.map(nanoseconds),
        confirmed_at: run.confirmed_at.map(nanoseconds),
        updated_at: nanoseconds(run.updated_at),
        spec,
        lease: text(run.lease.as_ref()),
        gpu_summary: text(run.gpu_summary.as_ref()),
        finding: run.finding.clone(),
        finding_text: run.finding_text.clone(),
        diagnosed_at: run.diagnosed_at.map(nanoseconds),
    })
}

/// Plain data always serialises.
fn text<T: serde::Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok())
}

/// What this machine knows of a run's files.
pub(super) fn path_row(run: &Run, machine: &str) -> run_path::Model {
    run_path::Model {
        run_id: run.id.to_string(),
        machine: machine.to_owned(),
        log_path: run.log_path.clone(),
        outputs_path: run.outputs_path.clone(),
        log_complete: run.log_complete,
        diagnostics_path: run.diagnostics_path.clone(),
    }
}

/// The run that its rows describe.
pub(super) fn model(
    row: run::Model,
    paths: Option<run_path::Model>,
    database: &str,
) -> Result<Run, StoreError> {
    let record = record(database, &row.id);
    // A machine that never had anything of the run knows no place of it.
    let paths = paths.unwrap_or_else(|| run_path::Model {
        run_id: row.id.clone(),
        machine: String::new(),
        log_path: None,
        outputs_path: None,
        log_complete: false,
        diagnostics_path: None,
    });
    Ok(Run {
        id: record.parse("id", &row.id)?,
        prompt_id: record.parse_some("prompt_id", row.prompt_id.as_deref())?,
        parent_run: record.parse_some("parent_run", row.parent_run.as_deref())?,
        controller_id: record.parse("controller_id", &row.controller_id)?,
        status: record.parse("status", &row.status)?,
        reason: reason(row.reason.as_deref()),
        spec: record.json("spec", &row.spec)?,
        log_length: length(&record, row.log_length)?,
        log_sha256: record.parse_some("log_sha256", row.log_sha256.as_deref())?,
        host: row.host,
        operation: row.operation,
        recipe: row.recipe,
        error_message: row.error_message,
        exit_code: row.exit_code,
        signal: row.signal,
        log_path: paths.log_path,
        outputs_path: paths.outputs_path,
        diagnostics_path: paths.diagnostics_path,
        log_complete: paths.log_complete,
        finding: row.finding,
        finding_text: row.finding_text,
        diagnosed_at: row.diagnosed_at.map(time),
        container_id: row.container_id,
        image_digest: row.image_digest,
        gpus: row.gpus,
        lease: row.lease.map(|text| record.json("lease", &text)).transpose()?,
        gpu_summary: row
            .gpu_summary
            .map(|text| record.json("gpu_summary", &text))
            .transpose()?,
        key: row.key,
        owner: row.owner,
        created_at: time(row.created_at),
        launched_at: row.launched_at.map(time),
        started_at: row.started_at.map(time),
        ended_at: row.ended_at.map(time),
        confirmed_at: row.confirmed_at.map(time),
        updated_at: time(row.updated_at),
    })
}

/// A code that only a newer program knows is no reason to refuse the whole list.
fn reason(code: Option<&str>) -> Option<Reason> {
    code.and_then(Reason::from_code)
}

fn length(record: &Record<'_>, length: Option<i64>) -> Result<Option<u64>, StoreError> {
    length
        .map(|length| record.unsigned("log_length", length))
        .transpose()
}

/// The columns of a summary.
#[derive(Debug, FromQueryResult)]
pub(super) struct SummaryRow {
    id: String,
    name: String,
    prompt_id: Option<String>,
    host: String,
    operation: String,
    status: String,
    reason: Option<String>,
    error_message: Option<String>,
    exit_code: Option<i32>,
    finding: Option<String>,
    finding_text: Option<String>,
    gpus: String,
    log_length: Option<i64>,
    owner: Option<String>,
    created_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    confirmed_at: Option<i64>,
}

impl SummaryRow {
    /// What [`Self`] is read from.
    pub(super) const COLUMNS: [run::Column; 18] = [
        run::Column::Id,
        run::Column::Name,
        run::Column::PromptId,
        run::Column::Host,
        run::Column::Operation,
        run::Column::Status,
        run::Column::Reason,
        run::Column::ErrorMessage,
        run::Column::ExitCode,
        run::Column::Finding,
        run::Column::FindingText,
        run::Column::Gpus,
        run::Column::LogLength,
        run::Column::Owner,
        run::Column::CreatedAt,
        run::Column::StartedAt,
        run::Column::EndedAt,
        run::Column::ConfirmedAt,
    ];

    pub(super) fn model(self, database: &str) -> Result<RunSummary, StoreError> {
        let record = record(database, &self.id);
        Ok(RunSummary {
            id: record.parse::<RunId>("id", &self.id)?,
            prompt_id: record.parse_some("prompt_id", self.prompt_id.as_deref())?,
            status: record.parse("status", &self.status)?,
            reason: reason(self.reason.as_deref()),
            log_length: length(&record, self.log_length)?,
            name: self.name,
            host: self.host,
            operation: self.operation,
            error_message: self.error_message,
            exit_code: self.exit_code,
            finding: self.finding,
            finding_text: self.finding_text,
            gpus: self.gpus,
            owner: self.owner,
            created_at: time(self.created_at),
            started_at: self.started_at.map(time),
            ended_at: self.ended_at.map(time),
            confirmed_at: self.confirmed_at.map(time),
        })
    }
}
