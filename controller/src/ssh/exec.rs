//! A command that runs on a host.

use super::inlet::InletReader;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_util::sync::{DropGuard, WaitForCancellationFutureOwned};

/// Bytes of standard error that are kept, the last ones.
pub const STDERR_KEPT: usize = 16 * 1024;

/// A command that was started. Once every part of it is dropped its channel is closed, which ends the command on a
/// host that hangs up on it.
#[derive(Debug)]
pub struct Exec {
    /// What the command reads. Dropping or shutting it down is the end of its input.
    pub stdin: ExecStdin,
    /// What it writes to standard output. A connection that is cut ends it with an error.
    pub stdout: ExecStdout,
    /// How it ends, and what it says on standard error.
    pub ending: ExecEnding,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Status(u32),
    /// A signal ended it.
    Signal(String),
    /// The connection went away, or the host never said how it ended: whatever it did is unknown.
    Lost,
}

/// What a command that was run to its end said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The end of what it wrote to standard error, at most [`STDERR_KEPT`] bytes.
    pub stderr: Vec<u8>,
    /// How it ended; never [`Ending::Lost`].
    pub ending: Ending,
}

impl Output {
    /// Whether it exited with status 0.
    pub fn success(&self) -> bool {
        self.ending == Ending::Status(0)
    }
}

/// The input of a command.
pub struct ExecStdin {
    pub(super) writer: Pin<Box<dyn AsyncWrite + Send>>,
    /// A writer that waits for window space is not woken when its channel goes away.
    pub(super) gone: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) end_of_input: Option<DropGuard>,
    pub(super) _channel: Arc<DropGuard>,
}

/// The output of a command.
pub struct ExecStdout {
    pub(super) reader: InletReader,
    pub(super) _channel: Arc<DropGuard>,
}

/// How a command ends, and what it says on standard error.
pub struct ExecEnding {
    pub(super) ending: watch::Receiver<Option<Ending>>,
    pub(super) stderr: StderrTail,
    pub(super) _channel: Arc<DropGuard>,
}

impl ExecEnding {
    /// Waits until the command has ended.
    pub async fn wait(&mut self) -> Ending {
        match self.ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or(Ending::Lost),
            Err(_) => Ending::Lost,
        }
    }

    /// The last of what it wrote to standard error so far, at most [`STDERR_KEPT`] bytes.
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.bytes()
    }
}

/// The last bytes of standard error.
#[derive(Clone, Default)]
pub(super) struct StderrTail(Arc<Mutex<VecDeque<u8>>>);

impl StderrTail {
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..excess);
    }

    fn bytes(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().copied().collect()
    }
}

impl ExecStdin {
    fn check_open(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.gone.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the channel is closed"));
        }
        Ok(())
    }
}

impl AsyncWrite for ExecStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_open(context)?;
        // The writer below refuses an empty write.
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.writer.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end_of_input.is_none() || self.gone.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.writer.as_mut().poll_shutdown(context))?;
        if let Some(guard) = self.end_of_input.take() {
            guard.disarm();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ExecStdout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl fmt::Debug for ExecStdin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecStdin").finish_non_exhaustive()
    }
}

impl fmt::Debug for ExecStdout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecStdout").finish_non_exhaustive()
    }
}

impl fmt::Debug for ExecEnding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExecEnding")
            .field("ending", &*self.ending.borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_standard_error_is_kept() {
        let tail = StderrTail::default();
        tail.push(&vec![b'a'; STDERR_KEPT]);
        tail.push(b"the reason");
        let kept = tail.bytes();
        assert_eq!(kept.len(), STDERR_KEPT);
        assert!(kept.ends_with(b"the reason"));
    }
}
