//! Several accounts of one host: each with a cache of its own, one `nvidia-smi` at a time for all of them.

use super::{NvidiaSmi, host, patient};
use crate::support::PATIENCE;
use farrun_agent::gpu::{ChildLimits, Gpus, Turns};
use farrun_protocol::gpu::{Freshness, TroubleKind};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One account's way to the GPUs.
fn account(state: &Path, locks: &Path, fake: &NvidiaSmi) -> Gpus {
    let mut settings = host(state, fake);
    settings.answer_within = PATIENCE;
    settings.child = ChildLimits {
        run: PATIENCE,
        ..settings.child
    };
    settings.turns = Turns::At(locks.to_owned());
    Gpus::new(settings)
}

fn lock(locks: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(locks.join("nvidia-smi.lock"))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_take_turns() {
    let (below, fake) = (tempfile::tempdir().unwrap(), Arc::new(NvidiaSmi::with_gpus(2)));
    fake.take_seconds(0.3);
    let done = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let (fake, done) = (Arc::clone(&fake), Arc::clone(&done));
        move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(fake.alive().len());
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        }
    });
    let mut asking = tokio::task::JoinSet::new();
    for name in ["ada", "bob", "eve"] {
        let state = below.path().join(name);
        std::fs::create_dir(&state).unwrap();
        let gpus = account(&state, &below.path().join("locks"), &fake);
        asking.spawn(async move { gpus.report(None, false).await });
    }
    for report in asking.join_all().await {
        assert_eq!(
            (report.state, report.gpus.len()),
            (Freshness::Fresh, 2),
            "{report:?}"
        );
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(watching.join().unwrap(), 1);
    // What another account wrote down is not believed: each has read for itself.
    assert_eq!(fake.queries(), 3);
}

#[tokio::test]
async fn a_turn_that_never_comes_is_told_and_starts_nothing() {
    let (below, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    let locks = below.path().join("locks");
    std::fs::create_dir(&locks).unwrap();
    let held = lock(&locks);
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut settings = host(below.path(), &fake);
    settings.answer_within = PATIENCE;
    settings.child.kill = Duration::from_millis(100);
    settings.turns = Turns::At(locks);
    let gpus = Gpus::new(settings);
    let report = gpus.report(None, false).await;
    let trouble = report.trouble.unwrap();
    assert!(
        matches!(trouble.kind, TroubleKind::Reading | TroubleKind::Stuck),
        "{trouble:?}"
    );
    assert!(fake.calls().is_empty() && report.gpus.is_empty());
    drop(held);
    let deadline = std::time::Instant::now() + PATIENCE;
    while gpus.report(Some(Duration::ZERO), false).await.gpus.is_empty() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_goes_with_the_program() {
    let (below, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    let locks = below.path().join("locks");
    fake.hang(true);
    let gpus = account(below.path(), &locks, &fake);
    let asking = tokio::spawn(async move { gpus.report(None, false).await });
    let deadline = std::time::Instant::now() + PATIENCE;
    let pid = loop {
        if let Some((pid, _)) = fake.calls().first() {
            break *pid;
        }
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: Vec<_> = entries
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(open.contains(&locks.join("nvidia-smi.lock")), "{open:?}");
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap(),
        Path::new("/dev/null")
    );
    fake.hang(false);
    assert_eq!(asking.await.unwrap().state, Freshness::Fresh);
}

#[tokio::test]
async fn where_accounts_cannot_meet_each_reads_for_itself() {
    let (below, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    std::fs::write(below.path().join("locks"), "no folder").unwrap();
    let gpus = account(below.path(), &below.path().join("locks"), &fake);
    assert_eq!(gpus.report(None, false).await.state, Freshness::Fresh);
    let alone = patient(&below.path().join("other"), &fake);
    std::fs::create_dir(below.path().join("other")).unwrap();
    assert_eq!(alone.report(None, false).await.state, Freshness::Fresh);
}
