//! Ends that are not the job's own.

use crate::support::{code, order};
use crate::{World, end_of, gpus, settled, wait_for_text};
use farrun_protocol::spec::{Gpus, Mount, PullPolicy};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{ErrorCode, Request};

pub(crate) async fn a_kill_from_outside_is_named(world: &World) {
    let mut talk = world.talk().await;
    let spec = order("echo up; sleep 1000");
    talk.peer.launch(&spec).await.unwrap();
    wait_for_text(&mut talk.peer, &spec.run_id, "up").await;
    world
        .engine
        .docker(&["kill", &format!("farrun-{}", spec.run_id)])
        .unwrap();
    assert_eq!(talk.peer.whole_log(&spec.run_id).await, b"up\n");
    let (_, settled) = settled(&mut talk.peer, &spec.run_id).await;
    assert_eq!(settled.verdict.reason, Reason::KilledByOther);
    assert_eq!(settled.exit, None);

    // One that tidies up and exits with 0 because somebody else asked it to end has not done its work.
    let spec = order("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    talk.peer.launch(&spec).await.unwrap();
    wait_for_text(&mut talk.peer, &spec.run_id, "up").await;
    world
        .engine
        .docker(&["stop", &format!("farrun-{}", spec.run_id)])
        .unwrap();
    let (_, stopped) = self::settled(&mut talk.peer, &spec.run_id).await;
    let verdict = &stopped.verdict;
    assert_eq!(
        (verdict.result, verdict.reason, verdict.exit_code),
        (RunResult::Failed, Reason::KilledByOther, Some(0))
    );
    assert_eq!(stopped.exit.and_then(|exit| exit.asked_to_end()), Some(15));

    let spec = order("echo up; sleep 1000");
    talk.peer.launch(&spec).await.unwrap();
    wait_for_text(&mut talk.peer, &spec.run_id, "up").await;
    world
        .engine
        .docker(&["rm", "-f", &format!("farrun-{}", spec.run_id)])
        .unwrap();
    let (_, gone) = self::settled(&mut talk.peer, &spec.run_id).await;
    // The kernel may give PID 1 the time to say more than the engine does.
    assert_eq!(gone.verdict.reason, Reason::ContainerRemoved);
}

pub(crate) async fn a_stop_is_a_cancellation(world: &World) {
    let mut talk = world.talk().await;
    for (script, kill) in [
        (
            "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done",
            false,
        ),
        ("trap '' TERM; echo up; while :; do sleep 0.05; done", false),
        ("echo up; sleep 1000", true),
    ] {
        let spec = order(script);
        talk.peer.launch(&spec).await.unwrap();
        wait_for_text(&mut talk.peer, &spec.run_id, "up").await;
        let stop = Request::StopRun {
            run_id: spec.run_id.clone(),
            grace: 1,
            kill,
        };
        let facts = talk.peer.run(stop).await.unwrap();
        let verdict = facts.settled.expect("an end").verdict;
        assert_eq!(
            (verdict.result, verdict.reason),
            (RunResult::Cancelled, Reason::Stopped),
            "{script}"
        );
    }
}

pub(crate) async fn what_cannot_start_is_named(world: &World) {
    let mut spec = order("");
    spec.command = vec!["/bin/nosuch".into()];
    assert_eq!(end_of(world, &spec).await.verdict.reason, Reason::CommandNotFound);
    let mut spec = order("true");
    spec.image = "farrun-nosuch:1".into();
    assert_eq!(end_of(world, &spec).await.verdict.reason, Reason::ImageMissing);
    let mut spec = order("true");
    spec.image = "127.0.0.1:9/nosuch:1".into();
    spec.pull = PullPolicy::Missing;
    let settled = end_of(world, &spec).await;
    assert_eq!(settled.verdict.reason, Reason::ImagePull, "{settled:?}");
    let mut spec = order("true");
    spec.gpus = Gpus::All;
    let mut talk = gpus::talk(world).await;
    talk.peer.launch(&spec).await.unwrap();
    let settled = self::settled(&mut talk.peer, &spec.run_id).await.1;
    assert_eq!(settled.verdict.reason, Reason::GpuUnavailable);
    assert!(
        settled
            .verdict
            .detail
            .unwrap()
            .contains("could not select device driver")
    );
    let mut spec = order("true");
    spec.mounts.push(Mount {
        source: "/nonexistent/models".into(),
        target: "/models".into(),
        read_only: true,
        create: false,
    });
    let mut talk = world.talk().await;
    assert_eq!(code(talk.peer.launch(&spec).await), ErrorCode::MountMissing);
    let mut spec = order("");
    spec.command.clear();
    talk.peer.launch(&spec).await.unwrap();
    assert_eq!(talk.peer.whole_log(&spec.run_id).await, b"default\n");
}

pub(crate) async fn an_engine_that_restarts_takes_its_jobs_down(world: &mut World) {
    let mut talk = world.talk().await;
    let spec = order("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
    talk.peer.launch(&spec).await.unwrap();
    wait_for_text(&mut talk.peer, &spec.run_id, "up").await;
    world.engine.restart();
    // The same conversation goes on: each call connects anew.
    assert_eq!(talk.peer.whole_log(&spec.run_id).await, b"up\n");
    let (_, settled) = settled(&mut talk.peer, &spec.run_id).await;
    assert_eq!(settled.verdict.reason, Reason::EngineRestart, "{settled:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", talk.process.id().unwrap())).unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .unwrap();
    // An unoptimised build is much larger than the one that is shipped.
    assert!(peak < 64 * 1024, "{peak} kB");
}
