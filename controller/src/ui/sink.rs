//! Where bytes go, and what became of them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One of the two output streams.
pub(super) struct Sink {
    target: Target,
    failure: Option<io::Error>,
}

enum Target {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    Captured(Captured),
}

/// What a test's [`super::Ui`] wrote to one stream.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// The bytes written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// The bytes written so far as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    pub(super) fn stdout() -> Self {
        Self::of(Target::Stdout(io::stdout()))
    }

    pub(super) fn stderr() -> Self {
        Self::of(Target::Stderr(io::stderr()))
    }

    pub(super) fn captured(buffer: Captured) -> Self {
        Self::of(Target::Captured(buffer))
    }

    fn of(target: Target) -> Self {
        Self {
            target,
            failure: None,
        }
    }

    /// Writes all of `bytes` at once. After a failure nothing more is tried, so that output has no gap.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let result = match &mut self.target {
            Target::Stdout(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Target::Stderr(stream) => stream.write_all(bytes),
            Target::Captured(buffer) => {
                buffer.lock().extend_from_slice(bytes);
                Ok(())
            }
        };
        self.failure = result.err();
    }

    /// Whether nothing can be written any more, for whatever reason.
    pub(super) fn is_lost(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether the reader went away, as `head` does.
    pub(super) fn is_closed(&self) -> bool {
        self.failure
            .as_ref()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What went wrong, unless the reader just went away.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        if self.is_closed() {
            None
        } else {
            self.failure.take()
        }
    }

    /// Behaves from now on as if the reader had gone away.
    #[cfg(test)]
    pub(super) fn break_pipe(&mut self) {
        self.failure = Some(io::ErrorKind::BrokenPipe.into());
    }
}
