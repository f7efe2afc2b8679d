//! The run log's long poll: whose bytes, when, and how it is ended.

use crate::support::{code, from};
use crate::{append, run_with_log, settle, talk};
use farrun_protocol::frame::{Frame, Kind};
use farrun_protocol::log::{LogChunk, TAIL_LENGTH};
use farrun_protocol::message::{FetchLog, Place};
use farrun_protocol::{ErrorCode, Failure, Generation, Reply, Request, RunId, Sha256};
use proptest::prelude::*;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_a_byte_and_by_the_end() {
    let state = tempfile::tempdir().unwrap();
    let folder = run_with_log(state.path());
    let (mut peer, _serving) = talk(state.path()).await;
    let waiting = peer
        .post(&Request::FetchLog(from(folder.run_id(), 0, 20_000)))
        .await;
    append(&folder, b"hello");
    let begun = Instant::now();
    let chunk = peer.answer(waiting).await.unwrap();
    assert!(chunk.payload.ends_with(b"hello"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let end = settle(&folder);
    let chunk = peer.fetch(from(folder.run_id(), 5, 20_000)).await.unwrap();
    assert_eq!((chunk.end, chunk.bytes.len()), (Some(end), 0));
    let empty = run_with_log(state.path());
    let chunk = peer.fetch(from(empty.run_id(), 0, 10)).await.unwrap();
    assert_eq!((chunk.end, chunk.bytes.len()), (None, 0));
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_one_after_the_other_as_bytes_come() {
    let state = tempfile::tempdir().unwrap();
    let folder = run_with_log(state.path());
    append(&folder, b"before");
    let (mut peer, _serving) = talk(state.path()).await;
    let mut ids = Vec::new();
    // All of them before there is anything to answer with.
    for index in 0..4 {
        let fetch = FetchLog {
            place: Some(Place { chain: 1, index }),
            ..from(folder.run_id(), 6, 20_000)
        };
        ids.push(peer.post(&Request::FetchLog(fetch)).await);
    }
    let mut offset = 6;
    for (id, line) in ids.iter().zip([&b"one\n"[..], b"three\n", b"four\n"]) {
        append(&folder, line);
        let chunk = LogChunk::decode(peer.answer(*id).await.unwrap().payload).unwrap();
        assert_eq!((chunk.offset, &chunk.bytes[..]), (offset, line));
        offset += line.len() as u64;
    }
    // A new chain leaves the old one's last request without an answer worth having.
    let fetch = FetchLog {
        place: Some(Place { chain: 2, index: 0 }),
        ..from(folder.run_id(), 0, 0)
    };
    assert_eq!(peer.fetch(fetch).await.unwrap().bytes.len() as u64, offset);
    let late = FetchLog {
        place: Some(Place { chain: 1, index: 9 }),
        ..from(folder.run_id(), 0, 20_000)
    };
    assert_eq!(code::<_>(peer.fetch(late).await), ErrorCode::Cancelled);
}

#[tokio::test]
async fn a_wait_can_be_ended_by_its_caller() {
    let state = tempfile::tempdir().unwrap();
    let folder = run_with_log(state.path());
    let (mut peer, _serving) = talk(state.path()).await;
    let waiting = peer
        .post(&Request::FetchLog(from(folder.run_id(), 0, 30_000)))
        .await;
    peer.send(Frame::empty(Kind::Cancel, waiting)).await;
    assert_eq!(peer.answer(waiting).await.unwrap_err().code, ErrorCode::Cancelled);
}

#[tokio::test]
async fn foreign_bytes_are_noticed() {
    let state = tempfile::tempdir().unwrap();
    let folder = run_with_log(state.path());
    let log: Vec<u8> = (0..TAIL_LENGTH + 5000)
        .map(|number| (number % 251) as u8)
        .collect();
    append(&folder, &log);
    let (mut peer, _serving) = talk(state.path()).await;
    let offset = TAIL_LENGTH + 100;
    let tail = &log[100..offset as usize];
    let good = FetchLog {
        generation: folder.generation().unwrap(),
        tail_sha256: Some(Sha256::of(tail)),
        ..from(folder.run_id(), offset, 0)
    };
    assert_eq!(
        peer.fetch(good.clone()).await.unwrap().bytes,
        &log[offset as usize..]
    );
    let cases = [
        (
            FetchLog {
                generation: Some(Generation::random()),
                ..good.clone()
            },
            ErrorCode::GenerationChanged,
        ),
        (
            FetchLog {
                tail_sha256: Some(Sha256::of(b"other")),
                ..good.clone()
            },
            ErrorCode::TailMismatch,
        ),
        (
            FetchLog {
                offset: log.len() as u64 + 1,
                ..good
            },
            ErrorCode::OffsetBeyondEnd,
        ),
        (from(&RunId::random(), 0, 0), ErrorCode::RunUnknown),
    ];
    for (fetch, expected) in cases {
        assert_eq!(code::<_>(peer.fetch(fetch).await), expected);
    }
    for (length, expected) in [(10, Some(Sha256::of(&log[..10]))), (1 << 40, None)] {
        let request = Request::HashLog {
            run_id: folder.run_id().clone(),
            length,
        };
        assert_eq!(
            peer.ask(request).await,
            Ok::<_, Failure>(Reply::LogPrefix { sha256: expected })
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Fetch(u64),
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Step::Append),
        3 => (1u64..5000).prop_map(Step::Fetch),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// What was fetched is a prefix of what was written, at every moment, and the same at the end.
    #[test]
    fn a_mirror_is_always_a_prefix(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let state = tempfile::tempdir().unwrap();
            let folder = run_with_log(state.path());
            let (mut peer, mut serving) = talk(state.path()).await;
            let (mut written, mut mirror) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        append(&folder, &bytes);
                        written.extend(bytes);
                    }
                    Step::Fetch(max) => {
                        let tail = &mirror[mirror.len().saturating_sub(TAIL_LENGTH as usize)..];
                        let fetch = FetchLog {
                            max,
                            tail_sha256: Some(Sha256::of(tail)),
                            ..from(folder.run_id(), mirror.len() as u64, 0)
                        };
                        let chunk = peer.fetch(fetch).await.unwrap();
                        assert_eq!(chunk.offset, mirror.len() as u64);
                        assert_eq!(chunk.bytes.len() as u64, max.min((written.len() - mirror.len()) as u64));
                        mirror.extend_from_slice(&chunk.bytes);
                        assert!(written.starts_with(&mirror));
                    }
                    Step::Reconnect => {
                        drop(peer);
                        serving.await.unwrap();
                        (peer, serving) = talk(state.path()).await;
                    }
                }
            }
            settle(&folder);
            assert_eq!(peer.whole_log(folder.run_id()).await, written);
        });
    }
}
