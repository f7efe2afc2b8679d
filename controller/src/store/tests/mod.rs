//! What only another program would do to a database, and what is meant for none: these tests speak SQL.

mod opening;
mod processes;
mod schema;
#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../../../tests/src/small_disk.rs"]
mod small_disk;
mod trouble;

use super::Location;
use super::support::Fixture;
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use std::path::{Path, PathBuf};

/// Runs SQL on a closed database, as another program would.
pub(super) async fn sql(path: &Path, statements: &str) -> Vec<String> {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let database = Database::connect(url).await.unwrap();
    let mut answer = Vec::new();
    for statement in statements
        .split(";\n")
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        let rows = database
            .query_all_raw(Statement::from_string(DbBackend::Sqlite, statement))
            .await
            .unwrap();
        answer = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    }
    database.close().await.unwrap();
    answer
}

pub(super) fn path(fixture: &Fixture) -> PathBuf {
    match fixture.location() {
        Location::Sqlite(path) => path,
        Location::Postgres(_) => panic!("a SQLite fixture is meant"),
    }
}
