//! A disk that runs full while files arrive.

use crate::content::{assert_here, assert_nothing_unverified, make};
use crate::server::{connect, hooked};
use crate::small_disk::SmallDisk;
use farrun::ssh::transfer::{DownloadOptions, Progress, TransferError};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_keeps_what_arrived() {
    let host = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new("48m");
    let home = disk.path().join("home");
    let wanted = vec![
        make(host.path(), "large", 40 * MIB, 1),
        make(host.path(), "small", 10, 2),
    ];
    let filler = disk.path().join("filler");
    let filling = filler.clone();
    let sftp = hooked(MIB as u64, move || {
        std::fs::write(filling, vec![1; 20 * MIB]).unwrap()
    })
    .await;
    let options = DownloadOptions::default();
    let error = sftp
        .download(&wanted, &home, &Progress::new(), &options)
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::LocalDiskFull { .. }), "{error:?}");
    assert_nothing_unverified(&home, &wanted);
    assert!(!home.join("large").exists());

    // Still full: said before anything moves.
    let sftp = connect().await;
    let error = sftp
        .download(&wanted, &home, &Progress::new(), &options)
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::NotEnoughSpace { .. }), "{error:?}");
    std::fs::remove_file(filler).unwrap();
    let report = sftp
        .download(&wanted, &home, &Progress::new(), &options)
        .await
        .unwrap();
    assert!(report.bytes_kept >= 16 * MIB as u64, "{report:?}");
    assert_here(&home, &wanted);
}
