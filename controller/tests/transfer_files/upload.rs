//! Uploads over one and several connections, and the single operations.

use crate::content::{bytes, make};
use crate::server::{connect, cut_after, hooked};
use crate::small_disk::SmallDisk;
use farrun::ssh::transfer::{More, Outgoing, Progress, Sftp, Told, TransferError, Upload};
use farrun_protocol::layout;
use farrun_protocol::manifest::BLOCK;
use futures_util::StreamExt as _;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const MIB: usize = 1024 * 1024;

fn outgoing(local: &Path, target: &Path, begun: bool) -> Outgoing {
    let remote = target.to_str().unwrap().to_owned();
    Outgoing {
        local: local.to_owned(),
        marks: layout::marks(&remote),
        remote,
        begun,
    }
}

/// Sends files; answers with the bytes that were sent, and with the files that arrived.
async fn send_all(upload: Upload, files: &[Outgoing]) -> (Result<u64, TransferError>, Vec<usize>) {
    let (arrived, mut told) = tokio::sync::mpsc::unbounded_channel();
    let sent = upload.send(files, &Progress::new(), arrived).await;
    let mut indices = Vec::new();
    while let Ok(told) = told.try_recv() {
        if let Told::Arrived(index) = told {
            indices.push(index);
        }
    }
    indices.sort_unstable();
    (sent, indices)
}

async fn send(sftp: Sftp, local: &Path, target: &Path, begun: bool) -> Result<u64, TransferError> {
    let files = [outgoing(local, target, begun)];
    let (sent, arrived) = send_all(Upload::new(sftp), &files).await;
    assert_eq!(arrived.len(), usize::from(sent.is_ok()));
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_is_sent_whole_and_over_what_was_there() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sizes = [0, 1, 261_120, 261_121, 4 * MIB, 21 * MIB];
    let mut files = Vec::new();
    for size in sizes {
        make(here.path(), &size.to_string(), size, size as u64);
        let target = host.path().join(size.to_string());
        std::fs::write(&target, vec![7; size / 2]).unwrap();
        files.push(outgoing(&here.path().join(size.to_string()), &target, true));
    }
    let progress = Progress::new();
    let (arrived, mut told) = tokio::sync::mpsc::unbounded_channel();
    let upload = Upload::new(connect().await);
    let sent = upload.send(&files, &progress, arrived).await.unwrap();
    let total = sizes.iter().sum::<usize>() as u64;
    assert_eq!(
        (sent, progress.bytes_done(), progress.files_done()),
        (total, total, 6)
    );
    let mut indices = Vec::new();
    let mut begun = 0;
    while let Some(told) = told.recv().await {
        match told {
            Told::Begun(_) => begun += 1,
            Told::Arrived(index) => indices.push(index),
        }
    }
    // The empty one has nothing to begin with.
    assert_eq!(begun, 5);
    indices.sort_unstable();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    for size in sizes {
        assert!(std::fs::read(host.path().join(size.to_string())).unwrap() == bytes(size, size as u64));
    }
}

/// Cuts three times, then lets it finish; what arrived before a cut is not sent again, but for a block.
async fn cut_and_go_on(local: &Path, cuts: [u64; 3]) {
    let host = tempfile::tempdir().unwrap();
    let target = host.path().join("t");
    let mut there = 0;
    for cut in cuts {
        let Ok((sftp, _)) = cut_after(cut).await else {
            continue;
        };
        if let Err(error) = send(sftp, local, &target, true).await {
            assert!(error.is_connection(), "{error}");
        }
        // One connection writes from the front to the back, so this is what arrived.
        there = std::fs::metadata(&target)
            .map_or(0, |target| target.len())
            .max(there);
    }
    let sent = send(connect().await, local, &target, true).await.unwrap();
    let size = std::fs::metadata(local).unwrap().len();
    assert!(std::fs::read(&target).unwrap() == std::fs::read(local).unwrap());
    assert!(
        size - sent >= there.saturating_sub(BLOCK),
        "{sent} of {size} were sent after {there}"
    );
}

#[test]
fn a_cut_costs_at_most_a_block() {
    let here = tempfile::tempdir().unwrap();
    make(here.path(), "f", 23 * MIB + 5, 1);
    let local = here.path().join("f");
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
    // The server answers some 24 bytes to each write and each mark, of which there are about 140.
    TestRunner::new(config)
        .run(&prop::array::uniform3(0..5000_u64), |cuts| {
            runtime.block_on(cut_and_go_on(&local, cuts));
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_connections_share_one_file_and_outlive_each_other() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path(), "f", 61 * MIB, 1);
    make(here.path(), "g", 5, 2);
    let targets = [host.path().join("f"), host.path().join("g")];
    let files = [
        outgoing(&here.path().join("f"), &targets[0], false),
        outgoing(&here.path().join("g"), &targets[1], false),
    ];
    let further = vec![cut_after(900).await.unwrap().0, connect().await, connect().await];
    // The first one breaks as well, after some blocks.
    let first = cut_after(1500).await.unwrap().0;
    let upload = Upload::new(first).joined_by(futures_util::stream::iter(further).boxed());
    let (sent, arrived) = send_all(upload, &files).await;
    assert_eq!((sent.unwrap(), arrived), (61 * MIB as u64 + 5, vec![0, 1]));
    assert!(std::fs::read(&targets[0]).unwrap() == bytes(61 * MIB, 1));
    assert!(std::fs::read(&targets[1]).unwrap() == bytes(5, 2));
    let marks = std::fs::read(host.path().join("f.marks")).unwrap();
    assert!(marks.len() == 123 && marks.iter().all(|mark| *mark == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_broken_is_an_error_and_the_next_upload_goes_on() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path(), "f", 61 * MIB, 1);
    let (local, target) = (here.path().join("f"), host.path().join("t"));
    let second = cut_after(2000).await.unwrap().0;
    let upload = Upload::new(cut_after(2500).await.unwrap().0)
        .joined_by(futures_util::stream::iter(vec![second]).boxed());
    let (sent, arrived) = send_all(upload, &[outgoing(&local, &target, false)]).await;
    assert!(sent.unwrap_err().is_connection() && arrived.is_empty());
    let marks = std::fs::read(host.path().join("t.marks")).unwrap();
    let marked = marks.iter().filter(|mark| **mark == 1).count() as u64 * layout::UPLOAD_PIECE;
    assert!(marked > 10 * MIB as u64, "{marked}");
    let sent = send(connect().await, &local, &target, true).await.unwrap();
    assert_eq!(sent, 61 * MIB as u64 - marked);
    assert!(std::fs::read(&target).unwrap() == bytes(61 * MIB, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_asked_for_while_an_upload_is_slow_and_long() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path(), "f", 9 * MIB, 1);
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let more = More::new(move || {
        counting.fetch_add(1, Relaxed);
        Box::pin(std::future::ready(None))
    });
    let files = [outgoing(&here.path().join("f"), &host.path().join("t"), false)];
    let (sent, _) = send_all(Upload::new(connect().await).growing(more), &files).await;
    assert_eq!(
        (sent.unwrap(), asked.load(Relaxed)),
        (9 * MIB as u64, 0),
        "it was done at once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_uploads_of_one_content_do_not_disturb_each_other() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path(), "f", 30 * MIB, 1);
    let (local, target) = (here.path().join("f"), host.path().join("t"));
    let (one, other) = tokio::join!(
        send(connect().await, &local, &target, false),
        send(connect().await, &local, &target, true),
    );
    assert!(one.unwrap() == 30 * MIB as u64 && other.is_ok());
    assert!(std::fs::read(&target).unwrap() == bytes(30 * MIB, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_that_are_wrong_or_missing_only_decide_what_is_sent() {
    let (here, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(here.path(), "f", 9 * MIB, 1);
    let (local, target) = (here.path().join("f"), host.path().join("t"));
    std::fs::write(&target, vec![7; 9 * MIB]).unwrap();
    // More marks than the file has pieces belong to no upload of it.
    for marks in [None, Some(vec![1; 20])] {
        if let Some(marks) = marks {
            std::fs::write(host.path().join("t.marks"), marks).unwrap();
        }
        let sent = send(connect().await, &local, &target, true).await.unwrap();
        assert_eq!(sent, 9 * MIB as u64);
        assert!(std::fs::read(&target).unwrap() == bytes(9 * MIB, 1));
    }
    // Believed, although the content is another: that is for the host's hash to find.
    std::fs::write(&target, vec![7; 9 * MIB]).unwrap();
    std::fs::write(host.path().join("t.marks"), vec![1; 19]).unwrap();
    assert_eq!(send(connect().await, &local, &target, true).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_host_keeps_what_arrived() {
    let here = tempfile::tempdir().unwrap();
    make(here.path(), "f", 40 * MIB, 1);
    let disk = SmallDisk::new("48m");
    let (local, target) = (here.path().join("f"), disk.path().join("t"));
    std::fs::write(disk.path().join("filler"), vec![1; 20 * MIB]).unwrap();
    let error = send(connect().await, &local, &target, false).await.unwrap_err();
    assert!(matches!(error, TransferError::Refused { .. }), "{error:?}");
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    let sent = send(connect().await, &local, &target, true).await.unwrap();
    assert!(sent < 20 * MIB as u64, "{sent}");
    assert!(std::fs::read(&target).unwrap() == bytes(40 * MIB, 1));
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
        let error = send(sftp, &local, &host.path().join("t"), false)
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
