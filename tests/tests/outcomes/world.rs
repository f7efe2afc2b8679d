//! A host without a server: an engine of its own, a state folder, and agents that are spoken to directly.

use crate::support::talk::Talk;
use farrun_protocol::record::Settled;
use farrun_protocol::spec::{Capture, RunSpec};
use farrun_protocol::{Request, RunId, Sha256, layout};
use farrun_tests::{BUSYBOX, Engine, run, wait_until};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// Launches at a time; more measure the machine.
const ABREAST: usize = 4;
/// Nothing that a cell waits for takes longer on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) engine: Engine,
    state: tempfile::TempDir,
    agent: PathBuf,
    pub(crate) abreast: Semaphore,
}

impl World {
    pub(crate) fn new(engine: Engine) -> Self {
        let state = farrun_tests::temporary_folder();
        let built = farrun_tests::static_agent();
        let sha256 = Sha256::of(&std::fs::read(&built).unwrap());
        let place = state.path().join(layout::agent_folder(&sha256));
        std::fs::create_dir_all(&place).unwrap();
        let agent = place.join("farrun-agent");
        std::fs::copy(built, &agent).unwrap();
        Self {
            engine,
            state,
            agent,
            abreast: Semaphore::new(ABREAST),
        }
    }

    pub(crate) async fn talk(&self) -> Talk {
        let mut command = Command::new(&self.agent);
        // An observer would settle what the first contact is to settle.
        command.env("FARRUN_WATCH", "off");
        Talk::begun(&mut command, &self.engine.url()).await
    }

    pub(crate) fn run_folder(&self, run_id: &RunId) -> PathBuf {
        self.state.path().join("runs").join(run_id.as_str())
    }

    /// What `docker` says about a run's container with these words; `{}` stands for its name. Nothing when it refuses.
    pub(crate) fn docker(&self, run_id: &RunId, words: &[&str]) -> Option<String> {
        let name = layout::container_name(run_id);
        let mut command = self.engine.docker();
        command.args(words.iter().map(|word| word.replace("{}", &name)));
        let outcome = run(command, SOON);
        (outcome.code == 0).then(|| outcome.text().trim().to_owned())
    }

    /// Waits until the job has printed `up`.
    pub(crate) fn wait_until_up(&self, spec: &RunSpec) {
        let log = self.run_folder(&spec.run_id).join("record/run.log");
        wait_until("the job", SOON, || match spec.capture {
            Capture::Init => contains(&log, "up\n"),
            Capture::Docker => self
                .docker(&spec.run_id, &["logs", "{}"])
                .is_some_and(|log| log.contains("up")),
        });
    }

    /// Waits until no process of the run lives, without anybody being told.
    pub(crate) fn wait_until_ended(&self, spec: &RunSpec) {
        // Refused when there is no such container, which is an end as well.
        let _ = self.docker(&spec.run_id, &["wait", "{}"]);
        let state = ["inspect", "-f", "{{.State.Running}}", "{}"];
        wait_until("the end of the container", SOON, || {
            self.docker(&spec.run_id, &state).as_deref() != Some("true")
        });
    }

    /// The record of the end that the first contact after it makes.
    pub(crate) async fn first_contact(&self, spec: &RunSpec) -> Settled {
        let mut talk = self.talk().await;
        let facts = talk.peer.facts(&spec.run_id).await;
        let settled = facts.settled.clone();
        *settled.unwrap_or_else(|| panic!("not settled on the first contact: {facts:?}"))
    }

    pub(crate) async fn stop(&self, spec: &RunSpec, kill: bool) {
        let stop = Request::StopRun {
            run_id: spec.run_id.clone(),
            grace: 1,
            kill,
        };
        self.talk().await.peer.run(stop).await.unwrap();
    }

    /// Has it be a while since somebody has last seen a job live whose engine captures.
    pub(crate) fn let_time_pass(&self, spec: &RunSpec) {
        self.set_seen(spec, SystemTime::now() - Duration::from_secs(60));
    }

    /// Has somebody have seen such a job live just now.
    pub(crate) fn was_just_seen(&self, spec: &RunSpec) {
        self.set_seen(spec, SystemTime::now());
    }

    fn set_seen(&self, spec: &RunSpec, at: SystemTime) {
        if spec.capture == Capture::Docker {
            let path = self.run_folder(&spec.run_id).join("alive.json");
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(at).unwrap();
        }
    }

    /// Has the host be another boot than the one the run was started in.
    pub(crate) fn pretend_another_boot(&self, spec: &RunSpec) {
        let path = self.run_folder(&spec.run_id).join("start.intent");
        let mut intent: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        intent["boot_id"] = "another boot".into();
        std::fs::write(path, serde_json::to_vec(&intent).unwrap()).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(runs) = std::fs::read_dir(self.state.path().join("runs")) else {
            return;
        };
        let ids = runs.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok());
        for run_id in ids.collect::<Vec<RunId>>() {
            let _ = self.docker(&run_id, &["rm", "-f", "-v", "{}"]);
        }
    }
}

fn contains(log: &Path, text: &str) -> bool {
    std::fs::read(log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
}

/// An order of a shell script.
pub(crate) fn order(script: &str) -> RunSpec {
    RunSpec {
        image: BUSYBOX.to_owned(),
        grace: 1,
        ..crate::support::order(script)
    }
}
