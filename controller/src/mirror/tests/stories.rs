//! Single stories that the model tells too rarely or not at all.

use super::fake::{Fake, Fault, Reader, Tight};
use crate::mirror::{Event, Followed, From, Mirror, MirrorError, Options};
use farrun_protocol::log::LogEnd;
use farrun_protocol::{Generation, RunId, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    run_id: RunId,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            path: folder.path().join("city/logs/run.log"),
            _folder: folder,
            run_id: RunId::random(),
        }
    }
    fn open(&self) -> Mirror {
        Mirror::open(&self.path, &self.run_id, u64::MAX).unwrap()
    }
    fn file(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

async fn follow(
    mirror: &mut Mirror,
    fake: &Fake,
    mut options: Options,
    reader: &mut Reader,
) -> Result<Followed, MirrorError> {
    options.pause = Duration::from_micros(10);
    let mut sink = |event: Event<'_>| reader.hear(event);
    let followed = mirror.follow(fake, options, &mut sink);
    tokio::time::timeout(DEADLINE, followed).await.expect("it hangs")
}

#[tokio::test]
async fn a_long_log_is_asked_for_in_several_requests_at_once() {
    let place = Place::new();
    let fake = Fake::new(&vec![7; 20 * 1024 * 1024]);
    fake.with(|log| log.ended = true);
    let mut reader = Reader::default();
    let options = Options::to_the_end(From::Start);
    let followed = follow(&mut place.open(), &fake, options, &mut reader)
        .await
        .unwrap();
    assert!(followed.complete);
    let most = fake.most_under_way.load(Ordering::Relaxed);
    // Answers that have come and were not taken yet count as under way.
    assert!((16..=24).contains(&most), "{most} at once");
    assert!(reader.bytes == fake.truth() && place.file() == fake.truth());
}

#[tokio::test]
async fn what_the_job_writes_arrives_while_it_runs() {
    let place = Place::new();
    let fake = Fake::new(b"");
    let mut mirror = place.open();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut sink = |event: Event<'_>| {
        if let Event::Bytes(bytes) = event {
            sender.send(bytes.to_vec()).unwrap();
        }
    };
    let following = mirror.follow(&fake, Options::to_the_end(From::Start), &mut sink);
    let job = async {
        for number in 0..50_u8 {
            fake.with(|log| log.bytes.push(number));
            assert_eq!(receiver.recv().await, Some(vec![number]));
            // It is in the file before it is told.
            assert_eq!(place.file().last(), Some(&number));
        }
        fake.with(|log| log.ended = true);
    };
    let both = async { tokio::join!(following, job) };
    let (followed, ()) = tokio::time::timeout(DEADLINE, both).await.expect("it hangs");
    assert!(followed.unwrap().complete);
    assert!(
        fake.fetches.load(Ordering::Relaxed) <= 60,
        "a caught-up mirror asks once per chunk, and a few times ahead"
    );
    assert_eq!(
        fake.most_under_way.load(Ordering::Relaxed),
        8,
        "the next lines are asked for before they are written"
    );
}

#[tokio::test]
async fn a_new_source_goes_on_where_the_lost_one_stopped() {
    let place = Place::new();
    let fake = Fake::new(b"one\n");
    let (mut mirror, mut reader) = (place.open(), Reader::default());
    fake.with(|log| log.faults.extend([Fault::Pass, Fault::Cut]));
    let error = follow(&mut mirror, &fake, Options::to_the_end(From::Start), &mut reader).await;
    assert!(matches!(error, Err(MirrorError::Source(_))));
    fake.with(|log| {
        log.bytes.extend(b"two\n");
        log.ended = true;
    });
    let followed = follow(&mut mirror, &fake, Options::to_the_end(From::Told), &mut reader)
        .await
        .unwrap();
    assert!(followed.complete);
    assert_eq!(reader.bytes, b"one\ntwo\n");
}

#[tokio::test]
async fn an_end_that_is_not_true_is_an_error_after_one_more_try() {
    for (length, text) in [(9, &b"truth"[..]), (5, b"other"), (4, b"trut")] {
        let place = Place::new();
        let fake = Fake::new(b"truth");
        fake.with(|log| {
            log.ended = true;
            log.false_end = Some(LogEnd {
                length,
                sha256: Sha256::of(text),
            });
        });
        let mut reader = Reader::default();
        let options = Options::to_the_end(From::Start);
        let error = follow(&mut place.open(), &fake, options, &mut reader)
            .await
            .unwrap_err();
        assert!(matches!(error, MirrorError::Damaged { .. }), "{error}");
        assert_eq!(place.file(), b"truth");
    }
}

#[tokio::test]
async fn a_log_longer_than_any_its_order_allows_is_refused_and_not_stored() {
    let place = Place::new();
    let fake = Fake::new(&[7; 1000]);
    let limited = |most| Mirror::open(&place.path, &place.run_id, most).unwrap();
    for most in [999, 0] {
        let mut reader = Reader::default();
        let options = Options::to_the_end(From::Start);
        let error = follow(&mut limited(most), &fake, options, &mut reader)
            .await
            .unwrap_err();
        assert!(
            matches!(error, MirrorError::TooLong { most: told, .. } if told == most),
            "{error}"
        );
        assert_eq!((place.file(), reader.bytes), (Vec::new(), Vec::new()));
    }
    // Not one byte too few, also where nothing is stored because another process does.
    fake.with(|log| log.ended = true);
    let mut reader = Reader::default();
    let mut first = limited(1000);
    let followed = follow(&mut first, &fake, Options::to_the_end(From::Start), &mut reader).await;
    assert!(followed.unwrap().complete);
    let error = follow(
        &mut limited(999),
        &fake,
        Options::for_now(From::Start),
        &mut reader,
    )
    .await;
    assert!(matches!(error, Err(MirrorError::TooLong { .. })), "{error:?}");
}

#[tokio::test]
async fn a_source_that_replaces_its_log_again_and_again_fills_no_disk() {
    let place = Place::new();
    let fake = Fake::new(b"a life\n");
    let mut mirror = place.open();
    let mut lives = 0;
    // Each life is followed anew, as after a broken link.
    let error = loop {
        let mut reader = Reader::default();
        let followed = follow(&mut mirror, &fake, Options::for_now(From::Told), &mut reader).await;
        match followed {
            Ok(_) => lives += 1,
            Err(error) => break error,
        }
        assert!(lives < 100, "it is believed for ever");
        fake.with(|log| log.generation = Generation::random());
    };
    assert!(matches!(error, MirrorError::Contradiction { .. }), "{error}");
    // Neither does one command after the other.
    for _ in 0..100 {
        fake.with(|log| log.generation = Generation::random());
        let _ = follow(
            &mut place.open(),
            &fake,
            Options::for_now(From::Start),
            &mut Reader::default(),
        )
        .await;
    }
    let files = std::fs::read_dir(place.path.parent().unwrap()).unwrap().count();
    assert_eq!(files, 17, "one log and at most 16 earlier ones");
}

#[tokio::test]
async fn a_replaced_log_leaves_the_old_file_beside_the_new() {
    let place = Place::new();
    let fake = Fake::new(b"first life\n");
    let (mut mirror, mut reader) = (place.open(), Reader::default());
    for number in 1..=2 {
        follow(&mut mirror, &fake, Options::for_now(From::Told), &mut reader)
            .await
            .unwrap();
        let old = fake.truth();
        fake.with(|log| {
            log.bytes = format!("life after {number}\n").into_bytes();
            log.generation = Generation::random();
        });
        follow(&mut mirror, &fake, Options::for_now(From::Told), &mut reader)
            .await
            .unwrap();
        assert_eq!(reader.replaced, number);
        let kept = format!("{}.{number}.old", place.path.display());
        assert_eq!(std::fs::read(kept).unwrap(), old);
        assert_eq!(reader.bytes, fake.truth());
        assert_eq!(place.file(), fake.truth());
    }
}

#[tokio::test]
async fn a_source_that_never_brings_news_is_not_asked_for_ever() {
    let place = Place::new();
    let fake = Fake::new(b"0123456789");
    let (mut mirror, mut reader) = (place.open(), Reader::default());
    follow(&mut mirror, &fake, Options::for_now(From::Start), &mut reader)
        .await
        .unwrap();
    for fault in [Fault::Repeat(5), Fault::Jump(1)] {
        fake.with(|log| {
            log.bytes.extend(b"more");
            log.faults.extend([fault; 1000]);
            // An overlap is cut to what is known already.
            if matches!(fault, Fault::Repeat(_)) {
                log.bytes.truncate(10);
            }
        });
        let error = follow(&mut mirror, &fake, Options::to_the_end(From::Told), &mut reader).await;
        assert!(
            matches!(error, Err(MirrorError::Contradiction { .. })),
            "{fault:?}: {error:?}"
        );
        fake.with(|log| log.faults.clear());
    }
    assert_eq!(reader.bytes, b"0123456789");
}

#[tokio::test]
async fn a_full_disk_pauses_and_loses_nothing() {
    let place = Place::new();
    let fake = Fake::new(b"what the job wrote");
    fake.with(|log| log.ended = true);
    let disk = Arc::new(Tight::default());
    disk.partial.store(1, Ordering::Relaxed);
    disk.full.store(5, Ordering::Relaxed);
    let mut mirror = Mirror::open_on(&place.path, &place.run_id, u64::MAX, disk).unwrap();
    let mut reader = Reader::default();
    let followed = follow(&mut mirror, &fake, Options::to_the_end(From::Start), &mut reader)
        .await
        .unwrap();
    assert!(followed.complete);
    assert_eq!(reader.names, ["full", "freed"]);
    assert_eq!(reader.bytes, fake.truth());
}

#[tokio::test]
async fn the_last_lines_are_told_once_all_is_here() {
    let place = Place::new();
    let fake = Fake::new(b"one\ntwo\nthree\n");
    for mirror in &mut [place.open(), place.open()] {
        let mut reader = Reader::default();
        follow(mirror, &fake, Options::for_now(From::Lines(2)), &mut reader)
            .await
            .unwrap();
        assert_eq!(reader.bytes, b"two\nthree\n", "{}", mirror.local.is_some());
    }
}

#[tokio::test]
async fn telling_begins_at_an_offset_and_the_file_at_its_start() {
    let place = Place::new();
    let fake = Fake::new(b"0123456789");
    let mut reader = Reader::default();
    follow(
        &mut place.open(),
        &fake,
        Options::for_now(From::Offset(7)),
        &mut reader,
    )
    .await
    .unwrap();
    assert_eq!(reader.bytes, b"789");
    assert_eq!(place.file(), b"0123456789");
}

#[tokio::test]
async fn a_second_process_takes_over_when_the_writer_is_gone() {
    let place = Place::new();
    let fake = Fake::new(b"one\n");
    let (mut first, mut second) = (place.open(), place.open());
    assert!(first.local.is_some() && second.local.is_none());
    let (mut unread, mut reader) = (Reader::default(), Reader::default());
    follow(&mut first, &fake, Options::for_now(From::Start), &mut unread)
        .await
        .unwrap();
    fake.with(|log| log.bytes.extend(b"two\n"));
    follow(&mut second, &fake, Options::for_now(From::Start), &mut reader)
        .await
        .unwrap();
    assert_eq!(reader.bytes, b"one\ntwo\n");
    assert_eq!(place.file(), b"one\n", "only one writes");
    drop(first);
    fake.with(|log| {
        log.bytes.extend(b"three\n");
        log.ended = true;
    });
    let followed = follow(&mut second, &fake, Options::to_the_end(From::Told), &mut reader)
        .await
        .unwrap();
    assert!(followed.complete);
    assert_eq!(reader.bytes, fake.truth());
    assert_eq!(place.file(), fake.truth());
}

#[test]
fn nothing_but_a_plain_file_is_opened() {
    let place = Place::new();
    std::fs::create_dir_all(&place.path).unwrap();
    assert!(Mirror::open(&place.path, &place.run_id, u64::MAX).is_err());
    std::fs::remove_dir(&place.path).unwrap();
    let victim = place.path.with_extension("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &place.path).unwrap();
    assert!(Mirror::open(&place.path, &place.run_id, u64::MAX).is_err());
    assert_eq!(std::fs::read(victim).unwrap(), b"precious");
}
