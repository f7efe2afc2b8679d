//! What is refused, and that nothing is touched then.

use crate::content::{announce, assert_nothing_unverified, bytes, fetch, make};
use crate::server::{connect, hooked};
use farrun::ssh::transfer::{TransferError, Wanted};
use farrun_protocol::manifest::BLOCK;
use farrun_protocol::{BlockHash, Sha256};
use std::os::unix::fs::symlink;
use std::path::Path;

const MIB: usize = 1024 * 1024;

async fn refused(wanted: &[Wanted], home: &Path) -> TransferError {
    fetch(&connect().await, wanted, home).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_the_way_is_never_followed() {
    let (host, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = vec![make(host.path(), "a/b", 100, 1)];
    std::fs::write(outside.path().join("b"), "untouched").unwrap();
    for plant in ["folder", "leaf", "parts", "shelf", "part"] {
        let home = tempfile::tempdir().unwrap();
        let part_name = Sha256::of(b"a/b");
        match plant {
            "folder" => symlink(outside.path(), home.path().join("a")).unwrap(),
            "leaf" => {
                std::fs::create_dir(home.path().join("a")).unwrap();
                symlink(outside.path().join("b"), home.path().join("a/b")).unwrap();
            }
            "parts" => symlink(outside.path(), home.path().join(".farrun-part")).unwrap(),
            "shelf" => {
                std::fs::create_dir(home.path().join(".farrun-part")).unwrap();
                let shelf = home.path().join(".farrun-part").join(&part_name.as_str()[..1]);
                symlink(outside.path(), shelf).unwrap();
            }
            _ => {
                let shelf = home.path().join(".farrun-part").join(&part_name.as_str()[..1]);
                std::fs::create_dir_all(&shelf).unwrap();
                symlink(outside.path().join("b"), shelf.join(part_name.as_str())).unwrap();
            }
        }
        let error = refused(&wanted, home.path()).await;
        assert!(
            matches!(error, TransferError::NotContained { .. }),
            "{plant}: {error:?}"
        );
        assert_eq!(std::fs::read(outside.path().join("b")).unwrap(), b"untouched");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{plant}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_the_name_of_a_file_is_left_alone() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = vec![make(host.path(), "a", 100, 1)];
    std::fs::create_dir(home.path().join("a")).unwrap();
    std::fs::write(home.path().join("a/mine"), "x").unwrap();
    assert!(matches!(
        refused(&wanted, home.path()).await,
        TransferError::NotContained { .. }
    ));
    assert!(home.path().join("a/mine").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsafe_and_colliding_names_are_refused_before_anything_is_made() {
    let host = tempfile::tempdir().unwrap();
    let good = make(host.path(), "good", 10, 1);
    for name in [
        "../x",
        "/etc/x",
        "a/../x",
        "",
        "a//b",
        ".farrun-part/x",
        "GOOD",
        "good/x",
        "a\\b",
        "a\0b",
    ] {
        let home = tempfile::tempdir().unwrap();
        let bad = Wanted {
            path: name.to_owned(),
            ..good.clone()
        };
        let error = refused(&[good.clone(), bad], home.path()).await;
        let named = matches!(
            error,
            TransferError::UnsafeName { .. } | TransferError::Collision { .. }
        );
        assert!(named, "{name:?}: {error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_beyond_the_disk_are_refused_before_anything_moves() {
    let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut wanted = make(host.path(), "f", 10, 1);
    wanted.size = 1 << 52;
    wanted.blocks = Vec::new();
    let error = refused(&[wanted.clone()], home.path()).await;
    assert!(matches!(error, TransferError::BadAnnouncement { .. }), "{error}");
    wanted.size = 150_000 * BLOCK;
    wanted.blocks = vec![BlockHash::of(b"x"); 150_000];
    let many: Vec<_> = (0..20)
        .map(|index| Wanted {
            path: format!("f{index}"),
            ..wanted.clone()
        })
        .collect();
    let error = refused(&many, home.path()).await;
    assert!(matches!(error, TransferError::NotEnoughSpace { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_than_announced_never_gets_the_name() {
    let host = tempfile::tempdir().unwrap();
    let content = bytes(9 * MIB, 1);
    let other = bytes(9 * MIB, 2);
    for (case, on_disk, announced) in [
        ("replaced", &other[..], &content[..]),
        ("shorter", &content[..6 * MIB], &content),
        ("small replaced", &other[..900], &content[..900]),
        ("small shorter", &content[..899], &content[..900]),
        ("empty", &[], &content[..900]),
    ] {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("f"), on_disk).unwrap();
        let wanted = announce(host.path(), "f", announced);
        let error = refused(&[wanted], home.path()).await;
        assert!(
            matches!(error, TransferError::ChangedWhileReading { .. }),
            "{case}: {error:?}"
        );
        assert!(!home.path().join("f").exists(), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_shrinks_or_changes_under_the_read_is_noticed() {
    for shrink in [true, false] {
        let (host, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let wanted = vec![make(host.path(), "f", 60 * MIB, 1)];
        let source = host.path().join("f");
        let sftp = hooked(MIB as u64, move || {
            let file = std::fs::OpenOptions::new().write(true).open(source).unwrap();
            match shrink {
                true => file.set_len(10 * MIB as u64).unwrap(),
                false => std::os::unix::fs::FileExt::write_all_at(&file, b"x", 59 * MIB as u64).unwrap(),
            }
        })
        .await;
        let error = fetch(&sftp, &wanted, home.path()).await.unwrap_err();
        assert!(
            matches!(error, TransferError::ChangedWhileReading { .. }),
            "{error:?}"
        );
        assert_nothing_unverified(home.path(), &wanted);
        assert!(!home.path().join("f").exists());
    }
}
