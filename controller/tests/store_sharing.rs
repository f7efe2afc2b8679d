//! Several tasks, processes and machines that share a database, on both databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail by panicking, also in the functions that tests share"
)]

#[macro_use]
mod store_support;

use chrono::Utc;
use farrun::model::OutputRecord;
use farrun::store::{Created, Store, StoreError};
use farrun_protocol::{BlockHash, RunId, Sha256};
use store_support::{Fixture, prompt, run};

on_both!(
    outputs_belong_to_machines,
    a_key_makes_one_run,
    changes_are_never_lost,
    what_cannot_be_kept_is_refused
);

async fn outputs_belong_to_machines(fixture: Fixture) {
    let (laptop, desktop) = (fixture.open_as("laptop").await, fixture.open_as("desktop").await);
    let ordered = run(&laptop, None);
    laptop.create_run(&ordered).await.unwrap();
    let elsewhere = desktop.run(&ordered.id).await.unwrap().unwrap();
    assert_eq!((elsewhere.log_path, elsewhere.outputs_path), (None, None));
    desktop
        .change_run(&ordered.id, |run| {
            run.log_path = Some("/desktop/run.log".to_owned())
        })
        .await
        .unwrap();
    assert_eq!(
        laptop.run(&ordered.id).await.unwrap().unwrap().log_path,
        ordered.log_path
    );

    let output = |path: &str, content: &[u8]| OutputRecord {
        path: path.to_owned(),
        size: content.len() as u64,
        sha256: Some(Sha256::of(content)),
        blocks: None,
        pulled_at: None,
    };
    let mut files = vec![output("Z.mp4", b"z"), output("a/ü.mp4", b"a")];
    laptop.set_outputs(&ordered.id, &files).await.unwrap();
    let at = Utc::now();
    let id = &ordered.id;
    assert!(!laptop.mark_all_pulled(id, &files[1..], at).await.unwrap());
    let other = [files[0].clone(), output("a/ü.mp4", b"A")];
    assert!(!laptop.mark_all_pulled(id, &other, at).await.unwrap());
    assert_eq!(laptop.outputs(id).await.unwrap(), files);
    assert!(laptop.mark_all_pulled(id, &files, at).await.unwrap());
    assert!(laptop.mark_all_pulled(id, &files, at).await.unwrap());
    assert_eq!(desktop.outputs(id).await.unwrap(), files);
    files.iter_mut().for_each(|file| file.pulled_at = Some(at));
    assert_eq!(laptop.outputs(id).await.unwrap(), files);

    // A large file is known by its blocks.
    let large = |blocks: &[u8]| OutputRecord {
        sha256: None,
        blocks: Some(BlockHash::of(blocks)),
        ..output("large", b"")
    };
    let mut larges = [large(b"one")];
    desktop.set_outputs(id, &larges).await.unwrap();
    assert!(desktop.mark_all_pulled(id, &larges, at).await.unwrap());
    laptop.set_outputs(id, &larges).await.unwrap();
    assert!(!desktop.mark_all_pulled(id, &[large(b"two")], at).await.unwrap());
    larges[0].pulled_at = Some(at);
    assert_eq!(desktop.outputs(id).await.unwrap(), larges);
    desktop.set_outputs(id, &[large(b"two")]).await.unwrap();
    assert_eq!(desktop.outputs(id).await.unwrap(), [large(b"two")]);
    files.truncate(2);
    laptop.set_outputs(id, &files).await.unwrap();

    // Another machine that looks again takes nothing away, unless the file changed.
    desktop
        .set_outputs(&ordered.id, &[output("a/ü.mp4", b"a")])
        .await
        .unwrap();
    assert_eq!(laptop.outputs(&ordered.id).await.unwrap(), files[1..]);
    desktop
        .set_outputs(&ordered.id, &[output("a/ü.mp4", b"other")])
        .await
        .unwrap();
    assert_eq!(laptop.outputs(&ordered.id).await.unwrap()[0].pulled_at, None);

    let many: Vec<_> = (0..5000)
        .map(|number| output(&format!("{number:05}"), b"x"))
        .collect();
    laptop.set_outputs(&ordered.id, &many).await.unwrap();
    assert_eq!(laptop.outputs(&ordered.id).await.unwrap(), many);
    assert!(matches!(
        laptop.set_outputs(&RunId::random(), &many).await,
        Err(StoreError::RunUnknown { .. })
    ));
    laptop.close().await.unwrap();
    desktop.close().await.unwrap();
}

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
