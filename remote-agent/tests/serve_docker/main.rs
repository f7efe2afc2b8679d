//! `serve` as a process of an ordinary account, against a real engine. Scenarios share one engine, which takes
//! seconds to start, so they are one test.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

mod engine;
mod gpus;
mod observer;
#[path = "../serve_support/smi.rs"]
mod smi;
#[path = "../serve_support/mod.rs"]
mod support;

use engine::TestEngine;
use farrun_protocol::manifest::{BLOCK, Manifest};
use farrun_protocol::message::{Collect, FetchLog, Garbage, Hello, InputState, ManifestReply};
use farrun_protocol::record::{Phase, RunFacts, Settled};
use farrun_protocol::spec::{Capture, Gpus, Input, Mount, PullPolicy, RunSpec};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{ErrorCode, PROTOCOL, Reply, Request, RunId, Sha256, preamble};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;
use support::{CONTROLLER, PATIENCE, Peer, code, from, order};
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;

struct World {
    engine: TestEngine,
    agent: PathBuf,
}

/// A conversation with an agent process, which ends with it.
struct Talk {
    peer: Peer,
    process: Child,
}

impl World {
    async fn talk_as(&self, controller: &str) -> Talk {
        let mut talk = self.silent(&[]).await;
        talk.peer.hello_as(controller, &self.engine.host()).await;
        talk
    }

    async fn silent(&self, environment: &[(&str, String)]) -> Talk {
        self.start(TestEngine::as_account(&self.agent), environment).await
    }

    async fn start(&self, mut command: tokio::process::Command, environment: &[(&str, String)]) -> Talk {
        let nonce = "ab".repeat(32);
        let mut process = command
            .args(["serve", &nonce])
            // Scenarios that say nothing about an observer are about the conversation alone.
            .env("FARRUN_WATCH", "off")
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let mut seen = vec![0; preamble::line(&nonce).len()];
        stdout.read_exact(&mut seen).await.unwrap();
        assert_eq!(preamble::find(&seen, &nonce), Some(seen.len()));
        let peer = Peer::new(stdout, process.stdin.take().unwrap(), &[]);
        Talk { peer, process }
    }

    async fn talk(&self) -> Talk {
        self.talk_as(CONTROLLER).await
    }
}

async fn settled(peer: &mut Peer, run_id: &RunId) -> (RunFacts, Settled) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let facts = peer.facts(run_id).await;
        if let Some(settled) = facts.settled.clone() {
            assert_eq!(facts.phase, Phase::Settled);
            return (facts, *settled);
        }
        assert!(Instant::now() < deadline, "{facts:?}");
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
}

async fn wait_for_text(peer: &mut Peer, run_id: &RunId, text: &str) {
    let mut log = Vec::new();
    while !String::from_utf8_lossy(&log).contains(text) {
        let chunk = peer.fetch(from(run_id, log.len() as u64, 20_000)).await.unwrap();
        assert!(chunk.end.is_none(), "{:?}", String::from_utf8_lossy(&log));
        log.extend_from_slice(&chunk.bytes);
    }
}

async fn end_of(world: &World, spec: &RunSpec) -> Settled {
    let mut talk = world.talk().await;
    talk.peer.launch(spec).await.unwrap();
    settled(&mut talk.peer, &spec.run_id).await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_on_a_real_engine() {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_farrun-agent"));
    let engine = TestEngine::start();
    engine.import_image(&built);
    let agent = engine.install(&built);
    let mut world = World { engine, agent };
    a_run_is_launched_followed_and_settled_once(&world).await;
    a_kill_from_outside_is_named(&world).await;
    files_of_another_user_are_opened_and_removed(&world).await;
    a_stop_is_a_cancellation(&world).await;
    what_cannot_start_is_named(&world).await;
    secrets_reach_the_job_only(&world).await;
    the_engine_may_capture(&world).await;
    a_run_belongs_to_its_controller(&world).await;
    a_killed_conversation_costs_nothing(&world).await;
    the_host_is_described(&world).await;
    inputs_reach_a_job_of_any_user(&world).await;
    the_engine_may_be_behind_sudo(&world).await;
    an_engine_that_restarts_takes_its_jobs_down(&mut world).await;
    gpus::gpus_are_held_by_pid_1(&world).await;
    gpus::locks_that_cannot_be_used_are_a_refusal(&world).await;
    observer::the_line_moves_and_samples_are_taken_while_nobody_talks(&world).await;
    observer::a_failure_is_explained_while_nobody_talks(&world).await;
}

async fn a_run_is_launched_followed_and_settled_once(world: &World) {
    let mut talk = world.talk().await;
    let peer = &mut talk.peer;
    let spec =
        order("printf 'one\\n\\377\\0two'; echo made > /farrun/outputs/result; sleep 0.3; echo three >&2");
    let facts = peer.launch(&spec).await.unwrap();
    assert_eq!(facts.phase, Phase::Running, "{facts:?}");
    let labels = world
        .engine
        .docker(&[
            "inspect",
            "-f",
            "{{json .Config.Labels}}",
            &format!("farrun-{}", spec.run_id),
        ])
        .unwrap();
    for text in [
        "\"operation\":\"inference\"",
        "\"farrun.gpus\":\"none\"",
        "start_time",
        spec.run_id.as_str(),
    ] {
        assert!(labels.contains(text), "{text} in {labels}");
    }
    let log = peer.whole_log(&spec.run_id).await;
    assert_eq!(log, b"one\n\xff\0twothree\n");
    let (facts, settled) = settled(peer, &spec.run_id).await;
    assert_eq!(
        (settled.verdict.result, settled.verdict.reason),
        (RunResult::Succeeded, Reason::Ok)
    );
    assert_eq!(settled.exit.as_ref().unwrap().log.length, log.len() as u64);
    assert_eq!(settled.outputs_error, None);

    let again = peer.launch(&spec).await.unwrap();
    assert_eq!(again, facts);
    let mut other = spec.clone();
    other.name = "other".into();
    assert_eq!(code(peer.launch(&other).await), ErrorCode::SpecConflict);

    let Reply::Manifest(reply) = peer
        .ask(Request::Outputs {
            run_id: spec.run_id.clone(),
        })
        .await
        .unwrap()
    else {
        panic!("a manifest");
    };
    let bytes = std::fs::read(&reply.path).unwrap();
    assert_eq!(Sha256::of(&bytes), reply.sha256);
    let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(manifest.files.len(), 1);
    assert_eq!(manifest.files[0].sha256, Some(Sha256::of(b"made\n")));
    large_outputs_have_digests(peer, &spec.run_id, &reply).await;

    let mut wanted = order("true");
    wanted.required_outputs = vec!["result".into()];
    let settled = end_of(world, &wanted).await;
    assert_eq!(settled.verdict.reason, Reason::OutputMissing);
    assert_eq!(settled.verdict.detail.as_deref(), Some("result"));
}

async fn a_kill_from_outside_is_named(world: &World) {
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

async fn large_outputs_have_digests(peer: &mut Peer, run_id: &RunId, small: &ManifestReply) {
    let content = vec![7; usize::try_from(BLOCK).unwrap() + 1];
    std::fs::write(PathBuf::from(&small.outputs).join("large"), &content).unwrap();
    let outputs = Request::Outputs {
        run_id: run_id.clone(),
    };
    let Reply::Manifest(now) = peer.ask(outputs).await.unwrap() else {
        panic!("a manifest");
    };
    assert_ne!(now.sha256, small.sha256);
    let digests = |manifest: &Sha256, from| Request::Digests {
        run_id: run_id.clone(),
        manifest: manifest.clone(),
        from,
        most: (from > 0).then_some(1),
    };
    for (from, expected) in [(0, vec![Sha256::of(&content)]), (1, Vec::new())] {
        let Reply::Digests { digests } = peer.ask(digests(&now.sha256, from)).await.unwrap() else {
            panic!("digests");
        };
        assert_eq!(digests, expected);
    }
    let of_before = peer.ask(digests(&small.sha256, 0)).await;
    assert_eq!(code(of_before), ErrorCode::HashMismatch);
    std::fs::write(PathBuf::from(&small.outputs).join("large"), &content[1..]).unwrap();
    let of_changed = peer.ask(digests(&now.sha256, 0)).await;
    assert_eq!(code(of_changed), ErrorCode::HashMismatch);
}

async fn files_of_another_user_are_opened_and_removed(world: &World) {
    let mut talk = world.talk().await;
    let spec =
        order("umask 077; cd /farrun/outputs; mkdir deep; echo secret > deep/file; chmod 600 deep/file");
    talk.peer.launch(&spec).await.unwrap();
    let (_, settled) = settled(&mut talk.peer, &spec.run_id).await;
    assert_eq!(settled.verdict.reason, Reason::Ok, "{settled:?}");
    assert_eq!(settled.outputs_error, None);
    let Reply::Manifest(reply) = talk
        .peer
        .ask(Request::Outputs {
            run_id: spec.run_id.clone(),
        })
        .await
        .unwrap()
    else {
        panic!("a manifest");
    };
    assert_eq!((reply.files, reply.bytes), (1, 7));
    let collect = |dry_run| {
        Request::Collect(Collect {
            dry_run,
            run_ids: vec![spec.run_id.clone()],
            agents: true,
            blobs: true,
            as_if_gone: Vec::new(),
            diagnostics: None,
            images: false,
        })
    };
    let folder = PathBuf::from(&reply.outputs).parent().unwrap().to_owned();
    for dry_run in [true, false] {
        assert!(folder.exists());
        let Reply::Garbage { items } = talk.peer.ask(collect(dry_run)).await.unwrap() else {
            panic!("garbage");
        };
        assert!(
            items.iter().any(|item| item.kind == "run" && item.kept.is_none()),
            "{items:?}"
        );
    }
    assert!(!folder.exists());
    assert!(
        world
            .engine
            .docker(&["inspect", &format!("farrun-{}", spec.run_id)])
            .is_err()
    );
    assert_eq!(
        world
            .engine
            .docker(&["ps", "-aq", "--filter", "label=farrun.opens"])
            .unwrap(),
        ""
    );
}

async fn a_stop_is_a_cancellation(world: &World) {
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

async fn what_cannot_start_is_named(world: &World) {
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

async fn secrets_reach_the_job_only(world: &World) {
    let mut talk = world.talk().await;
    let mut spec = order("echo \"got $TOKEN\"");
    spec.secret_names = vec!["TOKEN".into()];
    assert_eq!(code(talk.peer.launch(&spec).await), ErrorCode::BadRequest);
    talk.peer
        .launch_with(&spec, &[("TOKEN", "hunter2")])
        .await
        .unwrap();
    assert_eq!(talk.peer.whole_log(&spec.run_id).await, b"got hunter2\n");
    let inspect = world
        .engine
        .docker(&["inspect", &format!("farrun-{}", spec.run_id)])
        .unwrap();
    assert!(!inspect.contains("hunter2"));
    let state = world.agent.ancestors().nth(3).unwrap();
    assert!(
        !state
            .join("runs")
            .join(spec.run_id.as_str())
            .join("secrets.json")
            .exists()
    );
}

async fn the_engine_may_capture(world: &World) {
    let mut talk = world.talk().await;
    let mut spec = order("echo one; sleep 0.2; printf '\\377two'; exit 3");
    spec.capture = Capture::Docker;
    talk.peer.launch(&spec).await.unwrap();
    assert_eq!(talk.peer.whole_log(&spec.run_id).await, b"one\n\xfftwo");
    let (_, settled) = settled(&mut talk.peer, &spec.run_id).await;
    assert_eq!(
        (settled.verdict.reason, settled.verdict.exit_code),
        (Reason::ExitCode, Some(3))
    );

    // Followed from first to last while it prints, over a stream that stays open and by a second reader.
    let mut spec = order("i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done");
    spec.capture = Capture::Docker;
    talk.peer.launch(&spec).await.unwrap();
    let mut beside = world.talk().await;
    let (first, second) = tokio::join!(
        talk.peer.whole_log(&spec.run_id),
        beside.peer.whole_log(&spec.run_id)
    );
    let printed: String = (1..=300).map(|line| format!("line {line}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&first), printed);
    assert!(first == second);
}

async fn a_run_belongs_to_its_controller(world: &World) {
    let (mut mine, mut theirs) = (world.talk().await, world.talk_as("co_theirs00").await);
    let spec = order("echo up; sleep 1000");
    mine.peer.launch(&spec).await.unwrap();
    let stop = || Request::StopRun {
        run_id: spec.run_id.clone(),
        grace: 1,
        kill: true,
    };
    wait_for_text(&mut theirs.peer, &spec.run_id, "up").await;
    assert_eq!(code(theirs.peer.ask(stop()).await), ErrorCode::NotOwner);
    assert_eq!(mine.peer.facts(&spec.run_id).await.phase, Phase::Running);
    let adopted = theirs
        .peer
        .run(Request::Adopt {
            run_id: spec.run_id.clone(),
        })
        .await
        .unwrap();
    assert_eq!(adopted.adopted_by.len(), 1);
    assert!(theirs.peer.run(stop()).await.unwrap().settled.is_some());
}

async fn a_killed_conversation_costs_nothing(world: &World) {
    let mut talk = world.talk().await;
    let spec = order("for i in $(seq 1 20); do echo line $i; sleep 0.05; done");
    talk.peer.launch(&spec).await.unwrap();
    let first = talk.peer.fetch(from(&spec.run_id, 0, 20_000)).await.unwrap();
    talk.process.kill().await.unwrap();
    let mut talk = world.talk().await;
    let resume = FetchLog {
        generation: Some(first.generation.clone()),
        tail_sha256: Some(Sha256::of(&first.bytes)),
        ..from(&spec.run_id, first.bytes.len() as u64, 20_000)
    };
    let next = talk.peer.fetch(resume).await.unwrap();
    let log = talk.peer.whole_log(&spec.run_id).await;
    assert!(log.starts_with(&[&first.bytes[..], &next.bytes[..]].concat()));
    assert_eq!(log.iter().filter(|byte| **byte == b'\n').count(), 20);
}

async fn the_host_is_described(world: &World) {
    let mut talk = world.talk().await;
    let Reply::Host(host) = talk.peer.ask(Request::Host).await.unwrap() else {
        panic!("a host");
    };
    let engine = host.engine.unwrap();
    assert_eq!(engine.address, world.engine.host());
    assert!(!engine.version.is_empty() && !engine.gpus);
    assert!(!host.containers.is_empty() && host.containers.iter().all(|container| container.known));
    assert!(host.disk_free > 0 && host.memory_total > 0 && host.uptime > 0);
}

async fn the_engine_may_be_behind_sudo(world: &World) {
    let hello = Hello {
        protocol: PROTOCOL,
        controller_id: CONTROLLER.parse().unwrap(),
        docker_sudo: true,
        docker_host: None,
    };
    for (script, works) in [
        ("#!/bin/sh\nshift\nexec \"$@\"\n", true),
        (
            "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n",
            false,
        ),
    ] {
        let path = format!(
            "{}:{}",
            world.engine.program("sudo", script).display(),
            env!("PATH")
        );
        let environment = [("PATH", path), ("DOCKER_HOST", world.engine.host())];
        let mut talk = world.silent(&environment).await;
        talk.peer.ask(Request::Hello(hello.clone())).await.unwrap();
        let mut spec = order("echo \"got $TOKEN\"");
        spec.secret_names = vec!["TOKEN".into()];
        let launched = talk.peer.launch_with(&spec, &[("TOKEN", "x")]).await;
        if works {
            launched.unwrap();
            assert_eq!(talk.peer.whole_log(&spec.run_id).await, b"got x\n");
        } else {
            let failure = launched.unwrap_err();
            assert_eq!(failure.code, ErrorCode::DockerDenied);
            assert!(failure.detail.unwrap().contains("a password is required"));
        }
    }
}

async fn an_engine_that_restarts_takes_its_jobs_down(world: &mut World) {
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

async fn inputs_reach_a_job_of_any_user(world: &World) {
    let mut talk = world.talk().await;
    let mut spec =
        order("cat /farrun/inputs/deep/file; id -u; touch /farrun/inputs/new; head -c 20000000 /dev/zero");
    spec.user = Some("1234:1234".into());
    spec.inputs = vec![Input {
        path: "deep/file".into(),
        sha256: Sha256::of(b"input\n"),
        size: 6,
        parent: None,
    }];
    assert_eq!(code(talk.peer.launch(&spec).await), ErrorCode::InputMissing);
    let check = Request::CheckInputs {
        inputs: spec.inputs.clone(),
    };
    let Reply::Inputs { states } = talk.peer.ask(check.clone()).await.unwrap() else {
        panic!("inputs");
    };
    let InputState::Missing { path, .. } = &states[0] else {
        panic!("{states:?}");
    };
    std::fs::write(path, b"input\n").unwrap();
    TestEngine::give_to_account(std::path::Path::new(path));
    let commit = Request::CommitInput {
        sha256: spec.inputs[0].sha256.clone(),
        size: 6,
        arriving: false,
    };
    assert_eq!(talk.peer.ask(commit).await, Ok(Reply::Done));
    talk.peer.launch(&spec).await.unwrap();
    let log = talk.peer.whole_log(&spec.run_id).await;
    assert!(
        log.starts_with(b"input\n1234\n"),
        "{:?}",
        String::from_utf8_lossy(&log[..80])
    );
    assert!(log.len() > 20_000_000, "{}", log.len());
    let Reply::Garbage { items } = talk
        .peer
        .ask(Request::Collect(Collect {
            dry_run: false,
            run_ids: vec![spec.run_id.clone()],
            agents: false,
            blobs: true,
            as_if_gone: Vec::new(),
            diagnostics: None,
            images: false,
        }))
        .await
        .unwrap()
    else {
        panic!("garbage");
    };
    // A launch may be on its way that needs it.
    let fresh = |item: &Garbage| item.kind == "blob" && item.kept.as_deref() == Some("fresh");
    assert!(items.iter().any(fresh), "{items:?}");
    assert_eq!(
        talk.peer.ask(check).await,
        Ok(Reply::Inputs {
            states: vec![InputState::Present]
        })
    );
}
