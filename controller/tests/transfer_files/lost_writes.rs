//! A disk that refuses what it has been given, after the program was told that it was written.

use crate::content::{assert_nothing_unverified, make};
use crate::server::connect;
use crate::skipped::skipped;
use crate::small_disk::SmallDisk;
use farrun::ssh::transfer::{DownloadOptions, Progress, TransferError};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: usize = 1024 * 1024;

/// A file system of 96 MiB on a file that has room for 24: `write` succeeds, and the disk fails later.
struct Thin {
    at: PathBuf,
    _below: SmallDisk,
}

impl Thin {
    /// Nothing where the kernel or the account cannot mount one.
    fn new() -> Option<Self> {
        let below = SmallDisk::new("24m");
        let image = below.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let at = below.path().join("at");
        std::fs::create_dir(&at).unwrap();
        let is_done = |program: &str, words: &[&str], path: &[&Path]| {
            let output = Command::new(program).args(words).args(path).output();
            output.is_ok_and(|output| output.status.success())
        };
        let mounted = is_done(
            "mkfs.ext4",
            &["-q", "-F", "-m", "0", "-O", "^has_journal"],
            &[&image],
        ) && is_done("mount", &["-o", "loop,errors=continue"], &[&image, &at]);
        mounted.then_some(Self { at, _below: below })
    }
}

impl Drop for Thin {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_refused_gets_no_name() {
    let Some(disk) = Thin::new() else {
        return skipped("no ext4 on a loop device can be made here");
    };
    let host = tempfile::tempdir().unwrap();
    let home = disk.at.join("home");
    let wanted = vec![make(host.path(), "film", 64 * MIB, 1)];
    let options = DownloadOptions::default();
    let sftp = connect().await;
    let error = sftp
        .download(&wanted, &home, &Progress::new(), &options)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            TransferError::Local { .. } | TransferError::LocalDiskFull { .. }
        ),
        "{error:?}"
    );
    assert!(!home.join("film").exists());
    assert_nothing_unverified(&home, &wanted);
}
