//! The database: prompts, hosts, runs and what happened to them.
//!
//! SQLite by default, PostgreSQL by URL; every query and every migration is understood by both. All methods speak
//! model types. A change is one short transaction that takes its lock when it begins (`BEGIN IMMEDIATE`, or
//! `SELECT … FOR UPDATE` on the row), so that several processes never lose each other's changes, and it is on disk
//! when the method returns.
//!
//! Times are kept as nanoseconds since 1970, exactly, in both databases. Paths of mirrors and outputs, and which
//! outputs were pulled, are rows per machine, because several machines may share one PostgreSQL.

mod change;
mod connect;
mod entity;
mod error;
mod event;
mod filter;
mod host;
mod host_report;
mod location;
mod notification;
mod open;
mod output;
mod outputs;
mod prompt;
mod row;
mod run;
#[cfg(test)]
#[path = "../../tests/store/support.rs"]
pub(crate) mod support;
#[cfg(test)]
mod tests;
mod value;

pub use error::{StoreError, Trouble};
pub use filter::{PromptFilter, RunFilter, RunSummary};
pub use location::Location;
pub use notification::Listener;
pub use output::ROWS as OUTPUTS_PAGE;
pub use run::Created;

use error::Doing as _;
use farrun_protocol::ControllerId;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions,
    TransactionTrait as _,
};
use std::sync::Arc;

/// How often a transaction is tried to be begun; each attempt waits for [`connect::BUSY_TIMEOUT`].
const ATTEMPTS: u32 = 3;

/// An open database. Copies share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    connection: DatabaseConnection,
    /// The location as messages name it.
    database: Arc<str>,
    machine: Arc<str>,
    controller_id: ControllerId,
    ends: notification::Ends,
}

impl Store {
    /// Who we are to every host: made once with the database, and shared by all who use it.
    pub fn controller_id(&self) -> &ControllerId {
        &self.controller_id
    }

    /// Which of the machines that may share the database this one is.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Closes the connections. What was changed is on disk already.
    ///
    /// # Errors
    /// The database could not be closed in order.
    pub async fn close(self) -> Result<(), StoreError> {
        self.connection
            .close_by_ref()
            .await
            .doing(&self.database, "closing it")
    }

    /// Begins a transaction that may write.
    async fn begin(&self, doing: &'static str) -> Result<DatabaseTransaction, StoreError> {
        begin(&self.connection, &self.database, doing).await
    }
}

/// Begins a transaction that holds SQLite's write lock from the start: one that took it later would be refused at
/// once, whatever the timeout, when another process wrote in between.
async fn begin(
    connection: &DatabaseConnection,
    database: &str,
    doing: &'static str,
) -> Result<DatabaseTransaction, StoreError> {
    let sqlite = connection.get_database_backend() == DbBackend::Sqlite;
    let mut attempt = 1;
    loop {
        let options = TransactionOptions {
            sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let begun = connection
            .begin_with_options(options)
            .await
            .doing(database, doing);
        match begun {
            Err(error) if attempt < ATTEMPTS && error.trouble() == Some(Trouble::Locked) => attempt += 1,
            other => return other,
        }
    }
}
