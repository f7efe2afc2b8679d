//! One way in which a run can end, and what is to be said about it.

use crate::world::{World, order};
use farrun_protocol::record::Settled;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::verdict::Reason;
use rustix::process::{Pid, Signal, kill_process};

/// One way in which a run can end.
pub(crate) struct Cell {
    /// Its name in the documentation.
    pub(crate) name: &'static str,
    /// What the job's shell is told.
    pub(crate) script: &'static str,
    /// What else is ordered.
    pub(crate) with: fn(&mut RunSpec),
    /// What happens to it.
    pub(crate) steps: &'static [Step],
    /// `completed`, `failed` or `cancelled`.
    pub(crate) result: &'static str,
    pub(crate) reason: Reason,
    /// The line that the user reads; `…` stands for anything. Empty when it succeeded.
    pub(crate) says: &'static str,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its job runs.
    Up,
    /// The job, which waits for it, may end.
    Go,
    /// Somebody runs `docker` with these words.
    Docker(&'static [&'static str]),
    /// Somebody kills PID 1 of the container on the host.
    KillPid1,
    /// Somebody kills the main process of the job on the host.
    KillJob,
    /// `farrun stop`.
    Stop,
    /// `farrun stop --kill`.
    Kill,
    /// It has ended.
    Ended,
    /// The host is restarted.
    OtherBoot,
    /// The agent's record of the end is damaged.
    DamageRecord,
    /// What the suite around it does to the engine.
    EngineGoesDown,
}

/// Nothing but what the script does.
pub(crate) fn plain(_: &mut RunSpec) {}

pub(crate) fn succeeds(name: &'static str, script: &'static str, steps: &'static [Step]) -> Cell {
    Cell {
        name,
        script,
        with: plain,
        steps,
        result: "completed",
        reason: Reason::Ok,
        says: "",
    }
}

pub(crate) fn fails(
    name: &'static str,
    script: &'static str,
    steps: &'static [Step],
    reason: Reason,
    says: &'static str,
) -> Cell {
    Cell {
        name,
        script,
        with: plain,
        steps,
        result: "failed",
        reason,
        says,
    }
}

pub(crate) fn stopped(name: &'static str, script: &'static str, steps: &'static [Step]) -> Cell {
    Cell {
        result: "cancelled",
        ..fails(name, script, steps, Reason::Stopped, "stopped on request")
    }
}

impl Cell {
    pub(crate) fn with(self, with: fn(&mut RunSpec)) -> Self {
        Self { with, ..self }
    }

    pub(crate) fn order(&self) -> RunSpec {
        let mut spec = order(self.script);
        (self.with)(&mut spec);
        spec
    }

    /// Launches it and lets everything happen to it before the engine's turn comes.
    pub(crate) async fn begin(&self, world: &World) -> RunSpec {
        let spec = self.order();
        world.talk().await.peer.launch(&spec).await.unwrap();
        let before = self
            .steps
            .iter()
            .take_while(|step| **step != Step::EngineGoesDown);
        for step in before {
            self.take(world, &spec, *step).await;
        }
        spec
    }

    /// What happens after the engine's turn, and what the first contact after the end says.
    pub(crate) async fn conclude(&self, world: &World, spec: &RunSpec) -> Result<(), String> {
        let after = self
            .steps
            .iter()
            .skip_while(|step| **step != Step::EngineGoesDown)
            .skip(1);
        for step in after {
            self.take(world, spec, *step).await;
        }
        tokio::task::block_in_place(|| world.wait_until_ended(spec));
        let settled = world.first_contact(spec).await;
        self.check(&settled, spec)
            .map_err(|wrong| format!("{}: {wrong}\n    {settled:?}", self.name))
    }

    async fn take(&self, world: &World, spec: &RunSpec, step: Step) {
        let run_id = &spec.run_id;
        match step {
            Step::Up => tokio::task::block_in_place(|| world.wait_until_up(spec)),
            Step::Docker(words) => {
                let done = tokio::task::block_in_place(|| world.docker(run_id, words));
                assert!(done.is_some(), "{}: {words:?}", self.name);
            }
            Step::Go => std::fs::write(world.run_folder(run_id).join("outputs/go"), "").unwrap(),
            Step::KillPid1 => kill(pid_1(world, spec)),
            Step::KillJob => {
                let pid = pid_1(world, spec);
                let children = format!("/proc/{pid}/task/{pid}/children");
                let children = std::fs::read_to_string(children).unwrap();
                kill(children.split_whitespace().next().unwrap().parse().unwrap());
            }
            Step::Stop => world.stop(spec, false).await,
            Step::Kill => world.stop(spec, true).await,
            Step::Ended => tokio::task::block_in_place(|| world.wait_until_ended(spec)),
            Step::OtherBoot => world.pretend_another_boot(spec),
            Step::DamageRecord => {
                std::fs::write(world.run_folder(run_id).join("record/exit.json"), "").unwrap();
            }
            Step::EngineGoesDown => {}
        }
    }

    pub(crate) fn check(&self, settled: &Settled, spec: &RunSpec) -> Result<(), String> {
        let verdict = &settled.verdict;
        let result = match verdict.result {
            farrun_protocol::verdict::RunResult::Succeeded => "completed",
            farrun_protocol::verdict::RunResult::Failed => "failed",
            farrun_protocol::verdict::RunResult::Cancelled => "cancelled",
        };
        let said = farrun::run::explain::error_message(settled, spec).unwrap_or_default();
        if said.contains('\n') || said.chars().count() > 1000 {
            return Err(format!("this is no line: {said}"));
        }
        let expected = (self.result, self.reason.code(), self.says);
        if (result, verdict.reason) == (self.result, self.reason) && is_like(&said, self.says) {
            return Ok(());
        }
        Err(format!(
            "expected {expected:?}, got {:?}",
            (result, verdict.reason.code(), said)
        ))
    }
}

fn pid_1(world: &World, spec: &RunSpec) -> i32 {
    let state = ["inspect", "-f", "{{.State.Pid}}", "{}"];
    let pid = tokio::task::block_in_place(|| world.docker(&spec.run_id, &state));
    pid.unwrap().parse().unwrap()
}

pub(crate) fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Whether a line is the pattern, in which `…` stands for anything.
fn is_like(said: &str, pattern: &str) -> bool {
    let mut rest = said;
    let mut parts = pattern.split('…').peekable();
    let Some(first) = parts.next() else {
        return said.is_empty();
    };
    let Some(begun) = rest.strip_prefix(first) else {
        return false;
    };
    rest = begun;
    let mut open = false;
    while let Some(part) = parts.next() {
        open = true;
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    open || rest.is_empty()
}

#[test]
fn a_pattern_is_the_whole_line() {
    assert!(is_like("a b c", "a…c") && is_like("a b c", "a b c") && is_like("a b c", "a…b…"));
    assert!(!is_like("a b c", "a") && !is_like("a b c", "…b") && is_like("", "") && !is_like("a", ""));
}
