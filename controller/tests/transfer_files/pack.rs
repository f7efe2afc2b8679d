//! Small files that come out of a pack, and what happens when it lies.

use crate::content::{assert_here, bytes, make};
use crate::server::{counted, cut_after};
use farrun::ssh::transfer::{DownloadOptions, Packed, Progress, Wanted};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const COUNT: usize = 300;

/// Files, their pack, and a file that is not in it.
fn packed(host: &Path) -> Vec<Wanted> {
    let pack: Arc<str> = host.join("outputs.pack").to_str().unwrap().into();
    let (mut content, mut wanted) = (Vec::new(), Vec::new());
    for index in 0..COUNT {
        let size = 1 + index * 29 % 9000;
        let mut file = make(host, &format!("d{}/f{index}", index % 7), size, index as u64);
        file.packed = Some(Packed {
            pack: Arc::clone(&pack),
            at: content.len() as u64,
        });
        content.extend(std::fs::read(file.remote()).unwrap());
        wanted.push(file);
    }
    std::fs::write(&*pack, content).unwrap();
    wanted.push(make(host, "alone", 300_000, 9));
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_themselves_are_not_needed() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = packed(host.path());
    for file in wanted.iter().filter(|file| file.packed.is_some()) {
        std::fs::remove_file(file.remote()).unwrap();
    }
    let (sftp, received) = counted().await;
    let (progress, options) = (Progress::new(), DownloadOptions::default());
    let report = sftp
        .download(&wanted, home.path(), &progress, &options)
        .await
        .unwrap();
    assert_here(home.path(), &wanted);
    let total: u64 = wanted.iter().map(|file| file.size).sum();
    assert_eq!(
        (report.files_fetched, report.bytes_fetched),
        (COUNT as u64 + 1, total)
    );
    assert_eq!(progress.bytes_done(), total);
    // A few hundred bytes of answers per file would be what opens and closes cost.
    assert!(received.load(Relaxed) < total + 20_000);
    let before = received.load(Relaxed);
    let again = sftp
        .download(&wanted, home.path(), &Progress::new(), &options)
        .await
        .unwrap();
    assert_eq!((again.files_present, again.bytes_fetched), (COUNT as u64 + 1, 0));
    assert_eq!(received.load(Relaxed), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_that_is_wrong_short_or_gone_costs_a_second_fetch_and_nothing_else() {
    let host = tempfile::tempdir().unwrap();
    let mut wanted = packed(host.path());
    // Places beyond every end, and two files that claim the same place.
    wanted[3].packed.as_mut().unwrap().at = u64::MAX;
    wanted[4].packed.as_mut().unwrap().at = 0;
    let pack = host.path().join("outputs.pack");
    let length = std::fs::metadata(&pack).unwrap().len();
    for spoil in [
        Box::new(|_: &Path| {}) as Box<dyn Fn(&Path)>,
        Box::new(move |pack| std::fs::write(pack, bytes(length as usize, 77)).unwrap()),
        Box::new(|pack| std::fs::write(pack, b"short").unwrap()),
        Box::new(|pack| std::fs::remove_file(pack).unwrap()),
    ] {
        spoil(&pack);
        let home = tempfile::tempdir().unwrap();
        let (sftp, _) = counted().await;
        let options = DownloadOptions { memory: 8 << 20 };
        let report = sftp
            .download(&wanted, home.path(), &Progress::new(), &options)
            .await
            .unwrap();
        assert_eq!(report.files_fetched, COUNT as u64 + 1);
        assert_here(home.path(), &wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_within_a_pack_is_gone_on_from() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = packed(host.path());
    let options = DownloadOptions::default();
    let (sftp, _) = cut_after(400_000).await.unwrap();
    let cut = sftp
        .download(&wanted, home.path(), &Progress::new(), &options)
        .await;
    assert!(cut.unwrap_err().is_connection());
    let (sftp, _) = counted().await;
    sftp.download(&wanted, home.path(), &Progress::new(), &options)
        .await
        .unwrap();
    assert_here(home.path(), &wanted);
}
