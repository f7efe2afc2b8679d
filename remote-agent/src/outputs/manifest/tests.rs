use super::*;
use farrun_protocol::manifest::BLOCK;
use farrun_protocol::{BlockHash, Sha256};

fn run_id() -> RunId {
    "rs_abcdefgh".parse().unwrap()
}

#[test]
fn files_are_listed_sorted_with_blocks_and_the_rest_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
    std::fs::create_dir_all(root.join("b/c")).unwrap();
    let big = vec![7; BLOCK as usize + 1];
    std::fs::write(root.join("b/c/big"), &big).unwrap();
    std::fs::write(root.join("a"), b"").unwrap();
    std::fs::write(root.join("back\\slash"), b"x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let manifest = build(
        &root,
        &run_id(),
        &target,
        &folder.path().join("outputs.pack"),
        |_| {},
    )
    .unwrap();
    let paths: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a", "b/c/big"]);
    let listed = &manifest.files[1];
    assert_eq!(listed.sha256, None);
    assert_eq!(
        listed.blocks,
        [BlockHash::of(&big[..BLOCK as usize]), BlockHash::of(&[7])]
    );
    assert_eq!(manifest.files[0].sha256, Some(Sha256::of(b"")));
    let reasons: Vec<_> = manifest.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(
        reasons,
        [SkipReason::Name, SkipReason::Symlink, SkipReason::Special]
    );
    let on_disk: Manifest = read_json_within(&target, FORMAT, MAX_SIZE).unwrap().unwrap();
    assert_eq!(on_disk, manifest);
}

#[test]
fn what_does_not_fit_a_manifest_is_named_as_far_as_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..100 {
        std::fs::write(folder.path().join(format!("{index:0100}")), b"").unwrap();
    }
    let counts = |size| {
        let found = list(folder.path(), size).unwrap();
        (found.files.len(), found.skipped.len())
    };
    assert_eq!(counts(MAX_SIZE), (100, 0));
    // Each takes 356 bytes at most.
    assert_eq!(counts(FRAME_SIZE + SKIPPED_SIZE + 10 * 356), (10, 90));
    assert_eq!(counts(0), (0, 100));
}

#[test]
fn a_manifest_is_reused_until_a_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("a"), b"one").unwrap();
    let hashed = |expected: bool| {
        let mut reports = 0;
        build(
            &root,
            &run_id(),
            &target,
            &folder.path().join("outputs.pack"),
            |_| reports += 1,
        )
        .unwrap();
        assert_eq!(reports > 0, expected);
    };
    hashed(true);
    // File times move in ticks of some milliseconds; a change within one tick is hashed again, never missed.
    let changed = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    while changed(&target) <= changed(&root.join("a")) {
        std::fs::remove_file(&target).unwrap();
        hashed(true);
    }
    hashed(false);
    std::fs::write(root.join("a"), b"two").unwrap();
    hashed(true);
}

#[test]
fn a_long_manifest_is_reused_like_a_short_one() {
    let folder = tempfile::tempdir().unwrap();
    let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
    let deep = root.join(vec!["d".repeat(250); 11].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    for index in 0..1500 {
        std::fs::write(deep.join(format!("{index:0230}")), b"").unwrap();
    }
    let pack = folder.path().join("outputs.pack");
    let hashed = || {
        let mut reports = 0;
        build(&root, &run_id(), &target, &pack, |_| reports += 1).unwrap();
        reports > 0
    };
    hashed();
    assert!(std::fs::metadata(&target).unwrap().len() > 4 * 1024 * 1024);
    // Until the list is younger than the last file.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while hashed() {
        assert!(std::time::Instant::now() < deadline, "it is made again and again");
    }
}

#[test]
fn a_manifest_that_finds_no_room_lies_elsewhere_until_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let (root, away) = (folder.path().join("outputs"), folder.path().join("away.json"));
    std::fs::create_dir(&root).unwrap();
    for index in 0..20 {
        std::fs::write(root.join(format!("file{index:02}")), format!("content {index}")).unwrap();
    }
    let run = folder.path().join("run");
    let (target, pack) = (run.join("manifest.json"), folder.path().join("outputs.pack"));
    let elsewhere = |_: bool| vec![away.clone()];
    let build = || build_somewhere(&root, &run_id(), &target, &elsewhere, &pack, |_| {});
    let (manifest, place) = build().unwrap();
    assert_eq!((place, manifest.files.len()), (away.clone(), 20));
    assert!(!pack.exists() && manifest.files.iter().all(|file| file.packed_at.is_none()));
    assert_eq!(
        read_json_within::<Manifest>(&away, FORMAT, MAX_SIZE)
            .unwrap()
            .unwrap(),
        manifest
    );
    let nowhere = |_: bool| vec![run.join("neither.json")];
    let refused = build_somewhere(&root, &run_id(), &target, &nowhere, &pack, |_| {});
    assert!(refused.unwrap_err().to_string().contains("manifest.json"));
    std::fs::create_dir(&run).unwrap();
    std::fs::write(root.join("file00"), "changed").unwrap();
    assert_eq!(build().unwrap().1, target);
    assert!(!away.exists() && pack.exists());
}

#[test]
fn small_files_are_packed_and_a_lost_pack_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
    let pack = folder.path().join("outputs.pack");
    std::fs::create_dir(&root).unwrap();
    for index in 0..20 {
        std::fs::write(root.join(format!("file{index:02}")), format!("content {index}")).unwrap();
    }
    let large = vec![1; usize::try_from(PACKED_MOST).unwrap() + 1];
    std::fs::write(root.join("large"), &large).unwrap();
    let manifest = build(&root, &run_id(), &target, &pack, |_| {}).unwrap();
    let packed = std::fs::read(&pack).unwrap();
    for file in &manifest.files {
        let Some(at) = file.packed_at else {
            assert_eq!(file.path, "large");
            assert_eq!(file.sha256, Some(Sha256::of(&large)));
            continue;
        };
        let content = &packed[usize::try_from(at).unwrap()..][..usize::try_from(file.size).unwrap()];
        assert_eq!(Some(Sha256::of(content)), file.sha256);
    }
    std::fs::remove_file(&pack).unwrap();
    assert_eq!(build(&root, &run_id(), &target, &pack, |_| {}).unwrap(), manifest);
    assert_eq!(std::fs::read(&pack).unwrap(), packed);
}
