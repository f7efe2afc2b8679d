//! Opening a database: a new one, one that many open at once, and what is none.

use super::{path, sql};
use crate::store::support::{Fixture, prompt};
use crate::store::{Location, Store, Trouble};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
