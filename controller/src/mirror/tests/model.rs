//! Random lives of a mirror against a model: the file is a prefix of the truth, and in the end the truth.

use super::fake::{Fake, Fault, Reader, Tight};
use crate::mirror::{From, Mirror, MirrorError, Options};
use farrun_protocol::{Generation, RunId};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Several of the largest chunks.
static HUGE: OnceLock<Vec<u8>> = OnceLock::new();

#[derive(Debug, Clone)]
enum Action {
    Text(Vec<u8>),
    Nuls(usize),
    NotText(usize),
    Large(usize),
    Huge,
    Pull,
    CutAfter(usize),
    CutHash,
    KillAt(usize),
    Reopen,
    RepeatOlder(u64),
    JumpAhead(u64),
    ShortReads(usize),
    EmptyAnswer,
    ReplaceLog(Vec<u8>),
    TailZeroed(usize),
    Flipped(usize),
    Truncated(usize),
    ForeignBytes(usize),
    LengthChangedWhileOpen(usize),
    DiskFull(u32),
    PartialWrites(u32),
    SecondReader,
}

fn any_action() -> impl Strategy<Value = Action> {
    use Action::*;
    let some = || 1usize..5000;
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 1..300).prop_map(Text),
        1 => some().prop_map(Nuls),
        1 => some().prop_map(NotText),
        2 => (1usize..200_000).prop_map(Large),
        1 => Just(Huge),
        6 => Just(Pull),
        2 => (0usize..4).prop_map(CutAfter),
        1 => Just(CutHash),
        2 => (0usize..4).prop_map(KillAt),
        2 => Just(Reopen),
        2 => (1u64..100_000).prop_map(RepeatOlder),
        1 => (1u64..100).prop_map(JumpAhead),
        1 => (1usize..500).prop_map(ShortReads),
        1 => Just(EmptyAnswer),
        1 => proptest::collection::vec(any::<u8>(), 0..3000).prop_map(ReplaceLog),
        1 => some().prop_map(TailZeroed),
        1 => any::<usize>().prop_map(Flipped),
        1 => some().prop_map(Truncated),
        1 => some().prop_map(ForeignBytes),
        1 => some().prop_map(LengthChangedWhileOpen),
        1 => (1u32..4).prop_map(DiskFull),
        1 => (1u32..4).prop_map(PartialWrites),
        1 => Just(SecondReader),
    ]
}

struct World {
    fake: Fake,
    disk: Arc<Tight>,
    path: PathBuf,
    run_id: RunId,
    mirror: Option<Mirror>,
    reader: Reader,
    /// Whether somebody else changed the file or the log since the two were last compared.
    suspect: bool,
}

impl World {
    fn file(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn reopen(&mut self) {
        self.mirror = None;
        self.mirror = Some(Mirror::open_on(&self.path, &self.run_id, u64::MAX, self.disk.clone()).unwrap());
        self.reader = Reader::default();
    }

    /// Power loss: what the file holds afterwards is anybody's guess.
    fn damage(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.file();
        change(&mut bytes);
        std::fs::write(&self.path, bytes).unwrap();
        self.suspect = true;
        self.reopen();
    }

    async fn pull(&mut self) {
        let was_prefix = self.fake.truth().starts_with(&self.file());
        let (repaired, replaced) = (self.reader.repaired, self.reader.replaced);
        let mut options = Options::for_now(From::Told);
        options.pause = Duration::from_micros(10);
        let (mirror, reader) = (self.mirror.as_mut().unwrap(), &mut self.reader);
        let mut sink = |event: crate::mirror::Event<'_>| reader.hear(event);
        let outcome = tokio::select! {
            outcome = mirror.follow(&self.fake, options, &mut sink) => Some(outcome),
            () = self.fake.hung.notified() => None,
        };
        match outcome {
            Some(Ok(followed)) => {
                self.suspect = false;
                let truth = self.fake.truth();
                assert!(truth.starts_with(&self.file()), "foreign bytes were kept");
                assert_eq!(followed.length, self.file().len() as u64);
                assert_eq!(self.reader.bytes, self.file(), "the reader saw something else");
                let reported = self.reader.repaired > repaired || self.reader.replaced > replaced;
                assert!(was_prefix || reported, "a repair was not reported");
            }
            Some(Err(MirrorError::Source(_))) => {}
            Some(Err(error)) => panic!("{error}"),
            // The process was killed in the middle.
            None => self.reopen(),
        }
        assert!(
            self.suspect || self.fake.truth().starts_with(&self.file()),
            "not a prefix"
        );
    }

    async fn pull_with(&mut self, after: usize, fault: Fault) {
        self.fake.with(|log| {
            log.faults.extend(std::iter::repeat_n(Fault::Pass, after));
            log.faults.push_back(fault);
        });
        self.pull().await;
        self.fake.with(|log| log.faults.clear());
    }

    async fn second_reader(&mut self) {
        let mut second = Mirror::open(&self.path, &self.run_id, u64::MAX).unwrap();
        assert!(second.local.is_none());
        let mut reader = Reader::default();
        let mut sink = |event: crate::mirror::Event<'_>| reader.hear(event);
        second
            .follow(&self.fake, Options::for_now(From::Start), &mut sink)
            .await
            .unwrap();
        assert_eq!(reader.bytes, self.fake.truth());
    }

    async fn act(&mut self, action: Action) {
        let append = |world: &Self, bytes: &[u8]| world.fake.with(|log| log.bytes.extend_from_slice(bytes));
        match action {
            Action::Text(bytes) => append(self, &bytes),
            Action::Nuls(count) => append(self, &vec![0; count]),
            Action::NotText(count) => append(self, &vec![0xff; count]),
            Action::Large(count) => append(self, &noise(count)),
            Action::Huge => append(self, HUGE.get_or_init(|| noise(3_300_000))),
            Action::Pull => self.pull().await,
            Action::CutAfter(after) => self.pull_with(after, Fault::Cut).await,
            Action::CutHash => {
                self.fake.with(|log| log.hash_cuts = 1);
                self.pull().await;
                self.fake.with(|log| log.hash_cuts = 0);
            }
            Action::KillAt(after) => self.pull_with(after, Fault::Hang).await,
            Action::Reopen => self.reopen(),
            Action::RepeatOlder(back) => self.pull_with(0, Fault::Repeat(back)).await,
            Action::JumpAhead(on) => self.pull_with(0, Fault::Jump(on)).await,
            Action::ShortReads(most) => self.pull_with(0, Fault::Short(most)).await,
            Action::EmptyAnswer => self.pull_with(0, Fault::Empty).await,
            Action::ReplaceLog(bytes) => {
                self.fake
                    .with(|log| (log.bytes, log.generation) = (bytes, Generation::random()));
                self.suspect = true;
            }
            Action::TailZeroed(count) => self.damage(|bytes| {
                let start = bytes.len().saturating_sub(count);
                bytes[start..].fill(0);
            }),
            Action::Flipped(at) => self.damage(|bytes| {
                let length = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at % length) {
                    *byte ^= 1;
                }
            }),
            Action::Truncated(count) => {
                self.damage(|bytes| bytes.truncate(bytes.len().saturating_sub(count)))
            }
            Action::ForeignBytes(count) => self.damage(|bytes| bytes.extend(noise(count))),
            Action::LengthChangedWhileOpen(count) => {
                let mut bytes = self.file();
                bytes.extend(noise(count));
                std::fs::write(&self.path, bytes).unwrap();
                self.suspect = true;
            }
            Action::DiskFull(writes) => self.disk.full.store(writes, Ordering::Relaxed),
            Action::PartialWrites(writes) => self.disk.partial.store(writes, Ordering::Relaxed),
            Action::SecondReader => self.second_reader().await,
        }
    }

    async fn end(mut self) {
        self.fake.with(|log| log.ended = true);
        let mut options = Options::to_the_end(From::Told);
        options.pause = Duration::from_micros(10);
        let (mirror, reader) = (self.mirror.as_mut().unwrap(), &mut self.reader);
        let mut sink = |event: crate::mirror::Event<'_>| reader.hear(event);
        let followed = mirror.follow(&self.fake, options, &mut sink).await.unwrap();
        assert!(followed.complete);
        assert_eq!(self.file(), self.fake.truth());
        assert_eq!(self.reader.bytes, self.fake.truth());
    }
}

/// Bytes that repeat nowhere near, the same in every run.
fn noise(count: usize) -> Vec<u8> {
    let mut state = count as u64 | 1;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(step).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_file_is_a_prefix_of_the_log_and_in_the_end_equal(actions in proptest::collection::vec(any_action(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/run.log");
        let run_id = RunId::random();
        let disk = Arc::new(Tight::default());
        let mirror = Mirror::open_on(&path, &run_id, u64::MAX, disk.clone()).unwrap();
        let mut world = World {
            fake: Fake::new(b""), disk, path, run_id, mirror: Some(mirror), reader: Reader::default(), suspect: false,
        };
        let life = async {
            for action in actions {
                world.act(action).await;
            }
            world.end().await;
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), life).await }).expect("it hangs");
    }
}
