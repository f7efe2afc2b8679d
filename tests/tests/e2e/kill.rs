//! kill -9 of the controller, of the agent's conversation and of sshd's sessions, in every phase of a run.

use crate::SOON;
use crate::trouble::{Counter, behind_a_proxy_on, last, last_status, noise, runs, wait_for_upload};
use farrun_protocol::Sha256;
use farrun_tests::{BUSYBOX, Background, Direction, Engine, EngineOptions, FaultProxy, Lab, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Upload,
    Run,
    Download,
}

const PHASES: [Phase; 3] = [Phase::Upload, Phase::Run, Phase::Download];
/// With it an upload or download takes ten seconds: a busy machine must not miss its middle.
const RATE: Option<u64> = Some(300_000);
const INPUT: usize = 3_000_000;

struct Scene {
    lab: Lab,
    proxy: FaultProxy,
    counter: Counter,
    arguments: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        Self::on(Engine::shared())
    }

    fn on(engine: Engine) -> Self {
        let (lab, proxy) = behind_a_proxy_on(engine);
        let counter = Counter::new();
        let input = format!("clip={}", lab.home.write("clip", noise(INPUT)).display());
        let mount = counter.mount();
        let options = ["--input", &input, "--mount", &mount, "--key", "once"];
        let script = format!(
            "{} i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; \
             cat /farrun/inputs/clip >/farrun/outputs/copy",
            Counter::COUNT
        );
        let arguments = lab.shell_arguments(BUSYBOX, &options, &script);
        Self {
            lab,
            proxy,
            counter,
            arguments,
        }
    }

    /// Starts the run and waits until it is in the middle of a phase.
    fn reach(&self, phase: Phase) -> Background<'_> {
        match phase {
            Phase::Upload => self.proxy.rate(Direction::Up, RATE),
            Phase::Run => {}
            Phase::Download => self.proxy.rate(Direction::Down, RATE),
        }
        let mut attached = self.lab.home.spawn(&self.arguments);
        match phase {
            Phase::Upload => wait_for_upload(&self.lab),
            Phase::Run => attached.wait_for("some lines", SOON, |attached| attached.stdout().len() > 30),
            Phase::Download => {
                attached.wait_for("outputs on their way", SOON, |_| {
                    last_status(&self.lab) == "downloading"
                });
                let before = self.proxy.passed(Direction::Down);
                attached.wait_for("a part of the outputs", SOON, |_| {
                    self.proxy.passed(Direction::Down) > before + 200_000
                });
            }
        }
        attached
    }

    fn at_full_speed(&self) {
        self.proxy.rate(Direction::Up, None);
        self.proxy.rate(Direction::Down, None);
    }

    /// One run, executed once, its log and outputs whole.
    fn check(&self, log: &[u8], phase: Phase) {
        let whole: String = (0..20).map(|n| format!("line {n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(log), whole, "{phase:?}");
        assert_eq!((runs(&self.lab), self.counter.executions()), (1, 1), "{phase:?}");
        assert_eq!(last_status(&self.lab), "completed", "{phase:?}");
        let files = crate::pull::files(&self.lab.home.outputs());
        let (_, copy) = files.iter().find(|(path, _)| path.ends_with("copy")).unwrap();
        assert_eq!(Sha256::of(copy), Sha256::of(&noise(INPUT)), "{phase:?}");
    }
}

#[test]
fn controller_is_killed_and_attach_goes_on() {
    for phase in PHASES {
        let scene = Scene::new();
        let _ = scene.reach(phase).kill();
        scene.at_full_speed();
        let listed = scene.lab.home.farrun(&["list"]).ok();
        let shown = if phase == Phase::Upload {
            "(interrupted)"
        } else {
            "ing"
        };
        assert!(listed.text().contains(shown), "{phase:?} {listed}");
        let attached = scene.lab.home.farrun(&["attach", "@last"]).ok();
        scene.check(&attached.stdout, phase);
    }
}

#[test]
fn controller_is_killed_and_the_same_key_goes_on() {
    for phase in PHASES {
        let scene = Scene::new();
        let _ = scene.reach(phase).kill();
        scene.at_full_speed();
        let again = scene.lab.home.farrun(&scene.arguments).ok();
        scene.check(&again.stdout, phase);
    }
}

#[test]
fn killed_sessions_are_replaced_in_every_phase() {
    for phase in PHASES {
        let scene = Scene::new();
        let attached = scene.reach(phase);
        scene.lab.sshd.kill_sessions();
        scene.at_full_speed();
        scene.check(&attached.finish(Duration::from_secs(80)).ok().stdout, phase);
    }
}

#[test]
fn killed_conversation_is_replaced_in_every_phase() {
    for phase in PHASES {
        let scene = Scene::new();
        let attached = scene.reach(phase);
        assert!(
            kill_conversations(&scene.lab) > 0,
            "{phase:?}: no agent was there to be killed"
        );
        scene.at_full_speed();
        scene.check(&attached.finish(Duration::from_secs(80)).ok().stdout, phase);
    }
}

/// The agents that serve this lab's controller; those of other labs have other folders.
fn conversations(lab: &Lab) -> Vec<Pid> {
    let mark = format!("{}/agents/", lab.state().display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.starts_with(&mark) && line.contains("\0serve\0") {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

/// Kills them.
fn kill_conversations(lab: &Lab) -> usize {
    let killed = |pid: &Pid| kill_process(*pid, Signal::KILL).is_ok();
    conversations(lab).into_iter().filter(killed).count()
}

/// Freezes them for as long as the guard lives.
pub(crate) fn freeze_conversations(lab: &Lab) -> Frozen {
    let frozen = conversations(lab);
    assert!(!frozen.is_empty(), "no agent was there to be frozen");
    for pid in &frozen {
        kill_process(*pid, Signal::STOP).unwrap();
    }
    Frozen(frozen)
}

/// Agents that do nothing until this is dropped.
pub(crate) struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

#[test]
fn killed_engine_holds_no_outputs_back() {
    let scene = Scene::on(Engine::own(EngineOptions::default()));
    let attached = scene.reach(Phase::Download);
    scene.lab.engine.kill();
    scene.at_full_speed();
    let outcome = attached.finish(SOON).ok();
    scene.check(&outcome.stdout, Phase::Download);
}

#[test]
fn another_address_in_the_middle_of_moving_files_costs_nothing() {
    for phase in [Phase::Upload, Phase::Download] {
        let scene = Scene::new();
        let _ = scene.reach(phase).kill();
        scene.proxy.refuse(true);
        scene.proxy.cut();
        let new = FaultProxy::start(scene.lab.sshd.socket_address());
        scene.lab.home.trust(&scene.lab.sshd, new.port());
        let address = scene.lab.sshd.address_by(new.port());
        let _ = scene
            .lab
            .home
            .farrun(&["host", "set", "lab", "--address", &address])
            .ok();
        let direction = match phase {
            Phase::Download => Direction::Down,
            _ => Direction::Up,
        };
        let outcome = scene.lab.home.farrun(&["attach", "@last"]).ok();
        // Once at most, whatever had arrived by the old address.
        let sent = new.passed(direction);
        assert!(sent < INPUT as u64 + 200_000, "{phase:?}: {sent} bytes");
        scene.check(&outcome.stdout, phase);
    }
}

/// A log of some megabytes of a run that has ended, being fetched slowly.
#[test]
fn a_log_that_is_caught_up_with_is_whole_whatever_is_killed() {
    let (lab, proxy) = behind_a_proxy_on(Engine::own(EngineOptions::default()));
    let whole: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let faults: [(&str, &dyn Fn()); 3] = [
        ("session", &|| lab.sshd.kill_sessions()),
        ("conversation", &|| assert!(kill_conversations(&lab) > 0)),
        ("engine", &|| lab.engine.kill()),
    ];
    for (what, fault) in faults {
        let run = lab.detached(&[], "seq 1 300000");
        let settled = lab.run_folder(&run).join("settled.json");
        wait_until("the record of the end", SOON, || settled.exists());
        proxy.rate(Direction::Down, RATE);
        let mut attached = lab.home.spawn(&["attach", &run]);
        attached.wait_for("a part of the log", SOON, |attached| {
            attached.stdout().len() > 300_000
        });
        fault();
        proxy.rate(Direction::Down, None);
        let outcome = attached.finish(SOON).ok();
        assert!(
            outcome.stdout == whole.as_bytes(),
            "{what}: {} bytes",
            outcome.stdout.len()
        );
        assert!(lab.mirror(&run) == whole.as_bytes(), "{what}");
    }
}

#[test]
fn laptop_sleeps_past_the_end() {
    let lab = Lab::new();
    let run = lab.detached(&[], "echo on; echo out >/farrun/outputs/o; sleep 1; echo off");
    wait_until("the container's end", SOON, || {
        lab.containers(&run).iter().any(|line| line.ends_with(" exited"))
    });
    assert_eq!(last(&lab).unwrap()["status"], "running");
    wait_until("the settled state", SOON, || lab.status(&run) == "downloading");
    assert_eq!(lab.home.farrun(&["attach", &run]).ok().text(), "on\noff\n");
    assert_eq!(last_status(&lab), "completed");
}

#[test]
fn controller_asleep_while_its_link_dies_goes_on_in_every_phase() {
    for phase in PHASES {
        let scene = Scene::new();
        let attached = scene.reach(phase);
        attached.freeze(true);
        scene.lab.sshd.kill_sessions();
        scene.at_full_speed();
        if phase == Phase::Run {
            let run = crate::trouble::last_id(&scene.lab);
            wait_until("the container's end", SOON, || {
                scene
                    .lab
                    .containers(&run)
                    .iter()
                    .any(|line| line.ends_with(" exited"))
            });
        }
        attached.freeze(false);
        scene.check(&attached.finish(Duration::from_secs(80)).ok().stdout, phase);
    }
}

#[test]
fn order_whose_inputs_lie_on_another_machine_is_left_to_it() {
    let scene = Scene::new();
    let _ = scene.reach(Phase::Upload).kill();
    scene.at_full_speed();
    // With one database for several machines the row is here and what the other remembers is not.
    let orders = scene.lab.home.path().join(".local/state/farrun/orders");
    let there = scene.lab.home.path().join("orders-of-the-other");
    std::fs::rename(&orders, &there).unwrap();
    let refused = scene.lab.home.farrun(&["attach", "@last"]).expect_code(5);
    assert!(refused.errors().contains("another machine"), "{refused}");
    assert_eq!(last_status(&scene.lab), "uploading");
    std::fs::rename(&there, &orders).unwrap();
    let attached = scene.lab.home.farrun(&["attach", "@last"]).ok();
    scene.check(&attached.stdout, Phase::Upload);
}
