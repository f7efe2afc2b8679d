//! The history of runs.

use super::entity::run_event::{ActiveModel, Column, Entity};
use super::error::Doing as _;
use super::value::{nanoseconds, sentence, time};
use super::{Store, StoreError};
use crate::model::RunEvent;
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
};

/// Most characters of an event's detail.
const MAX_DETAIL: usize = 4000;
/// Most characters of an event's kind.
const MAX_KIND: usize = 63;

impl Store {
    /// Appends to the history of a run.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when there is no such run.
    pub async fn add_event(&self, run: &RunId, kind: &str, detail: &str) -> Result<(), StoreError> {
        match insert(&self.connection, row(run, Utc::now(), kind, detail)).await {
            Err(error) if is_orphan(&error) => Err(StoreError::RunUnknown { run: run.clone() }),
            other => other.doing(&self.database, "adding to the history of a run"),
        }
    }

    /// The history of a run, oldest first.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn events(&self, run: &RunId) -> Result<Vec<RunEvent>, StoreError> {
        let rows = Entity::find()
            .filter(Column::RunId.eq(run.as_str()))
            .order_by_asc(Column::Id)
            .all(&self.connection)
            .await
            .doing(&self.database, "reading the history of a run")?;
        Ok(rows
            .into_iter()
            .map(|row| RunEvent {
                at: time(row.at),
                kind: row.kind,
                detail: row.detail,
            })
            .collect())
    }
}

/// An event that is not yet written; its texts are cut to what is kept.
pub(super) fn row(run: &RunId, at: DateTime<Utc>, kind: &str, detail: &str) -> ActiveModel {
    ActiveModel {
        id: NotSet,
        run_id: Set(run.to_string()),
        at: Set(nanoseconds(at)),
        kind: Set(sentence(kind, MAX_KIND)),
        detail: Set(sentence(detail, MAX_DETAIL)),
    }
}

pub(super) async fn insert(connection: &impl ConnectionTrait, row: ActiveModel) -> Result<(), DbErr> {
    Entity::insert(row)
        .exec_without_returning(connection)
        .await
        .map(drop)
}

/// Whether a row was refused because its run does not exist.
pub(super) fn is_orphan(error: &DbErr) -> bool {
    matches!(
        error.sql_err(),
        Some(sea_orm::SqlErr::ForeignKeyConstraintViolation(_))
    )
}
