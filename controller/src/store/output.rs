//! Output files of runs.

use super::entity::{output_file, output_pull, run};
use super::error::Doing as _;
use super::value::{nanoseconds, time};
use super::{Store, StoreError, row};
use crate::model::OutputRecord;
use chrono::{DateTime, Utc};
use farrun_protocol::{BlockHash, RunId, Sha256};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};
use std::collections::HashMap;

/// Rows of one INSERT: six values each stay far below what both databases accept.
const ROWS: usize = 2000;
const DOING: &str = "recording the outputs of a run";

impl Store {
    /// Replaces what is known of a run's outputs. `pulled_at` counts for this machine; what another machine has
    /// pulled stays pulled there as long as the file's hash stays. So does a SHA-256 that is known here and not given.
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
                sha256: text(output.sha256.as_ref()),
                blocks: output.blocks.as_ref().map(ToString::to_string),
            });
            pulls.extend(output.pulled_at.map(|at| self.pull(id, output, at)));
        }
        let transaction = self.begin(DOING).await?;
        self.lock_run(&transaction, id).await?;
        self.keep_digests(&transaction, id, &mut files).await?;
        self.clear_outputs(&transaction, id).await?;
        for files in files.chunks(ROWS) {
            let rows = files.iter().cloned().map(|row| row.into_active_model());
            output_file::Entity::insert_many(rows)
                .exec_without_returning(&transaction)
                .await
                .doing(&self.database, DOING)?;
        }
        self.insert_pulls(&transaction, pulls).await?;
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

    /// Completes files by the SHA-256 that the rows they are about to replace have.
    async fn keep_digests(
        &self,
        transaction: &DatabaseTransaction,
        id: &RunId,
        files: &mut [output_file::Model],
    ) -> Result<(), StoreError> {
        if files.iter().all(|file| !file.sha256.is_empty()) {
            return Ok(());
        }
        let known = output_file::Entity::find()
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .filter(output_file::Column::Blocks.is_not_null())
            .all(transaction)
            .await
            .doing(&self.database, DOING)?;
        let mut known: HashMap<_, _> = known
            .into_iter()
            .map(|file| ((file.path, file.blocks), file.sha256))
            .collect();
        for file in files.iter_mut().filter(|file| file.sha256.is_empty()) {
            let same = (file.path.clone(), file.blocks.clone());
            file.sha256 = known.remove(&same).unwrap_or_default();
        }
        Ok(())
    }

    /// Adds the SHA-256 of an output that is known by the hash over its blocks; nothing when the run has no such output.
    ///
    /// # Errors
    /// The database could not be written.
    pub async fn set_digest(
        &self,
        id: &RunId,
        path: &str,
        blocks: &BlockHash,
        sha256: &Sha256,
    ) -> Result<(), StoreError> {
        output_file::Entity::update_many()
            .col_expr(output_file::Column::Sha256, Expr::value(sha256.as_str()))
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .filter(output_file::Column::Path.eq(path))
            .filter(output_file::Column::Blocks.eq(blocks.as_str()))
            .exec(&self.connection)
            .await
            .doing(&self.database, DOING)
            .map(drop)
    }

    /// Records that all outputs of a run were verified on this machine; false, and nothing is changed, when they are
    /// no longer known as these.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`] when there is no such run.
    pub async fn mark_all_pulled(
        &self,
        id: &RunId,
        outputs: &[OutputRecord],
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let transaction = self.begin(DOING).await?;
        self.lock_run(&transaction, id).await?;
        let files = output_file::Entity::find()
            .filter(output_file::Column::RunId.eq(id.as_str()))
            .all(&transaction)
            .await
            .doing(&self.database, DOING)?;
        let known: HashMap<&str, (&str, i64)> = files
            .iter()
            .map(|file| {
                (
                    file.path.as_str(),
                    (identity(&file.sha256, &file.blocks), file.size),
                )
            })
            .collect();
        let same = |output: &OutputRecord| {
            let blocks = output.blocks.as_ref().map(ToString::to_string);
            let (sha256, size) = (text(output.sha256.as_ref()), i64::try_from(output.size).ok());
            known
                .get(output.path.as_str())
                .is_some_and(|(hash, length)| *hash == identity(&sha256, &blocks) && Some(*length) == size)
        };
        if files.len() != outputs.len() || !outputs.iter().all(same) {
            return Ok(false);
        }
        output_pull::Entity::delete_many()
            .filter(output_pull::Column::RunId.eq(id.as_str()))
            .filter(output_pull::Column::Machine.eq(&*self.machine))
            .exec(&transaction)
            .await
            .doing(&self.database, DOING)?;
        let pulled: Vec<_> = outputs.iter().map(|output| self.pull(id, output, at)).collect();
        self.insert_pulls(&transaction, pulled).await?;
        transaction.commit().await.doing(&self.database, DOING)?;
        Ok(true)
    }

    async fn insert_pulls(
        &self,
        transaction: &DatabaseTransaction,
        pulls: Vec<output_pull::Model>,
    ) -> Result<(), StoreError> {
        for pulls in pulls.chunks(ROWS) {
            let rows = pulls.iter().cloned().map(|row| row.into_active_model());
            output_pull::Entity::insert_many(rows)
                .exec_without_returning(transaction)
                .await
                .doing(&self.database, DOING)?;
        }
        Ok(())
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
            .map(|pull| {
                let hash = identity(&pull.sha256, &pull.blocks).to_owned();
                ((pull.path, hash), pull.pulled_at)
            })
            .collect();
        let record = row::record(&self.database, id.as_str());
        let mut outputs = Vec::with_capacity(files.len());
        for file in files {
            let hash = identity(&file.sha256, &file.blocks).to_owned();
            // One without any hash is damaged.
            let sha256 = (!file.sha256.is_empty() || file.blocks.is_none()).then_some(&*file.sha256);
            outputs.push(OutputRecord {
                size: record.unsigned("size", file.size)?,
                sha256: record.parse_some("sha256", sha256)?,
                blocks: record.parse_some("blocks", file.blocks.as_deref())?,
                pulled_at: pulled.get(&(file.path.clone(), hash)).copied().map(time),
                path: file.path,
            });
        }
        // Here, because the order of text differs between databases.
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(outputs)
    }
}

/// What says whether a file is the same one.
fn identity<'a>(sha256: &'a str, blocks: &'a Option<String>) -> &'a str {
    blocks.as_deref().unwrap_or(sha256)
}

fn text(sha256: Option<&Sha256>) -> String {
    sha256.map(ToString::to_string).unwrap_or_default()
}
