//! Output files of runs.

use super::entity::{output_file, output_pull, run};
use super::error::Doing as _;
use super::value::{nanoseconds, time};
use super::{Store, StoreError, row};
use crate::model::OutputRecord;
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};
use std::collections::HashMap;

/// Rows of one INSERT: five values each stay far below what both databases accept.
const ROWS: usize = 2000;
const DOING: &str = "recording the outputs of a run";

impl Store {
    /// Replaces what is known of a run's outputs. `pulled_at` counts for this machine; what another machine has
    /// pulled stays pulled there as long as the file's hash stays.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when there is no such run.
    pub async fn set_outputs(&self, id: &RunId, outputs: &[OutputRecord]) -> Result<(), StoreError> {
        let record = row::record(&self.database, id.as_str());
        let mut files = Vec::with_capacity(outputs.len());
        let mut pulls = Vec::new();
        for output in outputs {
            record.plain(&[("path", Some(&output.path))])?;
            files.push(output_file::Model {
                run_id: id.to_string(),
                path: output.path.clone(),
                size: record.signed("size", output.size)?,
                sha256: output.sha256.to_string(),
            });
            pulls.extend(output.pulled_at.map(|at| self.pull(id, output, at)));
        }
        let transaction = self.begin(DOING).await?;
        self.lock_run(&transaction, id).await?;
        self.clear_outputs(&transaction, id).await?;
        for files in files.chunks(ROWS) {
            let rows = files.iter().cloned().map(|row| row.into_active_model());
            output_file::Entity::insert_many(rows)
                .exec_without_returning(&transaction)
                .await
                .doing(&self.database, DOING)?;
        }
        for pulls in pulls.chunks(ROWS) {
            let rows = pulls.iter().cloned().map(|row| row.into_active_model());
            output_pull::Entity::insert_many(rows)
                .exec_without_returning(&transaction)
                .await
                .doing(&self.database, DOING)?;
        }
        transaction.commit().await.doing(&self.database, DOING)
    }

    fn pull(&self, id: &RunId, output: &OutputRecord, at: DateTime<Utc>) -> output_pull::Model {
        output_pull::Model {
            run_id: id.to_string(),
            path: output.path.clone(),
            machine: self.machine.to_string(),
            sha256: output.sha256.to_string(),
            pulled_at: nanoseconds(at),
        }
    }

    /// Others who record outputs of this run wait.
    async fn lock_run(&self, transaction: &DatabaseTransaction, id: &RunId) -> Result<(), StoreError> {
        let found: Option<String> = run::Entity::find_by_id(id.as_str())
            .select_only()
            .column(run::Column::Id)
            .lock_exclusive()
            .into_tuple()
            .one(transaction)
            .await
            .doing(&self.database, DOING)?;
        match found {
            Some(_) => Ok(()),
            None => Err(StoreError::RunUnknown { run: id.clone() }),
        }
    }

    async fn clear_outputs(&self, transaction: &DatabaseTransaction, id: &RunId) -> Result<(), StoreError> {
        output_file::Entity::delete_many()
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .exec(transaction)
            .await
            .doing(&self.database, DOING)?;
        output_pull::Entity::delete_many()
            .filter(output_pull::Column::RunId.eq(id.as_str()))
            .filter(output_pull::Column::Machine.eq(&*self.machine))
            .exec(transaction)
            .await
            .doing(&self.database, DOING)
            .map(drop)
    }

    /// Records that an output was verified on this machine; false when the run has no such output.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when there is no such run.
    pub async fn mark_pulled(&self, id: &RunId, path: &str, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let transaction = self.begin(DOING).await?;
        self.lock_run(&transaction, id).await?;
        let file = output_file::Entity::find_by_id((id.to_string(), path.to_owned()))
            .one(&transaction)
            .await
            .doing(&self.database, DOING)?;
        let Some(file) = file else { return Ok(false) };
        let row = output_pull::Model {
            run_id: file.run_id,
            path: file.path,
            machine: self.machine.to_string(),
            sha256: file.sha256,
            pulled_at: nanoseconds(at),
        };
        let replace = sea_orm::sea_query::OnConflict::columns([
            output_pull::Column::RunId,
            output_pull::Column::Path,
            output_pull::Column::Machine,
        ])
        .update_columns([output_pull::Column::Sha256, output_pull::Column::PulledAt])
        .to_owned();
        output_pull::Entity::insert(row.into_active_model())
            .on_conflict(replace)
            .exec_without_returning(&transaction)
            .await
            .doing(&self.database, DOING)?;
        transaction.commit().await.doing(&self.database, DOING)?;
        Ok(true)
    }

    /// The outputs of a run, by path, and when this machine pulled them.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn outputs(&self, id: &RunId) -> Result<Vec<OutputRecord>, StoreError> {
        let doing = "reading the outputs of a run";
        let files = output_file::Entity::find()
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .all(&self.connection)
            .await
            .doing(&self.database, doing)?;
        let pulls = output_pull::Entity::find()
            .filter(output_pull::Column::RunId.eq(id.as_str()))
            .filter(output_pull::Column::Machine.eq(&*self.machine))
            .all(&self.connection)
            .await
            .doing(&self.database, doing)?;
        let pulled: HashMap<(String, String), i64> = pulls
            .into_iter()
            .map(|pull| ((pull.path, pull.sha256), pull.pulled_at))
            .collect();
        let record = row::record(&self.database, id.as_str());
        let mut outputs = Vec::with_capacity(files.len());
        for file in files {
            outputs.push(OutputRecord {
                size: record.unsigned("size", file.size)?,
                sha256: record.parse("sha256", &file.sha256)?,
                pulled_at: pulled.get(&(file.path.clone(), file.sha256)).copied().map(time),
                path: file.path,
            });
        }
        // Here, because the order of text differs between databases.
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(outputs)
    }
}
