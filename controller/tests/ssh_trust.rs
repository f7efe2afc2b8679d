//! Host keys and logins against a real OpenSSH server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod sshd;

use farrun::ssh::{
    AgentSocket, Ask, ErrorKind, Options, PromptQuestion, Purpose, Secret, Session, ShownKey, SshError,
};
use sshd::{Sshd, make_key};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn nobody() -> Options {
    Options::new(Purpose::Control)
}

/// Answers questions as told, and remembers them.
#[derive(Default)]
struct Person {
    trusts: bool,
    passphrases: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Ask for Person {
    fn trust_host_key(&self, host: &str, shown: &ShownKey) -> bool {
        self.asked
            .lock()
            .unwrap()
            .push(format!("trust {host} {}", shown.fingerprint));
        self.trusts
    }

    fn passphrase(&self, question: &PromptQuestion) -> Option<Secret> {
        self.asked
            .lock()
            .unwrap()
            .push(format!("passphrase {}", question.subject));
        self.passphrases.lock().unwrap().pop().map(Secret::new)
    }

    fn password(&self, _question: &PromptQuestion) -> Option<Secret> {
        self.asked.lock().unwrap().push("password".to_owned());
        None
    }

    fn answer(&self, _question: &PromptQuestion, _echo: bool) -> Option<Secret> {
        self.asked.lock().unwrap().push("answer".to_owned());
        None
    }
}

async fn works(session: &Session) {
    let output = session.output("echo here", 64, SOON).await.unwrap();
    assert_eq!(output.stdout, b"here\n");
}

fn fingerprint_by_ssh_keygen(key: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_unknown_key_is_refused_when_nobody_can_be_asked() {
    let server = Sshd::start("");
    let error = Session::connect(&server.stranger(), &nobody()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostKey);
    let SshError::HostKeyUnknown { shown, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(
        shown.fingerprint,
        fingerprint_by_ssh_keygen(&server.path("host_key.pub"))
    );
    assert!(
        server.known_hosts_line().starts_with(&shown.key_line),
        "{shown:?}"
    );
    assert!(!server.path("known_hosts").exists());
}

#[tokio::test]
async fn a_trusted_key_is_recorded_and_known_from_then_on() {
    let server = Sshd::start("");
    fs::write(server.path("known_hosts"), "# no newline at its end").unwrap();
    let mut endpoint = server.stranger();
    endpoint.identities = vec![server.path("user_key")];
    endpoint.hash_known_hosts = true;
    let person = Arc::new(Person {
        trusts: true,
        ..Person::default()
    });
    let session = Session::connect(&endpoint, &nobody().asking(person.clone()))
        .await
        .unwrap();
    works(&session).await;
    assert_eq!(person.asked.lock().unwrap().len(), 1);
    let recorded = fs::read_to_string(server.path("known_hosts")).unwrap();
    assert!(
        recorded.contains("\n|1|") && recorded.ends_with('\n'),
        "{recorded}"
    );
    works(&Session::connect(&endpoint, &nobody()).await.unwrap()).await;
}

#[tokio::test]
async fn a_distrusted_key_is_not_recorded() {
    let server = Sshd::start("");
    let person = Arc::new(Person::default());
    let error = Session::connect(&server.stranger(), &nobody().asking(person))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error}");
    assert!(!server.path("known_hosts").exists());
}

#[tokio::test]
async fn a_changed_key_is_refused_without_a_question() {
    let server = Sshd::start("");
    let person = Arc::new(Person {
        trusts: true,
        ..Person::default()
    });
    for kind in ["ed25519", "rsa"] {
        // Of another type too: the server has none of the recorded type, or shows another one.
        let other = server.path(&format!("other_{kind}"));
        make_key(&other, kind, "");
        let key = fs::read_to_string(other.with_extension("pub")).unwrap();
        fs::write(
            server.path("known_hosts"),
            format!("[127.0.0.1]:{} {key}", server.port),
        )
        .unwrap();
        let error = Session::connect(&server.stranger(), &nobody().asking(person.clone()))
            .await
            .unwrap_err();
        match error {
            SshError::HostKeyChanged { recorded, .. } => {
                assert_eq!(recorded[0].line, 1);
                assert_eq!(recorded[0].fingerprint, fingerprint_by_ssh_keygen(&other));
            }
            other => panic!("{kind}: {other}"),
        }
    }
    assert!(person.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_revoked_key_is_refused_even_if_it_is_also_known() {
    let server = Sshd::start("");
    let endpoint = server.endpoint();
    let known = server.known_hosts_line();
    fs::write(
        server.path("known_hosts"),
        format!("{known}@revoked * {}", known.split_once(' ').unwrap().1),
    )
    .unwrap();
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(
        matches!(error, SshError::HostKeyRevoked { line: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_authority_is_never_taken_for_a_first_meeting() {
    let server = Sshd::start("");
    let known = server.known_hosts_line();
    fs::write(server.path("known_hosts"), format!("@cert-authority {known}")).unwrap();
    let person = Arc::new(Person {
        trusts: true,
        ..Person::default()
    });
    let error = Session::connect(&server.stranger(), &nobody().asking(person))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SshError::HostCertificate { line: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_of_keys_that_cannot_be_read_is_an_error() {
    let server = Sshd::start("");
    fs::create_dir(server.path("known_hosts")).unwrap();
    let person = Arc::new(Person {
        trusts: true,
        ..Person::default()
    });
    let error = Session::connect(&server.stranger(), &nobody().asking(person))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::KnownHosts { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_key_is_named_in_the_error() {
    let server = Sshd::start("");
    let mut endpoint = server.endpoint();
    make_key(&server.path("wrong"), "ed25519", "");
    endpoint.identities = vec![server.path("absent"), server.path("wrong")];
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    let SshError::AuthFailed { tried, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert!(
        tried[0].contains("absent") && tried[0].contains("no such file"),
        "{tried:?}"
    );
    assert!(
        tried[1].contains("wrong") && tried[1].contains("refused"),
        "{tried:?}"
    );
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let server = Sshd::start("");
    let endpoint = server.endpoint();
    fs::set_permissions(server.path("user_key"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(
        matches!(error, SshError::KeyPermissions { mode: 0o644, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn every_kind_of_key_works() {
    let server = Sshd::start("");
    for kind in ["rsa", "ecdsa"] {
        make_key(&server.path(kind), kind, "");
        fs::copy(
            server.path(kind).with_extension("pub"),
            server.path("authorized_keys"),
        )
        .unwrap();
        let mut endpoint = server.endpoint();
        endpoint.identities = vec![server.path(kind)];
        works(&Session::connect(&endpoint, &nobody()).await.unwrap()).await;
    }
}

#[tokio::test]
async fn an_encrypted_key_is_opened_with_a_passphrase() {
    let server = Sshd::start("");
    make_key(&server.path("locked"), "ed25519", "sesame");
    fs::copy(server.path("locked.pub"), server.path("authorized_keys")).unwrap();
    let mut endpoint = server.endpoint();
    endpoint.identities = vec![server.path("locked")];
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(
        matches!(&error, SshError::AuthFailed { tried, .. } if tried[0].contains("encrypted")),
        "{error}"
    );
    let unasked = Arc::new(farrun::ssh::Unasked::default());
    let asking = nobody().asking(unasked.clone());
    assert!(Session::connect(&endpoint, &asking).await.is_err());
    let wanted = unasked.wanted().unwrap_or_default();
    assert!(
        wanted.contains("locked") && wanted.contains("ssh-add"),
        "{wanted}"
    );
    let person = Person {
        passphrases: Mutex::new(vec!["sesame", "wrong"]),
        ..Person::default()
    };
    let person = Arc::new(person);
    works(
        &Session::connect(&endpoint, &nobody().asking(person.clone()))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        person.asked.lock().unwrap().len(),
        2,
        "the first answer was wrong"
    );
}

/// An agent of our own, ended when dropped.
struct Agent(std::process::Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_agent(socket: &Path) -> Agent {
    let child = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let agent = Agent(child);
    let deadline = std::time::Instant::now() + SOON;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(std::time::Instant::now() < deadline, "the agent did not start");
        std::thread::yield_now();
    }
    agent
}

fn add_to_agent(socket: &Path, key: &Path) {
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(key)
        .env("SSH_AUTH_SOCK", socket)
        .status()
        .unwrap();
    assert!(added.success());
}

#[tokio::test]
async fn the_agent_signs() {
    let server = Sshd::start("");
    let socket = server.path("agent");
    let _agent = start_agent(&socket);
    for kind in ["ed25519", "rsa"] {
        let key = server.path(&format!("agent_{kind}"));
        make_key(&key, kind, "");
        add_to_agent(&socket, &key);
        fs::copy(key.with_extension("pub"), server.path("authorized_keys")).unwrap();
        let mut endpoint = server.endpoint();
        endpoint.identities.clear();
        endpoint.agent = AgentSocket::Path(socket.clone());
        works(&Session::connect(&endpoint, &nobody()).await.unwrap()).await;
        endpoint.identities_only = true;
        let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
        assert!(
            matches!(error, SshError::AuthFailed { .. }),
            "only named identities may be offered: {error}"
        );
        endpoint.identities = vec![key.with_extension("pub")];
        works(&Session::connect(&endpoint, &nobody()).await.unwrap()).await;
    }
}

#[tokio::test]
async fn an_agent_that_is_not_there_does_not_stop_a_key_file() {
    let server = Sshd::start("");
    let mut endpoint = server.endpoint();
    endpoint.agent = AgentSocket::Path(server.path("nobody"));
    works(&Session::connect(&endpoint, &nobody()).await.unwrap()).await;
}

#[tokio::test]
async fn a_jump_host_is_checked_like_any_other() {
    let (outer, inner) = (Sshd::start(""), Sshd::start(""));
    let mut endpoint = inner.endpoint();
    endpoint.jumps = vec![outer.endpoint()];
    let session = Session::connect(&endpoint, &nobody()).await.unwrap();
    works(&session).await;
    let output = session.output("echo $SSH_CONNECTION", 256, SOON).await.unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains(&format!(" {}", inner.port))
    );
    session.close().await;

    fs::remove_file(outer.path("known_hosts")).unwrap();
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_jump_host_that_cannot_reach_the_next_one_says_so() {
    let outer = Sshd::start("");
    let mut endpoint = outer.endpoint();
    endpoint.jumps = vec![outer.endpoint()];
    endpoint.port = 1;
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(matches!(error, SshError::Jump { .. }), "{error}");
}

#[tokio::test]
async fn nobody_listens_and_no_name() {
    let mut endpoint = farrun::ssh::Endpoint::plain("127.0.0.1", 1, "me", "/nonexistent/known_hosts".into());
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(matches!(error, SshError::Refused { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    endpoint.host_name = "no-such-host.invalid".to_owned();
    let error = Session::connect(&endpoint, &nobody()).await.unwrap_err();
    assert!(matches!(error, SshError::Unresolved { .. }), "{error}");
}
