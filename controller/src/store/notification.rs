//! Telling the user of this machine that a run has ended, at most once.

use super::entity::notification::{ActiveModel, Entity};
use super::error::Doing as _;
use super::value::nanoseconds;
use super::{Store, StoreError};
use chrono::Utc;
use farrun_protocol::RunId;
use sea_orm::ActiveValue::Set;
use sea_orm::{EntityTrait as _, SqlErr};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Is told of every run that this process finds ended.
pub type Listener = Arc<dyn Fn(&RunId) + Send + Sync>;

/// Who is told of ends.
#[derive(Clone, Default)]
pub(super) struct Ends(Arc<OnceLock<Listener>>);

impl fmt::Debug for Ends {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ends")
    }
}

impl Ends {
    pub(super) fn tell(&self, run: &RunId) {
        if let Some(listener) = self.0.get() {
            listener(run);
        }
    }
}

impl Store {
    /// Has a listener told of every run whose end this process writes down. Only the first listener counts.
    pub fn listen_to_ends(&self, listener: Listener) {
        let _ = self.ends.0.set(listener);
    }

    /// Whether telling the user of this machine about a run is ours to do: true for exactly one of all that ask.
    ///
    /// # Errors
    /// The database refused.
    pub async fn claim_notification(&self, run: &RunId) -> Result<bool, StoreError> {
        let row = ActiveModel {
            run_id: Set(run.to_string()),
            machine: Set(self.machine.to_string()),
            at: Set(nanoseconds(Utc::now())),
        };
        match Entity::insert(row).exec_without_returning(&self.connection).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(false),
            Err(error) => Err(error).doing(&self.database, "claiming a notification"),
        }
    }
}
