//! Cuts at any byte, and what is kept.

use crate::content::{assert_here, assert_nothing_unverified, bytes, fetch, make};
use crate::server::{connect, cut_after, hooked};
use farrun::ssh::transfer::{DownloadOptions, Progress, Transfer, TransferError, Wanted};
use farrun_protocol::Sha256;
use farrun_protocol::manifest::BLOCK;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

const MIB: usize = 1024 * 1024;
const TOTAL: u64 = 24 * 1024 * 1024;

fn make_set(host: &Path) -> Vec<Wanted> {
    let mut wanted = vec![
        make(host, "a/nine", 9 * MIB, 1),
        make(host, "b/eleven", 11 * MIB, 2),
    ];
    wanted.extend((0..40).map(|index| make(host, &format!("small/{index}"), 9_000, 100 + index)));
    wanted.push(make(host, "c/three", 3 * MIB, 3));
    wanted
}

/// Cuts three times, then lets it finish; checks every step.
async fn cut_and_go_on(wanted: &[Wanted], cuts: [u64; 3]) {
    let home = tempfile::tempdir().unwrap();
    let mut had = 0;
    for cut in cuts {
        let Ok((sftp, received)) = cut_after(cut).await else {
            continue;
        };
        let cut_off = fetch(&sftp, wanted, home.path()).await;
        assert_nothing_unverified(home.path(), wanted);
        match cut_off {
            Ok(_) => had = u64::MAX,
            Err(error) => {
                assert!(error.is_connection(), "{error}");
                // Headers and refusals are received too, so this is an upper bound of the content.
                had = had.max(received.load(Relaxed).saturating_sub(64 * 1024));
            }
        }
    }
    let report = fetch(&connect().await, wanted, home.path()).await.unwrap();
    assert_here(home.path(), wanted);
    // One block per connection, and the small files that were under way.
    let lost = BLOCK + 40 * 9_000;
    assert!(
        report.bytes_kept >= had.min(TOTAL).saturating_sub(lost),
        "{report:?} after {had}"
    );
}

#[test]
fn a_cut_costs_at_most_a_block() {
    let host = tempfile::tempdir().unwrap();
    let wanted = make_set(host.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let cuts = prop::array::uniform3(0..TOTAL);
    TestRunner::new(config)
        .run(&cuts, |cuts| {
            runtime.block_on(cut_and_go_on(&wanted, cuts));
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_part_costs_its_block_only() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = vec![make(host.path(), "large", 13 * MIB, 1)];
    let parts = home.path().join(".farrun-part");
    std::fs::create_dir(&parts).unwrap();
    let mut content = bytes(13 * MIB, 1);
    content[5 * MIB] ^= 1;
    content.extend_from_slice(b"and a tail");
    let part = parts.join(Sha256::of(b"large").as_str());
    std::fs::write(&part, &content).unwrap();
    std::fs::write(parts.join(Sha256::of(b"no longer wanted").as_str()), b"x").unwrap();
    let report = fetch(&connect().await, &wanted, home.path()).await.unwrap();
    assert_eq!((report.bytes_fetched, report.bytes_kept), (BLOCK, 9 * MIB as u64));
    assert_here(home.path(), &wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_part_needs_no_content() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = vec![
        make(host.path(), "large", 9 * MIB, 1),
        make(host.path(), "small", 99, 2),
    ];
    let parts = home.path().join(".farrun-part");
    std::fs::create_dir(&parts).unwrap();
    let name = |file: &str| Sha256::of(file.as_bytes()).to_string();
    std::fs::write(parts.join(name("large")), bytes(9 * MIB, 1)).unwrap();
    // Small ones lie in folders by the first digit of their names.
    let shelf = parts.join(&name("small")[..1]);
    std::fs::create_dir(&shelf).unwrap();
    std::fs::write(shelf.join(name("small")), bytes(99, 2)).unwrap();
    std::fs::write(shelf.join(name("no longer wanted")), b"x").unwrap();
    let report = fetch(&connect().await, &wanted, home.path()).await.unwrap();
    assert_eq!((report.bytes_fetched, report.files_fetched), (0, 2));
    assert_here(home.path(), &wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_leaves_its_work_to_the_others() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = make_set(host.path());
    let (short, _) = cut_after(6 * MIB as u64).await.unwrap();
    let transfer = Transfer::new(vec![short, connect().await]);
    transfer
        .download(
            &wanted,
            home.path(),
            &Progress::new(),
            &DownloadOptions::default(),
        )
        .await
        .unwrap();
    assert_here(home.path(), &wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_another_process_fetches_is_left_alone() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = vec![make(host.path(), "f", 10, 1)];
    std::fs::create_dir(home.path().join(".farrun-part")).unwrap();
    let held = std::fs::File::open(home.path().join(".farrun-part")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = fetch(&connect().await, &wanted, home.path()).await;
    assert!(matches!(refused, Err(TransferError::Busy { .. })));
    drop(held);
    fetch(&connect().await, &wanted, home.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_given_up_can_be_taken_up_at_once() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = vec![make(host.path(), "large", 40 * MIB, 1)];
    let (reached, wait) = tokio::sync::oneshot::channel();
    let sftp = hooked(17 * MIB as u64, move || reached.send(()).unwrap()).await;
    tokio::select! {
        done = fetch(&sftp, &wanted, home.path()) => panic!("{done:?}"),
        given_up = wait => given_up.unwrap(),
    }
    // The same session goes on: what was asked before is answered and not missed.
    fetch(&sftp, &wanted, home.path()).await.unwrap();
    assert_here(home.path(), &wanted);
}
