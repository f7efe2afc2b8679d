//! Who talks to the host, and what it says of itself.

use crate::support::{CONTROLLER, code, from, order};
use crate::{World, wait_for_text};
use farrun_protocol::message::{FetchLog, Hello};
use farrun_protocol::record::Phase;
use farrun_protocol::{ErrorCode, PROTOCOL, Reply, Request, Sha256};

pub(crate) async fn a_run_belongs_to_its_controller(world: &World) {
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

pub(crate) async fn a_killed_conversation_costs_nothing(world: &World) {
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

pub(crate) async fn the_host_is_described(world: &World) {
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

pub(crate) async fn the_engine_may_be_behind_sudo(world: &World) {
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
