//! OpenSSH's SFTP server as a child, and a stream that ends or does something at a chosen byte.

use farrun::ssh::transfer::{Sftp, TransferError};
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A server's stream. After `limit` received bytes it runs the hook, or breaks if there is none.
pub(crate) struct Stream {
    input: ChildStdin,
    output: ChildStdout,
    received: Arc<AtomicU64>,
    limit: u64,
    hook: Option<Box<dyn FnOnce() + Send>>,
    _server: Child,
}

/// Counts what came from the server.
pub(crate) type Received = Arc<AtomicU64>;

fn spawn(limit: u64, hook: Option<Box<dyn FnOnce() + Send>>) -> (Stream, Received) {
    let mut server = Command::new("/usr/lib/openssh/sftp-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let received = Received::default();
    let stream = Stream {
        input: server.stdin.take().unwrap(),
        output: server.stdout.take().unwrap(),
        received: Arc::clone(&received),
        limit,
        hook,
        _server: server,
    };
    (stream, received)
}

/// A session that lasts.
pub(crate) async fn connect() -> Sftp {
    counted().await.0
}

/// A session that lasts, and how much came over it.
pub(crate) async fn counted() -> (Sftp, Received) {
    let (stream, received) = spawn(u64::MAX, None);
    (Sftp::start(stream, "box").await.unwrap(), received)
}

/// A session that breaks after `limit` bytes have come from the server.
pub(crate) async fn cut_after(limit: u64) -> Result<(Sftp, Received), TransferError> {
    let (stream, received) = spawn(limit, None);
    Ok((Sftp::start(stream, "box").await?, received))
}

/// A session that runs `hook` once `limit` bytes have come.
pub(crate) async fn hooked(limit: u64, hook: impl FnOnce() + Send + 'static) -> Sftp {
    let (stream, _) = spawn(limit, Some(Box::new(hook)));
    Sftp::start(stream, "box").await.unwrap()
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.limit - self.received.load(Relaxed).min(self.limit);
        if left == 0 {
            match self.hook.take() {
                Some(hook) => {
                    hook();
                    self.limit = u64::MAX;
                }
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let left = if left == 0 { u64::MAX } else { left };
        let mut part = buf.take(usize::try_from(left).unwrap_or(usize::MAX));
        let polled = Pin::new(&mut self.output).poll_read(cx, &mut part);
        let read = part.filled().len();
        // The bytes lie in `buf`'s own memory; taking a part of it only narrowed the view.
        let content = part.filled().to_vec();
        buf.put_slice(&content);
        self.received.fetch_add(read as u64, Relaxed);
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}
