//! What arrives, and what does not have to.

use crate::content::{assert_here, fetch, make};
use crate::server::{connect, counted};
use farrun::ssh::transfer::{DownloadOptions, Progress, Transfer, TransferError};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering::Relaxed;

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_arrives_with_mode_and_time() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sizes = [0, 1, 261_120, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB];
    let mut wanted: Vec<_> = sizes
        .iter()
        .map(|size| make(host.path(), &format!("s/{size}"), *size, *size as u64))
        .collect();
    wanted[1].mode = 0o4_471;
    let progress = Progress::new();
    let sftp = connect().await;
    let report = sftp
        .download(&wanted, home.path(), &progress, &DownloadOptions::default())
        .await
        .unwrap();
    assert_here(home.path(), &wanted);
    let total = sizes.iter().sum::<usize>() as u64;
    assert_eq!(
        (report.files_fetched, report.files_present, report.bytes_fetched),
        (7, 0, total)
    );
    assert_eq!((progress.bytes_done(), progress.bytes_total()), (total, total));
    assert_eq!((progress.files_done(), progress.files_total()), (7, 7));
    let facts = home.path().join("s/1").metadata().unwrap();
    assert_eq!(facts.mode() & 0o7777, 0o671);
    assert_eq!((facts.mtime(), facts.mtime_nsec()), (1_600_000_000, 123_456_789));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_files_arrive_over_several_connections_and_cost_nothing_twice() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut wanted: Vec<_> = (0..500)
        .map(|index| {
            make(
                host.path(),
                &format!("d{}/f{index} ü\n", index % 20),
                50 + index * 13,
                index as u64,
            )
        })
        .collect();
    wanted.push(make(host.path(), "large", 13 * MIB, 7));
    let lanes = vec![connect().await, connect().await, connect().await];
    let transfer = Transfer::new(lanes);
    let options = DownloadOptions { memory: 8 << 20 };
    let report = transfer
        .download(&wanted, home.path(), &Progress::new(), &options)
        .await
        .unwrap();
    assert_eq!((report.files_fetched, report.bytes_kept), (501, 0));
    assert_here(home.path(), &wanted);

    let (sftp, received) = counted().await;
    let before = received.load(Relaxed);
    let progress = Progress::new();
    let report = sftp
        .download(&wanted, home.path(), &progress, &options)
        .await
        .unwrap();
    assert_eq!((report.files_present, report.bytes_fetched), (501, 0));
    assert_eq!(received.load(Relaxed), before);
    assert_eq!(progress.bytes_done(), progress.bytes_total());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_is_replaced_and_one_bad_file_does_not_stop_the_rest() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut wanted: Vec<_> = (0..30)
        .map(|index| make(host.path(), &format!("f{index}"), 3000, index))
        .collect();
    std::fs::write(home.path().join("f3"), "older").unwrap();
    std::fs::remove_file(host.path().join("f7")).unwrap();
    let sftp = connect().await;
    let error = fetch(&sftp, &wanted, home.path()).await.unwrap_err();
    assert!(
        matches!(error, TransferError::NotFound { ref path, .. } if path.ends_with("/f7")),
        "{error}"
    );
    wanted.remove(7);
    let report = fetch(&sftp, &wanted, home.path()).await.unwrap();
    assert_eq!(report.files_present, 29);
    assert_here(home.path(), &wanted);
}

#[tokio::test]
async fn an_empty_list_is_done_at_once() {
    let home = tempfile::tempdir().unwrap();
    let report = fetch(&connect().await, &[], home.path()).await.unwrap();
    assert_eq!(report.files_fetched, 0);
    assert!(!home.path().join(".farrun-part").exists());
}
