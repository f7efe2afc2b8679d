//! Uploads and the single operations.

use crate::content::{bytes, make};
use crate::server::{connect, cut_after, hooked};
use farrun::ssh::transfer::{Progress, TransferError};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_is_sent_whole_and_over_what_was_there() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sftp = connect().await;
    for size in [0, 1, 261_120, 261_121, 21 * MIB] {
        make(here.path(), "f", size, size as u64);
        let target = host.path().join("t");
        std::fs::write(&target, vec![7; size + 5]).unwrap();
        let progress = Progress::new();
        let sent = sftp
            .upload(&here.path().join("f"), target.to_str().unwrap(), 0, &progress)
            .await
            .unwrap();
        assert_eq!(
            (sent, progress.bytes_done(), progress.files_done()),
            (size as u64, size as u64, 1)
        );
        assert!(std::fs::read(&target).unwrap() == bytes(size, size as u64));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_from_an_offset() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path(), "f", 9 * MIB, 1);
    let (local, target) = (here.path().join("f"), host.path().join("t"));
    let remote = target.to_str().unwrap();
    let (sftp, _) = cut_after(600).await.unwrap();
    let error = sftp
        .upload(&local, remote, 0, &Progress::new())
        .await
        .unwrap_err();
    assert!(error.is_connection(), "{error}");
    let sftp = connect().await;
    let from = sftp.stat(remote).await.unwrap().unwrap().size / 2;
    let sent = sftp.upload(&local, remote, from, &Progress::new()).await.unwrap();
    assert_eq!(sent, 9 * MIB as u64 - from);
    assert!(std::fs::read(&target).unwrap() == bytes(9 * MIB, 1));
    std::fs::write(&target, b"short").unwrap();
    let error = sftp
        .upload(&local, remote, 6, &Progress::new())
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransferError::ChangedWhileReading { .. }),
        "{error:?}"
    );
    let error = sftp
        .upload(&local, remote, 10 * MIB as u64, &Progress::new())
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::LocalChanged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_file_that_changes_is_an_error() {
    for grow in [true, false] {
        let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(here.path(), "f", 60 * MIB, 1);
        let local = here.path().join("f");
        let changing = local.clone();
        // The first answers to writes come long before the last piece is read.
        let sftp = hooked(1000, move || {
            let file = std::fs::OpenOptions::new().write(true).open(changing).unwrap();
            file.set_len(if grow { 61 } else { 40 } * MIB as u64).unwrap();
        })
        .await;
        let target = host.path().join("t");
        let error = sftp
            .upload(&local, target.to_str().unwrap(), 0, &Progress::new())
            .await
            .unwrap_err();
        assert!(matches!(error, TransferError::LocalChanged { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_single_operations_do_what_they_say() {
    let host = tempfile::tempdir().unwrap();
    let at = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
    let sftp = connect().await;
    assert!(sftp.real_path(".").await.unwrap().starts_with('/'));
    sftp.make_folders(&at("x/y/z"), 0o700).await.unwrap();
    sftp.make_folders(&at("x/y/z"), 0o755).await.unwrap();
    let facts = sftp.stat(&at("x/y")).await.unwrap().unwrap();
    assert!(facts.is_dir && !facts.is_file && facts.mode == 0o700);
    assert_eq!(facts.uid, rustix::process::getuid().as_raw());
    assert_eq!(sftp.stat(&at("absent")).await.unwrap(), None);

    let content = bytes(700_000, 3);
    sftp.write_small(&at("x/f"), &content, 0o555).await.unwrap();
    assert_eq!(sftp.stat(&at("x/f")).await.unwrap().unwrap().mode, 0o555);
    assert!(sftp.read_small(&at("x/f"), 700_000).await.unwrap() == content);
    let error = sftp.read_small(&at("x/f"), 699_999).await.unwrap_err();
    assert!(matches!(error, TransferError::TooLarge { .. }), "{error}");
    assert!(matches!(
        sftp.read_small(&at("no"), 9).await,
        Err(TransferError::NotFound { .. })
    ));

    sftp.set_mode(&at("x/f"), 0o644).await.unwrap();
    sftp.write_small(&at("x/g"), b"new", 0o600).await.unwrap();
    sftp.rename(&at("x/g"), &at("x/f")).await.unwrap();
    assert_eq!(sftp.read_small(&at("x/f"), 10).await.unwrap(), b"new");
    let refused = sftp.make_folders(&at("x/f/deeper"), 0o700).await;
    assert!(refused.is_err());
    sftp.remove(&at("x/f")).await.unwrap();
    sftp.remove_folder(&at("x/y/z")).await.unwrap();
    assert!(sftp.remove_folder(&at("x")).await.is_err());
}
