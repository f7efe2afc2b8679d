//! The cells in which the engine says nothing when somebody looks for the first time, and answers later: it is down, or
//! it hangs. What can be known without it is told at once, and what it says later takes its place.

use crate::cell::Step::*;
use crate::cell::{Cell, fails, plain};
use crate::engines::{IGNORES, WAITS, captured, captured_watching, give, lives, take_back, watching};
use crate::world::{SOON, World};
use crate::{begin, conclude};
use farrun_protocol::Request;
use farrun_protocol::record::Settled;
use farrun_protocol::spec::{Capture, RunSpec};
use farrun_protocol::verdict::Reason;
use farrun_tests::{Engine, EngineOptions, wait_until};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENDED: &str = "the job has ended; whether it succeeded, and what it printed last, is not known before the container engine answers again, which captured it";
const KILLED: &str =
    "the job was ended from outside; by what is not known before the container engine answers again";
const DOWN: &str = "the container engine went down and took the job with it";
const ENDS_MEANWHILE: &str =
    "echo up; until [ -e /mounted/down ]; do sleep 0.05; done; echo the last line; exit 0";
const FAILS_MEANWHILE: &str = "echo up; until [ -e /mounted/down ]; do sleep 0.05; done; exit 3";

/// How a run stands while the engine says nothing, and what the engine then makes of it.
pub(crate) struct Told {
    pub(crate) silent: Cell,
    pub(crate) then: Cell,
}

fn told(cell: Cell, result: &'static str, reason: Reason, says: &'static str) -> Told {
    Told {
        then: Cell {
            name: "… and the engine answers again",
            script: "",
            with: plain,
            steps: &[],
            result,
            reason,
            says,
        },
        silent: cell,
    }
}

fn unknown(name: &'static str, script: &'static str) -> Cell {
    fails(name, script, &[Up], Reason::EngineSilent, ENDED)
}

/// An engine that is down and took its containers along.
pub(crate) fn down() -> Vec<Told> {
    vec![told(
        unknown("engine stopped and still down, engine captures", IGNORES).with(captured),
        "failed",
        Reason::EngineRestart,
        DOWN,
    )]
}

/// An engine that is down, and whose containers live on without it.
pub(crate) fn down_with_live_restore() -> Vec<Told> {
    vec![
        told(
            unknown(
                "live-restore, engine stopped and still down, engine captures, exit code 0 meanwhile",
                ENDS_MEANWHILE,
            )
            .with(captured_watching),
            "completed",
            Reason::Ok,
            "",
        ),
        told(
            unknown(
                "live-restore, engine stopped and still down, engine captures, exit code 3 meanwhile",
                FAILS_MEANWHILE,
            )
            .with(captured_watching),
            "failed",
            Reason::ExitCode,
            "the job exited with code 3",
        ),
        told(
            Cell {
                says: KILLED,
                ..unknown(
                    "live-restore, engine stopped and still down, kill -9 of PID 1 meanwhile",
                    WAITS,
                )
            },
            "failed",
            Reason::KilledByOther,
            "somebody else killed or stopped the container with SIGKILL",
        ),
    ]
}

/// An engine that hangs.
pub(crate) fn hangs() -> Vec<Told> {
    vec![
        told(
            unknown(
                "engine hangs, engine captures, exit code 0 meanwhile",
                ENDS_MEANWHILE,
            )
            .with(captured_watching),
            "completed",
            Reason::Ok,
            "",
        ),
        told(
            unknown(
                "engine hangs, engine captures, exit code 3 meanwhile",
                FAILS_MEANWHILE,
            )
            .with(captured_watching),
            "failed",
            Reason::ExitCode,
            "the job exited with code 3",
        ),
        told(
            Cell {
                says: KILLED,
                ..unknown("engine hangs, kill -9 of PID 1 meanwhile", WAITS)
            },
            "failed",
            Reason::KilledByOther,
            "somebody else killed or stopped the container with SIGKILL",
        ),
        told(
            fails(
                "engine hangs, exit code 3 meanwhile",
                FAILS_MEANWHILE,
                &[Up],
                Reason::ExitCode,
                "the job exited with code 3",
            )
            .with(watching),
            "failed",
            Reason::ExitCode,
            "the job exited with code 3",
        ),
    ]
}

/// What the engine does that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Down,
    Hangs,
}

/// Makes the engine silent under jobs, looks at those that end meanwhile and at one that does not, and looks again when
/// the engine answers.
async fn under(world: &Arc<World>, cells: Vec<Told>, silence: Silence, outlived: bool) {
    take_back("down");
    // What it says of itself now is what is known when it is gone.
    world.talk().await.peer.ask(Request::Host).await.unwrap();
    let (cells, later): (Vec<Cell>, Vec<(&str, Cell)>) = cells
        .into_iter()
        .map(|told| (told.silent.name, told))
        .map(|(name, told)| (told.silent, (name, told.then)))
        .unzip();
    // In whatever order they were launched.
    let begun = begin(world, cells).await;
    let process = |spec: &RunSpec| {
        let shown = ["inspect", "-f", "/proc/{{.State.Pid}}", "{}"];
        world.docker(&spec.run_id, &shown).map(PathBuf::from)
    };
    let processes: Vec<Option<PathBuf>> = begun.iter().map(|(_, spec)| process(spec)).collect();
    // Nothing is said of what may live, however long nobody hears of it.
    let alive = match outlived {
        true => Some(long_job(world).await),
        false => None,
    };
    tokio::task::block_in_place(|| match silence {
        Silence::Down => world.engine.stop(),
        Silence::Hangs => world.engine.freeze(true),
    });
    give("down");
    for ((cell, _), process) in begun.iter().zip(&processes) {
        if let Some(process) = process.as_ref().filter(|_| cell.says == KILLED) {
            crate::cell::kill(process.file_name().unwrap().to_str().unwrap().parse().unwrap());
        }
    }
    tokio::task::block_in_place(|| {
        wait_until("the ends while it says nothing", SOON, || {
            !processes.iter().flatten().any(|process| lives(process))
        });
    });
    for (_, spec) in &begun {
        world.let_time_pass(spec);
    }
    let mut wrong = Vec::new();
    for (cell, spec) in &begun {
        let settled = world.first_contact(spec).await;
        wrong.extend(
            cell.check(&settled, spec)
                .err()
                .map(|error| format!("{}: {error}", cell.name)),
        );
        // Who looks again while it says nothing hears the same.
        assert_eq!(world.first_contact(spec).await, settled, "{}", cell.name);
    }
    if let Some(alive) = &alive {
        world.let_time_pass(alive);
        let facts = world.talk().await.peer.facts(&alive.run_id).await;
        assert!(facts.settled.is_none(), "it lives: {facts:?}");
    }
    tokio::task::block_in_place(|| match silence {
        Silence::Down => world.engine.start_again(),
        Silence::Hangs => world.engine.freeze(false),
    });
    for (silent, spec) in &begun {
        let (_, cell) = later.iter().find(|(name, _)| *name == silent.name).unwrap();
        let settled = told_anew(world, spec).await;
        wrong.extend(
            cell.check(&settled, spec)
                .err()
                .map(|error| format!("{}, then: {error}", silent.name)),
        );
        let last = world.talk().await.peer.whole_log(&spec.run_id).await;
        // What is printed while it is down is lost with it: the weaker promise of this way to capture.
        let kept = settled.verdict.reason == Reason::Ok && silence == Silence::Hangs;
        let whole = !kept || last.ends_with(b"the last line\n");
        assert!(whole, "{}", String::from_utf8_lossy(&last));
        // It is asked once.
        assert_eq!(world.first_contact(spec).await, settled, "{}", cell.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if let Some(alive) = &alive {
        world.stop(alive, true).await;
        assert_eq!(world.first_contact(alive).await.verdict.reason, Reason::Stopped);
    }
}

/// What is said once the engine has been heard: one that has just been started may take a while.
async fn told_anew(world: &World, spec: &RunSpec) -> Settled {
    let deadline = Instant::now() + SOON;
    loop {
        let settled = world.first_contact(spec).await;
        if !settled.awaits_engine() || Instant::now() > deadline {
            return settled;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A job that is not to end.
async fn long_job(world: &Arc<World>) -> RunSpec {
    let mut begun = begin(world, vec![unknown("it lives", WAITS).with(captured)]).await;
    begun.remove(0).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ends_under_an_engine_that_says_nothing() {
    let world = Arc::new(World::new(Engine::own(EngineOptions::default())));
    under(&world, hangs(), Silence::Hangs, true).await;
    under(&world, down(), Silence::Down, false).await;
    seen_a_moment_ago(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ends_under_an_engine_with_live_restore_that_says_nothing() {
    let options = EngineOptions {
        live_restore: true,
        ..EngineOptions::default()
    };
    let world = Arc::new(World::new(Engine::own(options)));
    under(&world, down_with_live_restore(), Silence::Down, true).await;
}

/// An engine that is being restarted is waited for: what it says a moment later is more than what is known without it.
async fn seen_a_moment_ago(world: &Arc<World>) {
    let cell = fails(
        "engine restarted a moment ago",
        IGNORES,
        &[Up],
        Reason::EngineRestart,
        DOWN,
    )
    .with(captured);
    let begun = begin(world, vec![cell]).await;
    let spec = begun[0].1.clone();
    assert_eq!(spec.capture, Capture::Docker);
    tokio::task::block_in_place(|| world.engine.stop());
    world.was_just_seen(&spec);
    let facts = world.talk().await.peer.facts(&spec.run_id).await;
    assert!(facts.settled.is_none(), "{facts:?}");
    tokio::task::block_in_place(|| world.engine.start_again());
    conclude(world, begun).await;
}
