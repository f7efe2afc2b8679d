//! A conversation over an in-process pipe: who may ask what, inputs, and the run log's long poll.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

#[path = "serve_support/mod.rs"]
mod support;

use farrun_agent::record::RunFolder;
use farrun_agent::serve::{Context, conversation};
use farrun_protocol::frame::{Frame, Kind};
use farrun_protocol::log::{LogChunk, LogEnd, TAIL_LENGTH};
use farrun_protocol::message::{FetchLog, Hello, InputState, Place, RunsPage};
use farrun_protocol::record::{FORMAT, Settled};
use farrun_protocol::spec::Input;
use farrun_protocol::verdict::{Reason, RunResult, Verdict};
use farrun_protocol::{ErrorCode, Failure, Generation, PROTOCOL, Reply, Request, RunId, Sha256, layout};
use proptest::prelude::*;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{CONTROLLER, PATIENCE, Peer, code, from, order};
use tokio::task::JoinHandle;

fn silent(state: &Path) -> (Peer, JoinHandle<()>) {
    let context = Context {
        state: state.to_owned(),
        agent: state.join("farrun-agent"),
        agent_sha256: Sha256::of(b"agent"),
        home: state.to_owned(),
        docker_host: None,
        runtime_folder: None,
        locks: None,
        nvidia_smi: farrun_agent::gpu::Program::Absent,
        watch: false,
    };
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(theirs);
    let serving = tokio::spawn(async move {
        conversation(reader, writer, context).await.unwrap();
    });
    let (reader, writer) = tokio::io::split(ours);
    (Peer::new(reader, writer, &[]), serving)
}

async fn talk(state: &Path) -> (Peer, JoinHandle<()>) {
    let (mut peer, serving) = silent(state);
    peer.hello_as(CONTROLLER, "unix:///nonexistent/engine").await;
    (peer, serving)
}

/// A run whose folder is complete and whose log the test writes.
fn run_with_log(state: &Path) -> RunFolder {
    let spec = order("true");
    let folder = RunFolder::new(state, &spec.run_id);
    folder.make().unwrap();
    folder.make_skeleton().unwrap();
    folder.write_spec(&spec).unwrap();
    folder
}

fn append(folder: &RunFolder, bytes: &[u8]) {
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(folder.log())
        .unwrap();
    log.write_all(bytes).unwrap();
}

fn settle(folder: &RunFolder) -> LogEnd {
    let log = std::fs::read(folder.log()).unwrap();
    let end = LogEnd {
        length: log.len() as u64,
        sha256: Sha256::of(&log),
    };
    folder
        .write_settled(&Settled {
            format: FORMAT,
            run_id: folder.run_id().clone(),
            verdict: Verdict {
                result: RunResult::Succeeded,
                reason: Reason::Ok,
                exit_code: Some(0),
                signal: None,
                detail: None,
            },
            log: end.clone(),
            generation: folder.generation().unwrap().unwrap(),
            exit: None,
            container: None,
            started_at: None,
            ended_at: None,
            outputs_error: None,
            log_error: None,
        })
        .unwrap();
    end
}

#[tokio::test]
async fn nothing_is_answered_before_a_hello() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = silent(state.path());
    let run_id = RunId::random();
    for request in [
        Request::Host,
        Request::Runs {
            run_ids: vec![],
            page: None,
        },
        Request::Spec {
            run_id: run_id.clone(),
        },
        Request::CheckInputs { inputs: vec![] },
        Request::FetchLog(from(&run_id, 0, 0)),
        Request::Adopt { run_id },
    ] {
        assert_eq!(code(peer.ask(request).await), ErrorCode::Protocol);
    }
    let other = Request::Hello(Hello {
        protocol: PROTOCOL + 1,
        controller_id: CONTROLLER.parse().unwrap(),
        docker_sudo: false,
        docker_host: None,
    });
    assert_eq!(code(peer.ask(other).await), ErrorCode::Protocol);
    let hello = peer.hello_as(CONTROLLER, "unix:///nonexistent").await;
    assert_eq!(hello.agent_sha256, Sha256::of(b"agent"));
    let (mut again, _serving) = silent(state.path());
    assert_eq!(
        again.hello_as(CONTROLLER, "unix:///nonexistent").await.host_id,
        hello.host_id
    );
}

#[tokio::test]
async fn strange_frames_are_refused_and_the_end_is_noticed() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, serving) = talk(state.path()).await;
    for payload in [&b"{\"verb\":\"levitate\"}"[..], b"", b"[", b"\xff"] {
        let frame = Frame {
            kind: Kind::Request,
            id: 77,
            payload: payload.to_vec().into(),
        };
        peer.send(frame).await;
        assert_eq!(peer.answer(77).await.unwrap_err().code, ErrorCode::BadRequest);
    }
    peer.send(Frame::empty(Kind::Ping, 0)).await;
    assert_eq!(peer.next().await.unwrap(), Frame::empty(Kind::Pong, 0));
    let Reply::Runs { runs, .. } = peer
        .ask(Request::Runs {
            run_ids: vec![RunId::random()],
            page: None,
        })
        .await
        .unwrap()
    else {
        panic!("runs");
    };
    assert_eq!(runs, []);
    drop(peer);
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_input_is_uploaded_once() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = talk(state.path()).await;
    let input = Input {
        path: "a".into(),
        sha256: Sha256::of(b"bytes"),
        size: 5,
        parent: None,
    };
    let check = || Request::CheckInputs {
        inputs: vec![input.clone()],
    };
    let commit = || Request::CommitInput {
        sha256: input.sha256.clone(),
        size: 5,
        arriving: false,
    };
    let missing = async |peer: &mut Peer| match peer.ask(check()).await.unwrap() {
        Reply::Inputs { mut states } => states.remove(0),
        other => panic!("{other:?}"),
    };
    let InputState::Missing { path, have: 0 } = missing(&mut peer).await else {
        panic!("missing")
    };
    assert_eq!(code(peer.ask(commit()).await), ErrorCode::InputMissing);
    std::fs::write(&path, b"byt").unwrap();
    assert_eq!(
        missing(&mut peer).await,
        InputState::Missing {
            path: path.clone(),
            have: 3
        }
    );
    std::fs::write(&path, b"bites").unwrap();
    assert_eq!(code(peer.ask(commit()).await), ErrorCode::HashMismatch);
    assert_eq!(
        missing(&mut peer).await,
        InputState::Missing {
            path: path.clone(),
            have: 0
        }
    );
    std::fs::write(&path, b"bytes").unwrap();
    assert_eq!(peer.ask(commit()).await, Ok(Reply::Done));
    assert_eq!(missing(&mut peer).await, InputState::Present);
}

/// Where a controller's upload of content goes, and its marks.
fn arriving(state: &Path, sha256: &Sha256) -> (std::path::PathBuf, std::path::PathBuf) {
    let controller = CONTROLLER.parse().unwrap();
    let path = state.join(layout::incoming(sha256, &controller));
    let marks = layout::marks(path.to_str().unwrap());
    (path, marks.into())
}

#[tokio::test]
async fn an_input_is_verified_while_it_arrives() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = talk(state.path()).await;
    let size = 2 * layout::UPLOAD_PIECE + 3;
    let content = vec![7; usize::try_from(size).unwrap()];
    let sha256 = Sha256::of(&content);
    let (path, marks) = arriving(state.path(), &sha256);
    let follow = || Request::CommitInput {
        sha256: sha256.clone(),
        size,
        arriving: true,
    };
    let missing = peer.ask(follow()).await;
    assert_eq!(code(missing), ErrorCode::InputMissing, "nothing has begun");
    // Wrong content is found although every piece is marked, and leaves nothing behind.
    std::fs::write(&path, vec![8; content.len()]).unwrap();
    std::fs::write(&marks, [1, 1, 1]).unwrap();
    assert_eq!(code(peer.ask(follow()).await), ErrorCode::HashMismatch);
    assert!(!path.exists() && !marks.exists());
    // The pieces come in any order, and the answer with the last of them.
    std::fs::write(&path, &content).unwrap();
    std::fs::write(&marks, [0, 1]).unwrap();
    let waiting = peer.post(&follow()).await;
    std::fs::write(&marks, [1, 1]).unwrap();
    std::fs::write(&marks, [1, 1, 1]).unwrap();
    peer.answer(waiting).await.unwrap();
    assert_eq!(
        std::fs::read(state.path().join(layout::blob(&sha256))).unwrap(),
        content
    );
    assert!(!path.exists() && !marks.exists());
    assert_eq!(peer.ask(follow()).await, Ok(Reply::Done), "it is among the blobs");
}

#[tokio::test]
async fn an_upload_that_another_one_took_away_is_not_waited_for() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = talk(state.path()).await;
    let content = vec![7; usize::try_from(layout::UPLOAD_PIECE).unwrap() + 1];
    let sha256 = Sha256::of(&content);
    let (path, marks) = arriving(state.path(), &sha256);
    std::fs::write(&path, &content).unwrap();
    std::fs::write(&marks, [1]).unwrap();
    let request = Request::CommitInput {
        sha256,
        size: content.len() as u64,
        arriving: true,
    };
    let waiting = peer.post(&request).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&marks).unwrap();
    let answer = peer.answer(waiting).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::InputMissing);
}

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

#[test]
fn the_program_names_itself_and_refuses_what_it_does_not_know() {
    let program = env!("CARGO_BIN_EXE_farrun-agent");
    let run = |words: &[&str]| {
        let output = std::process::Command::new(program).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let sha256 = Sha256::of(&std::fs::read(program).unwrap());
    assert_eq!(run(&["verify"]), (Some(0), format!("{sha256}\n")));
    assert_eq!(
        run(&["--version"]),
        (Some(0), format!("{}\n", env!("CARGO_PKG_VERSION")))
    );
    for words in [
        &[][..],
        &["dance"],
        &["serve"],
        &["serve", "not-a-nonce"],
        &["open-outputs"],
    ] {
        assert_eq!(run(words), (Some(2), String::new()), "{words:?}");
    }
}

#[test]
fn files_of_a_run_are_frozen() {
    let state = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(state.path(), &"rs_abcdefgh".parse().unwrap());
    folder.make().unwrap();
    folder.add_adopted(&"co_abcdefgh".parse().unwrap()).unwrap();
    folder.write_stop_intent(&"co_abcdefgh".parse().unwrap()).unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("adopted"), r#"{"format":1,"controllers":["co_abcdefgh"]}"#);
    assert!(text("stop.intent").starts_with(r#"{"format":1,"controller_id":"co_abcdefgh","at":""#));
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

/// Copies a folder of small files with another run id in them. Thousands of folders that are made and synced one by
/// one would take minutes.
fn copy_renamed(from: &Path, to: &Path, old: &RunId, new: &RunId) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_renamed(&entry.path(), &target, old, new);
            continue;
        }
        match std::fs::read_to_string(entry.path()) {
            Ok(text) if text.contains(old.as_str()) => {
                std::fs::write(target, text.replace(old.as_str(), new.as_str())).unwrap();
            }
            _ => std::fs::hard_link(entry.path(), target).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_host_full_of_runs_tells_them_page_by_page() {
    let state = tempfile::tempdir().unwrap();
    let first = run_with_log(state.path());
    settle(&first);
    let mut made = std::collections::BTreeSet::from([first.run_id().clone()]);
    while made.len() < 3000 {
        let run_id = RunId::random();
        let copy = RunFolder::new(state.path(), &run_id);
        copy_renamed(first.path(), copy.path(), first.run_id(), &run_id);
        made.insert(run_id);
    }
    let (mut peer, _serving) = talk(state.path()).await;
    let (mut told, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let request = Request::Runs {
            run_ids: vec![],
            page: Some(RunsPage { after }),
        };
        let Reply::Runs { runs, next } = peer.ask(request).await.unwrap() else {
            panic!("no runs")
        };
        assert!(runs.iter().all(|run| run.settled.is_some()));
        told.extend(runs.into_iter().map(|run| run.run_id));
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert!(told.is_sorted(), "each page goes on behind the last");
    assert_eq!(told, made.into_iter().collect::<Vec<_>>());
    assert_eq!(pages, 6);
    // A controller that knows no pages gets one answer or a failure, and never a part that looks like the whole.
    let all = Request::Runs {
        run_ids: vec![],
        page: None,
    };
    assert_eq!(code(peer.ask(all).await), ErrorCode::Internal);
}
