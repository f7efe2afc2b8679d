//! Hosts that do not answer, answer wrongly, or have no Docker.

use crate::SOON;
use farrun_tests::{
    Engine, EngineOptions, Lab, Outcome, SshdOptions, TEST_ACCOUNT, test_account, wait_until,
};
use std::os::unix::fs::PermissionsExt as _;

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
    let _ = outcome.expect_code(3).expect_error("--identity");
}

/// Adds the host with one argument replaced.
fn add_with(lab: &Lab, option: &str, value: &str) -> Outcome {
    let mut arguments = lab.host_arguments("lab", lab.sshd.port());
    let at = arguments.iter().position(|text| text == option).unwrap() + 1;
    arguments[at] = value.to_owned();
    lab.home.farrun(&arguments)
}

#[test]
fn wrong_port_and_unknown_name_are_unreachable() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    for address in ["root@127.0.0.1:1", "root@no-such-host.invalid"] {
        let _ = add_with(&lab, "--address", address)
            .expect_code(3)
            .expect_error("error:");
    }
    // A host that never answered is not kept.
    let _ = lab.home.farrun(&["host", "show", "lab"]).expect_code(4);
}

#[test]
fn unknown_key_is_accepted_only_when_told() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let mut arguments = lab.host_arguments("lab", lab.sshd.port());
    let _ = lab.home.farrun(&arguments).expect_code(6).expect_error("SHA256:");
    arguments.push("--accept-new-host-key".to_owned());
    let _ = lab.home.farrun(&arguments).ok();
    let _ = lab.shell(&[], "true").ok();
}

#[test]
fn revoked_key_is_never_accepted() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    lab.home.trust(&lab.sshd, lab.sshd.port());
    let known = lab.sshd.known_hosts(lab.sshd.port());
    let key = known.split_once(' ').unwrap().1;
    lab.home
        .write(".ssh/known_hosts", format!("{known}@revoked * {key}"));
    let mut arguments = lab.host_arguments("lab", lab.sshd.port());
    arguments.push("--accept-new-host-key".to_owned());
    let _ = lab.home.farrun(&arguments).expect_code(6).expect_error("revoked");
    assert!(!lab.sshd.log().contains("Accepted"));
}

#[test]
fn changed_key_is_not_accepted_when_told_to_accept_new_ones() {
    let mut lab = Lab::new();
    lab.sshd.change_host_key();
    let trust = ["host", "trust", "lab", "--accept-new-host-key"];
    let _ = lab
        .home
        .farrun(&trust)
        .expect_code(6)
        .expect_error("ssh-keygen -R");
}

#[test]
fn host_without_an_engine_says_so() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    lab.home.trust(&lab.sshd, lab.sshd.port());
    let _ = add_with(&lab, "--docker-host", "unix:///no/such/docker.sock").ok();
    let outcome = try_run(&lab)
        .expect_code(1)
        .expect_error("no container engine answers");
    let _ = outcome.expect_error("--docker-host");
    let shown = lab.show("@last");
    assert_eq!(shown["run"]["status"], "failed", "{shown}");
    let status = lab.home.farrun(&["status"]).ok();
    assert!(status.text().contains("not usable"), "{status}");
}

#[test]
fn engine_that_the_account_may_not_use_says_so() {
    if test_account().is_none() {
        farrun_tests::skipped("only root makes an account without rights, and logs in as it");
        return;
    }
    let folder = farrun_tests::temporary_folder();
    let socket = folder.path().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let account = Some(TEST_ACCOUNT.to_owned());
    let lab = Lab::apart(
        Engine::shared(),
        &SshdOptions {
            account,
            ..SshdOptions::default()
        },
    );
    lab.home.trust(&lab.sshd, lab.sshd.port());
    let _ = add_with(&lab, "--docker-host", &format!("unix://{}", socket.display())).ok();
    let _ = try_run(&lab)
        .expect_code(1)
        .expect_error("may not use Docker")
        .expect_error("docker` group");
}

/// Answers to a host's questions that a front script gives in the place of the login shell.
fn front(script: &str) -> SshdOptions {
    SshdOptions {
        front: Some(format!("{script}\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"")),
        ..SshdOptions::default()
    }
}

/// Tries to add a host whose questions this script answers.
fn add_behind(script: &str, code: i32) -> Outcome {
    let lab = Lab::apart(Engine::shared(), &front(script));
    lab.home.trust(&lab.sshd, lab.sshd.port());
    lab.home
        .farrun(&lab.host_arguments("lab", lab.sshd.port()))
        .expect_code(code)
}

#[test]
fn machine_without_an_agent_of_ours_is_named() {
    let script = "case $SSH_ORIGINAL_COMMAND in uname*) echo Linux riscv64; exit 0 ;; esac";
    let _ = add_behind(script, 8).expect_error("riscv64");
}

#[test]
fn account_without_a_shell_is_unreachable() {
    let script = "echo 'This account is currently not available.'; exit 1";
    let _ = add_behind(script, 3).expect_error("currently not available");
}

#[test]
fn account_without_file_transfer_is_named() {
    let script = "case $SSH_ORIGINAL_COMMAND in *sftp-server*) exit 1 ;; esac";
    let _ = add_behind(script, 3).expect_error("SFTP");
}

#[test]
fn agent_that_somebody_removed_is_put_there_again() {
    let lab = Lab::new();
    std::fs::remove_dir_all(lab.state().join("agents")).unwrap();
    assert_eq!(lab.shell(&[], "echo again").ok().text(), "again\n");
}

/// The one agent that lies on the host.
fn deployed_agent(lab: &Lab) -> std::path::PathBuf {
    let mut folders = std::fs::read_dir(lab.state().join("agents")).unwrap().flatten();
    folders.next().unwrap().path().join("farrun-agent")
}

#[test]
fn agent_that_is_torn_is_put_there_again() {
    let lab = Lab::new();
    let agent = deployed_agent(&lab);
    let whole = std::fs::read(&agent).unwrap();
    let half = whole.len() / 2;
    let mut holed = whole.clone();
    holed[half..].fill(0);
    let torn = [
        ("cut", whole[..half].to_vec()),
        ("empty", Vec::new()),
        ("zeros", vec![0; whole.len()]),
        ("half zeros", holed),
        ("another program", b"#!/bin/sh\necho something else\n".to_vec()),
    ];
    for (what, content) in torn {
        std::fs::remove_file(&agent).unwrap();
        std::fs::write(&agent, content).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o555)).unwrap();
        let outcome = lab.shell(&[], "echo again");
        assert_eq!(
            (outcome.code, outcome.text()),
            (0, "again\n"),
            "{what}: {outcome}"
        );
        assert!(std::fs::read(&agent).unwrap() == whole, "{what}");
        let left = std::fs::read_dir(lab.state().join("agents")).unwrap().count();
        assert_eq!(left, 1, "{what}");
    }
}

#[test]
fn stopped_engine_is_named() {
    let lab = Lab::with(Engine::own(EngineOptions::default()), &SshdOptions::default());
    lab.engine.stop();
    let _ = try_run(&lab)
        .expect_code(1)
        .expect_error("no container engine answers");
}

#[test]
fn hung_engine_does_not_hang_us() {
    let lab = Lab::with(Engine::own(EngineOptions::default()), &SshdOptions::default());
    lab.engine.freeze(true);
    let outcome = try_run(&lab);
    lab.engine.freeze(false);
    let outcome = outcome.expect_code(1).expect_error("Docker does not answer");
    assert!(outcome.took < SOON, "{outcome}");
}

#[test]
fn hung_engine_is_not_blamed_on_the_host() {
    let lab = Lab::with(Engine::own(EngineOptions::default()), &SshdOptions::default());
    let active = lab.detached(&[], "exec sleep 600");
    let ended = lab.detached(&[], "true");
    let settled = lab.run_folder(&ended).join("settled.json");
    wait_until("the observer's record", SOON, || settled.exists());
    lab.engine.freeze(true);
    let listed = lab.home.farrun(&["list", "--json"]);
    lab.engine.freeze(false);
    let listed = listed.ok();
    // Dialling, and what the host's agent waits for an engine.
    assert!(listed.took < std::time::Duration::from_secs(5), "{listed}");
    let document = listed.json();
    assert_eq!(document["silent_hosts"].as_array().unwrap().len(), 0, "{listed}");
    let status = |id: &str| {
        let runs = document["runs"].as_array().unwrap();
        let run = runs.iter().find(|run| run["id"] == id).unwrap();
        run["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (status(&ended).as_str(), status(&active).as_str()),
        ("downloading", "running")
    );
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
