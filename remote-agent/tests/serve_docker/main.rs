//! `serve` as a process of an ordinary account, against a real engine. Scenarios share one engine, which takes
//! seconds to start, so they are one test.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

mod ends;
mod engine;
mod gpus;
mod observer;
mod runs;
#[path = "../serve_support/smi.rs"]
mod smi;
#[path = "../serve_support/mod.rs"]
mod support;
mod talks;

use engine::TestEngine;
use farrun_protocol::RunId;
use farrun_protocol::record::{Phase, RunFacts, Settled};
use farrun_protocol::spec::RunSpec;
use std::path::PathBuf;
use std::time::Instant;
use support::talk::Talk;
use support::{CONTROLLER, PATIENCE, Peer, from};

struct World {
    engine: TestEngine,
    agent: PathBuf,
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
        // Scenarios that say nothing about an observer are about the conversation alone.
        command
            .env("FARRUN_WATCH", "off")
            .envs(environment.iter().cloned());
        Talk::silent(&mut command).await
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
    runs::a_run_is_launched_followed_and_settled_once(&world).await;
    ends::a_kill_from_outside_is_named(&world).await;
    runs::files_of_another_user_are_opened_and_removed(&world).await;
    ends::a_stop_is_a_cancellation(&world).await;
    ends::what_cannot_start_is_named(&world).await;
    runs::secrets_reach_the_job_only(&world).await;
    runs::the_engine_may_capture(&world).await;
    talks::a_run_belongs_to_its_controller(&world).await;
    talks::a_killed_conversation_costs_nothing(&world).await;
    talks::the_host_is_described(&world).await;
    runs::inputs_reach_a_job_of_any_user(&world).await;
    talks::the_engine_may_be_behind_sudo(&world).await;
    ends::an_engine_that_restarts_takes_its_jobs_down(&mut world).await;
    gpus::gpus_are_held_by_pid_1(&world).await;
    gpus::containers_of_two_accounts_never_share_a_gpu(&world).await;
    gpus::what_is_given_nothing_is_ended(&world).await;
    gpus::locks_that_cannot_be_used_are_a_refusal(&world).await;
    observer::the_line_moves_and_samples_are_taken_while_nobody_talks(&world).await;
    observer::a_failure_is_explained_while_nobody_talks(&world).await;
    observer::evidence_that_is_left_is_collected_at_the_next_order(&world).await;
}
