//! The observer on a real engine: what happens on a host while nobody talks to it.

use crate::gpus::{Gpu, container, wants};
use crate::support::talk::Talk;
use crate::support::{CONTROLLER, PATIENCE, order};
use crate::{World, end_of};
use farrun_agent::watch::lives;
use farrun_protocol::diagnostics::{BUNDLE, Bundle, Trigger};
use farrun_protocol::lease::Wait;
use farrun_protocol::record::{Phase, Settled};
use farrun_protocol::series::Sample;
use farrun_protocol::spec::Gpus;
use farrun_protocol::verdict::RunResult;
use farrun_protocol::{Reply, Request, RunId};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn until(what: &str, come: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn state(world: &World) -> PathBuf {
    // <state>/agents/<sha256>/farrun-agent
    world.agent.ancestors().nth(3).unwrap().to_owned()
}

fn settled(state: &Path, run_id: &RunId) -> Option<Settled> {
    let bytes = std::fs::read(state.join(format!("runs/{run_id}/settled.json"))).ok()?;
    serde_json::from_slice(&bytes).ok()
}

async fn talk(gpu: &Gpu<'_>) -> Talk {
    gpu.talk_with(&[("FARRUN_WATCH", "on".to_owned())]).await
}

pub(crate) async fn the_line_moves_and_samples_are_taken_while_nobody_talks(world: &World) {
    let gpu = Gpu::new(world);
    let state = state(world);
    let mut first = wants("for n in $(seq 24); do echo line $n; sleep 0.5; done", Gpus::All);
    let mut second = wants("echo second $FARRUN_GPUS", Gpus::All);
    first.name = "first".into();
    second.placement.wait = Wait::Until;
    let mut conversation = talk(&gpu).await;
    let facts = conversation.peer.launch(&first).await.unwrap();
    assert_eq!(facts.phase, Phase::Running);
    let facts = conversation.peer.launch(&second).await.unwrap();
    assert_eq!(facts.phase, Phase::Queued);
    assert!(facts.queue.unwrap().watched);
    let Reply::Host(host) = conversation.peer.ask(Request::Host).await.unwrap() else {
        panic!("facts of the host");
    };
    let watch = host.watch.expect("an observer");
    assert!(!watch.resident && Path::new(&format!("/proc/{}", watch.pid)).exists());
    // The driver tells about a process of the run.
    let main = container(&first.run_id);
    let pid = world
        .engine
        .docker(&["inspect", "-f", "{{.State.Pid}}", &main])
        .unwrap();
    gpu.tell_processes(&format!("GPU-0, {pid}, sh, 300\n"));
    conversation.process.kill().await.unwrap();
    drop(conversation);

    until("the first run is settled", || {
        settled(&state, &first.run_id).is_some()
    });
    gpu.tell_processes("");
    let ended = Instant::now();
    until("the second run begins", || {
        state
            .join(format!("runs/{}/start.intent", second.run_id))
            .exists()
    });
    // About a second on an idle machine.
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    until("the second run is settled", || {
        settled(&state, &second.run_id).is_some()
    });
    let (one, two) = (
        settled(&state, &first.run_id).unwrap(),
        settled(&state, &second.run_id).unwrap(),
    );
    assert_eq!(
        (one.verdict.result, two.verdict.result),
        (RunResult::Succeeded, RunResult::Succeeded)
    );
    assert!(two.started_at.unwrap() >= one.ended_at.unwrap());

    let mut conversation = talk(&gpu).await;
    let samples = series(&mut conversation, &first.run_id).await;
    assert!(samples.len() >= 2, "{samples:?}");
    for pair in samples.windows(2) {
        assert!(pair[0].at < pair[1].at && pair[0].log_offset <= pair[1].log_offset);
    }
    let last = samples.last().unwrap();
    assert!(
        last.log_offset > 0 && last.log_offset <= one.log.length,
        "{last:?}"
    );
    let uuids: Vec<&str> = last.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
    assert_eq!(uuids, ["GPU-0", "GPU-1"]);
    let facts = conversation.peer.facts(&first.run_id).await;
    let summary = facts.gpu_summary.expect("a summary");
    assert_eq!(summary.samples, samples.len() as u64);
    assert_eq!(summary.peak_memory, Some(300));
    assert!(!summary.shared && !summary.intruders);
    drop(conversation);
    until("it ends when nothing is left", || !lives(&state));
}

async fn series(talk: &mut Talk, run_id: &RunId) -> Vec<Sample> {
    let request = Request::Series {
        run_id: run_id.clone(),
        after: None,
    };
    match talk.peer.ask(request).await.unwrap() {
        Reply::Series { samples, more: false } => samples,
        other => panic!("{other:?}"),
    }
}

/// Nobody is connected when it fails, within milliseconds; its secret is in what it printed and in no evidence.
pub(crate) async fn a_failure_is_explained_while_nobody_talks(world: &World) {
    let state = state(world);
    let mut spec = order("echo the password is $TOKEN; exit 3");
    spec.secret_names = vec!["TOKEN".into()];
    let mut missing = order("true");
    missing.image = "farrun-nosuch:1".into();
    let mut conversation = world.silent(&[("FARRUN_WATCH", "on".to_owned())]).await;
    let peer = &mut conversation.peer;
    peer.hello_as(CONTROLLER, &world.engine.host()).await;
    peer.launch_with(&spec, &[("TOKEN", "hunter2hunter2")])
        .await
        .unwrap();
    let refused = peer.launch(&missing).await.unwrap();
    assert_eq!(refused.phase, Phase::Settled);
    conversation.process.kill().await.unwrap();
    drop(conversation);
    let folder = |run_id: &RunId| state.join(format!("runs/{run_id}/diagnostics"));
    for run_id in [&spec.run_id, &missing.run_id] {
        until("there is a bundle", || folder(run_id).join(BUNDLE).exists());
        let bundle: Bundle =
            serde_json::from_slice(&std::fs::read(folder(run_id).join(BUNDLE)).unwrap()).unwrap();
        assert_eq!(bundle.trigger, Trigger::Failure);
    }
    let secrets = state.join(format!("runs/{}/secrets.json", spec.run_id));
    until("the values are gone", || !secrets.exists());
    let document = std::fs::read_to_string(folder(&spec.run_id).join("container.json")).unwrap();
    assert!(document.contains("\"ExitCode\": 3"), "{document}");
    let events = std::fs::read_to_string(folder(&spec.run_id).join("events.jsonl")).unwrap();
    assert!(events.contains("die"), "{events}");
    let head = std::fs::read_to_string(folder(&spec.run_id).join("log.head")).unwrap();
    assert_eq!(head, "the password is [redacted:TOKEN]\n");
    for entry in std::fs::read_dir(folder(&spec.run_id)).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "{path:?}");
    }
    let log = std::fs::read(state.join(format!("runs/{}/record/run.log", spec.run_id))).unwrap();
    assert_eq!(
        log, b"the password is hunter2hunter2\n",
        "the run log itself is never touched"
    );
    until("it ends when nothing is left", || !lives(&state));
}

/// Nobody was there to collect when it failed, and the next order needs no observer of its own.
pub(crate) async fn evidence_that_is_left_is_collected_at_the_next_order(world: &World) {
    let state = state(world);
    let (failed, well) = (order("exit 3"), order("true"));
    for spec in [&failed, &well] {
        let _ = end_of(world, spec).await;
    }
    let bundle = state
        .join(format!("runs/{}/diagnostics", failed.run_id))
        .join(BUNDLE);
    assert!(!bundle.exists() && !lives(&state));
    let mut conversation = world.silent(&[("FARRUN_WATCH", "on".to_owned())]).await;
    let peer = &mut conversation.peer;
    peer.hello_as(CONTROLLER, &world.engine.host()).await;
    let over = peer.launch(&well).await.unwrap();
    assert_eq!(over.phase, Phase::Settled);
    until("there is a bundle", || bundle.exists());
    drop(conversation);
    until("it ends when nothing is left", || !lives(&state));
}
