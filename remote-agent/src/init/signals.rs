//! Signals as something to poll: every handler writes the signal's number into a pipe.

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Signals that somebody may send to the container and that mean the job. PID 1 has no default dispositions, so
/// what is not in this list is lost there; the ones that a fault raises are not passed on.
const WATCHED: [Signal; 18] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TERM,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::URG,
    Signal::WINCH,
    Signal::IO,
    Signal::POWER,
    Signal::CHILD,
];

/// The reading end.
#[derive(Debug)]
pub(super) struct Signals {
    pipe: OwnedFd,
}

impl Signals {
    /// Installs the handlers. From here on no watched signal is lost, and the job starts with default dispositions
    /// even where ours were inherited as ignored: handlers do not survive an exec.
    ///
    /// # Errors
    /// When there is no pipe or a handler cannot be installed.
    pub(super) fn install() -> std::io::Result<Self> {
        let (pipe, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let writer = Arc::new(writer);
        for signal in WATCHED {
            watch(signal, Arc::clone(&writer))?;
        }
        Ok(Self { pipe })
    }

    /// Takes what has arrived. A full pipe loses numbers, never the wake-up.
    pub(super) fn drain(&self) -> Vec<Signal> {
        let mut arrived = Vec::new();
        let mut numbers = [0; 64];
        loop {
            match retry_on_intr(|| rustix::io::read(&self.pipe, &mut numbers)) {
                Ok(count) if count > 0 => {
                    let numbers = numbers.get(..count).unwrap_or_default();
                    arrived.extend(
                        numbers
                            .iter()
                            .filter_map(|n| Signal::from_named_raw(i32::from(*n))),
                    );
                }
                Ok(_) | Err(_) => return arrived,
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[expect(
    unsafe_code,
    reason = "what runs inside a signal handler must be async-signal-safe"
)]
fn watch(signal: Signal, writer: Arc<OwnedFd>) -> std::io::Result<()> {
    let number = signal.as_raw();
    let byte = [u8::try_from(number).map_err(|_| Errno::INVAL)?];
    let handler = move || {
        // A full pipe is readable already, so nothing is lost by not waiting.
        let _ = rustix::io::write(&*writer, &byte);
    };
    // SAFETY: the handler makes one write system call on a descriptor it owns; it neither allocates nor locks.
    unsafe { signal_hook_registry::register(number, handler) }.map(|_| ())
}
