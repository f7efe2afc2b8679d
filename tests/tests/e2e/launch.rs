//! Starting runs: exit codes, idempotence, what a container is given.

use crate::SOON;
use farrun_tests::{Lab, SCRATCH};

#[test]
fn attached_run_prints_its_log_and_ends_with_0() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], "echo to stdout; echo to stderr >&2").ok();
    let mut lines: Vec<&str> = outcome.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["to stderr", "to stdout"]);
}

#[test]
fn failing_job_ends_with_1_and_says_its_code() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], "echo before; exit 17").expect_code(1);
    assert_eq!(outcome.text(), "before\n");
    assert!(outcome.errors().contains("17"), "{outcome}");
}

#[test]
fn image_from_scratch_runs_its_own_command() {
    let lab = Lab::new();
    let outcome = lab.home.farrun(&["run", SCRATCH, "--host", "lab"]).ok();
    assert_eq!(outcome.text(), "from scratch\n");
}

#[test]
fn container_carries_the_promised_labels() {
    let lab = Lab::new();
    let run = lab.detached(&[], "sleep 600");
    let container = format!("farrun-{run}");
    for label in ["run_id", "farrun.run_id"] {
        let format = format!("{{{{index .Config.Labels \"{label}\"}}}}");
        assert_eq!(lab.engine.ask(&["inspect", "--format", &format, &container]), run);
    }
    let _ = lab.home.farrun(&["stop", &run]);
    lab.wait_status(&run, &["cancelled", "failed"], SOON);
}

#[test]
fn same_key_finds_the_first_run() {
    let lab = Lab::new();
    let first = lab.detached(&["--key", "order-1"], "echo once; sleep 600");
    let second = lab.detached(&["--key", "order-1"], "echo once; sleep 600");
    assert_eq!(first, second);
    assert_eq!(lab.containers(&first).len(), 1);
    let _ = lab.home.farrun(&["stop", &first]);
}

#[test]
fn dry_run_sends_nothing() {
    let lab = Lab::new();
    let _ = lab.shell(&["--dry-run"], "echo never").ok();
    assert!(
        !lab.state().join("runs").exists()
            || std::fs::read_dir(lab.state().join("runs")).unwrap().count() == 0
    );
}

#[test]
fn environment_and_input_reach_the_job() {
    let lab = Lab::new();
    let clip = lab.home.write("clip.bin", b"the input's bytes");
    let input = format!("clip={}", clip.display());
    let options = ["--env", "GREETING=hello there", "--input", &input];
    let script =
        "echo \"$GREETING\"; cat /input/* 2>/dev/null || find / -name 'clip*' -type f -exec cat {} +";
    let outcome = lab.shell(&options, script).ok();
    assert!(outcome.text().contains("hello there"), "{outcome}");
    assert!(outcome.text().contains("the input's bytes"), "{outcome}");
}

#[test]
fn time_limit_ends_the_job_and_names_itself() {
    let lab = Lab::new();
    let outcome = lab
        .shell(&["--time-limit", "2s"], "echo started; sleep 600")
        .expect_code(1);
    assert_eq!(outcome.text(), "started\n");
    assert!(outcome.errors().contains("time limit"), "{outcome}");
}
