//! Who the job runs as, who logs in, and whose the outputs are.

use crate::SOON;
use farrun_tests::{Engine, Lab, SshdOptions, TEST_ACCOUNT, USER, test_account};

/// A host whose account has no rights; on a machine without the test account, one's own.
fn lab() -> Lab {
    let account = test_account().map(|_| TEST_ACCOUNT.to_owned());
    Lab::with(
        Engine::shared(),
        &SshdOptions {
            account,
            ..SshdOptions::default()
        },
    )
}

#[test]
fn image_with_a_user_keeps_log_and_outcome() {
    let lab = lab();
    let arguments = lab.shell_arguments(USER, &[], "id -u; exit 5");
    let outcome = lab.home.farrun(&arguments).expect_code(1);
    assert_eq!(outcome.text(), "1234\n");
}

#[test]
fn outputs_of_root_with_a_tight_umask_come_back() {
    let lab = lab();
    let script = "umask 077; mkdir /farrun/outputs/private; printf hidden >/farrun/outputs/private/file";
    let _ = lab.shell(&[], script).ok();
    let found = crate::pull::files(&lab.home.outputs());
    assert!(
        found
            .iter()
            .any(|(path, bytes)| path.ends_with("private/file") && bytes == b"hidden")
    );
}

#[test]
fn outputs_of_a_killed_job_come_back() {
    let lab = lab();
    let script = "umask 077; printf hidden >/farrun/outputs/file; echo written; exec sleep 600";
    let run = lab.detached(&[], script);
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the output", SOON, |follow| follow.stdout() == b"written\n");
    lab.engine
        .ask(&["kill", "--signal", "KILL", &format!("farrun-{run}")]);
    lab.wait_status(&run, &["failed"], SOON);
    let _ = lab.home.farrun(&["pull", &run]);
    let found = crate::pull::files(&lab.home.outputs());
    assert!(
        found
            .iter()
            .any(|(path, bytes)| path.ends_with("file") && bytes == b"hidden")
    );
}

#[test]
fn state_folder_is_closed_to_others() {
    use std::os::unix::fs::MetadataExt as _;
    let lab = lab();
    let _ = lab.shell(&[], "true").ok();
    assert_eq!(std::fs::metadata(lab.state()).unwrap().mode() & 0o777, 0o700);
}
