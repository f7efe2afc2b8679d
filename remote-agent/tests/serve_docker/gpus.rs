//! GPUs on a real engine that believes it has some: real locks, held by real PID 1s, of two accounts.

use crate::support::talk::Talk;
use crate::support::{CONTROLLER, PATIENCE, Peer, order};
use crate::{World, smi, wait_for_text};
use farrun_protocol::ErrorCode;
use farrun_protocol::lease::{Obstacle, Wait};
use farrun_protocol::record::{Phase, RunFacts};
use farrun_protocol::spec::{Capture, Gpus, Mount, RunSpec};
use farrun_protocol::verdict::{Reason, RunResult};
use farrun_protocol::{Failure, RunId};
use rustix::fs::{FlockOperation, flock};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) struct Gpu<'a> {
    world: &'a World,
    locks: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl<'a> Gpu<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let programs = world.engine.program("nvidia-smi", &smi::script(2));
        let locks = programs.join("locks");
        if !locks.exists() {
            std::fs::create_dir(&locks).unwrap();
            std::fs::set_permissions(&locks, std::fs::Permissions::from_mode(0o1777)).unwrap();
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let environment = vec![
            ("FARRUN_NVIDIA_SMI", text(programs.join("nvidia-smi"))),
            ("FARRUN_LOCKS", text(locks.clone())),
        ];
        Self {
            world,
            locks,
            environment,
        }
    }

    async fn talk(&self) -> Talk {
        self.talk_with(&[]).await
    }

    /// A conversation of an agent that gets these variables as well.
    pub(crate) async fn talk_with(&self, variables: &[(&'static str, String)]) -> Talk {
        let environment = [&self.environment[..], variables].concat();
        let mut talk = self.world.silent(&environment).await;
        talk.peer.hello_as(CONTROLLER, &self.world.engine.host()).await;
        talk
    }

    /// What `nvidia-smi` says about processes from now on.
    pub(crate) fn tell_processes(&self, lines: &str) {
        std::fs::write(self.locks.with_file_name("apps"), lines).unwrap();
    }

    /// The same host, used by root, who has a state folder of its own.
    async fn talk_as_root(&self) -> Talk {
        let state = self.locks.with_file_name("state-of-root");
        let mut environment = self.environment.clone();
        environment.push(("FARRUN_STATE", state.to_string_lossy().into_owned()));
        let mut talk = self
            .world
            .start(tokio::process::Command::new(&self.world.agent), &environment)
            .await;
        talk.peer.hello_as(CONTROLLER, &self.world.engine.host()).await;
        talk
    }

    fn is_free(&self, gpu: &str) -> bool {
        let path = self.locks.join(format!("gpu-{gpu}.lock"));
        let file = std::fs::File::open(path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

pub(crate) fn wants(script: &str, gpus: Gpus) -> RunSpec {
    RunSpec {
        gpus,
        ..order(script)
    }
}

pub(crate) fn container(run_id: &RunId) -> String {
    format!("farrun-{run_id}")
}

async fn until(peer: &mut Peer, run_id: &RunId, phase: Phase) -> RunFacts {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let facts = peer.facts(run_id).await;
        if facts.phase == phase {
            return facts;
        }
        assert!(Instant::now() < deadline, "{facts:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn leased_to(failure: &Failure) -> Vec<(Option<RunId>, Option<String>)> {
    assert_eq!(failure.code, ErrorCode::NoFreeGpu, "{failure:?}");
    let obstacles = failure.gpus.iter().flat_map(|gpu| &gpu.obstacles);
    obstacles
        .map(|obstacle| match obstacle {
            Obstacle::Leased { run_id, user, .. } => (run_id.clone(), user.clone()),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A conversation on a host that seems to have GPUs.
pub(crate) async fn talk(world: &World) -> Talk {
    Gpu::new(world).talk().await
}

pub(crate) async fn gpus_are_held_by_pid_1(world: &World) {
    let gpu = Gpu::new(world);
    let mut talk = gpu.talk().await;
    let peer = &mut talk.peer;
    let mut first = wants(
        "echo up $NVIDIA_VISIBLE_DEVICES $FARRUN_GPUS; sleep 1000",
        Gpus::Count(1),
    );
    first.shm_size = Some(1 << 20);
    first.memory_limit = Some(256 << 20);
    let facts = peer.launch(&first).await.unwrap();
    assert_eq!(facts.lease.unwrap().gpus[0].uuid, "GPU-0");
    assert!(!gpu.is_free("GPU-0"));
    wait_for_text(peer, &first.run_id, "up GPU-0 GPU-0\n").await;
    let label = world.engine.docker(&[
        "inspect",
        "-f",
        "{{index .Config.Labels \"farrun.gpus\"}}",
        &container(&first.run_id),
    ]);
    assert_eq!(label.unwrap(), "GPU-0");

    let mut both = wants("echo $NVIDIA_VISIBLE_DEVICES; sleep 1000", Gpus::Count(2));
    let refused = peer.launch(&both).await.unwrap_err();
    assert_eq!(
        leased_to(&refused),
        [(Some(first.run_id.clone()), Some("uid 54321".to_owned()))]
    );
    both.placement.wait = Wait::Until;
    assert_eq!(peer.launch(&both).await.unwrap().phase, Phase::Queued);

    // A SIGKILL of the container lets go of the lock, and the next contact starts who waits.
    world.engine.docker(&["kill", &container(&first.run_id)]).unwrap();
    until(peer, &first.run_id, Phase::Settled).await;
    let facts = until(peer, &both.run_id, Phase::Running).await;
    assert_eq!(facts.lease.unwrap().gpus.len(), 2);
    wait_for_text(peer, &both.run_id, "GPU-0,GPU-1\n").await;
    assert!(!gpu.is_free("GPU-0") && !gpu.is_free("GPU-1"));

    // Another account sees who has them, and gets them when they are let go.
    let mut root = gpu.talk_as_root().await;
    let other = wants("sleep 1000", Gpus::Count(1));
    let refused = root.peer.launch(&other).await.unwrap_err();
    let holder = (Some(both.run_id.clone()), Some("uid 54321".to_owned()));
    assert_eq!(leased_to(&refused), [holder.clone(), holder]);
    world.engine.docker(&["kill", &container(&both.run_id)]).unwrap();
    until(peer, &both.run_id, Phase::Settled).await;
    root.peer.launch(&other).await.unwrap();
    let refused = peer
        .launch(&wants("true", Gpus::Devices(vec!["0".into()])))
        .await
        .unwrap_err();
    assert!(leased_to_first(&refused, &other.run_id), "{refused:?}");

    // An image's own PID 1 takes no lock; its label holds the GPU as long as it lives.
    let mut captured = wants("sleep 1000", Gpus::Count(1));
    captured.capture = Capture::Docker;
    let facts = root.peer.launch(&captured).await.unwrap();
    assert_eq!(facts.lease.unwrap().gpus[0].uuid, "GPU-1");
    assert!(gpu.is_free("GPU-1"));
    let refused = peer
        .launch(&wants("true", Gpus::Devices(vec!["1".into()])))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoFreeGpu);
    for run in [&other, &captured] {
        world.engine.docker(&["kill", &container(&run.run_id)]).unwrap();
    }
    let last = wants(
        "echo got $NVIDIA_VISIBLE_DEVICES",
        Gpus::Devices(vec!["1".into()]),
    );
    peer.launch(&last).await.unwrap();
    assert_eq!(peer.whole_log(&last.run_id).await, b"got GPU-1\n");
}

fn leased_to_first(failure: &Failure, run_id: &RunId) -> bool {
    let first = failure.gpus.first().map(|gpu| &gpu.obstacles);
    first.is_some_and(|obstacles| {
        matches!(&obstacles[..], [Obstacle::Leased { run_id: Some(found), user: Some(user), .. }]
            if found == run_id && user == "root")
    })
}

pub(crate) async fn what_is_given_nothing_is_ended(world: &World) {
    let gpu = Gpu::new(world);
    let mut talk = gpu.talk().await;
    world.engine.toolkit(false);
    for capture in [Capture::Init, Capture::Docker] {
        let mut spec = wants("echo up; sleep 1000", Gpus::Count(1));
        spec.capture = capture;
        talk.peer.launch(&spec).await.unwrap();
        let settled = until(&mut talk.peer, &spec.run_id, Phase::Settled).await.settled;
        let verdict = settled.unwrap().verdict;
        assert_eq!(verdict.reason, Reason::GpuUnavailable, "{capture:?} {verdict:?}");
        let detail = verdict.detail.unwrap();
        assert!(
            detail.contains("GPU-0 was given and NVIDIA_VISIBLE_DEVICES is GPU-0; its /dev has no device"),
            "{detail}"
        );
        assert!(gpu.is_free("GPU-0"));
    }
    world.engine.toolkit(true);
    let mut spec = wants("ls /dev; sleep 1000", Gpus::Count(2));
    spec.capture = Capture::Docker;
    let facts = talk.peer.launch(&spec).await.unwrap();
    assert_eq!(facts.phase, Phase::Running, "{facts:?}");
    world.engine.docker(&["kill", &container(&spec.run_id)]).unwrap();
}

pub(crate) async fn locks_that_cannot_be_used_are_a_refusal(world: &World) {
    let gpu = Gpu::new(world);
    let closed = gpu.locks.with_file_name("closed");
    std::fs::create_dir_all(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut environment = gpu.environment.clone();
    environment.push(("FARRUN_LOCKS", closed.to_string_lossy().into_owned()));
    let mut talk = world.silent(&environment).await;
    talk.peer.hello_as(CONTROLLER, &world.engine.host()).await;
    let failure = talk
        .peer
        .launch(&wants("true", Gpus::Count(1)))
        .await
        .unwrap_err();
    assert_eq!(failure.code, ErrorCode::LocksUnusable);
    let detail = failure.detail.unwrap();
    assert!(
        detail.contains("/closed/") && detail.contains("ermission denied"),
        "{detail}"
    );
}

/// Says so when a GPU of the run is somebody else's: making a folder succeeds once.
const CLAIMS: &str = "for gpu in ${NVIDIA_VISIBLE_DEVICES/,/ }; do mkdir /taken/$gpu || mkdir /taken/twice-$gpu; done; \
                      sleep 0.2; for gpu in ${NVIDIA_VISIBLE_DEVICES/,/ }; do busybox rmdir /taken/$gpu; done";

/// Waiting runs of an account; each wants one GPU or both.
fn crowd(taken: &Path) -> Vec<RunSpec> {
    let mount = Mount {
        source: taken.to_string_lossy().into_owned(),
        target: "/taken".to_owned(),
        read_only: false,
        create: false,
    };
    (0..6)
        .map(|number| {
            let mut spec = wants(CLAIMS, Gpus::Count(1 + u32::from(number % 3 == 2)));
            spec.placement.wait = Wait::Until;
            spec.mounts = vec![mount.clone()];
            spec
        })
        .collect()
}

async fn all_end_well(peer: &mut Peer, runs: &[RunSpec]) {
    for run in runs {
        peer.launch(run).await.unwrap();
    }
    for run in runs {
        let settled = until(peer, &run.run_id, Phase::Settled).await.settled.unwrap();
        assert_eq!(
            settled.verdict.result,
            RunResult::Succeeded,
            "{:?}",
            settled.verdict
        );
    }
}

pub(crate) async fn containers_of_two_accounts_never_share_a_gpu(world: &World) {
    let gpu = Gpu::new(world);
    let taken = gpu.locks.with_file_name("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::set_permissions(&taken, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (mut own, mut root) = (gpu.talk().await, gpu.talk_as_root().await);
    let (ours, theirs) = (crowd(&taken), crowd(&taken));
    tokio::join!(
        all_end_well(&mut own.peer, &ours),
        all_end_well(&mut root.peer, &theirs)
    );
    let left: Vec<_> = std::fs::read_dir(&taken)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
