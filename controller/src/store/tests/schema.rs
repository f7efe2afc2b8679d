//! The schema and its migrations: the frozen one, an old database, a newer one.

use super::{path, sql};
use crate::model::RunStatus;
use crate::store::support::Fixture;
use crate::store::{Location, Store, StoreError};
use farrun_protocol::RunId;
use sea_orm::{ConnectionTrait as _, Database};

#[tokio::test]
async fn the_schema_is_the_frozen_one() {
    let fixture = Fixture::sqlite();
    fixture.open().await.close().await.unwrap();
    let statements = sql(
        &path(&fixture),
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name",
    )
    .await;
    let schema = format!("{};\n", statements.join(";\n"));
    if std::env::var_os("FARRUN_TEST_FREEZE").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema.sql"),
            &schema,
        )
        .unwrap();
    }
    assert_eq!(
        schema,
        include_str!("../../../tests/fixtures/schema.sql"),
        "a schema changes only by a new migration"
    );
}

#[tokio::test]
async fn a_database_of_the_first_schema_opens_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    sql(&path, include_str!("../../../tests/fixtures/first.sql")).await;
    let store = Store::open(&Location::Sqlite(path), "laptop").await.unwrap();
    assert_eq!(store.controller_id().as_str(), "co_0123456789ab");
    let run: RunId = "rs_0123456789ab".parse().unwrap();
    let kept = store.run(&run).await.unwrap().unwrap();
    assert_eq!(kept.status, RunStatus::Failed);
    assert_eq!(kept.reason, Some(farrun_protocol::verdict::Reason::ExitCode));
    assert_eq!(
        kept.log_path.as_deref(),
        Some("/outputs/city/logs/run_rs_0123456789ab.log")
    );
    assert_eq!(
        kept.started_at.unwrap().timestamp_nanos_opt(),
        Some(1_700_000_000_123_456_789)
    );
    assert_eq!(store.find_prompts("city").await.unwrap()[0].text, "A neon city");
    assert_eq!(store.hosts().await.unwrap()[0].name, "gpu1");
    assert_eq!(store.events(&run).await.unwrap()[0].detail, "pending");
    assert_eq!((kept.lease, kept.gpu_summary), (None, None));
    assert_eq!(
        (kept.finding, kept.diagnosed_at, kept.diagnostics_path),
        (None, None, None)
    );
    assert_eq!(store.report("gpu1").await.unwrap(), Default::default());
    assert!(store.outputs(&run).await.unwrap()[0].pulled_at.is_some());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_as_it_is() {
    let fixture = Fixture::sqlite();
    fixture.open().await.close().await.unwrap();
    let path = path(&fixture);
    sql(
        &path,
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 0)",
    )
    .await;
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&fixture.location(), "laptop").await.unwrap_err();
    assert!(matches!(&error, StoreError::DatabaseNewer { migration, .. } if migration == "m9999_future"));
    assert!(error.to_string().contains("farrun.db"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_server_database_is_refused() {
    let fixture = Fixture::postgres();
    fixture.open().await.close().await.unwrap();
    let Fixture::Postgres(cluster) = &fixture else {
        panic!("a PostgreSQL fixture is meant")
    };
    let database = Database::connect(cluster.url()).await.unwrap();
    database
        .execute_unprepared("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 0)")
        .await
        .unwrap();
    database.close().await.unwrap();
    let error = Store::open(&fixture.location(), "laptop").await.unwrap_err();
    assert!(matches!(error, StoreError::DatabaseNewer { .. }), "{error:?}");
}
