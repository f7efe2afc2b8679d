//! A conversation over an in-process pipe: who may ask what, inputs, and the run log's long poll.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

#[path = "../serve_support/in_process.rs"]
mod in_process;
mod inputs;
mod log;
mod pages;
#[path = "../serve_support/mod.rs"]
mod support;

use farrun_agent::record::RunFolder;
use farrun_agent::serve::Context;
use farrun_protocol::frame::{Frame, Kind};
use farrun_protocol::log::LogEnd;
use farrun_protocol::message::Hello;
use farrun_protocol::record::Settled;
use farrun_protocol::verdict::{Reason, RunResult, Verdict};
use farrun_protocol::{ErrorCode, PROTOCOL, Reply, Request, RunId, Sha256};
use in_process::{context, converse};
use std::io::Write as _;
use std::path::Path;
use support::{CONTROLLER, PATIENCE, Peer, code, from, order};
use tokio::task::JoinHandle;

fn silent(state: &Path) -> (Peer, JoinHandle<()>) {
    converse(Context {
        state: state.to_owned(),
        agent: state.join("farrun-agent"),
        locks: None,
        ..context(state)
    })
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
    let verdict = Verdict {
        result: RunResult::Succeeded,
        reason: Reason::Ok,
        exit_code: Some(0),
        signal: None,
        detail: None,
    };
    let generation = folder.generation().unwrap().unwrap();
    let settled = Settled::of(folder.run_id().clone(), verdict, end.clone(), generation);
    folder.write_settled(&settled).unwrap();
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
