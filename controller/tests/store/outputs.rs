//! Outputs: which of them each machine has, and reading many.

use crate::support::{Fixture, on_both, run};
use chrono::Utc;
use farrun::model::{OutputRecord, OutputsTotal};
use farrun::store::StoreError;
use farrun_protocol::{BlockHash, RunId, Sha256};

on_both!(outputs_belong_to_machines, many_outputs_are_read_some_at_a_time);

async fn outputs_belong_to_machines(fixture: Fixture) {
    let (laptop, desktop) = (fixture.open_as("laptop").await, fixture.open_as("desktop").await);
    let ordered = run(&laptop, None);
    laptop.create_run(&ordered).await.unwrap();
    let elsewhere = desktop.run(&ordered.id).await.unwrap().unwrap();
    assert_eq!((elsewhere.log_path, elsewhere.outputs_path), (None, None));
    desktop
        .change_run(&ordered.id, |run| {
            run.log_path = Some("/desktop/run.log".to_owned())
        })
        .await
        .unwrap();
    assert_eq!(
        laptop.run(&ordered.id).await.unwrap().unwrap().log_path,
        ordered.log_path
    );

    let output = |path: &str, content: &[u8]| OutputRecord {
        path: path.to_owned(),
        size: content.len() as u64,
        sha256: Some(Sha256::of(content)),
        blocks: None,
        pulled_at: None,
    };
    let mut files = vec![output("Z.mp4", b"z"), output("a/ü.mp4", b"a")];
    laptop.set_outputs(&ordered.id, &files).await.unwrap();
    let at = Utc::now();
    let id = &ordered.id;
    assert!(!laptop.mark_all_pulled(id, &files[1..], at).await.unwrap());
    let other = [files[0].clone(), output("a/ü.mp4", b"A")];
    assert!(!laptop.mark_all_pulled(id, &other, at).await.unwrap());
    assert_eq!(laptop.outputs(id).await.unwrap(), files);
    assert!(laptop.mark_all_pulled(id, &files, at).await.unwrap());
    assert!(laptop.mark_all_pulled(id, &files, at).await.unwrap());
    assert_eq!(desktop.outputs(id).await.unwrap(), files);
    files.iter_mut().for_each(|file| file.pulled_at = Some(at));
    assert_eq!(laptop.outputs(id).await.unwrap(), files);

    // A large file is known by its blocks.
    let large = |blocks: &[u8]| OutputRecord {
        sha256: None,
        blocks: Some(BlockHash::of(blocks)),
        ..output("large", b"")
    };
    let mut larges = [large(b"one")];
    desktop.set_outputs(id, &larges).await.unwrap();
    assert!(desktop.mark_all_pulled(id, &larges, at).await.unwrap());
    laptop.set_outputs(id, &larges).await.unwrap();
    assert!(!desktop.mark_all_pulled(id, &[large(b"two")], at).await.unwrap());
    larges[0].pulled_at = Some(at);
    assert_eq!(desktop.outputs(id).await.unwrap(), larges);
    desktop.set_outputs(id, &[large(b"two")]).await.unwrap();
    assert_eq!(desktop.outputs(id).await.unwrap(), [large(b"two")]);
    files.truncate(2);
    laptop.set_outputs(id, &files).await.unwrap();

    // Another machine that looks again takes nothing away, unless the file changed.
    desktop
        .set_outputs(&ordered.id, &[output("a/ü.mp4", b"a")])
        .await
        .unwrap();
    assert_eq!(laptop.outputs(&ordered.id).await.unwrap(), files[1..]);
    desktop
        .set_outputs(&ordered.id, &[output("a/ü.mp4", b"other")])
        .await
        .unwrap();
    assert_eq!(laptop.outputs(&ordered.id).await.unwrap()[0].pulled_at, None);

    let many: Vec<_> = (0..5000)
        .map(|number| output(&format!("{number:05}"), b"x"))
        .collect();
    laptop.set_outputs(&ordered.id, &many).await.unwrap();
    assert_eq!(laptop.outputs(&ordered.id).await.unwrap(), many);
    assert!(matches!(
        laptop.set_outputs(&RunId::random(), &many).await,
        Err(StoreError::RunUnknown { .. })
    ));
    laptop.close().await.unwrap();
    desktop.close().await.unwrap();
}

async fn many_outputs_are_read_some_at_a_time(fixture: Fixture) {
    let (laptop, desktop) = (fixture.open_as("laptop").await, fixture.open_as("desktop").await);
    let ordered = run(&laptop, None);
    laptop.create_run(&ordered).await.unwrap();
    let (id, at) = (&ordered.id, Utc::now());
    assert_eq!(laptop.outputs_total(id).await.unwrap(), OutputsTotal::default());
    assert_eq!(laptop.outputs_page(id, None, 10).await.unwrap(), (vec![], None));
    // Databases do not agree on the order of such names.
    let names = (0..2500).map(|number| match number % 4 {
        0 => format!("Frame_{number}"),
        1 => format!("frame_{number}"),
        2 => format!("é/{number}"),
        _ => format!("{number}"),
    });
    let mut files: Vec<OutputRecord> = names
        .enumerate()
        .map(|(number, path)| OutputRecord {
            sha256: (number % 10 != 0).then(|| Sha256::of(path.as_bytes())),
            blocks: (number % 10 == 0).then(|| BlockHash::of(path.as_bytes())),
            path,
            size: 1 << 20,
            pulled_at: None,
        })
        .collect();
    laptop.set_outputs(id, &files).await.unwrap();
    assert!(laptop.mark_all_pulled(id, &files, at).await.unwrap());
    let total = |pulled| OutputsTotal {
        files: 2500,
        bytes: 2500 << 20,
        pulled,
    };
    assert_eq!(laptop.outputs_total(id).await.unwrap(), total(2500));
    assert_eq!(desktop.outputs_total(id).await.unwrap(), total(0));

    let (mut read, mut after, mut sizes) = (Vec::new(), None, Vec::new());
    loop {
        let (mut page, next) = desktop.outputs_page(id, after.as_deref(), 1000).await.unwrap();
        sizes.push(page.len());
        read.append(&mut page);
        if next.is_none() {
            break;
        }
        after = next;
    }
    assert_eq!(sizes, [1000, 1000, 500]);
    read.sort_by(|one, other| one.path.cmp(&other.path));
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(read, files);
    assert_eq!(desktop.outputs(id).await.unwrap(), files);

    // One by its path; and what has changed since counts as not here, by either hash.
    let one = laptop.output(id, &files[7].path).await.unwrap().unwrap();
    assert_eq!(one.pulled_at, Some(at));
    assert_eq!(laptop.output(id, "nothing").await.unwrap(), None);
    let large = files.iter().position(|file| file.blocks.is_some()).unwrap();
    let small = files.iter().position(|file| file.blocks.is_none()).unwrap();
    files[large].blocks = Some(BlockHash::of(b"changed"));
    files[small].sha256 = Some(Sha256::of(b"changed"));
    desktop.set_outputs(id, &files).await.unwrap();
    assert_eq!(laptop.outputs_total(id).await.unwrap(), total(2498));
    let changed = laptop.output(id, &files[large].path).await.unwrap().unwrap();
    assert_eq!(changed.pulled_at, None);

    assert!(desktop.mark_all_pulled(id, &files, at).await.unwrap());
    laptop.forget_pulls(id).await.unwrap();
    assert_eq!(laptop.outputs_total(id).await.unwrap(), total(0));
    assert_eq!(desktop.outputs_total(id).await.unwrap(), total(2500));
    laptop.close().await.unwrap();
    desktop.close().await.unwrap();
}
