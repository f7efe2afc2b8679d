//! Output files of runs: recording them, and which of them this machine has.

use super::entity::{output_file, output_pull, run};
use super::error::Doing as _;
use super::value::nanoseconds;
use super::{Store, StoreError, row};
use crate::model::OutputRecord;
use chrono::{DateTime, Utc};
use farrun_protocol::{RunId, Sha256};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QuerySelect as _,
};
use std::borrow::Borrow;
use std::collections::HashMap;

/// Outputs that are written, or read, at once: six values each stay far below what both databases accept.
pub const ROWS: usize = 1000;
const DOING: &str = "recording the outputs of a run";

impl Store {
    /// Replaces what is known of a run's outputs. `pulled_at` counts for this machine; what another machine has
    /// pulled stays pulled there as long as the file's hash stays.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when there is no such run.
    pub async fn set_outputs<O>(&self, id: &RunId, outputs: O) -> Result<(), StoreError>
    where
        O: IntoIterator<Item: Borrow<OutputRecord>>,
        O::IntoIter: Send,
    {
        let outputs = outputs.into_iter();
        let transaction = self.begin(DOING).await?;
        self.lock_run(&transaction, id).await?;
        self.clear_outputs(&transaction, id).await?;
        let mut rows = Rows::new(self, id, outputs);
        while let Some((files, pulls)) = rows.next()? {
            let files = files.into_iter().map(|row| row.into_active_model());
            output_file::Entity::insert_many(files)
                .exec_without_returning(&transaction)
                .await
                .doing(&self.database, DOING)?;
            self.insert_pulls(&transaction, pulls).await?;
        }
        transaction.commit().await.doing(&self.database, DOING)
    }

    fn pull(&self, id: &RunId, output: &OutputRecord, at: DateTime<Utc>) -> output_pull::Model {
        output_pull::Model {
            run_id: id.to_string(),
            path: output.path.clone(),
            machine: self.machine.to_string(),
            sha256: text(output.sha256.as_ref()),
            pulled_at: nanoseconds(at),
            blocks: output.blocks.as_ref().map(ToString::to_string),
        }
    }

    /// Records that all outputs of a run were verified on this machine; false, and nothing is changed, when they are
    /// no longer known as these.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when there is no such run.
    pub async fn mark_all_pulled<O>(
        &self,
        id: &RunId,
        outputs: O,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>
    where
        O: IntoIterator<Item: Borrow<OutputRecord>>,
        O::IntoIter: Send,
    {
        let outputs = outputs.into_iter();
        let transaction = self.begin(DOING).await?;
        self.lock_run(&transaction, id).await?;
        let mut unseen = output_file::Entity::find()
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .count(&transaction)
            .await
            .doing(&self.database, DOING)?;
        self.clear_pulls(&transaction, id).await?;
        let mut rows = Rows::new(self, id, outputs);
        while let Some((files, _)) = rows.next()? {
            if !self.is_known(&transaction, id, &files).await? {
                return Ok(false);
            }
            unseen = unseen.saturating_sub(files.len() as u64);
            let pulls = files.into_iter().map(|file| output_pull::Model {
                machine: self.machine.to_string(),
                pulled_at: nanoseconds(at),
                run_id: file.run_id,
                path: file.path,
                sha256: file.sha256,
                blocks: file.blocks,
            });
            self.insert_pulls(&transaction, pulls.collect()).await?;
        }
        if unseen > 0 {
            return Ok(false);
        }
        transaction.commit().await.doing(&self.database, DOING)?;
        Ok(true)
    }

    /// Whether these rows are there.
    async fn is_known(
        &self,
        transaction: &DatabaseTransaction,
        id: &RunId,
        files: &[output_file::Model],
    ) -> Result<bool, StoreError> {
        let paths = files.iter().map(|file| file.path.as_str());
        let found = output_file::Entity::find()
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .filter(output_file::Column::Path.is_in(paths))
            .all(transaction)
            .await
            .doing(&self.database, DOING)?;
        let found: HashMap<&str, (&str, i64)> = found
            .iter()
            .map(|file| {
                (
                    file.path.as_str(),
                    (identity(&file.sha256, &file.blocks), file.size),
                )
            })
            .collect();
        Ok(files.iter().all(|file| {
            let same = (identity(&file.sha256, &file.blocks), file.size);
            found.get(file.path.as_str()) == Some(&same)
        }))
    }

    async fn insert_pulls(
        &self,
        transaction: &DatabaseTransaction,
        pulls: Vec<output_pull::Model>,
    ) -> Result<(), StoreError> {
        if pulls.is_empty() {
            return Ok(());
        }
        let rows = pulls.into_iter().map(|row| row.into_active_model());
        output_pull::Entity::insert_many(rows)
            .exec_without_returning(transaction)
            .await
            .doing(&self.database, DOING)
            .map(drop)
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
        self.clear_pulls(transaction, id).await
    }

    async fn clear_pulls(&self, connection: &impl ConnectionTrait, id: &RunId) -> Result<(), StoreError> {
        output_pull::Entity::delete_many()
            .filter(output_pull::Column::RunId.eq(id.as_str()))
            .filter(output_pull::Column::Machine.eq(&*self.machine))
            .exec(connection)
            .await
            .doing(&self.database, DOING)
            .map(drop)
    }

    /// Records that the outputs of a run are not on this machine any more.
    ///
    /// # Errors
    /// The database could not be written.
    pub async fn forget_pulls(&self, id: &RunId) -> Result<(), StoreError> {
        self.clear_pulls(&self.connection, id).await
    }
}

/// Records as rows, so many at a time that one INSERT takes.
struct Rows<'a, O> {
    store: &'a Store,
    id: &'a RunId,
    outputs: O,
}

type SomeRows = (Vec<output_file::Model>, Vec<output_pull::Model>);

impl<'a, O: Iterator<Item: Borrow<OutputRecord>>> Rows<'a, O> {
    fn new(store: &'a Store, id: &'a RunId, outputs: O) -> Self {
        Self { store, id, outputs }
    }

    /// The next files, and which of them were pulled here; none when there are no more.
    fn next(&mut self) -> Result<Option<SomeRows>, StoreError> {
        let record = row::record(&self.store.database, self.id.as_str());
        let (mut files, mut pulls) = (Vec::new(), Vec::new());
        for output in self.outputs.by_ref().take(ROWS) {
            let output = output.borrow();
            record.plain(&[("path", Some(&output.path))])?;
            files.push(output_file::Model {
                run_id: self.id.to_string(),
                path: output.path.clone(),
                size: record.signed("size", output.size)?,
                sha256: text(output.sha256.as_ref()),
                blocks: output.blocks.as_ref().map(ToString::to_string),
            });
            pulls.extend(output.pulled_at.map(|at| self.store.pull(self.id, output, at)));
        }
        Ok((!files.is_empty()).then_some((files, pulls)))
    }
}

/// What says whether a file is the same one.
pub(super) fn identity<'a>(sha256: &'a str, blocks: &'a Option<String>) -> &'a str {
    blocks.as_deref().unwrap_or(sha256)
}

fn text(sha256: Option<&Sha256>) -> String {
    sha256.map(ToString::to_string).unwrap_or_default()
}
