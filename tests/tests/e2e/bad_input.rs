//! What users mistype is refused here, before anything is sent.

use crate::SOON;
use farrun_tests::{BUSYBOX, Engine, Home, Lab, SshdOptions};

#[test]
fn usage_errors_end_with_2() {
    let home = Home::new();
    let cases: &[&[&str]] = &[
        &["no-such-verb"],
        &["run"],
        &["run", BUSYBOX, "--host"],
        &["run", BUSYBOX, "--host", "lab", "--time-limit", "soon"],
        &["run", BUSYBOX, "--host", "lab", "--log-cap", "-1"],
        &["run", BUSYBOX, "--host", "lab", "--env", "=value"],
        &["host", "add", "../etc", "--address", "root@127.0.0.1:22"],
        &["host", "add", "lab", "--address", "-oProxyCommand=touch /tmp/x"],
        &["prompt", "create"],
    ];
    for arguments in cases {
        let outcome = home.farrun(arguments).expect_code(2);
        assert!(outcome.stdout.is_empty(), "{outcome}");
        assert!(!outcome.errors().contains("panicked"), "{outcome}");
    }
}

#[test]
fn unknown_names_end_with_4() {
    let home = Home::new();
    let cases: &[&[&str]] = &[
        &["show", "rs_00000000"],
        &["logs", "@last"],
        &["stop", "rs_zzzzzzzz"],
        &["host", "show", "nowhere"],
        &["run", BUSYBOX, "--host", "nowhere"],
        &["prompt", "show", "ps_00000000"],
    ];
    for arguments in cases {
        let _ = home.farrun(arguments).expect_code(4).expect_error("error:");
    }
}

#[test]
fn empty_lists_are_empty_json() {
    let home = Home::new();
    for arguments in [
        ["list", "--json"].as_slice(),
        &["host", "list", "--json"],
        &["prompt", "list", "--json"],
    ] {
        let outcome = home.farrun(arguments).ok();
        assert!(
            outcome.json().is_object() || outcome.json().is_array(),
            "{outcome}"
        );
    }
}

#[test]
fn recipe_parameters_are_checked_before_sending() {
    let lab = Lab::new();
    let _ = lab
        .home
        .farrun(&["prompt", "create", "a lighthouse", "--name", "tower"])
        .ok();
    for bad in ["no_such_parameter=1", "strength", "=3"] {
        let arguments = [
            "inference",
            "tower",
            "--recipe",
            "demo",
            "--host",
            "lab",
            "--set",
            bad,
            "--detach",
        ];
        let _ = lab.home.farrun(&arguments).expect_code(2);
    }
    assert!(std::fs::read_dir(lab.state().join("runs")).map_or(0, Iterator::count) == 0);
}

#[test]
fn missing_input_file_is_named() {
    let lab = Lab::new();
    let _ = lab
        .shell(&["--input", "clip=/no/such/file.mp4"], "true")
        .expect_code(2)
        .expect_error("/no/such/file.mp4");
}

#[test]
fn input_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let clip = lab.home.write("clip", "content");
    std::fs::set_permissions(&clip, std::fs::Permissions::from_mode(0o000)).unwrap();
    let input = format!("clip={}", clip.display());
    let mut order = lab
        .home
        .command(&lab.shell_arguments(BUSYBOX, &["--input", &input], "true"));
    if rustix::process::geteuid().is_root() {
        // Root reads everything unless it gives that right away.
        let mut without = std::process::Command::new("setpriv");
        without
            .args(["--bounding-set", "-dac_override,-dac_read_search", "--"])
            .arg(order.get_program())
            .args(order.get_args())
            .env_clear()
            .current_dir(lab.home.path());
        for (name, value) in order.get_envs() {
            without.env(name, value.unwrap_or_default());
        }
        order = without;
    }
    let _ = farrun_tests::run(order, SOON)
        .expect_code(2)
        .expect_error(&clip.display().to_string())
        .expect_error("ermission denied");
}

#[test]
fn input_that_is_no_file_is_refused_at_once() {
    let lab = Lab::new();
    let pipe = lab.home.path().join("pipe");
    let mut make = std::process::Command::new("mkfifo");
    make.arg(&pipe);
    assert_eq!(farrun_tests::run(make, crate::SOON).code, 0);
    for path in [pipe.to_str().unwrap(), "/dev/zero", "/dev/stdin", "/"] {
        let option = format!("clip={path}");
        let refused = lab.shell(&["--input", &option], "true").expect_code(2);
        assert!(refused.errors().contains(path), "{refused}");
    }
    let listed = lab.home.farrun(&["list", "--offline", "--json"]).ok().json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 0);
}

#[test]
fn host_that_never_answered_is_added_again() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    lab.home.trust(&lab.sshd, lab.sshd.port());
    let arguments = lab.host_arguments("lab", lab.sshd.port());
    let mut unasked = arguments.clone();
    unasked.push("--no-connect".to_owned());
    // What an `add` leaves that was killed before the host had answered.
    let _ = lab.home.farrun(&unasked).ok();
    let _ = lab.home.farrun(&unasked).expect_code(5);
    let _ = lab.home.farrun(&arguments).ok();
    let _ = lab.home.farrun(&arguments).expect_code(5);
    let _ = lab.shell(&[], "true").ok();
}
