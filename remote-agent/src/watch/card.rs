//! Which observer lives: `watch.lock` is held for its life, `watch.json` says who it is.

use crate::gpu::process_start;
use crate::record::{Lock, RecordError, read_json, remove_if_present, write_json};
use chrono::{DateTime, Utc};
use farrun_protocol::Sha256;
use farrun_protocol::message::WatchFacts;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of `watch.json`.
const FORMAT: u32 = 1;
/// How often the lock is tried: one who only looks holds it for a moment, on a busy machine for longer.
const TRIES: u32 = 250;
/// Time between two tries.
const APART: Duration = Duration::from_millis(20);

/// `watch.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    format: u32,
    pub(crate) pid: u32,
    /// Ticks from the boot to the start of the process: a number is used again, with this it names one process.
    start: u64,
    pub(crate) version: String,
    pub(crate) agent_sha256: Sha256,
    since: DateTime<Utc>,
}

fn lock_path(state: &Path) -> PathBuf {
    state.join("watch.lock")
}

fn card_path(state: &Path) -> PathBuf {
    state.join("watch.json")
}

/// Being the one observer of a state folder.
#[derive(Debug)]
pub(super) struct Post {
    state: PathBuf,
    _lock: Lock,
    /// Device and number of the lock file that is held.
    identity: (u64, u64),
}

impl Post {
    /// Becomes the observer; `None` when there is one.
    pub(super) fn take(state: &Path, agent_sha256: &Sha256) -> Result<Option<Self>, RecordError> {
        for _ in 0..TRIES {
            if let Some(lock) = Lock::try_take(&lock_path(state))? {
                return Self::begin(state, lock, agent_sha256);
            }
            if lives(state) {
                break;
            }
            std::thread::sleep(APART);
        }
        Ok(None)
    }

    fn begin(state: &Path, lock: Lock, agent_sha256: &Sha256) -> Result<Option<Self>, RecordError> {
        let path = lock_path(state);
        let found = std::fs::metadata(&path).map_err(RecordError::io(&path))?;
        let card = Card {
            format: FORMAT,
            pid: std::process::id(),
            start: process_start(std::process::id()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent_sha256: agent_sha256.clone(),
            since: Utc::now(),
        };
        write_json(&card_path(state), &card)?;
        Ok(Some(Self {
            state: state.to_owned(),
            _lock: lock,
            identity: (found.dev(), found.ino()),
        }))
    }

    /// Whether the state folder is still there and this lock still its lock.
    pub(super) fn is_kept(&self) -> bool {
        let found = std::fs::metadata(lock_path(&self.state));
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if self.is_kept() {
            let _ = remove_if_present(&card_path(&self.state));
        }
    }
}

/// Whether an observer of this account lives.
pub fn lives(state: &Path) -> bool {
    let Ok(file) = std::fs::File::open(lock_path(state)) else {
        return false;
    };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// The observer that lives.
pub(crate) fn living(state: &Path) -> Option<Card> {
    if !lives(state) {
        return None;
    }
    read_json(&card_path(state), FORMAT).ok().flatten()
}

impl Card {
    /// As it stands in a host's facts.
    pub(crate) fn facts(self, state: &Path) -> WatchFacts {
        WatchFacts {
            pid: self.pid,
            version: self.version,
            since: self.since,
            resident: crate::residence::installed(state).is_some(),
        }
    }

    /// Whether the agent of this version and hash should take its place: only a newer version does, so two of them
    /// never replace one another in turn.
    pub(super) fn is_older_than(&self, version: &str, agent_sha256: &Sha256) -> bool {
        self.agent_sha256 != *agent_sha256 && numbers(&self.version) < numbers(version)
    }

    /// Asks that very process to end.
    pub(super) fn step_down(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| process_start(self.pid) == Some(self.start)) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// `1.2.3-rc.1` as numbers; what is no number counts as none.
pub(crate) fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release
        .split('.')
        .map(|part| part.parse().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(text: &str) -> Sha256 {
        Sha256::of(text.as_bytes())
    }

    #[test]
    fn one_at_a_time_and_it_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        assert!(!lives(state.path()) && living(state.path()).is_none());
        let post = Post::take(state.path(), &sha("a")).unwrap().unwrap();
        let card = living(state.path()).unwrap();
        assert_eq!((card.pid, card.agent_sha256), (std::process::id(), sha("a")));
        assert!(Post::take(state.path(), &sha("a")).unwrap().is_none());
        assert!(post.is_kept());
        drop(post);
        assert!(!lives(state.path()) && !card_path(state.path()).exists());
    }

    #[test]
    fn one_who_looks_is_in_nobodys_way() {
        let state = tempfile::tempdir().unwrap();
        drop(Post::take(state.path(), &sha("a")).unwrap());
        let looking = std::fs::File::open(lock_path(state.path())).unwrap();
        flock(&looking, FlockOperation::NonBlockingLockShared).unwrap();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| Post::take(state.path(), &sha("a")).unwrap());
            // Longer than anybody looks; whoever takes it stays at it all the same.
            std::thread::sleep(APART * 20);
            assert!(!taking.is_finished());
            drop(looking);
            assert!(taking.join().unwrap().is_some());
        });
    }

    #[test]
    fn a_folder_that_was_removed_or_replaced_is_not_its_own() {
        let below = tempfile::tempdir().unwrap();
        let state = below.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let post = Post::take(&state, &sha("a")).unwrap().unwrap();
        std::fs::remove_dir_all(&state).unwrap();
        assert!(!post.is_kept());
        std::fs::create_dir(&state).unwrap();
        std::fs::write(lock_path(&state), "").unwrap();
        std::fs::write(card_path(&state), "another's").unwrap();
        assert!(!post.is_kept());
        drop(post);
        assert!(card_path(&state).exists());
    }

    #[test]
    fn only_a_newer_version_takes_over() {
        let state = tempfile::tempdir().unwrap();
        let _post = Post::take(state.path(), &sha("a")).unwrap();
        let card = Card {
            version: "1.9.0".into(),
            ..living(state.path()).unwrap()
        };
        for (version, agent, older) in [
            ("1.10.0", "b", true),
            ("2.0", "b", true),
            ("1.9.0", "b", false),
            ("1.8.7", "b", false),
            ("1.10.0", "a", false),
        ] {
            assert_eq!(card.is_older_than(version, &sha(agent)), older, "{version}");
        }
    }
}
