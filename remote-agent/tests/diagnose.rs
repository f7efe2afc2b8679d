//! The evidence of runs that failed, asked for over a conversation: whatever is broken on the host, there is a bundle
//! or a list of what is missing, and no secret in it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

#[path = "serve_support/in_process.rs"]
mod in_process;
#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../tests/src/small_disk.rs"]
mod small_disk;
#[path = "serve_support/mod.rs"]
mod support;

use farrun_agent::gpu::Program;
use farrun_agent::record::RunFolder;
use farrun_agent::serve::Context;
use farrun_protocol::diagnostics::{
    self, AgentEvent, BUNDLE, Bundle, FileSystem, HOST_MANIFEST, LogExcerpts, Outcome, Trigger,
};
use farrun_protocol::log::LogEnd;
use farrun_protocol::manifest::Manifest;
use farrun_protocol::message::ManifestReply;
use farrun_protocol::record::Settled;
use farrun_protocol::verdict::{Reason, RunResult, Verdict};
use farrun_protocol::{ErrorCode, Progress, Reply, Request, RunId, Sha256};
use in_process::{context, converse};
use small_disk::SmallDisk;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{Peer, code, order};
use tokio::task::JoinHandle;

const SECRET: &str = "correct horse battery";

struct World {
    folder: tempfile::TempDir,
    state: PathBuf,
    nvidia_smi: Program,
    engine: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        Self {
            engine: format!("unix://{}/no-engine", folder.path().display()),
            folder,
            state,
            nvidia_smi: Program::Absent,
        }
    }

    async fn talk_as(&self, controller: &str) -> (Peer, JoinHandle<()>) {
        let (mut peer, serving) = converse(Context {
            nvidia_smi: self.nvidia_smi.clone(),
            ..context(self.folder.path())
        });
        peer.hello_as(controller, &self.engine).await;
        (peer, serving)
    }

    async fn talk(&self) -> (Peer, JoinHandle<()>) {
        self.talk_as(support::CONTROLLER).await
    }

    /// A run that failed after it printed this.
    fn failed(&self, log: &[u8]) -> RunFolder {
        let mut spec = order("exit 3");
        spec.env = [
            ("HF_TOKEN", "variable-value"),
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            ("OTHER", "seen"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let folder = RunFolder::new(&self.state, &spec.run_id);
        folder.make().unwrap();
        folder.make_skeleton().unwrap();
        folder.write_spec(&spec).unwrap();
        std::fs::write(folder.log(), log).unwrap();
        let secrets = serde_json::json!({"HORSE": SECRET}).to_string();
        std::fs::write(folder.secrets(), secrets).unwrap();
        let verdict = Verdict {
            result: RunResult::Failed,
            reason: Reason::ExitCode,
            exit_code: Some(3),
            signal: None,
            detail: Some(format!("it said {SECRET}")),
        };
        let now = chrono::Utc::now();
        let end = LogEnd {
            length: log.len() as u64,
            sha256: Sha256::of(log),
        };
        let generation = folder.generation().unwrap().unwrap();
        let settled = Settled {
            started_at: Some(now),
            ended_at: Some(now),
            ..Settled::of(folder.run_id().clone(), verdict, end, generation)
        };
        folder.write_settled(&settled).unwrap();
        folder
    }
}

async fn diagnose(peer: &mut Peer, run_id: Option<&RunId>, anew: bool) -> (Bundle, ManifestReply) {
    let request = Request::Diagnose {
        run_id: run_id.cloned(),
        anew,
    };
    match peer.ask(request).await.unwrap() {
        Reply::Diagnostics { bundle, manifest } => (*bundle, manifest),
        other => panic!("{other:?}"),
    }
}

fn outcome<'a>(bundle: &'a Bundle, file: &str) -> &'a Outcome {
    let item = bundle.items.iter().find(|item| item.file == file);
    &item.unwrap_or_else(|| panic!("{file} was tried")).outcome
}

fn read(manifest: &ManifestReply, file: &str) -> String {
    let bytes = std::fs::read(Path::new(&manifest.outputs).join(file)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything that is fetched: the files, their list, and the pack.
fn everything(manifest: &ManifestReply) -> Vec<u8> {
    let mut all = std::fs::read(&manifest.path).unwrap();
    all.extend(manifest.pack.iter().flat_map(|pack| std::fs::read(pack).unwrap()));
    for entry in std::fs::read_dir(&manifest.outputs).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{path:?}"
        );
        all.extend(std::fs::read(path).unwrap());
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_run_on_a_host_without_an_engine_is_explained_once() {
    let world = World::new();
    let log = format!("begin\n\u{1}\u{ff} {SECRET}\nexport API_TOKEN=abc123\nTraceback: the end\n");
    let run = world.failed(log.as_bytes());
    // Another controller of the account may ask as well.
    let (mut peer, _serving) = world.talk_as("co_other000").await;
    assert_eq!(peer.facts(run.run_id()).await.diagnosed_at, None);
    let (bundle, manifest) = diagnose(&mut peer, Some(run.run_id()), false).await;
    assert_eq!(
        (bundle.run_id.as_ref(), bundle.trigger),
        (Some(run.run_id()), Trigger::Failure)
    );
    assert_eq!(bundle.elsewhere, None);
    assert!(peer.progress.contains(&Progress::Collecting {
        file: diagnostics::LOG_TAIL_FILE.to_owned()
    }));
    for file in [
        diagnostics::SPEC,
        diagnostics::SETTLED,
        diagnostics::LOG_HEAD_FILE,
        diagnostics::SYSTEM,
    ] {
        assert_eq!(outcome(&bundle, file), &Outcome::Collected, "{file}");
    }
    for file in [
        diagnostics::CONTAINER,
        diagnostics::IMAGE,
        diagnostics::ENGINE,
        diagnostics::EVENTS,
    ] {
        let missing = outcome(&bundle, file);
        assert!(
            matches!(missing, Outcome::Missing { why } if why.contains("no-engine")),
            "{missing:?}"
        );
    }
    assert!(read(&manifest, diagnostics::LOG_HEAD_FILE).contains("Traceback: the end"));
    let places: LogExcerpts = serde_json::from_str(&read(&manifest, diagnostics::LOG_PLACES)).unwrap();
    assert_eq!((places.length, places.head), (log.len() as u64, log.len() as u64));
    let spec: farrun_protocol::spec::RunSpec =
        serde_json::from_str(&read(&manifest, diagnostics::SPEC)).unwrap();
    assert_eq!(spec.env["HF_TOKEN"], "[redacted:HF_TOKEN]");
    assert_eq!(spec.env["CUDA_DEVICE_ORDER"], "PCI_BUS_ID");
    assert_eq!(spec.env["OTHER"], "[redacted:OTHER]");
    let disks: Vec<FileSystem> = serde_json::from_str(&read(&manifest, diagnostics::DISKS)).unwrap();
    assert!(disks.iter().any(|disk| disk.role == "state" && disk.total > 0));
    let listed: Manifest = serde_json::from_slice(&std::fs::read(&manifest.path).unwrap()).unwrap();
    assert_eq!(&listed.run_id, run.run_id());
    assert!(listed.skipped.is_empty() && listed.files.iter().any(|file| file.path == BUNDLE));
    assert_eq!(
        listed.files.iter().map(|file| file.size).sum::<u64>(),
        manifest.bytes
    );
    let all = everything(&manifest);
    for secret in [SECRET, "abc123", "variable-value"] {
        assert!(!holds(&all, secret), "{secret}");
    }
    assert!(bundle.redactions["HORSE"] >= 2, "{:?}", bundle.redactions);
    assert!(!run.secrets().exists(), "the values are not needed any more");
    assert!(peer.facts(run.run_id()).await.diagnosed_at.is_some());
    // There from now on; made anew only when that is asked for.
    assert_eq!(
        diagnose(&mut peer, Some(run.run_id()), false).await,
        (bundle.clone(), manifest)
    );
    let (again, _) = diagnose(&mut peer, Some(run.run_id()), true).await;
    assert!(again.began_at > bundle.ended_at);
    let left: Vec<_> = std::fs::read_dir(run.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".diagnostics"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let unknown = Request::Diagnose {
        run_id: Some("rs_nosuchrun".parse().unwrap()),
        anew: false,
    };
    assert_eq!(code(peer.ask(unknown).await), ErrorCode::RunUnknown);
}

#[tokio::test]
async fn of_two_who_ask_at_once_one_collects() {
    let world = World::new();
    let run = world.failed(b"x");
    let ((mut one, _first), (mut two, _second)) = (world.talk().await, world.talk().await);
    let (first, second) = tokio::join!(
        diagnose(&mut one, Some(run.run_id()), false),
        diagnose(&mut two, Some(run.run_id()), false)
    );
    assert_eq!(first, second);
}

#[tokio::test]
async fn an_engine_and_a_driver_that_never_answer_cost_their_limits_only() {
    let mut world = World::new();
    let socket = world.folder.path().join("mute");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let _mute = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    world.engine = format!("unix://{}", socket.display());
    let smi = world.folder.path().join("nvidia-smi");
    std::fs::write(&smi, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&smi, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.nvidia_smi = Program::At(smi);
    let run = world.failed(b"the end\n");
    let (mut peer, _serving) = world.talk().await;
    let began = Instant::now();
    let (bundle, manifest) = diagnose(&mut peer, Some(run.run_id()), false).await;
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    for file in [
        diagnostics::CONTAINER,
        diagnostics::IMAGE,
        diagnostics::ENGINE,
        diagnostics::SMI_TEXT,
        diagnostics::SMI_TOPOLOGY,
        diagnostics::SMI_XML,
    ] {
        assert!(
            matches!(outcome(&bundle, file), Outcome::Missing { .. }),
            "{file}: {:?}",
            outcome(&bundle, file)
        );
    }
    assert_eq!(read(&manifest, diagnostics::LOG_HEAD_FILE), "the end\n");
    assert!(read(&manifest, diagnostics::SUMMARY).contains("ended as exit_code"));
}

#[tokio::test]
async fn what_agents_did_is_told_and_a_slow_answer_comes_last_and_costs_only_itself() {
    let mut world = World::new();
    let smi = world.folder.path().join("nvidia-smi");
    let script = "#!/bin/sh\ncase \"$*\" in *-x*) exec sleep 600;; esac\necho \"asked for $*\"\n";
    std::fs::write(&smi, script).unwrap();
    std::fs::set_permissions(&smi, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.nvidia_smi = Program::At(smi);
    let run = world.failed(b"the end\n");
    let (mut peer, _serving) = world.talk().await;
    let (bundle, manifest) = diagnose(&mut peer, Some(run.run_id()), false).await;
    assert_eq!(read(&manifest, diagnostics::SMI_TEXT), "asked for -q\n");
    assert_eq!(read(&manifest, diagnostics::SMI_TOPOLOGY), "asked for topo -m\n");
    let last = bundle.items.last().unwrap();
    assert_eq!(last.file, diagnostics::SMI_XML);
    assert!(
        matches!(&last.outcome, Outcome::Missing { why } if why.contains("too long")),
        "{last:?}"
    );
    let steps: Vec<AgentEvent> = read(&manifest, diagnostics::AGENT)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let settled = steps.iter().find(|step| step.event == "settled").unwrap();
    assert_eq!(settled.detail["reason"], "exit_code");
    assert!(steps.iter().any(|step| step.event == "ordered" && step.by_file));
    assert!(steps.is_sorted_by_key(|step| step.at), "{steps:?}");
}

#[tokio::test]
async fn a_host_is_described_without_a_run() {
    let world = World::new();
    let (mut peer, _serving) = world.talk().await;
    let (bundle, manifest) = diagnose(&mut peer, None, false).await;
    assert_eq!(bundle.run_id, None);
    assert!(
        manifest
            .outputs
            .starts_with(&*world.state.join("diagnostics").to_string_lossy())
    );
    let listed: Manifest = serde_json::from_slice(&std::fs::read(&manifest.path).unwrap()).unwrap();
    assert_eq!(listed.run_id.as_str(), HOST_MANIFEST);
    assert!(bundle.items.iter().all(|item| item.file != diagnostics::SPEC));
    assert_eq!(outcome(&bundle, diagnostics::SYSTEM), &Outcome::Collected);
}

#[tokio::test]
async fn a_full_disk_sends_a_bundle_elsewhere() {
    let world = World::new();
    let _disk = SmallDisk::mount(&world.state, "1m");
    let run = world.failed(b"the end\n");
    let (mut peer, _serving) = world.talk().await;
    // What it could hold is written; the rest does not fit.
    let ballast = std::fs::write(world.state.join("ballast"), vec![1; 2 << 20]);
    assert!(ballast.is_err());
    let (bundle, manifest) = diagnose(&mut peer, Some(run.run_id()), false).await;
    let why = bundle.elsewhere.clone().expect("it lies elsewhere");
    assert!(why.contains("No space left"), "{why}");
    assert!(
        !manifest.outputs.starts_with(&*world.state.to_string_lossy()),
        "{manifest:?}"
    );
    assert_eq!(read(&manifest, diagnostics::LOG_HEAD_FILE), "the end\n");
    assert_eq!(
        diagnose(&mut peer, Some(run.run_id()), false).await,
        (bundle, manifest.clone())
    );
    assert!(peer.facts(run.run_id()).await.diagnosed_at.is_some());
    // <root>/farrun-<uid>/<state>/runs/<run>/diagnostics
    let own = Path::new(&manifest.outputs).ancestors().nth(3).unwrap();
    std::fs::remove_dir_all(own).unwrap();
}
