//! The real parts of the harness do what the suites expect of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use farrun_tests::run;
use farrun_tests::{
    BUSYBOX, Direction, Engine, EngineOptions, FaultProxy, Registry, SCRATCH, Sshd, SshdOptions, Toolkit,
    USER,
};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

const WHILE: Duration = Duration::from_secs(30);

/// OpenSSH's own client against a test server.
fn ssh(server: &Sshd, port: u16, command: &[&str]) -> Command {
    let folder = server.identity().parent().unwrap().to_path_buf();
    let known = folder.join(format!("known_{port}"));
    std::fs::write(&known, server.known_hosts(port)).unwrap();
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-p",
        &port.to_string(),
    ]);
    ssh.arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.arg("-i")
        .arg(server.identity())
        .arg(format!("{}@127.0.0.1", server.account()))
        .args(command);
    ssh
}

#[test]
fn sshd_lets_its_key_in_and_no_other() {
    let server = Sshd::start();
    let outcome = run(ssh(&server, server.port(), &["echo", "inside"]), WHILE).ok();
    assert_eq!(outcome.text(), "inside\n");
    let mut other = ssh(&server, server.port(), &["true"]);
    std::fs::remove_file(server.identity()).unwrap();
    std::fs::rename(server.wrong_identity(), server.identity()).unwrap();
    other.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
    let _ = run(other, WHILE)
        .expect_code(255)
        .expect_error("Permission denied");
}

#[test]
fn sshd_sessions_die_while_the_server_lives() {
    let server = Sshd::start();
    // It reads, so that it ends with its channel; a sleeper would outlive the session.
    let mut command = ssh(&server, server.port(), &["echo", "up;", "exec", "cat"]);
    let mut client = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    client.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    server.kill_sessions();
    let held = client.stdin.take();
    assert!(!client.wait().unwrap().success());
    drop(held);
    let _ = run(ssh(&server, server.port(), &["true"]), WHILE).ok();
}

#[test]
fn sshd_with_another_host_key_is_refused_by_ssh() {
    let mut server = Sshd::start();
    let before = ssh(&server, server.port(), &["true"]);
    server.change_host_key();
    let _ = run(before, WHILE)
        .expect_code(255)
        .expect_error("REMOTE HOST IDENTIFICATION HAS CHANGED");
    server.stop();
    let _ = run(ssh(&server, server.port(), &["true"]), WHILE)
        .expect_code(255)
        .expect_error("refused");
}

#[test]
fn sshd_front_stands_before_every_command() {
    let front = "echo noise\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let options = SshdOptions {
        front: Some(front.to_owned()),
        environment: vec![("FARRUN_SEEN".to_owned(), "yes".to_owned())],
        ..SshdOptions::default()
    };
    let server = Sshd::with(&options);
    let outcome = run(ssh(&server, server.port(), &["echo", "$FARRUN_SEEN"]), WHILE).ok();
    assert_eq!(outcome.text(), "noise\nyes\n");
}

#[test]
fn sshd_behind_the_proxy_is_cut() {
    let server = Sshd::start();
    let proxy = FaultProxy::start(server.socket_address());
    let _ = run(ssh(&server, proxy.port(), &["true"]), WHILE).ok();
    proxy.cut_after(Direction::Down, 200_000);
    let cut = run(
        ssh(&server, proxy.port(), &["head", "-c", "5000000", "/dev/zero"]),
        WHILE,
    )
    .expect_code(255);
    assert!(cut.stdout.len() < 200_000);
}

#[test]
fn shared_engine_runs_every_test_image() {
    let engine = Engine::shared();
    let again = Engine::shared();
    assert_eq!(engine.pid(), again.pid());
    let plain = ["run", "--rm", "--network", "none"];
    let with = |image: &str, rest: &[&str]| engine.ask(&[&plain, [image].as_slice(), rest].concat());
    assert_eq!(with(BUSYBOX, &[]), "default command");
    assert_eq!(with(USER, &["id", "-u"]), "1234");
    assert_eq!(with(SCRATCH, &[]), "from scratch");
}

#[test]
fn engine_of_ones_own_survives_a_kill_with_its_containers() {
    let engine = Engine::own(EngineOptions {
        live_restore: true,
        toolkit: Toolkit::Gives,
        ..EngineOptions::default()
    });
    let folder = engine.socket().parent().unwrap().to_path_buf();
    let id = engine.ask(&[
        "run",
        "-d",
        "--network",
        "none",
        "--gpus",
        "all",
        BUSYBOX,
        "sleep",
        "600",
    ]);
    engine.kill();
    assert!(!engine.answers());
    engine.start_again();
    assert_eq!(
        engine.ask(&["inspect", "--format", "{{.State.Running}}", &id]),
        "true"
    );
    drop(engine);
    assert!(!folder.exists());
}

#[test]
fn registry_serves_only_who_has_the_password() {
    let engine = Engine::shared();
    let registry = Registry::start(&engine);
    let image = registry.publish(&engine, SCRATCH, "open:1");
    engine.ask(&["pull", &image]);
    engine.ask(&["rmi", &image]);
    let closed = Registry::with_account(&engine, "someone", "secret");
    let mut pull = engine.docker();
    pull.args(["pull", &closed.image("closed:1")]);
    let _ = run(pull, WHILE)
        .expect_code(1)
        .expect_error("no basic auth credentials");
}
