//! A lock that others hold, and a disk without room.

use super::path;
use super::small_disk::SmallDisk;
use crate::store::support::{Fixture, prompt, run};
use crate::store::{Location, RunFilter, Store, Trouble};
use sea_orm::{
    ConnectionTrait as _, Database, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};

#[tokio::test]
async fn a_lock_that_others_hold_is_waited_for() {
    let fixture = Fixture::sqlite();
    let store = fixture.open().await;
    let other = Database::connect(format!("sqlite://{}", path(&fixture).display()))
        .await
        .unwrap();
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
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
