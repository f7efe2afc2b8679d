//! The allocator's mutex: of all accounts of a host one at a time chooses GPUs and starts a container on them.

use super::folder::{LockFolder, LocksUnusable};
use super::lock_file::Holder;
use chrono::Utc;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

pub(super) const NAME: &str = "allocator.lock";
/// A start with GPUs takes seconds; a busy host has several in a row.
pub const PATIENCE: Duration = Duration::from_secs(90);
const APART: Duration = Duration::from_millis(10);

/// The mutex, held. It goes with the process, so a crash blocks nobody.
#[derive(Debug)]
pub struct Allocator {
    _file: File,
}

impl Allocator {
    /// Waits for the mutex. Dropping the wait leaves nothing behind.
    ///
    /// # Errors
    /// Its file cannot be used, or somebody has held it for `patience`.
    pub async fn take(folder: &LockFolder, own: &Holder, patience: Duration) -> Result<Self, LocksUnusable> {
        let unusable = |cause: String| LocksUnusable {
            path: folder.path().join(NAME),
            cause,
        };
        let deadline = Instant::now() + patience;
        loop {
            let file = folder.find_or_make(NAME)?;
            match try_lock(folder, &file) {
                Ok(Tried::Ours) => {
                    note(&file, own);
                    return Ok(Self { _file: file });
                }
                Ok(Tried::Again) => continue,
                Ok(Tried::Held) => {}
                Err(error) => return Err(unusable(error.to_string())),
            }
            if Instant::now() >= deadline {
                let seconds = patience.as_secs();
                return Err(unusable(format!(
                    "held for more than {seconds} s by {}",
                    who(&file)
                )));
            }
            tokio::time::sleep(APART).await;
        }
    }
}

enum Tried {
    Ours,
    Held,
    /// The file was tidied away since it was opened, and who makes it anew would have another lock.
    Again,
}

fn try_lock(folder: &LockFolder, file: &File) -> Result<Tried, Errno> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if folder.is_current(NAME, file) => Ok(Tried::Ours),
        Ok(()) | Err(Errno::INTR) => Ok(Tried::Again),
        Err(Errno::WOULDBLOCK) => Ok(Tried::Held),
        Err(error) => Err(error),
    }
}

/// For people who ask why nothing starts; a failure to write it changes nothing.
pub(super) fn note(file: &File, own: &Holder) {
    let own = Holder {
        pid: Some(std::process::id()),
        since: Some(Utc::now()),
        ..own.clone()
    };
    if let Ok(json) = serde_json::to_vec(&own) {
        let _ = file.set_len(0).and_then(|()| file.write_all_at(&json, 0));
    }
}

pub(super) fn who(file: &File) -> String {
    let mut bytes = vec![0; 1024];
    let length = file.read_at(&mut bytes, 0).unwrap_or_default();
    let bytes = bytes.get(..length).unwrap_or_default();
    let Ok(holder) = serde_json::from_slice::<Holder>(bytes) else {
        return "an unknown process".to_owned();
    };
    let user: String = holder
        .user
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect();
    let pid = holder.pid.unwrap_or_default();
    format!("process {pid} of {user}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    fn own() -> Holder {
        Holder {
            run_id: None,
            user: Some("ada".into()),
            pid: None,
            since: None,
            shared: false,
        }
    }

    #[tokio::test]
    async fn a_mutex_that_stays_held_is_a_failure_that_names_the_holder() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        let held = Allocator::take(&folder, &own(), PATIENCE).await.unwrap();
        let error = Allocator::take(&folder, &own(), Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(
            error
                .cause
                .contains(&format!("process {} of ada", std::process::id())),
            "{error}"
        );
        drop(held);
        Allocator::take(&folder, &own(), PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_was_tidied_away_does_not_let_two_in() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        let old = folder.find_or_make(NAME).unwrap();
        flock(&old, FlockOperation::LockExclusive).unwrap();
        // One who opened it before, and one who waits already.
        let opened = folder.find_or_make(NAME).unwrap();
        let own = own();
        let mut waiting = pin!(Allocator::take(&folder, &own, PATIENCE));
        let waits = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        std::fs::remove_file(below.path().join(NAME)).unwrap();
        drop(old);
        assert!(matches!(try_lock(&folder, &opened), Ok(Tried::Again)));
        let held = waiting.await.unwrap();
        let second = Allocator::take(&folder, &own, Duration::from_millis(50)).await;
        assert!(second.is_err());
        drop((held, opened));
    }
}
