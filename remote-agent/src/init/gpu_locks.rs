//! The locks of the run's GPUs. They end with this process, however it ends, and with it ends the container: that is
//! what makes them the truth about who has a GPU.

use super::args::GpuLock;
use crate::gpu::Sight;
use farrun_protocol::record::ExecError;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs::File;
use std::time::{Duration, Instant};

/// Whoever looks at a lock holds it for a moment, so a lock that is held is asked for again within this time.
const A_LOOK: Duration = Duration::from_secs(2);
const APART: Duration = Duration::from_millis(5);

/// Takes every lock, or none.
///
/// # Errors
/// The first that cannot be had.
pub(super) fn take(locks: &[GpuLock]) -> Result<Vec<File>, ExecError> {
    locks.iter().map(take_one).collect()
}

/// Checks that the engine has handed out the GPUs of the run and no others.
///
/// # Errors
/// What the engine says instead.
pub(super) fn require_visible(gpus: &[String]) -> Result<(), ExecError> {
    if gpus.is_empty() {
        return Ok(());
    }
    let sight = Sight::of_pid_1();
    if sight.shows(gpus) {
        return Ok(());
    }
    Err(ExecError::GpuHidden {
        wanted: super::bounded(gpus.join(",")),
        no_device: sight.hides(),
        seen: sight.said.map(super::bounded),
    })
}

fn take_one(lock: &GpuLock) -> Result<File, ExecError> {
    let failed = |error: String| ExecError::GpuLock {
        lock: super::bounded(lock.path.display()),
        error: super::bounded(error),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(&lock.path, flags, Mode::empty()).map_err(|error| failed(error.to_string()))?;
    let file = File::from(file);
    if !file.metadata().is_ok_and(|file| file.is_file()) {
        return Err(failed("is not a regular file".to_owned()));
    }
    let operation = if lock.shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    let deadline = Instant::now() + A_LOOK;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(APART),
            Err(Errno::WOULDBLOCK) => return Err(failed("another run holds it".to_owned())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}
