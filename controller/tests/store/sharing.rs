//! Several tasks and machines that change the same rows, and what no row can hold.

use crate::support::{Fixture, on_both, prompt, run};
use farrun::store::{Created, Store, StoreError};
use farrun_protocol::RunId;

on_both!(
    a_key_makes_one_run,
    changes_are_never_lost,
    what_cannot_be_kept_is_refused
);

async fn a_key_makes_one_run(fixture: Fixture) {
    let mut orders = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = fixture.open_as(&format!("machine{number}")).await;
        orders.spawn(async move {
            let mut order = run(&store, None);
            order.key = Some("K".to_owned());
            let created = store.create_run(&order).await.unwrap();
            store.close().await.unwrap();
            (order.id, created)
        });
    }
    let made = orders.join_all().await;
    let new: Vec<_> = made
        .iter()
        .filter(|(_, created)| *created == Created::New)
        .collect();
    assert_eq!(new.len(), 1);
    for (_, created) in &made {
        if let Created::Existing(existing) = created {
            assert_eq!(existing.id, new[0].0);
        }
    }
}

async fn changes_are_never_lost(fixture: Fixture) {
    const TASKS: i32 = 8;
    const CHANGES: i32 = 25;
    let store = fixture.open().await;
    let ordered = run(&store, None);
    store.create_run(&ordered).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (store, id) = (fixture.open().await, ordered.id.clone());
        tasks.spawn(async move {
            for _ in 0..CHANGES {
                count(&store, &id).await;
            }
            store.close().await.unwrap();
        });
    }
    tasks.join_all().await;
    let counted = store.run(&ordered.id).await.unwrap().unwrap();
    assert_eq!(counted.exit_code, Some(TASKS * CHANGES));
    store.close().await.unwrap();
}

async fn count(store: &Store, id: &RunId) {
    store
        .change_run(id, |run| run.exit_code = Some(run.exit_code.unwrap_or(0) + 1))
        .await
        .unwrap();
}

async fn what_cannot_be_kept_is_refused(fixture: Fixture) {
    let store = fixture.open().await;
    let ordered = run(&store, None);
    store.create_run(&ordered).await.unwrap();
    let long = store
        .change_run(&ordered.id, |run| run.log_path = Some("ü".repeat(501)))
        .await;
    assert!(matches!(
        long,
        Err(StoreError::LogPathTooLong { length: 501, .. })
    ));
    let nul = store
        .change_run(&ordered.id, |run| run.container_id = Some("a\0b".to_owned()))
        .await;
    assert!(matches!(
        nul,
        Err(StoreError::Unstorable {
            field: "container_id",
            ..
        })
    ));
    let huge = store
        .change_run(&ordered.id, |run| run.log_length = Some(u64::MAX))
        .await;
    assert!(matches!(
        huge,
        Err(StoreError::Unstorable {
            field: "log_length",
            ..
        })
    ));
    assert!(store.create_prompt(&prompt("x", "a\0b")).await.is_err());
    assert_eq!(store.run(&ordered.id).await.unwrap(), Some(ordered));
    store.close().await.unwrap();
}
