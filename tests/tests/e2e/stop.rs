//! Asking a run to end, and detaching without ending it.

use crate::SOON;
use farrun_tests::Lab;

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
    let again = lab.home.farrun(&["stop", &run]);
    assert!([0, 5].contains(&again.code), "{again}");
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
