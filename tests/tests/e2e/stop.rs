//! Asking a run to end, and detaching without ending it.

use crate::SOON;
use farrun_tests::{BUSYBOX, Lab};

#[test]
fn stop_asks_and_the_job_may_tidy_up() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
    );
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the job's readiness", SOON, |follow| {
        follow.stdout() == b"ready\n"
    });
    let _ = lab.home.farrun(&["stop", &run]).ok();
    assert_eq!(lab.wait_status(&run, &["cancelled"], SOON), "cancelled");
    let _ = follow.finish(SOON);
    assert_eq!(lab.home.farrun(&["logs", &run]).stdout, b"ready\ntidied\n");
    let _ = lab.home.farrun(&["wait", &run]).expect_code(7);
}

#[test]
fn a_second_stop_changes_nothing() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    let _ = lab.home.farrun(&["stop", &run]).ok();
    lab.wait_status(&run, &["cancelled"], SOON);
    let _ = lab.home.farrun(&["stop", &run]).expect_code(5);
    assert_eq!(lab.status(&run), "cancelled");
}

#[test]
fn ctrl_c_detaches_and_the_job_goes_on() {
    let lab = Lab::new();
    let arguments = lab.shell_arguments(farrun_tests::BUSYBOX, &[], "echo on; exec sleep 600");
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("the first line", SOON, |attached| attached.stdout() == b"on\n");
    attached.interrupt();
    let outcome = attached.finish(SOON).expect_code(130);
    assert!(outcome.errors().contains("farrun attach"), "{outcome}");
    let listed = lab.home.farrun(&["list", "--json"]).ok().text().to_owned();
    assert!(listed.contains("running"), "{listed}");
    let _ = lab.home.farrun(&["stop", "@last"]).ok();
}

#[test]
fn kill_does_not_ask() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done",
    );
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the job's readiness", SOON, |follow| {
        follow.stdout() == b"ready\n"
    });
    let _ = lab.home.farrun(&["stop", "--kill", &run]).ok();
    assert_eq!(lab.status(&run), "cancelled");
    assert_eq!(lab.home.farrun(&["logs", &run]).ok().stdout, b"ready\n");
    let _ = follow.finish(SOON);
}

#[test]
fn job_that_ignores_the_request_is_killed_after_the_grace() {
    let lab = Lab::new();
    let run = lab.detached(&[], "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the job's readiness", SOON, |follow| {
        follow.stdout() == b"ready\n"
    });
    let _ = lab.home.farrun(&["stop", "--grace", "1s", &run]).ok();
    assert_eq!(lab.status(&run), "cancelled");
    let _ = follow.finish(SOON);
}

#[test]
fn stop_ends_exactly_this_run() {
    let lab = Lab::new();
    let foreign = lab
        .engine
        .ask(&["run", "-d", "--network", "none", BUSYBOX, "/bin/sleep", "600"]);
    let kept = lab.detached(&[], "exec sleep 600");
    let ended = lab.detached(&[], "exec sleep 600");
    let _ = lab.home.farrun(&["stop", "--kill", &ended]).ok();
    assert_eq!(lab.status(&ended), "cancelled");
    assert_eq!(lab.status(&kept), "running");
    let running = lab
        .engine
        .ask(&["inspect", "--format", "{{.State.Running}}", &foreign]);
    lab.engine.ask(&["rm", "-f", &foreign]);
    assert_eq!(running, "true");
}

#[test]
fn container_with_the_name_of_a_run_and_no_label_is_left_alone() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    let name = format!("farrun-{run}");
    lab.engine.ask(&["rm", "-f", &name]);
    lab.engine.ask(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        &name,
        BUSYBOX,
        "/bin/sleep",
        "600",
    ]);
    let _ = lab.home.farrun(&["stop", "--kill", &run]);
    let _ = lab.home.farrun(&["gc", "--yes"]);
    let running = lab
        .engine
        .ask(&["inspect", "--format", "{{.State.Running}}", &name]);
    lab.engine.ask(&["rm", "-f", &name]);
    assert_eq!(running, "true");
}
