//! Sessions against a real OpenSSH server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod sshd;

use farrun::ssh::{Ending, Options, Purpose, Session, SshError};
use sha2::{Digest as _, Sha256};
use sshd::Sshd;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(20);

async fn connect(server: &Sshd) -> Session {
    Session::connect(&server.endpoint(), &control()).await.unwrap()
}

fn control() -> Options {
    Options::new(Purpose::Control)
}

#[tokio::test]
async fn a_command_runs_and_says_how_it_ended() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let output = session
        .output("echo out; echo err >&2; exit 7", 1024, SOON)
        .await
        .unwrap();
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.ending, Ending::Status(7));
    let killed = session.output("kill -9 $$", 1024, SOON).await.unwrap();
    assert_eq!(killed.ending, Ending::Signal("KILL".to_owned()));
    session.close().await;
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let mut exec = session.exec("cat").await.unwrap();
    exec.stdin.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    exec.stdout.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    exec.stdin.shutdown().await.unwrap();
    assert_eq!(exec.ending.wait().await, Ending::Status(0));
    assert_eq!(exec.stdout.read(&mut back).await.unwrap(), 0);
}

#[tokio::test]
async fn sixty_four_mebibytes_come_back_as_they_went() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let exec = session.exec("cat").await.unwrap();
    let (mut stdin, mut stdout, mut ending) = (exec.stdin, exec.stdout, exec.ending);
    let writing = tokio::spawn(async move {
        let mut sent = Sha256::new();
        for number in 0_u32..64 {
            let block: Vec<u8> = (0_u32..1 << 18)
                .flat_map(|index| (index ^ number.rotate_left(20)).to_le_bytes())
                .collect();
            sent.update(&block);
            stdin.write_all(&block).await.unwrap();
        }
        stdin.shutdown().await.unwrap();
        sent.finalize()
    });
    let (mut received, mut total) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = stdout.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        received.update(&buffer[..count]);
        total += count;
    }
    assert_eq!(total, 64 << 20);
    assert_eq!(writing.await.unwrap(), received.finalize());
    assert_eq!(ending.wait().await, Ending::Status(0));
}

#[tokio::test]
async fn sftp_is_a_stream_that_speaks_sftp() {
    let server = Sshd::start("");
    let session = Session::connect(&server.endpoint(), &Options::new(Purpose::Bulk))
        .await
        .unwrap();
    let mut stream = session.sftp().await.unwrap();
    // SSH_FXP_INIT, version 3.
    stream.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header[4..], [2, 0, 0, 0, 3]);
}

#[tokio::test]
async fn a_connection_lives_and_closes() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    assert!(!session.is_closed());
    session.round_trip(SOON).await.unwrap();
    let exec = session.exec("sleep 600").await.unwrap();
    session.close().await;
    let mut ending = exec.ending;
    assert_eq!(
        tokio::time::timeout(SOON, ending.wait()).await.unwrap(),
        Ending::Lost
    );
}

#[tokio::test]
async fn dropping_a_command_ends_it() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let marker = server.path("ended");
    let script = format!("trap 'touch {}' HUP EXIT; cat", marker.display());
    drop(session.exec(&script).await.unwrap());
    // The same connection answers on, and the command is told.
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", marker.display());
    assert!(session.output(&wait, 16, SOON).await.unwrap().success());
}

#[tokio::test]
async fn an_unread_channel_does_not_freeze_the_others() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let mut flood = session.exec("cat /dev/zero").await.unwrap();
    let mut first = [0; 1];
    flood.stdout.read_exact(&mut first).await.unwrap();
    for _ in 0..3 {
        let output = session.output("echo alive", 64, SOON).await.unwrap();
        assert_eq!(output.stdout, b"alive\n");
    }
    let mut rest = Vec::new();
    assert!(
        flood.stdout.read_to_end(&mut rest).await.is_err(),
        "what was not read is cut off, not lost unseen"
    );
}

#[tokio::test]
async fn an_unread_channel_does_not_keep_a_dropped_connection() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let mut flood = session.exec("cat /dev/zero").await.unwrap();
    // Alone on its connection it holds everything up once its queue is full.
    let deadline = Instant::now() + SOON;
    while session.round_trip(Duration::from_millis(300)).await.is_ok() {
        assert!(Instant::now() < deadline, "the queue has no end");
    }
    drop(session);
    assert_eq!(
        tokio::time::timeout(SOON, flood.ending.wait()).await.unwrap(),
        Ending::Lost
    );
    let mut rest = Vec::new();
    assert!(flood.stdout.read_to_end(&mut rest).await.is_err());
    assert!(rest.len() < 32 << 20, "{}", rest.len());
}

#[tokio::test]
async fn a_command_may_not_print_without_end() {
    let server = Sshd::start("");
    let session = connect(&server).await;
    let error = session.output("cat /dev/zero", 4096, SOON).await.unwrap_err();
    assert!(
        matches!(error, SshError::TooMuchOutput { limit: 4096, .. }),
        "{error}"
    );
    let error = session
        .output("sleep 600", 4096, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::AnswerTimeout { .. }), "{error}");
    assert!(session.output("true", 16, SOON).await.unwrap().success());
}

#[tokio::test]
async fn an_account_without_sftp_is_named() {
    let server = Sshd::start(sshd::NO_SFTP);
    let session = connect(&server).await;
    let error = session.sftp().await.unwrap_err();
    assert!(matches!(error, SshError::SftpRefused { .. }), "{error}");
    assert!(session.output("true", 16, SOON).await.unwrap().success());
}

#[tokio::test]
async fn one_session_too_many_is_refused() {
    let server = Sshd::start("MaxSessions 1");
    let session = connect(&server).await;
    let first = session.exec("cat").await.unwrap();
    let error = session.exec("true").await.unwrap_err();
    assert!(matches!(error, SshError::ChannelRefused { .. }), "{error}");
    drop(first);
}

/// Passes bytes on between a client and the server until it is told to stop; the connections stay open.
async fn stoppable_proxy(to: u16) -> (u16, tokio_util::sync::CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            () = stopped.cancelled() => {}
        }
        std::future::pending::<()>().await;
        drop((client, server));
    });
    (port, stop)
}

async fn black_hole(writing: bool) {
    let server = Sshd::start("");
    let mut endpoint = server.endpoint();
    let (port, stop) = stoppable_proxy(server.port).await;
    endpoint.host_key_alias = Some(format!("[127.0.0.1]:{}", server.port));
    endpoint.port = port;
    let session = Session::connect(&endpoint, &control()).await.unwrap();
    let mut exec = session.exec("cat > /dev/null").await.unwrap();
    stop.cancel();
    let since = Instant::now();
    let writer = tokio::spawn(async move {
        while writing && exec.stdin.write_all(&[0; 65536]).await.is_ok() {}
        exec.ending.wait().await
    });
    tokio::time::timeout(Duration::from_secs(25), session.closed())
        .await
        .unwrap();
    assert!(since.elapsed() < Duration::from_secs(25));
    assert!(session.is_closed());
    assert_eq!(writer.await.unwrap(), Ending::Lost);
    assert!(session.exec("true").await.is_err());
}

#[tokio::test]
async fn a_black_hole_is_noticed_while_idle() {
    black_hole(false).await;
}

#[tokio::test]
async fn a_black_hole_is_noticed_while_writing() {
    black_hole(true).await;
}

#[tokio::test]
async fn a_silent_listener_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = farrun::ssh::Endpoint::plain("127.0.0.1", 22, "me", "/nonexistent/known_hosts".into());
    endpoint.port = listener.local_addr().unwrap().port();
    let mut options = control();
    options.timeouts.handshake = Duration::from_millis(300);
    let error = Session::connect(&endpoint, &options).await.unwrap_err();
    assert!(matches!(error, SshError::HandshakeTimeout { .. }), "{error}");
}
