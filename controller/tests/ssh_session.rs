//! Sessions against a real OpenSSH server.

mod sshd;

use farrun::ssh::{Ending, Options, Purpose, Session, SshError};
use sha2::{Digest as _, Sha256};
use sshd::Sshd;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
async fn an_unknown_key_is_refused_when_nobody_can_be_asked() {
    let server = Sshd::start("");
    let error = Session::connect(&server.stranger(), &control())
        .await
        .unwrap_err();
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error}");
}
