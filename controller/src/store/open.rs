//! Opening: a database whose schema is current costs a few reads; anything else happens under a lock.

use super::connect::{self, Journal};
use super::entity::meta;
use super::error::{Doing as _, Trouble};
use super::notification::Ends;
use super::{Location, Store, StoreError, begin};
use farrun_migrations::Standing;
use farrun_protocol::ControllerId;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait as _, Statement,
};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONTROLLER_ID: &str = "controller_id";
/// Oldest SQLite that does not corrupt a WAL file which several processes write.
const SQLITE_FLOOR: [u32; 3] = [3, 51, 3];
/// The number PostgreSQL knows our lock by: `farrun` in ASCII.
const ADVISORY_LOCK: i64 = 0x6661_7272_756e;
/// Between two attempts to switch to WAL, which no busy timeout covers.
const SWITCH_PAUSE: Duration = Duration::from_millis(20);

impl Store {
    /// Opens the database for `machine`, a name of this machine that others who share the database do not have.
    /// Makes it when there is none, and brings an older one up to date with its data kept.
    ///
    /// # Errors
    /// [`StoreError::DatabaseNewer`] when a newer program has changed the schema; otherwise what the system or the
    /// database refused.
    pub async fn open(location: &Location, machine: &str) -> Result<Self, StoreError> {
        let opening = Opening {
            location,
            database: location.to_string(),
            journal: match location {
                Location::Sqlite(path) => {
                    connect::make_folder(path)?;
                    Journal::of_folder(connect::folder(path))?
                }
                Location::Postgres(_) => Journal::Delete,
            },
        };
        let (connection, controller_id) = opening.run().await?;
        Ok(Self {
            connection,
            database: opening.database.into(),
            machine: machine.into(),
            controller_id,
            ends: Ends::default(),
        })
    }
}

struct Opening<'a> {
    location: &'a Location,
    database: String,
    journal: Journal,
}

impl Opening<'_> {
    async fn run(&self) -> Result<(DatabaseConnection, ControllerId), StoreError> {
        let Location::Sqlite(path) = self.location else {
            let connection = connect::connect(self.location, self.journal).await?;
            return match self.current(&connection).await? {
                Some(id) => Ok((connection, id)),
                None => Ok((connection.clone(), self.prepare(&connection).await?)),
            };
        };
        if connect::file_exists(path)? {
            let connection = connect::connect(self.location, self.journal).await?;
            self.check_version(&connection).await?;
            if self.journal_is_set(&connection).await?
                && let Some(id) = self.current(&connection).await?
            {
                return Ok((connection, id));
            }
            connection.close().await.doing(&self.database, "closing it")?;
        }
        let _lock = lock(path).await?;
        if !connect::file_exists(path)? {
            connect::make_file(path)?;
        }
        let connection = connect::connect(self.location, self.journal).await?;
        self.check_version(&connection).await?;
        // A newer database is refused before anything about it is changed.
        self.standing(&connection).await?;
        self.set_journal(&connection).await?;
        let id = self.prepare(&connection).await?;
        Ok((connection, id))
    }

    /// The controller id, when nothing is left to prepare.
    async fn current(&self, connection: &DatabaseConnection) -> Result<Option<ControllerId>, StoreError> {
        match self.standing(connection).await? {
            Standing::Current => self.controller_id(connection).await,
            _ => Ok(None),
        }
    }

    async fn standing(&self, connection: &DatabaseConnection) -> Result<Standing, StoreError> {
        let standing = farrun_migrations::inspect(connection).await;
        self.not_newer(standing.doing(&self.database, "reading which migrations it has")?)
    }

    fn not_newer(&self, standing: Standing) -> Result<Standing, StoreError> {
        match standing {
            Standing::Newer { migration } => Err(StoreError::DatabaseNewer {
                database: self.database.clone(),
                migration,
            }),
            other => Ok(other),
        }
    }

    /// Applies what is missing and makes the controller id, all or nothing.
    async fn prepare(&self, connection: &DatabaseConnection) -> Result<ControllerId, StoreError> {
        let doing = "bringing its schema up to date";
        let transaction = begin(connection, &self.database, doing).await?;
        if transaction.get_database_backend() == DbBackend::Postgres {
            // Held until the transaction ends. Of all we send, this alone is PostgreSQL's own: it is the lock.
            let lock = format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK})");
            transaction
                .execute_unprepared(&lock)
                .await
                .doing(&self.database, "waiting for others who prepare it")?;
        }
        let standing = farrun_migrations::inspect(&transaction).await;
        if self.not_newer(standing.doing(&self.database, doing)?)? == Standing::Behind {
            farrun_migrations::apply(&transaction)
                .await
                .doing(&self.database, doing)?;
        }
        let id = match self.controller_id(&transaction).await? {
            Some(id) => id,
            None => {
                let id = ControllerId::random();
                let row = meta::ActiveModel {
                    name: Set(CONTROLLER_ID.to_owned()),
                    value: Set(id.to_string()),
                };
                meta::Entity::insert(row)
                    .on_conflict(OnConflict::column(meta::Column::Name).do_nothing().to_owned())
                    .exec_without_returning(&transaction)
                    .await
                    .doing(&self.database, doing)?;
                id
            }
        };
        transaction.commit().await.doing(&self.database, doing)?;
        Ok(id)
    }

    async fn controller_id(
        &self,
        connection: &impl ConnectionTrait,
    ) -> Result<Option<ControllerId>, StoreError> {
        let row = meta::Entity::find_by_id(CONTROLLER_ID)
            .one(connection)
            .await
            .doing(&self.database, "reading the controller id")?;
        row.map(|row| {
            row.value.parse().map_err(|_| StoreError::Damaged {
                database: self.database.clone(),
                of: CONTROLLER_ID.to_owned(),
                problem: format!("it is {:?}", row.value),
            })
        })
        .transpose()
    }

    /// The first column of the first row of a pragma or function of SQLite.
    async fn ask(&self, connection: &DatabaseConnection, sql: &str) -> Result<String, StoreError> {
        let doing = "reading how SQLite is set";
        let row = connection
            .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
            .await
            .doing(&self.database, doing)?;
        row.map(|row| row.try_get_by_index(0))
            .transpose()
            .doing(&self.database, doing)
            .map(Option::unwrap_or_default)
    }

    async fn check_version(&self, connection: &DatabaseConnection) -> Result<(), StoreError> {
        let found = self.ask(connection, "SELECT sqlite_version()").await?;
        if is_new_enough(&found) {
            Ok(())
        } else {
            Err(StoreError::OldSqlite { found })
        }
    }

    async fn journal_is_set(&self, connection: &DatabaseConnection) -> Result<bool, StoreError> {
        let mode = self.ask(connection, "PRAGMA journal_mode").await?;
        Ok(mode.eq_ignore_ascii_case(self.journal.as_str()))
    }

    /// Switching needs the file alone and does not wait for it, so a reader that just passes makes it fail.
    async fn set_journal(&self, connection: &DatabaseConnection) -> Result<(), StoreError> {
        let deadline = Instant::now() + connect::BUSY_TIMEOUT;
        while !self.journal_is_set(connection).await? {
            let switch = match self.journal {
                Journal::Wal => "PRAGMA journal_mode = WAL",
                Journal::Delete => "PRAGMA journal_mode = DELETE",
            };
            match self.ask(connection, switch).await {
                Err(error) if error.trouble() != Some(Trouble::Locked) || Instant::now() > deadline => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(SWITCH_PAUSE).await,
                // Some filesystems cannot do it; SQLite then stays with what works there.
                Ok(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Waits for the lock beside the database file; it is free when the returned file is closed or its process dies.
async fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let taken = name.clone();
    tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&taken)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(std::io::Error::other)
    .flatten()
    .map_err(connect::file(&name, "taking the lock"))
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    [next(), next(), next()] >= SQLITE_FLOOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for good in ["3.51.3", "3.51.10", "3.52.0", "4.0.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["3.51.2", "3.7.17", "3.50.20", "", "x"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_on_disk_and_waiting_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("farrun.db"));
        let store = Store::open(&location, "laptop").await.unwrap();
        for (pragma, expected) in [
            ("synchronous", 2), // FULL
            ("busy_timeout", 10_000),
            ("foreign_keys", 1),
        ] {
            let statement = Statement::from_string(DbBackend::Sqlite, format!("PRAGMA {pragma}"));
            let row = store.connection.query_one_raw(statement).await.unwrap().unwrap();
            assert_eq!(row.try_get_by_index::<i32>(0).unwrap(), expected, "{pragma}");
        }
        store.close().await.unwrap();
    }
}
