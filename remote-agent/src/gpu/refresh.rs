//! A new reading, taken by the one process that holds the lock, and written down for all.

use super::ask::run_in_turn;
use super::child::End;
use super::child_record::{self, ChildRecord};
use super::device::{self, Where};
use super::query::{self, Taken};
use super::store::{Attempt, Detected, Facts, KnownHolder, Sample, Store, Stored};
use super::{Settings, board, clock, holder};
use crate::record::{RecordError, boot_id, remove_if_present};
use chrono::Utc;
use farrun_protocol::gpu::{FORMAT, Gpu, GpuTrouble, HISTORY, TroubleKind};
use std::path::Path;
use std::time::Duration;

/// What a reading left behind.
#[derive(Debug)]
pub(super) struct Refreshed {
    pub(super) stored: Stored,
    pub(super) facts: Facts,
    pub(super) detected: Detected,
    /// Why it could not be written down, when it could not.
    pub(super) unwritable: Option<RecordError>,
}

/// What a reading starts from.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) stored: Option<Stored>,
    pub(super) facts: Option<Facts>,
    pub(super) detected: Option<Detected>,
    /// Whether everything is found out anew.
    pub(super) detect: bool,
}

/// Takes a reading and writes it down. Blocks for as long as the program takes, at most for its limits.
pub(super) fn refresh(settings: &Settings, store: &Store, before: Before) -> Refreshed {
    let begun = clock::now();
    let place = Where {
        host_id: settings.host_id(),
        boot_id: boot_id(),
        driver: device::kernel_driver(&settings.root),
    };
    let (sample, attempt_before, mut holders) = parts(before.stored, &place.boot_id);
    let previous: &[Gpu] = sample.as_ref().map_or(&[], |sample| &sample.gpus);
    let mut facts = usable(before.facts, &place, begun, before.detect, settings.keep_facts);
    let program = settings.program.find();
    let outcome = match &program {
        Some(program) => read(settings, store, program, &mut facts, previous),
        None => without_program(settings),
    };
    let (taken, trouble, since) = match outcome {
        Ok(mut taken) => {
            let trouble = taken.trouble.take();
            (Some(taken), trouble, None)
        }
        Err(failed) => (None, Some(failed.trouble), failed.since),
    };
    learn(&mut facts, taken.as_ref(), trouble.as_ref());
    let found = device::judge(
        &settings.root,
        taken.as_ref().map_or(&[], |taken| &taken.gpus),
        trouble.as_ref(),
        // A host that showed GPUs since its boot has some, whatever is said now.
        program.is_some() || !previous.is_empty(),
    );
    let found = match (found, &trouble) {
        ((_, None), Some(trouble)) if taken.is_none() && !previous.is_empty() => {
            (farrun_protocol::gpu::Device::Cuda, Some(trouble.clone()))
        }
        (found, _) => found,
    };
    let now = clock::now();
    let new = place.found(found.0, found.1, now, Utc::now());
    let kept = before.detected.filter(|old| {
        !before.detect && place.holds(old, now, settings.keep_facts) && device::same(&old.facts, &new.facts)
    });
    let failed_late = trouble.as_ref().is_some_and(query::hangs);
    let stored = Stored {
        format: FORMAT,
        boot_id: place.boot_id,
        sample: match taken {
            Some(taken) => Some(sampled(settings, taken, sample, &mut holders, begun, now)),
            None => sample.map(missed),
        },
        attempt: Attempt {
            ended: now,
            trouble,
            since,
            failures: if failed_late {
                attempt_before
                    .map_or(0, |attempt| attempt.failures)
                    .saturating_add(1)
            } else {
                0
            },
        },
        holders,
    };
    let detected = kept.unwrap_or(new);
    // The sample last: whoever waits, in this process or another, takes it for the end of the reading.
    let written = store
        .write_facts(&facts)
        .and_then(|()| store.write_detected(&detected))
        .and_then(|()| store.write_sample(&stored));
    Refreshed {
        stored,
        facts,
        detected,
        unwritable: written.err(),
    }
}

/// What an earlier reading left, when it was of this boot.
fn parts(stored: Option<Stored>, boot_id: &str) -> (Option<Sample>, Option<Attempt>, Vec<KnownHolder>) {
    match stored.filter(|stored| stored.boot_id == boot_id) {
        Some(stored) => (stored.sample, Some(stored.attempt), stored.holders),
        None => (None, None, Vec::new()),
    }
}

/// What is known about the driver, unless it may have changed.
fn usable(facts: Option<Facts>, place: &Where, now: u64, detect: bool, keep: Duration) -> Facts {
    let fresh = |facts: &Facts| {
        let age = now.checked_sub(facts.taken).map(Duration::from_millis);
        !detect
            && facts.boot_id == place.boot_id
            && facts.kernel_driver == place.driver
            && age.is_some_and(|age| age <= keep)
    };
    facts
        .filter(fresh)
        .unwrap_or_else(|| Facts::new(place.boot_id.clone(), place.driver.clone(), now))
}

/// Drops what is known about the driver when the way in which readings end changes: it may be another one.
fn learn(facts: &mut Facts, taken: Option<&Taken>, trouble: Option<&GpuTrouble>) {
    let class = match taken {
        Some(_) => None,
        None => trouble.map(|trouble| trouble.kind),
    };
    if facts.class != class && class.is_some() {
        *facts = Facts::new(facts.boot_id.clone(), facts.kernel_driver.clone(), facts.taken);
    }
    facts.class = class;
}

/// Why a reading failed.
struct Failed {
    trouble: GpuTrouble,
    since: Option<u64>,
}

fn read(
    settings: &Settings,
    store: &Store,
    program: &Path,
    facts: &mut Facts,
    previous: &[Gpu],
) -> Result<Taken, Failed> {
    if let Some(left) = child_record::clear_away(store.folder(), settings.child.kill) {
        return Err(stuck(&left));
    }
    let turn = settings.turn();
    let turn = turn.map_err(|trouble| Failed { trouble, since: None })?;
    let record = store.folder().join(child_record::NAME);
    let mut ask = |arguments: &[&str]| {
        let (launcher, limits) = (&settings.launcher, settings.child);
        let finished = run_in_turn(launcher, &record, &turn, program, arguments, limits);
        if !matches!(finished.end, End::Stuck(_)) {
            let _ = remove_if_present(&record);
        }
        finished
    };
    let cards = device::kernel_cards(&settings.root);
    let mut taken = match query::take(&mut ask, facts, previous, &cards) {
        Ok(taken) => taken,
        Err(trouble) => {
            // A board whose GPU the program does not know.
            if let Some(gpu) = board::jetson(&settings.root) {
                return Ok(alone(gpu));
            }
            let since = (trouble.kind == TroubleKind::Stuck)
                .then(|| child_record::read(store.folder()))
                .flatten()
                .map(|left| left.since);
            return Err(Failed { trouble, since });
        }
    };
    board::add_unified_memory(&settings.root, &mut taken.gpus);
    board::add_jetson_load(&settings.root, &mut taken.gpus);
    Ok(taken)
}

fn stuck(left: &ChildRecord) -> Failed {
    Failed {
        trouble: GpuTrouble {
            kind: TroubleKind::Stuck,
            detail: None,
            pid: Some(left.pid),
            for_ms: None,
        },
        since: Some(left.since),
    }
}

/// What a host without the program has: the GPU of a Jetson, or none.
fn without_program(settings: &Settings) -> Result<Taken, Failed> {
    if let Some(gpu) = board::jetson(&settings.root) {
        return Ok(alone(gpu));
    }
    let (_, broken) = device::judge(&settings.root, &[], None, false);
    Err(Failed {
        trouble: broken.unwrap_or(GpuTrouble {
            kind: TroubleKind::NoGpu,
            detail: None,
            pid: None,
            for_ms: None,
        }),
        since: None,
    })
}

fn alone(gpu: Gpu) -> Taken {
    Taken {
        gpus: vec![gpu],
        apps: Vec::new(),
        // Nothing on such a board tells them, so their absence is all that can be known.
        apps_unknown: false,
        driver: None,
        trouble: None,
    }
}

fn sampled(
    settings: &Settings,
    taken: Taken,
    before: Option<Sample>,
    holders: &mut Vec<KnownHolder>,
    begun: u64,
    now: u64,
) -> Sample {
    let mut histories: std::collections::BTreeMap<String, Vec<Option<u8>>> = before
        .into_iter()
        .flat_map(|sample| sample.gpus)
        .map(|gpu| (gpu.uuid, gpu.history))
        .collect();
    let mut gpus = taken.gpus;
    for gpu in &mut gpus {
        gpu.history = histories.remove(&gpu.uuid).unwrap_or_default();
        let newest = gpu
            .utilization
            .value()
            .and_then(|percent| percent.try_into().ok());
        remember(&mut gpu.history, newest);
    }
    Sample {
        at: Utc::now(),
        ended: now,
        took: now.saturating_sub(begun),
        driver: taken.driver,
        gpus,
        processes: holder::identify(&settings.root, &taken.apps, holders),
        processes_unknown: taken.apps_unknown,
    }
}

/// The last good reading once a later one failed: its figures stay, its course has a gap.
fn missed(mut sample: Sample) -> Sample {
    for gpu in &mut sample.gpus {
        remember(&mut gpu.history, None);
    }
    sample
}

fn remember(history: &mut Vec<Option<u8>>, newest: Option<u8>) {
    history.push(newest);
    let surplus = history.len().saturating_sub(HISTORY);
    history.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_driver_goes_with_the_hour_the_boot_and_the_driver() {
        let place = |boot: &str, driver: &str| Where {
            host_id: "h".into(),
            boot_id: boot.into(),
            driver: driver.into(),
        };
        let known = Facts {
            cuda: Some(Some("12.5".into())),
            ..Facts::new("b".into(), "d".into(), 1000)
        };
        let hour = Duration::from_secs(3600);
        let is_kept = |place: &Where, now, detect| {
            let facts = usable(Some(known.clone()), place, now, detect, hour);
            facts.cuda.is_some()
        };
        let here = place("b", "d");
        assert!(is_kept(&here, 1000 + 3_600_000, false));
        assert!(!is_kept(&here, 1001 + 3_600_000, false));
        assert!(!is_kept(&here, 999, false), "of a later moment");
        assert!(!is_kept(&here, 1000, true), "everything is found out anew");
        for other in [place("x", "d"), place("b", "x")] {
            assert!(!is_kept(&other, 1000, false), "{other:?}");
        }
    }

    #[test]
    fn another_way_to_fail_is_another_driver() {
        let trouble = |kind| GpuTrouble {
            kind,
            detail: None,
            pid: None,
            for_ms: None,
        };
        let mut facts = Facts::new("b".into(), "d".into(), 1000);
        let remember = |facts: &mut Facts| facts.cuda = Some(None);
        remember(&mut facts);
        learn(&mut facts, None, Some(&trouble(TroubleKind::DriverMismatch)));
        assert_eq!(
            (&facts.cuda, facts.class),
            (&None, Some(TroubleKind::DriverMismatch))
        );
        remember(&mut facts);
        learn(&mut facts, None, Some(&trouble(TroubleKind::DriverMismatch)));
        assert!(facts.cuda.is_some(), "the same again");
        learn(&mut facts, None, Some(&trouble(TroubleKind::DriverNotLoaded)));
        assert!(facts.cuda.is_none());
    }
}
