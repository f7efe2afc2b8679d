//! The way to a host's GPUs: answers in time, one reading for all who ask.

use super::ask;
use super::child::{ChildLimits, Finished};
use super::program::Program;
use super::refresh::{Before, Refreshed, refresh};
use super::store::{Detected, Facts, Sample, Store, Stored};
use super::{clock, query};
use crate::record::{Lock, boot_id, host_id};
use chrono::Utc;
use farrun_protocol::gpu::{Device, DeviceFacts, Freshness, GpuReport, GpuTrouble, STALE_AFTER, TroubleKind};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Figures younger than this are not read anew, however young one wants them.
const YOUNGEST: Duration = Duration::from_millis(250);
/// How often one who waits looks whether another process has finished.
const LOOK_APART: Duration = Duration::from_millis(25);
/// Longest pause after readings that did not end in time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where GPUs are read from and for how long what was read will do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state folder; the cache is its `gpu/`.
    pub state: PathBuf,
    /// Which `nvidia-smi`.
    pub program: Program,
    /// The agent program, which starts it within limits.
    pub launcher: PathBuf,
    /// Root of `proc`, `sys`, `dev` and `etc`.
    pub root: PathBuf,
    /// Age up to which figures will do when the caller does not say.
    pub keep_sample: Duration,
    /// Age up to which facts about driver and device will do.
    pub keep_facts: Duration,
    /// Longest time until an answer.
    pub answer_within: Duration,
    /// Limits of `nvidia-smi`.
    pub child: ChildLimits,
}

impl Settings {
    /// The usual ones: figures for 2 s, facts for an hour, an answer within 0.6 s.
    pub fn new(state: &Path, program: Program, launcher: &Path) -> Self {
        Self {
            state: state.to_owned(),
            program,
            launcher: launcher.to_owned(),
            root: PathBuf::from("/"),
            keep_sample: Duration::from_secs(2),
            keep_facts: Duration::from_secs(3600),
            answer_within: Duration::from_millis(600),
            child: ChildLimits::default(),
        }
    }

    /// The machine's id; empty when it cannot be had.
    pub(super) fn host_id(&self) -> String {
        host_id(&self.state).map_or_else(|_| String::new(), |id| id.to_string())
    }
}

/// A host's GPUs. Cheap to clone; clones share readings. Must be used within a tokio runtime.
#[derive(Debug, Clone)]
pub struct Gpus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    store: Store,
    memory: Mutex<Memory>,
    /// Told when a reading of this process has ended.
    ended: Notify,
}

/// What this process knows beside the files: the same, unless they cannot be written.
#[derive(Debug, Default)]
struct Memory {
    stored: Option<Stored>,
    facts: Option<Facts>,
    detected: Option<Detected>,
    /// When the reading under way began, by the clock of the boot.
    reading_since: Option<u64>,
    unwritable: Option<String>,
}

/// What the lock file says while it is held.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    boot_id: String,
    since: u64,
}

/// What one who asks wants.
#[derive(Debug, Clone, Copy)]
struct Wish {
    /// When it was asked, by the clock of the boot.
    asked: u64,
    /// Age that will do.
    max_age: Duration,
    /// Whether only a reading from after the question will do, with everything found out anew.
    detect: bool,
}

impl Gpus {
    /// The GPUs of a host; nothing is read yet.
    pub fn new(settings: Settings) -> Self {
        let store = Store::new(settings.state.join("gpu"));
        Self {
            shared: Arc::new(Shared {
                settings,
                store,
                memory: Mutex::default(),
                ended: Notify::new(),
            }),
        }
    }

    /// What is known, at most `max_age` old if that can be had in time; the usual age when none is given. With
    /// `detect` everything is found out anew. Answers within 0.6 s, with what there is; a reading
    /// that takes longer goes on in the background and serves the next who asks.
    ///
    /// `leases` is empty and no container is told to be a run: callers add both.
    pub async fn report(&self, max_age: Option<Duration>, detect: bool) -> GpuReport {
        let wish = self.wish(max_age, detect);
        let within = self.shared.settings.answer_within;
        self.wait(wish, Instant::now() + within).await;
        self.shared.report(wish)
    }

    /// Figures that a GPU may be chosen by: not stale, processes included. Waits for a slow driver, at most for
    /// `patience`.
    ///
    /// # Errors
    /// Why there are none. [`TroubleKind::NoGpu`] means that the host has no GPU and nothing is wrong.
    pub async fn sample_for_choice(&self, patience: Duration) -> Result<GpuReport, GpuTrouble> {
        let wish = self.wish(None, false);
        self.wait(wish, Instant::now() + patience).await;
        let report = self.shared.report(wish);
        let unusable = match (&report.age_ms, &report.trouble) {
            (Some(age), _) if *age <= STALE_AFTER => self.shared.processes_unknown(),
            _ => true,
        };
        if !unusable {
            return Ok(report);
        }
        Err(report.trouble.unwrap_or(GpuTrouble {
            kind: TroubleKind::Timeout,
            detail: None,
            pid: None,
            for_ms: report.refreshing_ms,
        }))
    }

    /// What `nvidia-smi` says to these arguments. Blocks, and must be called on a thread that outlives the answer.
    ///
    /// # Errors
    /// Why it was not asked, for people.
    pub(crate) fn ask(&self, arguments: &[&str], limits: ChildLimits) -> Result<Finished, String> {
        ask::ask(&self.shared.settings, &self.shared.store, arguments, limits)
    }

    fn wish(&self, max_age: Option<Duration>, detect: bool) -> Wish {
        Wish {
            asked: clock::now(),
            max_age: max_age.unwrap_or(self.shared.settings.keep_sample).max(YOUNGEST),
            detect,
        }
    }

    /// Waits until there is what was wished for, or nothing more to hope for, or the deadline.
    async fn wait(&self, wish: Wish, deadline: Instant) {
        loop {
            let ended = self.shared.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.shared.is_granted(wish) {
                return;
            }
            self.shared.begin(wish);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let _ = tokio::time::timeout(left.min(LOOK_APART), ended).await;
        }
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        match self.memory.lock() {
            Ok(memory) => memory,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The newest reading of this boot, of this or any other process.
    fn newest(&self) -> Option<Stored> {
        let own = self.memory().stored.clone();
        let boot_id = boot_id();
        let stored = [self.store.sample(), own].into_iter().flatten();
        stored
            .filter(|stored| stored.boot_id == boot_id && stored.attempt.ended <= clock::now())
            .max_by_key(|stored| stored.attempt.ended)
    }

    /// Whether the newest reading will do, or the driver is given a pause.
    fn is_granted(&self, wish: Wish) -> bool {
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
    fn begin(self: &Arc<Self>, wish: Wish) {
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
        let shared = Arc::clone(self);
        // A thread of its own, because the child is killed when the thread that started it ends.
        let thread = std::thread::Builder::new().name("nvidia-smi".to_owned());
        let started = thread.spawn(move || {
            let before = shared.before(wish.detect);
            let refreshed = refresh(&shared.settings, &shared.store, before);
            shared.take_over(refreshed);
            drop(lock);
            shared.ended.notify_waiters();
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
    fn refreshing(&self) -> Option<u64> {
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

    fn processes_unknown(&self) -> bool {
        let sample = self.newest().and_then(|stored| stored.sample);
        sample.is_none_or(|sample| sample.processes_unknown)
    }

    fn report(&self, wish: Wish) -> GpuReport {
        let now = clock::now();
        let refreshing_ms = if self.is_granted(wish) {
            None
        } else {
            self.refreshing()
        };
        let (sample, attempt) = match self.newest() {
            Some(stored) => (stored.sample, Some(stored.attempt)),
            None => (None, None),
        };
        let trouble = attempt.and_then(|attempt| {
            let mut trouble = attempt.trouble?;
            let since = attempt.since.map(|since| now.saturating_sub(since));
            trouble.for_ms = since.or(trouble.for_ms);
            Some(trouble)
        });
        let device = self.device(trouble.as_ref(), refreshing_ms);
        let trouble = trouble.or_else(|| self.unwritable());
        GpuReport {
            state: state(sample.as_ref(), wish, self.settings.keep_sample, now),
            sampled_at: sample.as_ref().map(|sample| sample.at),
            age_ms: sample.as_ref().map(|sample| now.saturating_sub(sample.ended)),
            took_ms: sample.as_ref().map(|sample| sample.took),
            refreshing_ms,
            trouble,
            device,
            driver: sample.as_ref().and_then(|sample| sample.driver.clone()),
            gpus: sample
                .as_ref()
                .map(|sample| sample.gpus.clone())
                .unwrap_or_default(),
            processes: sample.map(|sample| sample.processes).unwrap_or_default(),
            leases: Vec::new(),
        }
    }

    /// What was found out about the device. Before the first reading has ended nothing is claimed: GPUs that cannot be
    /// used yet.
    fn device(&self, trouble: Option<&GpuTrouble>, refreshing_ms: Option<u64>) -> DeviceFacts {
        let boot_id = boot_id();
        let own = self.memory().detected.clone();
        let found = [self.store.detected(), own]
            .into_iter()
            .flatten()
            .filter(|found| found.boot_id == boot_id && found.version == super::device::VERSION)
            .max_by_key(|found| found.taken);
        if let Some(found) = found {
            return found.facts;
        }
        let broken = trouble.cloned().unwrap_or(GpuTrouble {
            kind: TroubleKind::Timeout,
            detail: Some("nvidia-smi has not answered yet".to_owned()),
            pid: None,
            for_ms: refreshing_ms,
        });
        DeviceFacts {
            device: Device::Cuda,
            broken: Some(broken),
            detected_at: Utc::now(),
            boot_id,
        }
    }

    fn unwritable(&self) -> Option<GpuTrouble> {
        let detail = self.memory().unwritable.clone()?;
        Some(GpuTrouble {
            kind: TroubleKind::CacheUnwritable,
            detail: Some(super::text::bounded(&detail, 500)),
            pid: None,
            for_ms: None,
        })
    }
}

/// How much a reading can be trusted by one who asks now.
fn state(sample: Option<&Sample>, wish: Wish, keep: Duration, now: u64) -> Freshness {
    let Some(sample) = sample else {
        return Freshness::Unavailable;
    };
    if sample.ended >= wish.asked {
        return Freshness::Fresh;
    }
    let age = Duration::from_millis(now.saturating_sub(sample.ended));
    if age <= wish.max_age.max(keep).min(Duration::from_millis(STALE_AFTER)) {
        Freshness::Cached
    } else {
        Freshness::Stale
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

    #[test]
    fn old_figures_are_never_called_fresh() {
        let sample = Sample {
            at: Utc::now(),
            ended: 100_000,
            took: 1,
            driver: None,
            gpus: Vec::new(),
            processes: Vec::new(),
            processes_unknown: false,
        };
        let keep = Duration::from_secs(2);
        let seen = |asked, now, max_age| {
            let wish = Wish {
                asked,
                max_age: Duration::from_millis(max_age),
                detect: false,
            };
            state(Some(&sample), wish, keep, now)
        };
        assert_eq!(seen(99_000, 100_001, 2000), Freshness::Fresh);
        assert_eq!(seen(101_000, 101_000, 2000), Freshness::Cached);
        assert_eq!(seen(103_000, 103_000, 2000), Freshness::Stale);
        assert_eq!(seen(110_000, 110_000, 20_000), Freshness::Cached);
        assert_eq!(seen(131_000, 131_000, 600_000), Freshness::Stale);
    }
}
