//! Readings of a host's GPUs: what the newest says, and who takes the next.

use super::refresh::{Before, Refreshed, refresh};
use super::settings::Settings;
use super::store::{Detected, Facts, Store, Stored};
use super::{clock, query};
use crate::record::{Lock, boot_id};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest pause after readings that did not end in time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the clones of [`super::Gpus`] share.
#[derive(Debug)]
pub(super) struct Readings {
    pub(super) settings: Settings,
    pub(super) store: Store,
    memory: Mutex<Memory>,
    /// Told when a reading of this process has ended.
    pub(super) ended: Notify,
}

/// What this process knows beside the files: the same, unless they cannot be written.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stored: Option<Stored>,
    facts: Option<Facts>,
    pub(super) detected: Option<Detected>,
    /// When the reading under way began, by the clock of the boot.
    pub(super) reading_since: Option<u64>,
    pub(super) unwritable: Option<String>,
}

/// What the lock file says while it is held.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    boot_id: String,
    since: u64,
}

/// What one who asks wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// When it was asked, by the clock of the boot.
    pub(super) asked: u64,
    /// Age that will do.
    pub(super) max_age: Duration,
    /// Whether only a reading from after the question will do, with everything found out anew.
    pub(super) detect: bool,
}

impl Readings {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            store: Store::new(settings.state.join("gpu")),
            settings,
            memory: Mutex::default(),
            ended: Notify::new(),
        }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        match self.memory.lock() {
            Ok(memory) => memory,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The newest reading of this boot, of this or any other process.
    pub(super) fn newest(&self) -> Option<Stored> {
        let own = self.memory().stored.clone();
        let boot_id = boot_id();
        let stored = [self.store.sample(), own].into_iter().flatten();
        stored
            .filter(|stored| stored.boot_id == boot_id && stored.attempt.ended <= clock::now())
            .max_by_key(|stored| stored.attempt.ended)
    }

    /// Whether the newest reading will do, or the driver is given a pause.
    pub(super) fn is_granted(&self, wish: Wish) -> bool {
        let Some(stored) = self.newest() else {
            return false;
        };
        let attempt = &stored.attempt;
        let age = Duration::from_millis(clock::now().saturating_sub(attempt.ended));
        let hangs = attempt.trouble.as_ref().is_some_and(query::hangs);
        if hangs && age < pause(attempt.failures) {
            return true;
        }
        if wish.detect {
            return attempt.ended >= wish.asked;
        }
        age <= wish.max_age
    }

    /// Starts a reading unless one is under way, here or in another process.
    pub(super) fn begin(self: &Arc<Self>, wish: Wish) {
        if self.memory().reading_since.is_some() {
            return;
        }
        let (lock, unwritable) = match self
            .store
            .make()
            .and_then(|()| Lock::try_take(&self.store.lock_path()))
        {
            Ok(Some(lock)) => (Some(lock), None),
            Ok(None) => return,
            Err(error) => (None, Some(error.to_string())),
        };
        // Another process may have finished between the look and the lock.
        if self.is_granted(wish) {
            return;
        }
        let since = clock::now();
        {
            let mut memory = self.memory();
            if memory.reading_since.is_some() {
                return;
            }
            memory.reading_since = Some(since);
            memory.unwritable = unwritable;
        }
        if lock.is_some() {
            let holder = Holder {
                boot_id: boot_id(),
                since,
            };
            let text = serde_json::to_vec(&holder).unwrap_or_default();
            let _ = std::fs::write(self.store.lock_path(), text);
        }
        let readings = Arc::clone(self);
        // A thread of its own, because the child is killed when the thread that started it ends.
        let thread = std::thread::Builder::new().name("nvidia-smi".to_owned());
        let started = thread.spawn(move || {
            let before = readings.before(wish.detect);
            let refreshed = refresh(&readings.settings, &readings.store, before);
            readings.take_over(refreshed);
            drop(lock);
            readings.ended.notify_waiters();
        });
        if started.is_err() {
            self.memory().reading_since = None;
        }
    }

    fn before(&self, detect: bool) -> Before {
        let stored = self.newest();
        let memory = self.memory();
        Before {
            stored,
            facts: self.store.facts().or_else(|| memory.facts.clone()),
            detected: self.store.detected().or_else(|| memory.detected.clone()),
            detect,
        }
    }

    fn take_over(&self, refreshed: Refreshed) {
        let mut memory = self.memory();
        memory.stored = Some(refreshed.stored);
        memory.facts = Some(refreshed.facts);
        memory.detected = Some(refreshed.detected);
        memory.reading_since = None;
        if let Some(error) = refreshed.unwritable {
            memory.unwritable.get_or_insert(error.to_string());
        }
    }

    /// For how long a reading has been under way, here or in another process.
    pub(super) fn refreshing(&self) -> Option<u64> {
        let own = self.memory().reading_since;
        let since = own.or_else(|| {
            let free = Lock::try_take(&self.store.lock_path()).is_ok_and(|lock| lock.is_some());
            if free {
                return None;
            }
            let text = std::fs::read(self.store.lock_path()).ok()?;
            let holder: Holder = serde_json::from_slice(&text).ok()?;
            (holder.boot_id == boot_id()).then_some(holder.since)
        })?;
        Some(clock::now().saturating_sub(since))
    }

    pub(super) fn processes_unknown(&self) -> bool {
        let sample = self.newest().and_then(|stored| stored.sample);
        sample.is_none_or(|sample| sample.processes_unknown)
    }
}

/// How long a driver that did not answer is left alone: 2 s, 4 s, 8 s and so on.
fn pause(failures: u32) -> Duration {
    let seconds = 2u64.saturating_pow(failures.clamp(1, 16));
    Duration::from_secs(seconds).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_at_a_minute() {
        let seconds: Vec<u64> = (0..8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [2, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
