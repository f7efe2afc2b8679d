//! Every way a run can fail has its own reason, and says so in one line.

use crate::SOON;
use farrun_tests::{BUSYBOX, Lab, Outcome};

/// Requires that the run that just ended has this reason and says this.
fn require_reason(lab: &Lab, outcome: Outcome, reason: &str, said: &str) {
    let outcome = outcome.expect_code(1);
    let shown = lab.show("@last");
    assert_eq!(shown["run"]["reason"], reason, "{outcome}\n{shown}");
    assert_eq!(shown["run"]["status"], "failed", "{shown}");
    let message = shown["run"]["error_message"].as_str().unwrap();
    assert!(message.contains(said), "`{said}` is not in `{message}`");
    let _ = outcome.expect_error(said);
}

fn program(lab: &Lab, options: &[&str], argv: &[&str]) -> Outcome {
    let head = ["run", BUSYBOX, "--host", "lab"];
    let arguments: Vec<&str> = head
        .iter()
        .chain(options)
        .chain(&["--"])
        .chain(argv)
        .copied()
        .collect();
    lab.home.farrun(&arguments)
}

#[test]
fn program_that_the_image_lacks() {
    let lab = Lab::new();
    let outcome = program(&lab, &[], &["/bin/no-such-program", "argument"]);
    require_reason(&lab, outcome, "command_not_found", "/bin/no-such-program");
}

#[test]
fn file_that_is_no_program() {
    let lab = Lab::new();
    let outcome = program(&lab, &[], &["/etc/passwd"]);
    require_reason(&lab, outcome, "command_not_executable", "cannot be executed");
}

#[test]
fn folder_that_the_image_lacks() {
    let lab = Lab::new();
    let outcome = program(&lab, &["--workdir", "/etc/passwd"], &["/bin/true"]);
    require_reason(&lab, outcome, "working_directory", "working directory");
}

#[test]
fn exit_code_of_the_job() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], "exit 17");
    require_reason(&lab, outcome, "exit_code", "17");
    assert_eq!(lab.show("@last")["run"]["exit_code"], 17);
}

#[test]
fn signal_that_the_job_sent_itself() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], "kill -SEGV $$");
    require_reason(&lab, outcome, "signal", "SIGSEGV");
}

#[test]
fn memory_limit() {
    let lab = Lab::new();
    // It reads one endless line into memory.
    let outcome = lab.shell(&["--memory", "24m"], "echo begins; tail /dev/zero; exit 3");
    require_reason(&lab, outcome, "out_of_memory", "memory");
}

#[test]
fn memory_that_a_child_lacked_is_a_warning_of_a_job_that_succeeded() {
    let lab = Lab::new();
    let _ = lab
        .shell(&["--memory", "24m"], "echo begins; tail /dev/zero; exit 0")
        .ok();
    let shown = lab.show("@last");
    let warning = shown["warnings"][0].as_str().unwrap();
    assert!(warning.contains("want of memory"), "{shown}");
    let told = lab.home.farrun(&["show", "@last"]).ok();
    assert!(told.text().contains("warning"), "{told}");
}

#[test]
fn time_limit_of_a_job_that_exits_with_0_when_asked() {
    let lab = Lab::new();
    let script = "trap 'exit 0' TERM; echo on; while :; do sleep 0.1; done";
    let outcome = lab.shell(&["--time-limit", "1s"], script);
    require_reason(&lab, outcome, "time_limit", "time limit");
}

#[test]
fn container_killed_by_somebody_else() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    lab.engine.ask(&["kill", &format!("farrun-{run}")]);
    let outcome = lab.home.farrun(&["wait", &run]);
    require_reason(&lab, outcome, "killed_by_other", "somebody else");
    assert_eq!(lab.show(&run)["run"]["signal"], 9);
}

#[test]
fn container_removed_by_somebody_else() {
    let lab = Lab::new();
    let run = lab.detached(&[], "echo here; exec sleep 600");
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the job", SOON, |follow| follow.stdout() == b"here\n");
    lab.engine.ask(&["rm", "-f", &format!("farrun-{run}")]);
    let outcome = lab.home.farrun(&["wait", &run]);
    require_reason(&lab, outcome, "container_removed", "removed");
    assert_eq!(lab.home.farrun(&["logs", &run]).ok().stdout, b"here\n");
    let _ = follow.finish(SOON);
}

#[test]
fn image_that_may_not_be_fetched() {
    let lab = Lab::new();
    let arguments = lab.shell_arguments("farrun-test-absent:9", &["--pull-image", "never"], "true");
    let outcome = lab.home.farrun(&arguments);
    require_reason(&lab, outcome, "image_missing", "farrun-test-absent:9");
}

#[test]
fn mount_whose_source_does_not_exist() {
    let lab = Lab::new();
    let outcome = lab.shell(&["--mount", "/no/such/folder:/models:ro"], "true");
    require_reason(&lab, outcome, "engine_refused", "/no/such/folder");
}

#[test]
fn folder_of_the_run_removed_on_the_host() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    lab.engine.ask(&["rm", "-f", &format!("farrun-{run}")]);
    std::fs::remove_dir_all(lab.run_folder(&run)).unwrap();
    let outcome = lab.home.farrun(&["wait", &run]);
    require_reason(
        &lab,
        outcome,
        "unknown",
        "the host has no folder of this run any more",
    );
}

#[test]
fn output_that_was_demanded_and_is_missing() {
    let lab = Lab::new();
    let outcome = lab.shell(&["--require", "movie.mp4"], "echo > /farrun/outputs/other");
    require_reason(&lab, outcome, "output_missing", "movie.mp4");
    let _ = lab
        .shell(&["--require", "movie.mp4"], "echo > /farrun/outputs/movie.mp4")
        .ok();
}
