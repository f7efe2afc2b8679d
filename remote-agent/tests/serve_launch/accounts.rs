//! Accounts that share a host's GPUs: each has agents and a state folder of its own, and all have the folder of the
//! locks and the engine. Agents are processes here, so that they can be killed.

use crate::World;
use crate::gpus::{end, obstacles, until, uuids, waits, wants};
use crate::scripted::Container;
use crate::support::PATIENCE;
use crate::support::talk::Talk;
use farrun_protocol::lease::Obstacle;
use farrun_protocol::record::Phase;
use farrun_protocol::spec::{Capture, Gpus};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, RunId, layout};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// An account with its state folder; its observer ends with it.
struct Account<'a> {
    world: &'a World,
    state: PathBuf,
    watch: &'static str,
}

impl<'a> Account<'a> {
    fn new(world: &'a World, name: &str, watch: &'static str) -> Self {
        Self {
            world,
            state: world.folder.path().join(name),
            watch,
        }
    }

    async fn talk(&self) -> Talk {
        let folder = self.world.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrun-agent"));
        command
            .env("FARRUN_STATE", &self.state)
            .env("FARRUN_LOCKS", folder.join("locks"))
            .env("FARRUN_NVIDIA_SMI", folder.join("nvidia-smi"))
            .env("FARRUN_WATCH", self.watch);
        Talk::begun(&mut command, &self.world.engine.host()).await
    }

    fn observer(&self) -> Option<Pid> {
        let card = std::fs::read(self.state.join("watch.json")).ok()?;
        let card: serde_json::Value = serde_json::from_slice(&card).ok()?;
        Pid::from_raw(i32::try_from(card["pid"].as_u64()?).ok()?)
    }

    fn intended(&self, run_id: &RunId) -> bool {
        self.state.join(format!("runs/{run_id}/start.intent")).exists()
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if let Some(pid) = self.observer() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

async fn come(what: &str, come: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ticket(world: &World, run_id: &RunId) -> bool {
    world
        .folder
        .path()
        .join(format!("locks/ticket-{run_id}.json"))
        .exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waited_first_is_served_first_whichever_account_it_is() {
    let world = World::with_gpus(1);
    let (ada, bob) = (
        Account::new(&world, "ada", "on"),
        Account::new(&world, "bob", "on"),
    );
    let (mut of_ada, mut of_bob) = (ada.talk().await, bob.talk().await);
    let (busy, early, late) = (wants(Gpus::All), waits(Gpus::All), waits(Gpus::Count(1)));
    of_ada.peer.launch(&busy).await.unwrap();
    assert_eq!(of_bob.peer.launch(&early).await.unwrap().phase, Phase::Queued);
    come("its ticket", || ticket(&world, &early.run_id)).await;
    // This account has everything at hand to start its own run at once, and the other one was here before.
    assert_eq!(of_ada.peer.launch(&late).await.unwrap().phase, Phase::Queued);
    let place = of_ada.peer.facts(&late.run_id).await.queue.unwrap();
    assert_eq!((place.position, place.others_ahead), (2, 1));
    assert_eq!(of_bob.peer.facts(&early.run_id).await.queue.unwrap().position, 1);
    come("the other ticket", || ticket(&world, &late.run_id)).await;
    end(&world, &busy);
    let facts = until(&mut of_bob.peer, &early.run_id, Phase::Running).await;
    assert_eq!(uuids(&facts), ["GPU-0"]);
    assert!(!ada.intended(&late.run_id), "it waits for its turn");
    come("a ticket is given back", || !ticket(&world, &early.run_id)).await;
    end(&world, &early);
    until(&mut of_ada.peer, &late.run_id, Phase::Running).await;
    assert_eq!(world.executions(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_changes_no_order_between_accounts() {
    let world = World::with_gpus(1);
    let (ada, bob) = (
        Account::new(&world, "ada", "on"),
        Account::new(&world, "bob", "on"),
    );
    let (mut of_ada, mut of_bob) = (ada.talk().await, bob.talk().await);
    let (busy, early, late) = (wants(Gpus::All), waits(Gpus::All), waits(Gpus::All));
    of_ada.peer.launch(&busy).await.unwrap();
    of_bob.peer.launch(&early).await.unwrap();
    // As if it had come while the clock was years ahead.
    let file = bob.state.join(format!("queue/{}.json", early.run_id));
    let mut order: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    order["at"] = "2099-01-01T00:00:00Z".into();
    let new = file.with_extension("new");
    std::fs::write(&new, order.to_string()).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let ticket = world
        .folder
        .path()
        .join(format!("locks/ticket-{}.json", early.run_id));
    come("its ticket", || {
        std::fs::read_to_string(&ticket).is_ok_and(|text| text.contains("2099"))
    })
    .await;
    of_ada.peer.launch(&late).await.unwrap();
    let place = of_ada.peer.facts(&late.run_id).await.queue.unwrap();
    assert_eq!((place.position, place.others_ahead), (2, 1));
    end(&world, &busy);
    until(&mut of_bob.peer, &early.run_id, Phase::Running).await;
    assert!(!ada.intended(&late.run_id), "it waits for its turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_account_that_has_nobody_left_holds_up_nobody() {
    let world = World::with_gpus(1);
    let (ada, bob) = (
        Account::new(&world, "ada", "on"),
        Account::new(&world, "bob", "on"),
    );
    let (mut of_ada, mut of_bob) = (ada.talk().await, bob.talk().await);
    let (busy, early, late) = (wants(Gpus::All), waits(Gpus::All), waits(Gpus::All));
    of_ada.peer.launch(&busy).await.unwrap();
    of_bob.peer.launch(&early).await.unwrap();
    come("its ticket", || ticket(&world, &early.run_id)).await;
    of_ada.peer.launch(&late).await.unwrap();
    of_bob.process.kill().await.unwrap();
    kill_process(bob.observer().unwrap(), Signal::KILL).unwrap();
    end(&world, &busy);
    until(&mut of_ada.peer, &late.run_id, Phase::Running).await;
    // It has kept its place and is the next.
    end(&world, &late);
    let mut of_bob = bob.talk().await;
    until(&mut of_bob.peer, &early.run_id, Phase::Running).await;
    assert_eq!(world.executions(), 3);
}

/// Kills an agent while the engine keeps its call with this ending waiting; it holds the mutex of all accounts then.
async fn killed_in(world: &World, account: &Account<'_>, call: &'static str, capture: Capture) -> RunId {
    let mut spec = wants(Gpus::Devices(vec!["GPU-0".into()]));
    spec.capture = capture;
    world.engine.state.lock().unwrap().holds = Some(call);
    let mut talk = account.talk().await;
    tokio::select! {
        answer = talk.peer.launch(&spec) => panic!("{call} was not held: {answer:?}"),
        () = world.engine.held.notified() => {}
    }
    let calls = world.engine.state.lock().unwrap().calls.clone();
    assert!(calls.last().unwrap().contains(call), "{calls:?}");
    let mutex = std::fs::File::open(world.folder.path().join("locks/allocator.lock")).unwrap();
    let free = || flock(&mutex, FlockOperation::NonBlockingLockExclusive).is_ok();
    assert!(!free(), "the mutex is held");
    talk.process.kill().await.unwrap();
    assert!(free(), "it went with its process");
    spec.run_id
}

#[tokio::test]
async fn an_agent_that_is_killed_with_the_mutex_blocks_no_account() {
    for call in ["/containers/create", "/start"] {
        let world = World::with_gpus(2);
        let (ada, bob) = (
            Account::new(&world, "ada", "off"),
            Account::new(&world, "bob", "off"),
        );
        let killed = killed_in(&world, &ada, call, Capture::Init).await;
        let mut of_bob = bob.talk().await;
        let other = wants(Gpus::Devices(vec!["GPU-0".into()]));
        let begun = Instant::now();
        assert_eq!(
            uuids(&of_bob.peer.launch(&other).await.unwrap()),
            ["GPU-0"],
            "{call}"
        );
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert_eq!(world.executions(), 1, "{call}");
        // What the killed one wanted is refused, or given another GPU; it was never executed.
        let mut of_ada = ada.talk().await;
        assert_ne!(of_ada.peer.facts(&killed).await.phase, Phase::Running, "{call}");
    }
}

#[tokio::test]
async fn a_container_whose_own_program_is_pid_1_keeps_its_gpu_while_its_start_may_be_under_way() {
    let world = World::with_gpus(2);
    let (ada, bob) = (
        Account::new(&world, "ada", "off"),
        Account::new(&world, "bob", "off"),
    );
    let killed = killed_in(&world, &ada, "/start", Capture::Docker).await;
    let mut of_bob = bob.talk().await;
    let wanted = wants(Gpus::Devices(vec!["GPU-0".into()]));
    let refused = of_bob.peer.launch(&wanted).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoFreeGpu);
    let holder = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Leased { run_id: Some(run_id), .. } if *run_id == killed);
    assert!(obstacles(&refused).iter().any(holder), "{refused:?}");
    assert_eq!(
        uuids(&of_bob.peer.launch(&wants(Gpus::Count(1))).await.unwrap()),
        ["GPU-1"]
    );
}

#[tokio::test]
async fn a_container_of_ours_that_nobody_knows_holds_its_gpu_until_it_ends() {
    let world = World::with_gpus(2);
    let orphan = RunId::random();
    let labels = serde_json::json!({layout::LABEL_RUN: orphan, layout::LABEL_GPUS: "GPU-0"});
    let name = format!("farrun-{orphan}");
    let state = || world.engine.state.lock().unwrap();
    state()
        .containers
        .insert(name.clone(), Container::of_somebody(&labels));
    let (mut peer, _serving) = world.talk().await;
    let wanted = wants(Gpus::Devices(vec!["0".into()]));
    let refused = peer.launch(&wanted).await.unwrap_err();
    let holds = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Leased { run_id: Some(run_id), .. } if *run_id == orphan);
    assert!(obstacles(&refused).iter().any(holds), "{refused:?}");
    assert_eq!(
        uuids(&peer.launch(&wants(Gpus::Count(1))).await.unwrap()),
        ["GPU-1"]
    );
    state().containers.get_mut(&name).unwrap().status = "exited";
    assert_eq!(uuids(&peer.launch(&wanted).await.unwrap()), ["GPU-0"]);
}

#[tokio::test]
async fn a_pid_1_of_the_image_that_does_not_see_its_gpu_is_ended() {
    for (executed, seen) in [
        (Some(r#"{"said":"GPU-0","devices":true}"#), true),
        (Some(r#"{"said":null,"devices":true}"#), true),
        (Some(r#"{"said":null,"devices":null}"#), true),
        (Some(r#"{"said":"GPU-0","devices":false}"#), false),
        (Some(r#"{"said":"all","devices":false}"#), false),
        (Some(r#"{"said":null,"devices":false}"#), false),
        // What proves nothing ends nothing.
        (Some("OCI runtime exec failed"), true),
        (None, true),
    ] {
        let world = World::with_gpus(1);
        world.engine.state.lock().unwrap().executed = executed.map(str::to_owned);
        let (mut peer, _serving) = world.talk().await;
        let mut spec = wants(Gpus::Count(1));
        spec.capture = Capture::Docker;
        let facts = peer.launch(&spec).await.unwrap();
        let status = world.engine.state.lock().unwrap().containers[&format!("farrun-{}", spec.run_id)].status;
        if seen {
            assert_eq!((facts.phase, status), (Phase::Running, "running"), "{executed:?}");
            continue;
        }
        let verdict = facts.settled.unwrap().verdict;
        assert_eq!(
            (verdict.reason, status),
            (Reason::GpuUnavailable, "exited"),
            "{executed:?}"
        );
        let detail = verdict.detail.unwrap();
        assert!(detail.contains("cannot see its GPU: GPU-0 was given"), "{detail}");
        // Its GPU is free again.
        let next = peer.launch(&wants(Gpus::Count(1))).await.unwrap();
        assert_eq!(uuids(&next), ["GPU-0"]);
    }
}
