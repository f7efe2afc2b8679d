//! Kills, full disks, old and newer databases, and what lies on disk. SQLite only, unless named otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail by panicking, also in the functions that tests share"
)]

#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../tests/src/small_disk.rs"]
mod small_disk;
mod store_support;

use farrun::model::RunStatus;
use farrun::store::{Location, RunFilter, Store, StoreError, Trouble};
use farrun_protocol::RunId;
use small_disk::SmallDisk;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store_support::{Fixture, prompt, run};

const WRITER_DATABASE: &str = "FARRUN_TEST_WRITER_DATABASE";
const WRITER_RUN: &str = "FARRUN_TEST_WRITER_RUN";
const WRITER_CHANGES: &str = "FARRUN_TEST_WRITER_CHANGES";

/// Runs SQL on a closed database, as another program would.
async fn sql(path: &Path, statements: &str) -> Vec<String> {
    use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
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

fn path(fixture: &Fixture) -> std::path::PathBuf {
    match fixture.location() {
        Location::Sqlite(path) => path,
        Location::Postgres(_) => panic!("a SQLite fixture is meant"),
    }
}

#[tokio::test]
async fn a_new_database_is_closed_to_others_and_durable() {
    let fixture = Fixture::sqlite();
    let store = fixture.open().await;
    store.create_prompt(&prompt("a", "b")).await.unwrap();
    let path = path(&fixture);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap().path();
        assert_eq!(mode(&entry), 0o600, "{entry:?}");
    }
    store.close().await.unwrap();
    assert_eq!(sql(&path, "PRAGMA journal_mode").await, ["wal"]);
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, permissions).unwrap();
    fixture.open().await.close().await.unwrap();
    assert_eq!(mode(&path), 0o600, "one that was open to others is closed");
}

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
        include_str!("fixtures/schema.sql"),
        "a schema changes only by a new migration"
    );
}

#[tokio::test]
async fn a_database_of_the_first_schema_opens_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    sql(&path, include_str!("fixtures/first.sql")).await;
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
    use sea_orm::{ConnectionTrait as _, Database};
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

#[tokio::test]
async fn a_lock_that_others_hold_is_waited_for() {
    use sea_orm::{ConnectionTrait as _, Database, TransactionOptions, TransactionTrait as _};
    let fixture = Fixture::sqlite();
    let store = fixture.open().await;
    let other = Database::connect(format!("sqlite://{}", path(&fixture).display()))
        .await
        .unwrap();
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(sea_orm::SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let held = other.begin_with_options(options).await.unwrap();
    held.execute_unprepared("DELETE FROM prompts").await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.create_prompt(&prompt("late", "x")).await }
    });
    // Reading does not wait for the writer.
    let reader = fixture.open().await;
    assert!(reader.find_prompts("late").await.unwrap().is_empty());
    held.commit().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(reader.find_prompts("late").await.unwrap().len(), 1);
    other.close().await.unwrap();
    store.close().await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(
        &path,
        "no database at all, but long enough to be looked at".repeat(40),
    )
    .unwrap();
    let error = Store::open(&Location::Sqlite(path), "laptop").await.unwrap_err();
    assert_eq!(error.trouble(), Some(Trouble::Malformed), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().to_str().unwrap().replace('/', "%2F");
    let location = Location::parse(&format!("postgres://me:hunter2@{socket}/farrun")).unwrap();
    let error = Store::open(&location, "laptop").await.unwrap_err();
    assert_eq!(error.trouble(), Some(Trouble::Unreachable), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_server_without_the_database_is_not_called_silent() {
    let fixture = Fixture::postgres();
    let Fixture::Postgres(cluster) = &fixture else {
        unreachable!("it was just made");
    };
    let url = cluster.url().replace("/postgres", "/elsewhere");
    let error = Store::open(&Location::parse(&url).unwrap(), "laptop")
        .await
        .unwrap_err();
    assert_eq!(error.trouble(), Some(Trouble::Absent), "{error:?}");
    assert!(error.hint().unwrap().contains("createdb"), "{error}");
}

async fn open_at_once(fixture: Fixture) {
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..12 {
        let location = fixture.location();
        opening.spawn(async move {
            let store = Store::open(&location, &format!("machine{number}")).await.unwrap();
            let id = store.controller_id().clone();
            store.close().await.unwrap();
            id
        });
    }
    let ids = opening.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_sqlite_at_once() {
    open_at_once(Fixture::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_postgres_at_once() {
    open_at_once(Fixture::postgres()).await;
}

/// A process that changes one run and says on stdout how often it was told that it succeeded.
#[tokio::test]
#[ignore = "started by other tests as a process of its own"]
async fn writer() {
    let Ok(database) = std::env::var(WRITER_DATABASE) else {
        return;
    };
    let id: RunId = std::env::var(WRITER_RUN).unwrap().parse().unwrap();
    let changes: u32 = std::env::var(WRITER_CHANGES).unwrap().parse().unwrap();
    let store = Store::open(&Location::parse(&database).unwrap(), "laptop")
        .await
        .unwrap();
    for _ in 0..changes {
        let (run, ()) = store
            .change_run(&id, |run| run.exit_code = Some(run.exit_code.unwrap_or(0) + 1))
            .await
            .unwrap();
        println!("acknowledged {}", run.exit_code.unwrap());
    }
    store.close().await.unwrap();
}

fn start_writer(database: &str, id: &RunId, changes: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--include-ignored", "--nocapture"])
        .env(WRITER_DATABASE, database)
        .env(WRITER_RUN, id.as_str())
        .env(WRITER_CHANGES, changes.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn processes_lose_none_of_their_changes() {
    for fixture in [Fixture::sqlite(), Fixture::postgres()] {
        let store = fixture.open().await;
        let ordered = run(&store, None);
        store.create_run(&ordered).await.unwrap();
        let database = match &fixture {
            Fixture::Sqlite(_) => path(&fixture).to_str().unwrap().to_owned(),
            Fixture::Postgres(cluster) => cluster.url(),
        };
        let writers: Vec<Child> = (0..8).map(|_| start_writer(&database, &ordered.id, 50)).collect();
        for writer in writers {
            let output = writer.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        assert_eq!(
            store.run(&ordered.id).await.unwrap().unwrap().exit_code,
            Some(400)
        );
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_change() {
    let fixture = Fixture::sqlite();
    let path = path(&fixture);
    let store = fixture.open().await;
    let ordered = run(&store, None);
    store.create_run(&ordered).await.unwrap();
    store.close().await.unwrap();
    let mut last = 0;
    for round in 1..=6 {
        let mut writer = start_writer(path.to_str().unwrap(), &ordered.id, 100_000);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Killed at another point of its work in every round.
        let deadline = Instant::now() + Duration::from_secs(30);
        let target = last + 7 * round;
        while last < target {
            assert!(Instant::now() < deadline, "the writer makes no progress");
            let line = lines.next().unwrap().unwrap();
            last = acknowledged(&line).unwrap_or(last);
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = lines
            .filter_map(|line| acknowledged(&line.ok()?))
            .last()
            .unwrap_or(last);
        let store = fixture.open().await;
        let kept = store.run(&ordered.id).await.unwrap().unwrap().exit_code.unwrap();
        assert!(
            kept == last || kept == last + 1,
            "{last} was acknowledged, {kept} was kept"
        );
        last = kept;
        store.close().await.unwrap();
        assert_eq!(sql(&path, "PRAGMA integrity_check").await, ["ok"]);
    }
}

fn acknowledged(line: &str) -> Option<i32> {
    line.split_once("acknowledged ")?.1.trim().parse().ok()
}

#[tokio::test]
async fn a_full_disk_is_named_and_leaves_no_half_state() {
    let disk = SmallDisk::new("1m");
    let location = Location::Sqlite(disk.path().join("farrun.db"));
    let store = Store::open(&location, "laptop").await.unwrap();
    let mut made = 0;
    let error = loop {
        let mut order = run(&store, None);
        order.spec.command = vec!["x".repeat(20_000)];
        match store.create_run(&order).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 100, "the disk never gets full");
    };
    assert_eq!(error.trouble(), Some(Trouble::DiskFull), "{error:?}");
    assert!(error.hint().is_some());
    let runs = store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), made);
    for run in &runs {
        assert_eq!(
            store.events(&run.id).await.unwrap().len(),
            1,
            "a run is there with its history"
        );
    }
    store.close().await.unwrap();
    drop(disk);
}
