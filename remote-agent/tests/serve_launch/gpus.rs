//! GPUs and the line before them, against an engine that answers from a script. Only labels hold GPUs here, for no PID
//! 1 lives; locks have suites of their own.

use crate::World;
use crate::scripted::Fault;
use crate::support::{PATIENCE, Peer, code, order};
use farrun_agent::gpu::Program;
use farrun_protocol::lease::{Fit, Obstacle, Placement, Wait};
use farrun_protocol::record::{Phase, RunFacts};
use farrun_protocol::spec::{Gpus, RunSpec};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{ErrorCode, Failure, Reply, Request, RunId};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

pub(crate) fn wants(gpus: Gpus) -> RunSpec {
    RunSpec {
        gpus,
        ..order("true")
    }
}

pub(crate) fn waits(gpus: Gpus) -> RunSpec {
    let mut spec = wants(gpus);
    spec.placement.wait = Wait::Until;
    spec
}

pub(crate) fn uuids(facts: &RunFacts) -> Vec<String> {
    let lease = facts.lease.as_ref().expect("a lease");
    lease.gpus.iter().map(|gpu| gpu.uuid.clone()).collect()
}

pub(crate) fn end(world: &World, spec: &RunSpec) {
    let mut state = world.engine.state.lock().unwrap();
    let name = format!("farrun-{}", spec.run_id);
    state.containers.get_mut(&name).unwrap().status = "exited";
}

pub(crate) async fn until(peer: &mut Peer, run_id: &RunId, phase: Phase) -> RunFacts {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let facts = peer.facts(run_id).await;
        if facts.phase == phase {
            return facts;
        }
        assert!(Instant::now() < deadline, "{facts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn obstacles(failure: &Failure) -> Vec<Obstacle> {
    failure
        .gpus
        .iter()
        .flat_map(|gpu| gpu.obstacles.clone())
        .collect()
}

#[tokio::test]
async fn a_run_gets_its_gpus_by_name_and_others_are_told_who_has_them() {
    let world = World::with_gpus(2);
    let (mut peer, _serving) = world.talk().await;
    let first = wants(Gpus::Count(1));
    let facts = peer.launch(&first).await.unwrap();
    assert_eq!(
        (facts.phase, uuids(&facts)),
        (Phase::Running, vec!["GPU-0".to_owned()])
    );
    let body = {
        let state = world.engine.state.lock().unwrap();
        state.containers[&format!("farrun-{}", first.run_id)].body.clone()
    };
    let request = &body["HostConfig"]["DeviceRequests"][0];
    assert_eq!(request["DeviceIDs"], serde_json::json!(["GPU-0"]));
    assert!(request["Count"].is_null(), "{request}");
    assert_eq!(body["Labels"]["farrun.gpus"], "GPU-0");
    assert!(
        body["Env"]
            .as_array()
            .unwrap()
            .contains(&"FARRUN_GPUS=GPU-0".into())
    );
    let argv = body["Entrypoint"].to_string();
    assert!(
        argv.contains(r#""--lock","/.farrun/locks/0","--gpu","GPU-0""#),
        "{argv}"
    );

    let both = wants(Gpus::All);
    let refused = peer.launch(&both).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoFreeGpu);
    assert!(
        matches!(&obstacles(&refused)[..], [Obstacle::Leased { run_id: Some(run_id), .. }] if *run_id == first.run_id),
        "{refused:?}"
    );
    let never = peer.launch(&waits(Gpus::Count(3))).await.unwrap_err();
    assert_eq!(never.code, ErrorCode::NoSuchGpu);
    let spec = Request::Spec {
        run_id: both.run_id.clone(),
    };
    assert_eq!(code(peer.ask(spec).await), ErrorCode::RunUnknown);
    end(&world, &first);
    let facts = peer.launch(&both).await.unwrap();
    assert_eq!(uuids(&facts), ["GPU-0", "GPU-1"]);
}

async fn fit(peer: &mut Peer, gpus: Gpus, wait: Wait) -> Result<Fit, Failure> {
    let placement = Placement {
        wait,
        ..Placement::default()
    };
    match peer.ask(Request::Fit { gpus, placement }).await? {
        Reply::Fit(fit) => Ok(fit),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_looks_for_a_host_gets_the_word_of_the_allocator() {
    let world = World::with_gpus(2);
    let (mut peer, _serving) = world.talk().await;
    let counts = |fit: &Fit| (fit.free, fit.gpus, fit.running, fit.waiting);
    let without = fit(&mut peer, Gpus::None, Wait::No).await.unwrap();
    assert_eq!(
        (without.given.as_deref(), counts(&without)),
        (Some(&[][..]), (0, 0, 0, 0))
    );
    peer.launch(&wants(Gpus::Count(1))).await.unwrap();
    let one = fit(&mut peer, Gpus::Count(1), Wait::No).await.unwrap();
    assert_eq!(counts(&one), (1, 2, 1, 0));
    assert_eq!(one.given.unwrap()[0].uuid, "GPU-1");
    let both = fit(&mut peer, Gpus::All, Wait::Until).await.unwrap();
    assert_eq!((&both.given, counts(&both)), (&None, (1, 2, 1, 0)));
    let refused = fit(&mut peer, Gpus::All, Wait::No).await.unwrap_err();
    assert_eq!(
        (refused.code, obstacles(&refused).len()),
        (ErrorCode::NoFreeGpu, 1)
    );
    let never = fit(&mut peer, Gpus::Count(3), Wait::Until).await.unwrap_err();
    assert_eq!(never.code, ErrorCode::NoSuchGpu);
    // What is kept for one in line is not offered to another.
    peer.launch(&waits(Gpus::All)).await.unwrap();
    let behind = fit(&mut peer, Gpus::Count(1), Wait::Until).await.unwrap();
    assert_eq!((&behind.given, counts(&behind)), (&None, (0, 2, 1, 1)));
    assert_eq!(world.executions(), 1);
    let bare = World::new();
    let (mut peer, _serving) = bare.talk().await;
    let none = fit(&mut peer, Gpus::Count(1), Wait::Until).await.unwrap_err();
    assert_eq!(none.code, ErrorCode::NoGpu);
}

#[tokio::test]
async fn a_reading_that_goes_on_is_no_reading_that_was_given_up() {
    let mut world = World::with_gpus(1);
    let slow = world.folder.path().join("slow");
    std::fs::write(&slow, "#!/bin/sh\nexec sleep 4\n").unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.nvidia_smi = Program::At(slow);
    let (mut peer, _serving) = world.talk().await;
    let refused = fit(&mut peer, Gpus::Count(1), Wait::Until).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.detail.as_deref()),
        (ErrorCode::NoGpu, Some("reading"))
    );
}

#[tokio::test]
async fn the_line_is_kept_and_moves_with_the_next_contact() {
    let world = World::with_gpus(2);
    let (mut peer, serving) = world.talk().await;
    let (first, big, small) = (
        wants(Gpus::Count(1)),
        waits(Gpus::Count(2)),
        waits(Gpus::Count(1)),
    );
    peer.launch(&first).await.unwrap();
    let facts = peer.launch(&big).await.unwrap();
    let place = facts.queue.clone().expect("a place");
    assert_eq!((facts.phase, place.position), (Phase::Queued, 1));
    assert!(!place.watched && place.until.is_none());
    assert_eq!(place.waits_for.len(), 2);
    // One GPU is free; the first in line keeps it.
    let facts = peer.launch(&small).await.unwrap();
    let place = facts.queue.expect("a place");
    assert_eq!((place.position, place.ahead), (2, vec![big.run_id.clone()]));
    let refused = peer.launch(&wants(Gpus::Count(1))).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoFreeGpu);
    let reserved = Obstacle::Reserved {
        run_id: Some(big.run_id.clone()),
    };
    assert!(obstacles(&refused).contains(&reserved), "{refused:?}");
    // Repeating the order does not move it.
    assert_eq!(peer.launch(&big).await.unwrap().queue.unwrap().position, 1);
    drop(peer);
    serving.await.unwrap();
    end(&world, &first);
    let (mut peer, _serving) = world.talk().await;
    assert_eq!(
        uuids(&until(&mut peer, &big.run_id, Phase::Running).await),
        ["GPU-0", "GPU-1"]
    );
    end(&world, &big);
    until(&mut peer, &small.run_id, Phase::Running).await;
    assert_eq!(world.executions(), 3);
    // Its file goes when the start was answered, which is a moment after the container lives.
    let queue = world.folder.path().join("state/queue");
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_dir(&queue).unwrap().count() > 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_greater_priority_goes_first() {
    let world = World::with_gpus(1);
    let (mut peer, _serving) = world.talk().await;
    let (first, plain) = (wants(Gpus::All), waits(Gpus::All));
    let mut urgent = waits(Gpus::All);
    urgent.placement.priority = 5;
    peer.launch(&first).await.unwrap();
    peer.launch(&plain).await.unwrap();
    assert_eq!(peer.launch(&urgent).await.unwrap().queue.unwrap().position, 1);
    assert_eq!(peer.facts(&plain.run_id).await.queue.unwrap().position, 2);
    end(&world, &first);
    until(&mut peer, &urgent.run_id, Phase::Running).await;
    assert_eq!(peer.facts(&plain.run_id).await.phase, Phase::Queued);
}

#[tokio::test]
async fn a_run_leaves_the_line_when_it_is_stopped_or_has_waited_enough() {
    let world = World::with_gpus(1);
    let (mut peer, _serving) = world.talk().await;
    peer.launch(&wants(Gpus::All)).await.unwrap();
    let (stopped, mut brief) = (waits(Gpus::All), waits(Gpus::All));
    brief.placement.wait = Wait::Seconds(1);
    brief.secret_names = vec!["TOKEN".into()];
    peer.launch(&stopped).await.unwrap();
    let facts = peer.launch_with(&brief, &[("TOKEN", "x")]).await.unwrap();
    assert!(facts.queue.unwrap().until.is_some());
    let secrets = world
        .folder
        .path()
        .join(format!("state/runs/{}/secrets.json", brief.run_id));
    assert!(secrets.exists());
    let stop = Request::StopRun {
        run_id: stopped.run_id.clone(),
        grace: 1,
        kill: false,
    };
    let verdict = peer.run(stop).await.unwrap().settled.unwrap().verdict;
    assert_eq!(
        (verdict.result, verdict.reason),
        (RunResult::Cancelled, Reason::Stopped)
    );
    let facts = until(&mut peer, &brief.run_id, Phase::Settled).await;
    let verdict = facts.settled.unwrap().verdict;
    assert_eq!(
        (verdict.result, verdict.reason),
        (RunResult::Failed, Reason::WaitExpired)
    );
    assert!(!secrets.exists());
    assert_eq!(world.executions(), 1);
}

#[tokio::test]
async fn without_locks_or_gpus_nothing_is_stored() {
    let world = World::with_gpus(1);
    std::fs::write(world.folder.path().join("locks"), "").unwrap();
    let (mut peer, _serving) = world.talk().await;
    let spec = wants(Gpus::Count(1));
    let failure = peer.launch(&spec).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::LocksUnusable);
    let detail = failure.detail.unwrap();
    assert!(detail.contains("/locks: is not a folder"), "{detail}");
    let bare = World::new();
    let (mut other, _other) = bare.talk().await;
    let failure = other.launch(&spec).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NoGpu);
    for peer in [&mut peer, &mut other] {
        let spec = Request::Spec {
            run_id: spec.run_id.clone(),
        };
        assert_eq!(code(peer.ask(spec).await), ErrorCode::RunUnknown);
    }
    assert_eq!(world.executions() + bare.executions(), 0);
}

#[tokio::test]
async fn an_agent_that_dies_between_making_and_starting_blocks_nobody() {
    let world = World::with_gpus(2);
    let spec = wants(Gpus::Count(1));
    let (mut peer, serving) = world.talk().await;
    let start = {
        let probe = World::with_gpus(2);
        let (mut peer, _serving) = probe.talk().await;
        peer.launch(&wants(Gpus::Count(1))).await.unwrap();
        let calls = probe.engine.state.lock().unwrap().calls.clone();
        calls.iter().position(|call| call.ends_with("/start")).unwrap()
    };
    world.engine.state.lock().unwrap().fault = Some((start, Fault::HeldRequest));
    tokio::select! {
        answer = peer.launch(&spec) => panic!("{answer:?}"),
        () = world.engine.held.notified() => {}
    }
    drop(peer);
    serving.await.unwrap();
    let (mut peer, _serving) = world.talk().await;
    let other = wants(Gpus::Devices(vec!["GPU-0".into()]));
    assert_eq!(uuids(&peer.launch(&other).await.unwrap()), ["GPU-0"]);
    // What was made for a GPU that another has meanwhile is made anew for one that is free.
    let facts = peer.launch(&spec).await.unwrap();
    assert_eq!(
        (facts.phase, uuids(&facts)),
        (Phase::Running, vec!["GPU-1".to_owned()])
    );
    let state = world.engine.state.lock().unwrap();
    let body = &state.containers[&format!("farrun-{}", spec.run_id)].body;
    assert_eq!(body["Labels"]["farrun.gpus"], "GPU-1");
    assert_eq!((state.executions, state.containers.len()), (2, 2));
}

/// Every call of a launch with GPUs, each with every fault; then the order is repeated on a new conversation.
#[tokio::test]
async fn whatever_is_lost_a_run_with_gpus_is_executed_once() {
    let calls = {
        let world = World::with_gpus(1);
        let (mut peer, _serving) = world.talk().await;
        peer.launch(&wants(Gpus::All)).await.unwrap();
        world.engine.state.lock().unwrap().calls.clone()
    };
    for (number, call) in calls.iter().enumerate() {
        for fault in [
            Fault::LostRequest,
            Fault::LostAnswer,
            Fault::HeldRequest,
            Fault::HeldAnswer,
        ] {
            let world = World::with_gpus(1);
            world.engine.state.lock().unwrap().fault = Some((number, fault));
            let spec = wants(Gpus::All);
            let (mut peer, serving) = world.talk().await;
            if matches!(fault, Fault::HeldRequest | Fault::HeldAnswer) {
                tokio::select! {
                    _ = peer.launch(&spec) => {}
                    () = world.engine.held.notified() => {}
                }
                drop(peer);
                serving.await.unwrap();
            } else {
                let _ = peer.launch(&spec).await;
            }
            let (mut peer, _serving) = world.talk().await;
            let facts = peer.launch(&spec).await.unwrap();
            assert_eq!(
                (facts.phase, uuids(&facts)),
                (Phase::Running, vec!["GPU-0".to_owned()]),
                "{call} {fault:?}"
            );
            assert_eq!(world.executions(), 1, "{call} {fault:?}");
        }
    }
}
