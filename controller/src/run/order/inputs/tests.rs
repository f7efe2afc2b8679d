use super::*;
use farrun_protocol::Sha256;

#[test]
fn content_is_found_again_by_hash() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.mp4");
    std::fs::write(&file, b"video").unwrap();
    let inputs = vec![
        OrderInput {
            path: "video.mp4".into(),
            source: OrderSource::Local(file.clone()),
        },
        OrderInput {
            path: "spec.json".into(),
            source: OrderSource::Inline(b"{}".to_vec()),
        },
    ];
    let (inputs, sources) =
        hash_inputs(inputs, &folder.path().join("order"), &CancellationToken::new()).unwrap();
    assert_eq!(inputs.iter().map(|input| input.size).collect::<Vec<_>>(), [5, 2]);
    assert_eq!(sources.file(&ContentId::of(b"video")), Some(file.as_path()));
    assert_eq!(
        std::fs::read(sources.file(&ContentId::of(b"{}")).unwrap()).unwrap(),
        b"{}"
    );
}

#[test]
fn an_order_of_another_machine_is_not_remembered() {
    let state = tempfile::tempdir().unwrap();
    let home = state.path().display().to_string();
    let config = Config::load(None, &|name| (name == "HOME").then(|| home.clone())).unwrap();
    let run = RunId::random();
    assert!(!sources(&config, &run).unwrap().is_remembered());
    // Also one that has nothing to send.
    let (_, none) = hash_inputs(Vec::new(), state.path(), &CancellationToken::new()).unwrap();
    write_sources(&config, &run, &none).unwrap();
    assert!(sources(&config, &run).unwrap().is_remembered());
}

#[test]
fn files_outlive_their_order_and_what_was_made_for_it_does_not() {
    let state = tempfile::tempdir().unwrap();
    let home = state.path().display().to_string();
    let config = Config::load(None, &|name| (name == "HOME").then(|| home.clone())).unwrap();
    let run = RunId::random();
    let (clip, earlier) = (state.path().join("clip"), ContentId::of(b"of an earlier order"));
    std::fs::write(&clip, "video").unwrap();
    let input = |source| OrderInput {
        path: "a".into(),
        source,
    };
    let inputs = vec![
        input(OrderSource::Local(clip.clone())),
        input(OrderSource::Inline(b"{}".to_vec())),
        input(OrderSource::Content {
            content: earlier.clone(),
            size: 19,
            local: Some("/gone".into()),
        }),
    ];
    let calm = CancellationToken::new();
    let (_, sources) = hash_inputs(inputs, &folder(&config, &run), &calm).unwrap();
    assert!(sources.is_unread(&earlier) && !sources.is_unread(&ContentId::of(b"video")));
    write_sources(&config, &run, &sources).unwrap();
    keep_files(&config, &run, &sources);
    forget(&config, &run);
    assert!(!super::sources(&config, &run).unwrap().is_remembered());
    let kept = files_of(&config, &run).unwrap();
    assert_eq!(kept.file(&ContentId::of(b"video")), Some(clip.as_path()));
    assert_eq!(kept.file(&earlier), Some(Path::new("/gone")));
    assert_eq!(kept.file(&ContentId::of(b"{}")), None);
    assert_eq!(files_of(&config, &RunId::random()).unwrap().file(&earlier), None);
}

#[test]
fn files_of_any_size_have_the_hash_of_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input");
    for size in [
        0,
        1,
        PIECE,
        PIECE + 1,
        READ_AHEAD as usize,
        READ_AHEAD as usize + 7,
    ] {
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        std::fs::write(&file, &content).unwrap();
        let hashed = hash_file(&file, None, &CancellationToken::new()).unwrap();
        assert_eq!(hashed, (ContentId::of(&content), size as u64));
        // As an order that was written down before large content was known by its blocks has it.
        let by_sha256 = ContentId::Sha256(Sha256::of(&content));
        let hashed = hash_file(&file, Some(&by_sha256), &CancellationToken::new()).unwrap();
        assert_eq!(hashed, (by_sha256, size as u64));
    }
}

#[test]
fn an_unreadable_input_is_named() {
    let missing = Path::new("/nonexistent/video.mp4");
    let calm = CancellationToken::new();
    assert!(matches!(hash_file(missing, None, &calm), Err(RunError::Input { path, .. }) if path == missing));
}

#[test]
fn an_interruption_ends_the_reading_of_an_input() {
    let interrupted = CancellationToken::new();
    interrupted.cancel();
    // It never ends by itself.
    let hashed = hash_file(Path::new("/dev/zero"), None, &interrupted);
    assert!(matches!(hashed, Err(RunError::Interrupted { detached: None })));
}
