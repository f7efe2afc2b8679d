//! Changing a run: read, apply, check and write as one transaction.

use super::entity::{run, run_path};
use super::error::Doing as _;
use super::{Store, StoreError, event, row};
use crate::model::Run;
use chrono::Utc;
use farrun_protocol::RunId;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QuerySelect as _,
};

const DOING: &str = "changing a run";

impl Store {
    /// Changes a run in one transaction that others wait for, and appends a `status` event when its state changed.
    /// Returns the run as it was written, and what `change` returned.
    ///
    /// The id stays, `updated_at` is set, and a long `error_message` is cut. A run that `change` leaves as it was is not
    /// written.
    ///
    /// # Errors
    /// [`StoreError::RunUnknown`], [`StoreError::IllegalTransition`] and [`StoreError::LogPathTooLong`]; the run is
    /// then as it was.
    pub async fn change_run<T>(
        &self,
        id: &RunId,
        change: impl FnOnce(&mut Run) -> T,
    ) -> Result<(Run, T), StoreError> {
        let transaction = self.begin(DOING).await?;
        let before = self.locked(&transaction, id).await?;
        let mut after = before.clone();
        let answer = change(&mut after);
        after.id = id.clone();
        if after == before {
            transaction.rollback().await.doing(&self.database, DOING)?;
            return Ok((before, answer));
        }
        let may_become = before.status.may_become(after.status) || before.awaits_engine();
        if after.status != before.status && !may_become {
            return Err(StoreError::IllegalTransition {
                run: id.clone(),
                from: before.status,
                to: after.status,
            });
        }
        after.updated_at = Utc::now();
        row::check(&mut after, &self.database)?;
        self.write(&transaction, &before, &after).await?;
        transaction.commit().await.doing(&self.database, DOING)?;
        if after.status.is_settled() && !before.status.is_settled() {
            self.ends.tell(id);
        }
        Ok((after, answer))
    }

    async fn locked(&self, transaction: &DatabaseTransaction, id: &RunId) -> Result<Run, StoreError> {
        let found = run::Entity::find_by_id(id.as_str())
            .lock_exclusive()
            .one(transaction)
            .await
            .doing(&self.database, DOING)?;
        let Some(found) = found else {
            return Err(StoreError::RunUnknown { run: id.clone() });
        };
        let key = (id.to_string(), self.machine.to_string());
        let paths = run_path::Entity::find_by_id(key)
            .one(transaction)
            .await
            .doing(&self.database, DOING)?;
        row::model(found, paths, &self.database)
    }

    async fn write(
        &self,
        transaction: &DatabaseTransaction,
        before: &Run,
        after: &Run,
    ) -> Result<(), StoreError> {
        let mut new = row::row(after, &self.database)?.into_active_model().reset_all();
        // Written only when changed: a newer program may keep more in them than this one reads.
        if after.spec == before.spec {
            new.spec = ActiveValue::NotSet;
        }
        if after.reason == before.reason {
            new.reason = ActiveValue::NotSet;
        }
        if after.lease == before.lease {
            new.lease = ActiveValue::NotSet;
        }
        if after.gpu_summary == before.gpu_summary {
            new.gpu_summary = ActiveValue::NotSet;
        }
        run::Entity::update(new)
            .exec(transaction)
            .await
            .doing(&self.database, DOING)?;
        if row::path_row(after, &self.machine) != row::path_row(before, &self.machine) {
            self.write_paths(transaction, after, DOING).await?;
        }
        let told_anew = before.awaits_engine() && !after.awaits_engine();
        if after.status == before.status && !told_anew {
            return Ok(());
        }
        let status = event::row(&after.id, after.updated_at, "status", &transition(before, after));
        event::insert(transaction, status)
            .await
            .doing(&self.database, DOING)
    }
}

/// `running -> failed (exit_code)`.
fn transition(before: &Run, after: &Run) -> String {
    let reason = after
        .reason
        .map(|reason| format!(" ({})", reason.code()))
        .unwrap_or_default();
    format!("{} -> {}{reason}", before.status, after.status)
}
