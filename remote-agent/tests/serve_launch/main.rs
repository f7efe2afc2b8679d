//! Launching against an engine that loses requests and answers: whatever is cut, a job is executed once.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

mod accounts;
mod gpus;
#[path = "../serve_support/in_process.rs"]
mod in_process;
mod scripted;
#[path = "../serve_support/smi.rs"]
mod smi;
#[path = "../serve_support/mod.rs"]
mod support;

use farrun_agent::gpu::Program;
use farrun_agent::serve::Context;
use farrun_protocol::record::Phase;
use farrun_protocol::spec::{Capture, Gpus};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{ErrorCode, Request};
use in_process::{context, converse};
use scripted::{Fault, Scripted};
use support::{CONTROLLER, Peer, code, from, order};
use tokio::task::JoinHandle;

struct World {
    folder: tempfile::TempDir,
    engine: Scripted,
    nvidia_smi: Program,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Scripted::start(folder.path());
        Self {
            folder,
            engine,
            nvidia_smi: Program::Absent,
        }
    }

    fn with_gpus(count: u32) -> Self {
        let mut world = Self::new();
        world.nvidia_smi = Program::At(smi::install(world.folder.path(), count));
        world
    }

    async fn talk(&self) -> (Peer, JoinHandle<()>) {
        let (mut peer, serving) = converse(Context {
            nvidia_smi: self.nvidia_smi.clone(),
            ..context(self.folder.path())
        });
        peer.hello_as(CONTROLLER, &self.engine.host()).await;
        (peer, serving)
    }

    fn executions(&self) -> usize {
        self.engine.state.lock().unwrap().executions
    }
}

#[tokio::test]
async fn a_repeated_launch_finds_the_first() {
    let world = World::new();
    let (mut peer, _serving) = world.talk().await;
    let spec = order("true");
    let first = peer.launch(&spec).await.unwrap();
    assert_eq!(first.phase, Phase::Running);
    for _ in 0..3 {
        assert_eq!(peer.launch(&spec).await.unwrap(), first);
    }
    assert_eq!(world.executions(), 1);
}

#[tokio::test]
async fn two_conversations_launch_one_run_once() {
    let world = World::new();
    let ((mut one, _a), (mut other, _b)) = (world.talk().await, world.talk().await);
    let spec = order("true");
    let (first, second) = tokio::join!(one.launch(&spec), other.launch(&spec));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(world.executions(), 1);
}

#[tokio::test]
async fn an_engine_that_cannot_read_its_own_log_does_not_keep_a_run_from_ending() {
    let world = World::new();
    let (mut peer, _serving) = world.talk().await;
    let mut spec = order("true");
    spec.capture = Capture::Docker;
    peer.launch(&spec).await.unwrap();
    {
        let mut state = world.engine.state.lock().unwrap();
        state.logs_refusal = Some("invalid character in its log".to_owned());
        state
            .containers
            .values_mut()
            .for_each(|container| container.status = "exited");
    }
    let facts = peer.facts(&spec.run_id).await;
    let settled = facts.settled.expect("an end");
    assert_eq!(settled.verdict.result, RunResult::Succeeded, "{settled:?}");
    assert_eq!(settled.log_error.as_deref(), Some("invalid character in its log"));
    assert!(peer.whole_log(&spec.run_id).await.is_empty());
}

/// Every call of a launch, each with every fault; then the order is repeated on a new conversation.
#[tokio::test]
async fn whatever_is_lost_the_job_is_executed_once() {
    let calls = {
        let world = World::new();
        let (mut peer, _serving) = world.talk().await;
        peer.launch(&order("true")).await.unwrap();
        world.engine.state.lock().unwrap().calls.clone()
    };
    assert!(calls.iter().any(|call| call.ends_with("/start")), "{calls:?}");
    let faults = [
        Fault::LostRequest,
        Fault::LostAnswer,
        Fault::HeldRequest,
        Fault::HeldAnswer,
    ];
    for (number, call) in calls.iter().enumerate() {
        for fault in faults {
            let world = World::new();
            world.engine.state.lock().unwrap().fault = Some((number, fault));
            let spec = order("true");
            let (mut peer, serving) = world.talk().await;
            if matches!(fault, Fault::HeldRequest | Fault::HeldAnswer) {
                tokio::select! {
                    answer = peer.launch(&spec) => panic!("{call} was not held: {answer:?}"),
                    () = world.engine.held.notified() => {}
                }
                // The conversation dies in the middle of the call.
                drop(peer);
                serving.await.unwrap();
            } else {
                let _ = peer.launch(&spec).await;
            }
            assert!(world.executions() <= 1, "{call} {fault:?}");
            let (mut peer, _serving) = world.talk().await;
            let facts = peer.launch(&spec).await.unwrap();
            assert_eq!(facts.phase, Phase::Running, "{call} {fault:?}");
            assert_eq!(world.executions(), 1, "{call} {fault:?}");
            assert_eq!(world.engine.state.lock().unwrap().containers.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_refused_start_is_the_end_of_the_run() {
    let world = World::with_gpus(1);
    let words = "could not select device driver \"\" with capabilities: [[gpu]]";
    world.engine.state.lock().unwrap().start_refusal = Some(words.to_owned());
    let (mut peer, _serving) = world.talk().await;
    let mut spec = order("true");
    spec.gpus = Gpus::All;
    let facts = peer.launch(&spec).await.unwrap();
    let verdict = facts.settled.clone().unwrap().verdict;
    assert_eq!(
        (verdict.result, verdict.reason),
        (RunResult::Failed, Reason::GpuUnavailable)
    );
    assert_eq!(verdict.detail.as_deref(), Some(words));
    assert_eq!(peer.launch(&spec).await.unwrap(), facts);
}

#[tokio::test]
async fn without_an_engine_nothing_is_stored() {
    let world = World::new();
    // Before the conversation, which agrees with the engine as it begins.
    std::fs::remove_file(world.folder.path().join("engine")).unwrap();
    let (mut peer, _serving) = world.talk().await;
    let spec = order("true");
    assert_eq!(code(peer.launch(&spec).await), ErrorCode::DockerUnreachable);
    assert_eq!(
        code(
            peer.ask(Request::Spec {
                run_id: spec.run_id.clone()
            })
            .await
        ),
        ErrorCode::RunUnknown
    );
}

#[tokio::test]
async fn a_run_that_was_only_prepared_can_be_stopped() {
    let world = World::new();
    let (mut peer, serving) = world.talk().await;
    let spec = order("true");
    // After the greeting, which this engine gives only when it is asked for its version, and two looks.
    let create = 4;
    world.engine.state.lock().unwrap().fault = Some((create, Fault::HeldRequest));
    tokio::select! {
        answer = peer.launch(&spec) => panic!("{answer:?}"),
        () = world.engine.held.notified() => {}
    }
    let calls = world.engine.state.lock().unwrap().calls.clone();
    assert!(calls[create].contains("/containers/create"), "{calls:?}");
    drop(peer);
    serving.await.unwrap();
    let (mut peer, _serving) = world.talk().await;
    assert_eq!(peer.facts(&spec.run_id).await.phase, Phase::Prepared);
    let stop = Request::StopRun {
        run_id: spec.run_id.clone(),
        grace: 1,
        kill: false,
    };
    let facts = peer.run(stop).await.unwrap();
    assert_eq!(facts.settled.unwrap().verdict.result, RunResult::Cancelled);
    let again = peer.launch(&spec).await.unwrap();
    assert_eq!(again.phase, Phase::Settled);
    assert_eq!(world.executions(), 0);
}

#[tokio::test]
async fn output_that_the_engine_captures_is_read_once_by_each_conversation() {
    let world = World::new();
    let ((mut one, _a), (mut other, _b)) = (world.talk().await, world.talk().await);
    let mut spec = order("true");
    spec.capture = Capture::Docker;
    one.launch(&spec).await.unwrap();
    let (mut read_by_one, mut read_by_other) = (Vec::new(), Vec::new());
    for turn in 0..6_u8 {
        let printed = {
            let mut state = world.engine.state.lock().unwrap();
            state.output.extend(vec![b'a' + turn; 10_000]);
            state.output.clone()
        };
        for (peer, read) in [(&mut one, &mut read_by_one), (&mut other, &mut read_by_other)] {
            while read.len() < printed.len() {
                let fetch = from(&spec.run_id, read.len() as u64, 20_000);
                read.extend_from_slice(&peer.fetch(fetch).await.unwrap().bytes);
            }
            assert!(*read == printed, "turn {turn}");
        }
    }
    let state = world.engine.state.lock().unwrap();
    let reads = state.calls.iter().filter(|call| call.contains("/logs?")).count();
    // Whoever finds the other at it does not even begin.
    assert!((1..=2).contains(&reads), "{:?}", state.calls);
}
