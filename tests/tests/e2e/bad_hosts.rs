//! Hosts that do not answer, answer wrongly, or have no Docker.

use crate::SOON;
use farrun_tests::{Engine, EngineOptions, Lab, Outcome, SshdOptions};

fn try_run(lab: &Lab) -> Outcome {
    lab.shell(&["--detach"], "true")
}

#[test]
fn closed_port_is_unreachable() {
    let mut lab = Lab::new();
    lab.sshd.stop();
    let outcome = try_run(&lab)
        .expect_code(3)
        .expect_error("error:")
        .expect_error("hint:");
    assert!(outcome.stdout.is_empty(), "{outcome}");
}

#[test]
fn silent_server_is_given_up_in_time() {
    let lab = Lab::new();
    lab.sshd.freeze(true);
    let outcome = try_run(&lab).expect_code(3);
    lab.sshd.freeze(false);
    assert!(outcome.took < SOON, "{outcome}");
}

#[test]
fn unknown_host_key_gets_nothing() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let _ = lab
        .home
        .farrun(&lab.host_arguments("lab", lab.sshd.port()))
        .expect_code(6);
    assert!(!lab.sshd.log().contains("Accepted"));
}

#[test]
fn changed_host_key_gets_nothing() {
    let mut lab = Lab::new();
    lab.sshd.change_host_key();
    let before = lab.sshd.log().matches("Accepted").count();
    let _ = try_run(&lab).expect_code(6).expect_error("key");
    assert_eq!(lab.sshd.log().matches("Accepted").count(), before);
}

#[test]
fn refused_identity_is_said() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    lab.home.trust(&lab.sshd, lab.sshd.port());
    let mut arguments = lab.host_arguments("lab", lab.sshd.port());
    let identity = arguments.iter().position(|text| text == "--identity").unwrap() + 1;
    arguments[identity] = lab.sshd.wrong_identity().display().to_string();
    let outcome = lab.home.farrun(&arguments);
    assert!([3, 5].contains(&outcome.code), "{outcome}");
}

#[test]
fn stopped_engine_is_named() {
    let lab = Lab::with(Engine::own(EngineOptions::default()), &SshdOptions::default());
    lab.engine.stop();
    let outcome = try_run(&lab);
    assert!(
        outcome.code != 0 && outcome.errors().contains("Docker"),
        "{outcome}"
    );
}

#[test]
fn hung_engine_does_not_hang_us() {
    let lab = Lab::with(Engine::own(EngineOptions::default()), &SshdOptions::default());
    lab.engine.freeze(true);
    let outcome = try_run(&lab);
    lab.engine.freeze(false);
    assert!(outcome.code != 0 && outcome.took < SOON, "{outcome}");
}

#[test]
fn shell_that_prints_is_skipped() {
    for noise in [
        "echo welcome",
        "head -c 30000 /dev/zero | tr '\\0' x",
        "printf '\\033[2J\\000\\377'",
        "echo oops >&2",
    ] {
        let front = format!("{noise}\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"");
        let options = SshdOptions {
            front: Some(front),
            ..SshdOptions::default()
        };
        let lab = Lab::with(Engine::shared(), &options);
        assert_eq!(lab.shell(&[], "echo clean").ok().text(), "clean\n", "{noise}");
    }
}

#[test]
fn server_with_one_session_per_connection_is_enough() {
    let options = SshdOptions {
        lines: vec!["MaxSessions 1".to_owned()],
        ..SshdOptions::default()
    };
    let lab = Lab::with(Engine::shared(), &options);
    assert_eq!(lab.shell(&[], "echo one").ok().text(), "one\n");
}
