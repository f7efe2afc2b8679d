//! The cells in which the engine goes down: with its containers, or without them.

use crate::cell::Step::{self, *};
use crate::cell::{Cell, fails, succeeds};
use crate::cells::{MEMORY, little_memory};
use crate::world::World;
use crate::{begin, conclude};
use farrun_protocol::spec::{Capture, Mount, RunSpec};
use farrun_protocol::verdict::Reason;
use farrun_tests::{Engine, EngineOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const DOWN: &str = "the container engine went down and took the job with it";
pub(crate) const WAITS: &str = "echo up; exec sleep 600";
const OBEYS: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
const OBEYS_WITH_5: &str = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
pub(crate) const IGNORES: &str = "trap '' TERM; echo up; while :; do sleep 0.05; done";
/// Jobs that end on a sign: while the engine is down, and when it is back.
const ENDS_MEANWHILE: &str = "echo up; until [ -e /mounted/down ]; do sleep 0.05; done; exit 0";
const FAILS_MEANWHILE: &str = "echo up; until [ -e /mounted/down ]; do sleep 0.05; done; exit 3";
const ENDS_AFTER: &str = "echo up; until [ -e /mounted/back ]; do sleep 0.05; done; exit 0";
const FAILS_AFTER: &str = "echo up; until [ -e /mounted/back ]; do sleep 0.05; done; exit 3";

/// Jobs that end when they are told to.
const ENDS_WITH_0: &str = "echo up; until [ -e /farrun/outputs/go ]; do sleep 0.05; done; exit 0";
const ENDS_WITH_3: &str = "echo up; until [ -e /farrun/outputs/go ]; do sleep 0.05; done; exit 3";
const CRASHES: &str = "echo up; until [ -e /farrun/outputs/go ]; do sleep 0.05; done; kill -SEGV $$";
const STARVES: &str = "echo up; until [ -e /farrun/outputs/go ]; do sleep 0.05; done; exec tail /dev/zero";

const UNDER: &[Step] = &[Up, EngineGoesDown];
const UNSEEN: &[Step] = &[Up, Go, Ended, EngineGoesDown];

/// The folder of the signs.
fn signs() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(farrun_tests::temporary_folder)
        .path()
        .to_owned()
}

pub(crate) fn give(sign: &str) {
    std::fs::write(signs().join(sign), "").unwrap();
}

pub(crate) fn take_back(sign: &str) {
    let _ = std::fs::remove_file(signs().join(sign));
}

pub(crate) fn watching(spec: &mut RunSpec) {
    spec.mounts.push(Mount {
        source: signs().to_string_lossy().into_owned(),
        target: "/mounted".into(),
        read_only: true,
        create: false,
    });
}

pub(crate) fn captured(spec: &mut RunSpec) {
    spec.capture = Capture::Docker;
}

pub(crate) fn captured_watching(spec: &mut RunSpec) {
    captured(spec);
    watching(spec);
}

fn down(name: &'static str, script: &'static str) -> Cell {
    fails(name, script, UNDER, Reason::EngineRestart, DOWN)
}

/// Ends that nobody had looked at when the engine went down.
fn unseen(success: &'static str, failure: &'static str, crash: &'static str) -> Vec<Cell> {
    vec![
        succeeds(success, ENDS_WITH_0, UNSEEN),
        fails(
            failure,
            ENDS_WITH_3,
            UNSEEN,
            Reason::ExitCode,
            "the job exited with code 3",
        ),
        fails(
            crash,
            CRASHES,
            UNSEEN,
            Reason::Signal,
            "the job was ended by SIGSEGV",
        ),
    ]
}

/// An engine that takes its containers along, and is asked to end and started again.
pub(crate) fn restarted() -> Vec<Cell> {
    let mut cells = vec![
        down("engine restarted, the job has no handler", WAITS),
        down("engine restarted, the job exits with 0", OBEYS),
        down("engine restarted, the job exits with 5", OBEYS_WITH_5),
        down("engine restarted, the job ignores SIGTERM", IGNORES),
        down("engine restarted, engine captures, the job exits with 0", OBEYS).with(captured),
        down(
            "engine restarted, engine captures, the job ignores SIGTERM",
            IGNORES,
        )
        .with(captured),
    ];
    cells.extend(unseen(
        "engine restarted after exit code 0",
        "engine restarted after exit code 3",
        "engine restarted after SIGSEGV",
    ));
    cells
}

/// The same engine, killed and started again: it ends what it finds alive.
pub(crate) fn killed() -> Vec<Cell> {
    let mut cells = vec![
        down("engine killed, the job has no handler", WAITS),
        down("engine killed, the job would exit with 0", OBEYS),
        down("engine killed, engine captures", WAITS).with(captured),
        succeeds(
            "engine killed, the job ends with 0 while it is down",
            ENDS_MEANWHILE,
            UNDER,
        )
        .with(watching),
        fails(
            "engine killed, the job ends with 3 while it is down",
            FAILS_MEANWHILE,
            UNDER,
            Reason::ExitCode,
            "the job exited with code 3",
        )
        .with(watching),
    ];
    cells.extend(unseen(
        "engine killed after exit code 0",
        "engine killed after exit code 3",
        "engine killed after SIGSEGV",
    ));
    cells
}

/// An engine that took its containers along and is still away when somebody looks for the first time.
pub(crate) fn gone() -> Vec<Cell> {
    let mut cells = vec![
        down("engine stopped and still down, the job has no handler", WAITS),
        down("engine stopped and still down, the job exits with 0", OBEYS),
        down(
            "engine stopped and still down, the job exits with 5",
            OBEYS_WITH_5,
        ),
        down("engine stopped and still down, the job ignores SIGTERM", IGNORES),
        fails(
            "engine stopped and still down after out of memory",
            STARVES,
            UNSEEN,
            Reason::OutOfMemory,
            MEMORY,
        )
        .with(little_memory),
    ];
    cells.extend(unseen(
        "engine stopped and still down after exit code 0",
        "engine stopped and still down after exit code 3",
        "engine stopped and still down after SIGSEGV",
    ));
    cells
}

/// As [`gone`], with live-restore: the jobs end while nobody is there.
pub(crate) fn gone_with_live_restore() -> Vec<Cell> {
    vec![
        succeeds(
            "live-restore, engine stopped and still down, exit code 0 meanwhile",
            ENDS_MEANWHILE,
            UNDER,
        )
        .with(watching),
        fails(
            "live-restore, engine stopped and still down, exit code 3 meanwhile",
            FAILS_MEANWHILE,
            UNDER,
            Reason::ExitCode,
            "the job exited with code 3",
        )
        .with(watching),
    ]
}

/// An engine with live-restore, restarted or killed: the jobs go on.
pub(crate) fn lived_on(names: [&'static str; 8]) -> Vec<Cell> {
    let [
        after_0,
        after_3,
        meanwhile_0,
        meanwhile_3,
        captured_0,
        captured_3,
        captured_meanwhile,
        kill,
    ] = names;
    let code_3 = |name, script| {
        fails(
            name,
            script,
            UNDER,
            Reason::ExitCode,
            "the job exited with code 3",
        )
    };
    vec![
        succeeds(after_0, ENDS_AFTER, UNDER).with(watching),
        code_3(after_3, FAILS_AFTER).with(watching),
        succeeds(meanwhile_0, ENDS_MEANWHILE, UNDER).with(watching),
        code_3(meanwhile_3, FAILS_MEANWHILE).with(watching),
        succeeds(captured_0, ENDS_AFTER, UNDER).with(captured_watching),
        code_3(captured_3, FAILS_AFTER).with(captured_watching),
        code_3(captured_meanwhile, FAILS_MEANWHILE).with(captured_watching),
        fails(
            kill,
            WAITS,
            &[Up, EngineGoesDown, Docker(&["kill", "{}"])],
            Reason::KilledByOther,
            "somebody else killed or stopped the container with SIGKILL",
        ),
    ]
}

pub(crate) fn restarted_with_live_restore() -> Vec<Cell> {
    lived_on([
        "live-restore, engine restarted, exit code 0 after it",
        "live-restore, engine restarted, exit code 3 after it",
        "live-restore, engine restarted, exit code 0 meanwhile",
        "live-restore, engine restarted, exit code 3 meanwhile",
        "live-restore, engine restarted, engine captures, exit code 0 after it",
        "live-restore, engine restarted, engine captures, exit code 3 after it",
        "live-restore, engine restarted, engine captures, exit code 3 meanwhile",
        "live-restore, engine restarted, docker kill after it",
    ])
}

pub(crate) fn killed_with_live_restore() -> Vec<Cell> {
    lived_on([
        "live-restore, engine killed, exit code 0 after it",
        "live-restore, engine killed, exit code 3 after it",
        "live-restore, engine killed, exit code 0 meanwhile",
        "live-restore, engine killed, exit code 3 meanwhile",
        "live-restore, engine killed, engine captures, exit code 0 after it",
        "live-restore, engine killed, engine captures, exit code 3 after it",
        "live-restore, engine killed, engine captures, exit code 3 meanwhile",
        "live-restore, engine killed, docker kill after it",
    ])
}

/// Takes an engine down under cells, and up again.
async fn under(world: &Arc<World>, cells: Vec<Cell>, kill: bool) {
    take_back("down");
    take_back("back");
    let begun = begin(world, cells).await;
    let processes: Vec<PathBuf> = begun
        .iter()
        .filter(|(cell, _)| cell.script.contains("/mounted/down"))
        .filter_map(|(_, spec)| world.docker(&spec.run_id, &["inspect", "-f", "/proc/{{.State.Pid}}", "{}"]))
        .map(PathBuf::from)
        .collect();
    tokio::task::block_in_place(|| {
        if kill {
            world.engine.kill();
        } else {
            world.engine.stop();
        }
        give("down");
        farrun_tests::wait_until("the ends while it is down", crate::world::SOON, || {
            !processes.iter().any(|process| lives(process))
        });
        world.engine.start_again();
    });
    give("back");
    conclude(world, begun).await;
}

pub(crate) fn lives(process: &Path) -> bool {
    std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Lets the engine go away, and looks while nobody answers in its place.
async fn without(world: &Arc<World>, cells: Vec<Cell>) {
    take_back("down");
    let begun = begin(world, cells).await;
    tokio::task::block_in_place(|| world.engine.stop());
    give("down");
    for (cell, spec) in &begun {
        let exit = world.run_folder(&spec.run_id).join("record/exit.json");
        let recorded = || std::fs::read(&exit).is_ok_and(|exit| exit.starts_with(b"FARRUN-EXIT"));
        // The engine has waited for those that it took along.
        if cell.script.contains("/mounted/down") {
            tokio::task::block_in_place(|| {
                farrun_tests::wait_until("the record", crate::world::SOON, recorded)
            });
        }
    }
    conclude(world, begun).await;
    tokio::task::block_in_place(|| world.engine.start_again());
}

async fn on(live_restore: bool, restarted: Vec<Cell>, killed: Vec<Cell>, gone: Vec<Cell>) {
    let options = EngineOptions {
        live_restore,
        ..EngineOptions::default()
    };
    let world = Arc::new(World::new(Engine::own(options)));
    under(&world, restarted, false).await;
    under(&world, killed, true).await;
    without(&world, gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ends_under_an_engine_that_goes_down() {
    on(false, restarted(), killed(), gone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ends_under_an_engine_with_live_restore_that_goes_down() {
    let (restarted, killed) = (restarted_with_live_restore(), killed_with_live_restore());
    on(true, restarted, killed, gone_with_live_restore()).await;
}
