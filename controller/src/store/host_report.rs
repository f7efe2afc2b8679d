//! What hosts said last, for the time when they say nothing.

use super::entity::host_report::{Column, Entity, Model};
use super::error::Doing as _;
use super::value::{nanoseconds, time};
use super::{Store, StoreError};
use crate::model::HostReport;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, EntityTrait as _, IntoActiveModel as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest report that is kept, in bytes: a host could send more, and nobody could read it.
const MAX_REPORT: usize = 1024 * 1024;

const DOING: &str = "keeping what hosts said";

impl Store {
    /// Keeps what hosts said, all of them at once; a half that one did not say stays as it was.
    ///
    /// # Errors
    /// The database refused.
    pub async fn keep_reports(&self, reports: &[(&str, HostReport)]) -> Result<(), StoreError> {
        if reports.is_empty() {
            return Ok(());
        }
        let transaction = self.begin(DOING).await?;
        for (host, report) in reports {
            self.keep(&transaction, host, report).await?;
        }
        transaction.commit().await.doing(&self.database, DOING)
    }

    async fn keep(
        &self,
        connection: &impl ConnectionTrait,
        host: &str,
        report: &HostReport,
    ) -> Result<(), StoreError> {
        let (facts, facts_at) = columns(report.facts.as_ref());
        let (gpus, gpus_at) = columns(report.gpus.as_ref());
        let mut replaced = Vec::new();
        if facts.is_some() {
            replaced.extend([Column::Facts, Column::FactsAt]);
        }
        if gpus.is_some() {
            replaced.extend([Column::Gpus, Column::GpusAt]);
        }
        if replaced.is_empty() {
            return Ok(());
        }
        let row = Model {
            host: host.to_owned(),
            facts,
            facts_at,
            gpus,
            gpus_at,
        };
        Entity::insert(row.into_active_model())
            .on_conflict(
                OnConflict::column(Column::Host)
                    .update_columns(replaced)
                    .to_owned(),
            )
            .exec_without_returning(connection)
            .await
            .doing(&self.database, DOING)
            .map(drop)
    }

    /// What a host said last. A report that this program cannot read counts as none: it is a convenience.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn report(&self, host: &str) -> Result<HostReport, StoreError> {
        let row = Entity::find_by_id(host)
            .one(&self.connection)
            .await
            .doing(&self.database, "reading what a host said")?;
        Ok(row.map_or_else(HostReport::default, |row| HostReport {
            facts: half(row.facts, row.facts_at),
            gpus: half(row.gpus, row.gpus_at),
        }))
    }

    pub(super) async fn forget_report(&self, host: &str) -> Result<(), StoreError> {
        Entity::delete_by_id(host)
            .exec(&self.connection)
            .await
            .doing(&self.database, "removing a host")
            .map(drop)
    }
}

fn columns<T: Serialize>(half: Option<&(T, DateTime<Utc>)>) -> (Option<String>, Option<i64>) {
    half.and_then(|(said, at)| {
        let text = serde_json::to_string(said).ok()?;
        (text.len() <= MAX_REPORT).then(|| (text, nanoseconds(*at)))
    })
    .unzip()
}

fn half<T: DeserializeOwned>(text: Option<String>, at: Option<i64>) -> Option<(T, DateTime<Utc>)> {
    Some((serde_json::from_str(&text?).ok()?, time(at?)))
}
