//! Nothing is lost when a part dies: the controller, a session, the server, the engine.

use crate::SOON;
use farrun_tests::{BUSYBOX, Direction, Engine, EngineOptions, FaultProxy, Lab, SshdOptions};
use std::time::Duration;

const COUNTS: &str = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done";

fn counted() -> Vec<u8> {
    (0..40).flat_map(|n| format!("line {n}\n").into_bytes()).collect()
}

#[test]
fn killed_controller_loses_no_line() {
    let lab = Lab::new();
    let arguments = lab.shell_arguments(BUSYBOX, &[], COUNTS);
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("some lines", SOON, |attached| attached.stdout().len() > 30);
    let _ = attached.kill();
    let _ = lab.home.farrun(&["wait", "@last"]).ok();
    assert_eq!(lab.home.farrun(&["logs", "@last"]).ok().stdout, counted());
}

#[test]
fn killed_sessions_are_taken_up_again() {
    let lab = Lab::new();
    let arguments = lab.shell_arguments(BUSYBOX, &[], COUNTS);
    let mut attached = lab.home.spawn(&arguments);
    for length in [20, 80, 160] {
        attached.wait_for("more lines", SOON, |attached| attached.stdout().len() > length);
        lab.sshd.kill_sessions();
    }
    let outcome = attached.finish(SOON).ok();
    assert_eq!(outcome.stdout, counted());
}

#[test]
fn cut_at_every_few_bytes_repeats_no_launch() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    lab.add_host("lab", proxy.port());
    for bytes in [3_000, 5_000, 6_500, 8_000, 10_000] {
        proxy.cut_after(Direction::Up, bytes);
        let key = format!("cut-{bytes}");
        let order = ["--detach", "--json", "--key", &key];
        let _ = lab.shell(&order, "echo executed");
        let _ = lab.shell(&order, "echo executed");
    }
    let runs = std::fs::read_dir(lab.state().join("runs")).map(|runs| runs.flatten().collect::<Vec<_>>());
    for run in runs.unwrap_or_default() {
        let log = std::fs::read(run.path().join("record/run.log")).unwrap_or_default();
        assert!(
            log.is_empty() || log == b"executed\n",
            "{}",
            String::from_utf8_lossy(&log)
        );
    }
}

#[test]
fn frozen_link_is_noticed_and_the_run_lives() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    lab.add_host("lab", proxy.port());
    let arguments = lab.shell_arguments(BUSYBOX, &[], COUNTS);
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("some lines", SOON, |attached| attached.stdout().len() > 20);
    proxy.stall(true);
    let before = proxy.accepted();
    attached.wait_for("a new connection", Duration::from_secs(40), |_| {
        proxy.accepted() > before
    });
    proxy.stall(false);
    assert_eq!(attached.finish(Duration::from_secs(90)).ok().stdout, counted());
}

#[test]
fn engine_killed_under_a_run_is_told_apart() {
    let engine = Engine::own(EngineOptions {
        live_restore: true,
        ..EngineOptions::default()
    });
    let lab = Lab::with(engine, &SshdOptions::default());
    let run = lab.detached(&[], COUNTS);
    lab.engine.kill();
    lab.engine.start_again();
    let _ = lab.home.farrun(&["wait", &run]).ok();
    assert_eq!(lab.home.farrun(&["logs", &run]).ok().stdout, counted());
}

#[test]
fn second_start_of_the_container_runs_nothing() {
    let lab = Lab::new();
    let run = lab.detached(&[], "echo executed");
    let _ = lab.home.farrun(&["wait", &run]).ok();
    let container = format!("farrun-{run}");
    let mut start = lab.engine.docker();
    start.args(["start", "-a", &container]);
    let _ = farrun_tests::run(start, SOON);
    let log = std::fs::read(lab.run_folder(&run).join("record/run.log")).unwrap();
    assert_eq!(log, b"executed\n");
}
