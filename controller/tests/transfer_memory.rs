//! How much memory a transfer takes; alone in its process, because the process is measured.

mod measured;

use farrun::ssh::transfer::{DownloadOptions, Outgoing, Progress, Upload, Wanted};
use farrun_protocol::BlockHash;
use farrun_protocol::manifest::BLOCK;
use measured::{KIB_PER_MIB, connect, peak};

const BLOCKS: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_take_bounded_memory_both_ways() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = host.path().join("zeros");
    std::fs::File::create(&source)
        .unwrap()
        .set_len(BLOCKS * BLOCK)
        .unwrap();
    let block = vec![0; usize::try_from(BLOCK).unwrap()];
    let wanted = [Wanted {
        folder: host.path().to_str().unwrap().into(),
        path: "zeros".to_owned(),
        size: BLOCKS * BLOCK,
        sha256: None,
        blocks: vec![BlockHash::of(&block); usize::try_from(BLOCKS).unwrap()],
        mode: 0o600,
        modified_ns: 0,
        packed: None,
    }];
    drop(block);
    let (sftp, _server) = connect("box").await;
    let target = host.path().join("sent");
    let before = peak();
    let outgoing = Outgoing {
        local: source.clone(),
        remote: target.to_str().unwrap().to_owned(),
        marks: host.path().join("marks").to_str().unwrap().to_owned(),
        begun: false,
    };
    let (telling, _told) = tokio::sync::mpsc::unbounded_channel();
    Upload::new(sftp.clone())
        .send(&[outgoing], &Progress::new(), telling)
        .await
        .unwrap();
    let upload = peak() - before;
    assert!(upload <= 24 * KIB_PER_MIB, "{upload} KiB");
    let options = DownloadOptions::default();
    sftp.download(&wanted, home.path(), &Progress::new(), &options)
        .await
        .unwrap();
    let both = peak() - before;
    assert!(both <= 48 * KIB_PER_MIB, "{both} KiB");
}
