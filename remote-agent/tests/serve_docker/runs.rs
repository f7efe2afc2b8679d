//! From the launch to the record: the log, the inputs, the secrets, the outputs.

use crate::engine::TestEngine;
use crate::support::{Peer, code, order};
use crate::{World, end_of, settled};
use farrun_protocol::manifest::{BLOCK, Manifest};
use farrun_protocol::message::{Collect, Garbage, InputState, ManifestReply};
use farrun_protocol::record::Phase;
use farrun_protocol::spec::{Capture, Input, ParentOutput};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{ContentId, ErrorCode, Reply, Request, RunId, Sha256};
use std::path::PathBuf;

pub(crate) async fn a_run_is_launched_followed_and_settled_once(world: &World) {
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
    a_large_output_is_an_input_by_its_blocks(peer, &spec.run_id, &reply).await;

    let mut wanted = order("true");
    wanted.required_outputs = vec!["result".into()];
    let settled = end_of(world, &wanted).await;
    assert_eq!(settled.verdict.reason, Reason::OutputMissing);
    assert_eq!(settled.verdict.detail.as_deref(), Some("result"));
}

pub(crate) async fn inputs_reach_a_job_of_any_user(world: &World) {
    let mut talk = world.talk().await;
    let mut spec =
        order("cat /farrun/inputs/deep/file; id -u; touch /farrun/inputs/new; head -c 20000000 /dev/zero");
    spec.user = Some("1234:1234".into());
    spec.inputs = vec![Input {
        path: "deep/file".into(),
        content: ContentId::of(b"input\n"),
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
        content: spec.inputs[0].content.clone(),
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
            only: None,
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

pub(crate) async fn secrets_reach_the_job_only(world: &World) {
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

pub(crate) async fn the_engine_may_capture(world: &World) {
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

pub(crate) async fn files_of_another_user_are_opened_and_removed(world: &World) {
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
            only: None,
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

async fn a_large_output_is_an_input_by_its_blocks(peer: &mut Peer, run_id: &RunId, small: &ManifestReply) {
    let content = vec![7; usize::try_from(BLOCK).unwrap() + 1];
    let path = PathBuf::from(&small.outputs).join("large");
    std::fs::write(&path, &content).unwrap();
    let outputs = Request::Outputs {
        run_id: run_id.clone(),
    };
    let Reply::Manifest(now) = peer.ask(outputs).await.unwrap() else {
        panic!("a manifest");
    };
    assert_ne!(now.sha256, small.sha256);
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(&now.path).unwrap()).unwrap();
    let listed = manifest.files.iter().find(|file| file.path == "large").unwrap();
    let input = Input {
        path: "video".into(),
        content: ContentId::Blocks(listed.blocks_hash().unwrap()),
        size: listed.size,
        parent: Some(ParentOutput {
            run_id: run_id.clone(),
            path: listed.path.clone(),
        }),
    };
    let mut is_present = async || {
        let inputs = vec![input.clone()];
        let Reply::Inputs { states } = peer.ask(Request::CheckInputs { inputs }).await.unwrap() else {
            panic!("inputs");
        };
        states == [InputState::Present]
    };
    assert!(is_present().await);
    std::fs::write(&path, vec![8; content.len()]).unwrap();
    assert!(!is_present().await, "it is another one now");
}
