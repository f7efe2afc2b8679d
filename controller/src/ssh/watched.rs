//! A stream that can be broken from outside, and breaks itself when the peer has been silent for too long.
//!
//! russh cannot be relied on alone: while it waits for room to write it counts no missed keepalives, and dropping
//! its handle does not end a task that is stuck in a write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream that ends with an error once its token is cancelled.
pub(super) struct Watched<S> {
    stream: S,
    heard: Arc<AtomicBool>,
    shut: CancellationToken,
    // Each direction is polled with a waker of its own, and a cancellation future remembers only one.
    broken_for_reads: Pin<Box<WaitForCancellationFutureOwned>>,
    broken_for_writes: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, breaker: &CancellationToken) -> Self {
        Self {
            stream,
            heard: Arc::new(AtomicBool::new(true)),
            shut: CancellationToken::new(),
            broken_for_reads: Box::pin(breaker.clone().cancelled_owned()),
            broken_for_writes: Box::pin(breaker.clone().cancelled_owned()),
        }
    }

    /// Set whenever something arrived, or somebody else than the peer is the reason that nothing did.
    pub(super) fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

    /// Cancelled when this end was closed, behind everything that was written.
    pub(super) fn shut(&self) -> CancellationToken {
        self.shut.clone()
    }
}

/// Breaks a connection once nothing was heard for `limit`, until it is broken or closed otherwise.
///
/// Ticks are counted rather than a clock compared: after this process was stopped or the machine slept, what the
/// peer sent meanwhile gets a chance to be read.
pub(super) async fn watch(
    heard: Arc<AtomicBool>,
    limit: Duration,
    breaker: CancellationToken,
    closed: CancellationToken,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = 0;
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = breaker.cancelled() => return,
            _ = ticks.tick() => {}
        }
        silent = if heard.swap(false, Ordering::Relaxed) {
            0
        } else {
            silent + 1
        };
        if silent >= limit.as_secs() {
            breaker.cancel();
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "given up")
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken_for_reads.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(broken()));
        }
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            self.heard.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken_for_writes.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken_for_writes.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        if outcome.is_ready() {
            self.shut.cancel();
        }
        outcome
    }
}
