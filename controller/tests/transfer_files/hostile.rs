//! A server that lies.

use crate::content::{announce, assert_nothing_unverified, bytes, fetch};
use farrun::ssh::transfer::{Sftp, Timing, TransferError};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const INIT: u8 = 1;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const FSTAT: u8 = 8;
/// Longer than any pause of a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers the read with this id of so many bytes.
type Lie = fn(u32, usize) -> Vec<u8>;

fn packet(kind: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(rest.len() + 5).unwrap().to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend(id.to_be_bytes());
    packet.extend(rest);
    packet
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn data(id: u32, bytes: &[u8]) -> Vec<u8> {
    packet(103, id, &text(bytes))
}

fn status(id: u32, code: u32) -> Vec<u8> {
    packet(
        101,
        id,
        &[&code.to_be_bytes()[..], &text(b"\x1b[2Jno"), &text(b"")].concat(),
    )
}

/// Serves politely, except that `lie` answers reads of `length` bytes.
async fn serve(mut stream: DuplexStream, lie: Lie, size: u64) {
    let mut head = [0; 5];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 1];
        stream.read_exact(&mut body).await.unwrap();
        let id = u32::from_be_bytes(body[..4].try_into().unwrap());
        let reply = match head[4] {
            INIT => [&5_u32.to_be_bytes()[..], &[2], &3_u32.to_be_bytes()].concat(),
            // A handle that is not text.
            OPEN => packet(102, id, &text(&[0xff, 0xfe, 0, 1])),
            READ => {
                assert_eq!(body[4..12], [0, 0, 0, 4, 0xff, 0xfe, 0, 1]);
                lie(id, u32::from_be_bytes(body[20..24].try_into().unwrap()) as usize)
            }
            FSTAT => packet(105, id, &[&1_u32.to_be_bytes()[..], &size.to_be_bytes()].concat()),
            CLOSE => status(id, 0),
            kind => panic!("not expected: {kind}"),
        };
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

async fn start(lie: Lie, size: u64, silence: Duration) -> Sftp {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(serve(theirs, lie, size));
    let long = Duration::from_secs(30);
    let timing = Timing {
        handshake: long,
        silence,
        sync: silence,
    };
    Sftp::start_with(ours, "liar", timing).await.unwrap()
}

async fn download_from(lie: Lie, size: usize, silence: Duration) -> TransferError {
    let home = tempfile::tempdir().unwrap();
    let content = bytes(size, 1);
    let wanted = [announce(Path::new("/"), "f", &content)];
    let error = fetch(&start(lie, 0, silence).await, &wanted, home.path())
        .await
        .unwrap_err();
    assert_nothing_unverified(home.path(), &wanted);
    assert!(!home.path().join("f").exists());
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_about_content_break_the_connection() {
    let lies: [(&str, Lie); 11] = [
        ("over-long", |id, length| data(id, &vec![0; length + 1])),
        ("empty", |id, _| data(id, &[])),
        ("wrong id", |id, length| data(id ^ 0x4000_0000, &vec![0; length])),
        ("twice", |id, length| data(id, &vec![0; length]).repeat(2)),
        ("giant packet", |_, _| vec![0xff; 64]),
        ("empty packet", |_, _| vec![0; 64]),
        ("inner length", |id, _| {
            packet(103, id, &[0xff, 0xff, 0xff, 0xf0, 1, 2])
        }),
        ("wrong kind", |id, _| packet(102, id, &text(b"handle"))),
        ("unknown kind", |id, _| packet(77, id, &[])),
        ("unknown status", |id, _| status(id, 99)),
        ("names without end", |id, _| {
            packet(104, id, &[0xff, 0xff, 0xff, 0xff, 0, 0])
        }),
    ];
    for (name, lie) in lies {
        // A second answer is noticed only while others are due.
        let sizes = if name == "twice" {
            &[9 << 20][..]
        } else {
            &[900, 9 << 20]
        };
        for size in sizes.iter().copied() {
            let error = download_from(lie, size, PATIENCE).await;
            assert!(
                matches!(error, TransferError::Protocol { .. }),
                "{name}: {error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_short_or_missing_content_is_a_changed_file() {
    let lies: [Lie; 3] = [
        |id, length| data(id, &vec![0; length]),
        |id, length| data(id, &vec![0; length - 1]),
        |id, _| status(id, 1),
    ];
    for lie in lies {
        let error = download_from(lie, 9 << 20, PATIENCE).await;
        assert!(
            matches!(error, TransferError::ChangedWhileReading { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_noticed() {
    let error = download_from(|_, _| Vec::new(), 9 << 20, Duration::from_millis(300)).await;
    assert!(matches!(error, TransferError::Stalled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_small_read_is_never_larger_than_its_limit() {
    let sftp = start(|id, length| data(id, &vec![0; length]), u64::MAX, PATIENCE).await;
    assert!(matches!(
        sftp.read_small("/f", 1000).await,
        Err(TransferError::TooLarge { .. })
    ));
    let sftp = start(|id, length| data(id, &vec![0; length + 1]), 10, PATIENCE).await;
    assert!(matches!(
        sftp.read_small("/f", 1000).await,
        Err(TransferError::Protocol { .. })
    ));
}

#[tokio::test]
async fn a_shell_that_prints_or_says_nothing_is_no_server() {
    for greeting in [
        &b"Welcome to the machine\n"[..],
        b"",
        b"\0\0\0\x05\x02\0\0\0\x02",
        b"\0\0\0\x01\x65",
    ] {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(greeting).await.unwrap();
        let short = Duration::from_millis(200);
        let timing = Timing {
            handshake: short,
            silence: short,
            sync: short,
        };
        let error = Sftp::start_with(ours, "box", timing).await.unwrap_err();
        assert!(error.is_connection(), "{error}");
    }
}

#[tokio::test]
async fn what_a_login_shell_prints_before_the_greeting_is_skipped() {
    let noise = "Welcome to the machine\n\u{1b}[1mlast login: yesterday\u{1b}[0m\n".repeat(50);
    for cut in [1, 7, 4096] {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut wire = noise.clone().into_bytes();
        wire.extend_from_slice(b"\0\0\0\x05\x02\0\0\0\x03");
        let server = tokio::spawn(async move {
            for piece in wire.chunks(cut) {
                theirs.write_all(piece).await.unwrap();
            }
            theirs
        });
        Sftp::start(ours, "box").await.unwrap();
        drop(server.await.unwrap());
    }
}
