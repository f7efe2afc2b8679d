//! Runs: creating, reading, listing, deleting.

use super::entity::run::{Column, Entity, Model};
use super::entity::run_path;
use super::error::{Doing as _, is_duplicate};
use super::row::{self, SummaryRow};
use super::value::{ESCAPE, literal};
use super::{RunFilter, RunSummary, Store, StoreError, event};
use crate::model::{Run, RunStatus};
use chrono::Utc;
use farrun_protocol::RunId;
use farrun_protocol::verdict::Reason;
use sea_orm::sea_query::LikeExpr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};
use std::collections::HashMap;

/// Most values of one `IN (…)`.
const MAX_LIST: usize = 500;

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is a run now.
    New,
    /// An earlier order with the same key is this run; nothing was added.
    Existing(Box<Run>),
}

impl Store {
    /// Adds a run, unless its key belongs to one already.
    ///
    /// # Errors
    /// [`StoreError::RunExists`] when its id is taken, [`StoreError::LogPathTooLong`].
    pub async fn create_run(&self, run: &Run) -> Result<Created, StoreError> {
        let mut run = run.clone();
        row::check(&mut run, &self.database)?;
        if let Some(existing) = self.run_of_key(&run).await? {
            return Ok(existing);
        }
        let doing = "adding a run";
        let transaction = self.begin(doing).await?;
        let row = row::row(&run, &self.database)?.into_active_model();
        if let Err(error) = Entity::insert(row).exec_without_returning(&transaction).await {
            transaction.rollback().await.doing(&self.database, doing)?;
            if !is_duplicate(&error) {
                return Err(error).doing(&self.database, doing);
            }
            // Another order took the key since we looked; otherwise it is the id.
            let existing = self.run_of_key(&run).await?;
            return existing.ok_or(StoreError::RunExists { run: run.id });
        }
        self.write_paths(&transaction, &run, doing).await?;
        let status = event::row(&run.id, Utc::now(), "status", run.status.as_str());
        event::insert(&transaction, status)
            .await
            .doing(&self.database, doing)?;
        transaction.commit().await.doing(&self.database, doing)?;
        Ok(Created::New)
    }

    async fn run_of_key(&self, run: &Run) -> Result<Option<Created>, StoreError> {
        let Some(key) = &run.key else { return Ok(None) };
        let found = self
            .read(Entity::find().filter(Column::Key.eq(key.as_str())))
            .await?;
        Ok(found
            .into_iter()
            .next()
            .map(|run| Created::Existing(Box::new(run))))
    }

    /// Writes what this machine knows of the run's files.
    pub(super) async fn write_paths(
        &self,
        connection: &impl ConnectionTrait,
        run: &Run,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let row = row::path_row(run, &self.machine).into_active_model();
        let replace =
            sea_orm::sea_query::OnConflict::columns([run_path::Column::RunId, run_path::Column::Machine])
                .update_columns([
                    run_path::Column::LogPath,
                    run_path::Column::OutputsPath,
                    run_path::Column::LogComplete,
                    run_path::Column::DiagnosticsPath,
                ])
                .to_owned();
        run_path::Entity::insert(row)
            .on_conflict(replace)
            .exec_without_returning(connection)
            .await
            .doing(&self.database, doing)
            .map(drop)
    }

    /// The run of this id.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        let found = self.read(Entity::find_by_id(id.as_str())).await?;
        Ok(found.into_iter().next())
    }

    /// The runs whose id begins with `prefix`, newest first; none for an empty one.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn find_runs(&self, prefix: &str, limit: u64) -> Result<Vec<Run>, StoreError> {
        if prefix.is_empty() || prefix.contains('\0') {
            return Ok(Vec::new());
        }
        // SQLite's LIKE ignores the case of ASCII and PostgreSQL's does not; ids have no capitals.
        let prefix = literal(&prefix.to_ascii_lowercase());
        let pattern = LikeExpr::new(format!("{prefix}%")).escape(ESCAPE);
        // Ids first: they lie in an index of their own, the rows are large.
        let ids: Vec<String> = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Id.like(pattern))
            .limit(limit.min(MAX_LIST as u64))
            .into_tuple()
            .all(&self.connection)
            .await
            .doing(&self.database, "looking for runs")?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.read(newest_first(Entity::find().filter(Column::Id.is_in(ids))))
            .await
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when the page is to follow a run that there is not.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        self.read(self.listed(filter).await?).await
    }

    /// What a list shows of runs, newest first: much cheaper than [`Self::runs`].
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when the page is to follow a run that there is not.
    pub async fn run_summaries(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let rows = self
            .listed(filter)
            .await?
            .select_only()
            .columns(SummaryRow::COLUMNS)
            .into_model::<SummaryRow>()
            .all(&self.connection)
            .await
            .doing(&self.database, "listing runs")?;
        rows.into_iter().map(|row| row.model(&self.database)).collect()
    }

    /// The runs whose job may still be waiting or running, newest first; those of one host, or of all.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn unsettled_runs(&self, host: Option<&str>) -> Result<Vec<Run>, StoreError> {
        let statuses = RunStatus::ALL.into_iter().filter(|status| !status.is_settled());
        self.runs(&RunFilter {
            statuses: statuses.collect(),
            host: host.map(str::to_owned),
            ..RunFilter::default()
        })
        .await
    }

    /// The runs about which their host may know more than we do, newest first: those whose job may still be waiting or
    /// running, and those of whose end the host's engine has said nothing yet.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn unclear_runs(&self, host: Option<&str>) -> Result<Vec<Run>, StoreError> {
        let mut runs = self.unsettled_runs(host).await?;
        let silent = Entity::find().filter(
            Condition::all()
                .add(Column::Status.eq(RunStatus::Failed.as_str()))
                .add(Column::Reason.eq(Reason::EngineSilent.code()))
                .add_option(host.map(|host| Column::Host.eq(host))),
        );
        runs.extend(self.read(newest_first(silent)).await?);
        Ok(runs)
    }

    /// The newest run.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn last_run(&self) -> Result<Option<Run>, StoreError> {
        let newest = RunFilter {
            limit: Some(1),
            ..RunFilter::default()
        };
        Ok(self.runs(&newest).await?.into_iter().next())
    }

    async fn listed(&self, filter: &RunFilter) -> Result<Select<Entity>, StoreError> {
        let mut condition = Condition::all()
            .add_option(
                filter
                    .prompt
                    .as_ref()
                    .map(|prompt| Column::PromptId.eq(prompt.as_str())),
            )
            .add_option(filter.name.as_ref().map(|name| Column::Name.eq(name.as_str())))
            .add_option(filter.host.as_ref().map(|host| Column::Host.eq(host.as_str())))
            .add_option(
                filter
                    .operation
                    .as_ref()
                    .map(|word| Column::Operation.eq(word.as_str())),
            );
        if !filter.statuses.is_empty() {
            let words = filter.statuses.iter().map(|status| status.as_str());
            condition = condition.add(Column::Status.is_in(words));
        }
        if let Some(before) = &filter.before {
            condition = condition.add(self.following(before).await?);
        }
        Ok(newest_first(Entity::find().filter(condition)).limit(filter.limit))
    }

    /// What follows a run in the list.
    async fn following(&self, id: &RunId) -> Result<Condition, StoreError> {
        let created_at: Option<i64> = Entity::find_by_id(id.as_str())
            .select_only()
            .column(Column::CreatedAt)
            .into_tuple()
            .one(&self.connection)
            .await
            .doing(&self.database, "listing runs")?;
        let created_at = created_at.ok_or_else(|| StoreError::RunUnknown { run: id.clone() })?;
        Ok(Condition::any().add(Column::CreatedAt.lt(created_at)).add(
            Condition::all()
                .add(Column::CreatedAt.eq(created_at))
                .add(Column::Id.lt(id.as_str())),
        ))
    }

    /// Reads runs with what this machine knows of their files.
    async fn read(&self, query: Select<Entity>) -> Result<Vec<Run>, StoreError> {
        let rows = query
            .all(&self.connection)
            .await
            .doing(&self.database, "reading runs")?;
        let mut paths = self.paths_of(&rows).await?;
        rows.into_iter()
            .map(|row| {
                let paths = paths.remove(&row.id);
                row::model(row, paths, &self.database)
            })
            .collect()
    }

    async fn paths_of(&self, rows: &[Model]) -> Result<HashMap<String, run_path::Model>, StoreError> {
        let mut paths = HashMap::with_capacity(rows.len());
        for rows in rows.chunks(MAX_LIST) {
            let found = run_path::Entity::find()
                .filter(run_path::Column::Machine.eq(&*self.machine))
                .filter(run_path::Column::RunId.is_in(rows.iter().map(|row| row.id.as_str())))
                .all(&self.connection)
                .await
                .doing(&self.database, "reading runs")?;
            paths.extend(found.into_iter().map(|row| (row.run_id.clone(), row)));
        }
        Ok(paths)
    }
}

fn newest_first(query: Select<Entity>) -> Select<Entity> {
    query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id)
}
