//! One story of a run: what happened to it, and what its GPUs did while which lines were in its log.

use super::series;
use crate::mirror::read;
use crate::model::{Run, RunEvent};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::series::{GpuSample, Sample};
use serde::Serialize;
use std::path::Path;

/// A change of memory is told from here on, in MiB, unless the GPU is so large that this is little.
const JUMP: u64 = 512;
/// The share of a GPU's memory that is little.
const LITTLE: u64 = 20;
/// Lines of the log beside a change of memory.
const LINES: usize = 3;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When: by the host's clock for what its samples and its run tell, else by ours.
    pub at: DateTime<Utc>,
    /// `started`, `ended`, `memory`, `gap` or the kind of an event.
    pub kind: String,
    /// What, for people.
    pub detail: String,
    /// Run-log bytes at that moment, where they are known.
    pub log_offset: Option<u64>,
    /// The last lines of the run log before that offset, where they are here.
    pub log: Vec<String>,
}

/// Everything that is known of a run, oldest first.
pub fn of(run: &Run, events: &[RunEvent], samples: &[Sample]) -> Vec<Entry> {
    let plain = |at, kind: &str, detail: String| Entry {
        at,
        kind: kind.to_owned(),
        detail,
        log_offset: None,
        log: Vec::new(),
    };
    let mut entries: Vec<Entry> = events
        .iter()
        .map(|event| plain(event.at, &event.kind, event.detail.clone()))
        .collect();
    entries.extend(
        run.started_at
            .map(|at| plain(at, "started", format!("on `{}`", run.host))),
    );
    entries.extend(run.ended_at.map(|at| {
        let why = run
            .error_message
            .clone()
            .unwrap_or_else(|| "it ended well".to_owned());
        plain(at, "ended", why)
    }));
    entries.extend(gaps(samples));
    for jump in jumps(run, samples) {
        let log = run
            .log_path
            .as_deref()
            .and_then(|path| read::lines_before(Path::new(path), jump.log_offset?, LINES).ok())
            .unwrap_or_default();
        entries.push(Entry { log, ..jump });
    }
    // Stable: what happened in one moment stays in the order in which it was written down.
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// Spans without a sample.
fn gaps(samples: &[Sample]) -> Vec<Entry> {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    pairs
        .filter_map(|(before, after)| {
            let due = before.at + TimeDelta::seconds(i64::from(before.covers));
            let missing = (after.at - due).num_seconds();
            (missing >= i64::from(before.covers) * 2).then(|| Entry {
                at: due,
                kind: "gap".to_owned(),
                detail: format!("no figures of GPUs for {missing} s"),
                log_offset: Some(before.log_offset),
                log: Vec::new(),
            })
        })
        .collect()
}

/// A change of memory that may take several samples.
struct Jump {
    from: u64,
    to: u64,
    at: DateTime<Utc>,
    log_offset: u64,
}

fn jumps(run: &Run, samples: &[Sample]) -> Vec<Entry> {
    let mut entries = Vec::new();
    // What is in use on a GPU that others have as well says nothing about the run.
    let alone = run.lease.as_ref().is_none_or(|lease| !lease.shared);
    for (uuid, name, leased) in series::gpus(run, samples) {
        let total = leased.and_then(|gpu| gpu.memory_total).unwrap_or(0);
        let floor = JUMP.max(total / LITTLE);
        entries.extend(of_gpu(samples, uuid, floor, alone).into_iter().map(|jump| Entry {
            at: jump.at,
            kind: "memory".to_owned(),
            detail: format!("{name}: {} -> {}", gibibytes(jump.from), gibibytes(jump.to)),
            log_offset: Some(jump.log_offset),
            log: Vec::new(),
        }));
    }
    entries
}

/// Changes of a run's memory on one GPU. While no process of it is seen, what is in use on the GPU stands for it when
/// it has the GPU `alone`.
fn of_gpu<'a>(samples: &'a [Sample], uuid: &str, floor: u64, alone: bool) -> Vec<Jump> {
    let mut jumps = Vec::new();
    let of = |sample: &'a Sample| sample.gpus.iter().find(|gpu| gpu.uuid == uuid);
    // Where others may be on it, one quantity throughout: a change from one to the other would look like a jump.
    let own = samples.iter().filter_map(of).any(|gpu| gpu.run_memory.is_some());
    let mut growing: Option<Jump> = None;
    let mut before: Option<u64> = None;
    for sample in samples {
        let gpu = of(sample);
        let memory = |gpu: &GpuSample| match gpu.run_memory {
            None if !own => gpu.memory,
            // It is no less than the run's own, so it may tell of a fall and not of a rise.
            None if alone => gpu.memory.map(|all| all.min(before.unwrap_or(u64::MAX))),
            known => known,
        };
        let Some(now) = gpu.and_then(memory) else {
            continue;
        };
        let Some(last) = before.replace(now) else {
            continue;
        };
        let goes_on = now.abs_diff(last) >= floor / 4;
        match &mut growing {
            Some(jump) if goes_on && (jump.to > jump.from) == (now > last) => {
                jump.to = now;
                jump.at = sample.at;
                jump.log_offset = sample.log_offset;
                continue;
            }
            _ => jumps.extend(growing.take()),
        }
        if goes_on {
            growing = Some(Jump {
                from: last,
                to: now,
                at: sample.at,
                log_offset: sample.log_offset,
            });
        }
    }
    jumps.extend(growing);
    jumps.retain(|jump| jump.to.abs_diff(jump.from) >= floor);
    jumps
}

fn gibibytes(mebibytes: u64) -> String {
    format!("{:.1} GiB", mebibytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples(memory: &[u64]) -> Vec<Sample> {
        let start: DateTime<Utc> = "2026-03-01T10:00:00Z".parse().unwrap();
        memory
            .iter()
            .enumerate()
            .map(|(index, memory)| {
                serde_json::from_value(json!({
                    "at": start + TimeDelta::seconds(index as i64 * 5), "covers": 5, "log_offset": index * 10,
                    "gpus": [{ "uuid": "GPU-a", "run_memory": memory }],
                }))
                .unwrap()
            })
            .collect()
    }

    fn run(log: Option<&Path>) -> Run {
        serde_json::from_value(json!({
            "id": "rs_aaaaaaaa", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "run", "status": "failed",
            "error_message": "the job exited with code 1", "log_path": log,
            "log_complete": false, "gpus": "all", "created_at": "2026-03-01T09:59:00Z", "updated_at": "2026-03-01T10:00:00Z",
            "started_at": "2026-03-01T10:00:00Z", "ended_at": "2026-03-01T10:02:00Z",
            "spec": {
                "format": 1, "run_id": "rs_aaaaaaaa", "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
                "created_at": "2026-03-01T10:00:00Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_rise_over_several_samples_is_one_jump() {
        let found = of_gpu(
            &samples(&[0, 0, 4000, 9000, 20_000, 20_050, 20_100, 300]),
            "GPU-a",
            512,
            true,
        );
        let told: Vec<(u64, u64, u64)> = found
            .iter()
            .map(|jump| (jump.from, jump.to, jump.log_offset))
            .collect();
        assert_eq!(told, [(0, 20_000, 40), (20_100, 300, 70)]);
    }

    #[test]
    fn small_changes_are_left_out() {
        assert!(of_gpu(&samples(&[100, 200, 300, 100, 400, 300]), "GPU-a", 512, true).is_empty());
    }

    #[test]
    fn a_process_that_appears_or_goes_is_a_jump_where_nobody_else_is() {
        let mut samples = samples(&[0, 0, 9000, 9000, 0, 0]);
        let seen = [
            (None, Some(600)),
            (None, None),
            (Some(9000), Some(9700)),
            // The driver names no process for once.
            (None, Some(9700)),
            (Some(9000), Some(9700)),
            (None, Some(600)),
        ];
        for (sample, (own, all)) in samples.iter_mut().zip(seen) {
            sample.gpus[0].run_memory = own;
            sample.gpus[0].memory = all;
        }
        let told = |alone| -> Vec<(u64, u64)> {
            let found = of_gpu(&samples, "GPU-a", 1000, alone);
            found.iter().map(|jump| (jump.from, jump.to)).collect()
        };
        assert_eq!(told(true), [(600, 9000), (9000, 600)]);
        assert_eq!(told(false), []);
    }

    #[test]
    fn events_samples_and_log_become_one_story() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.log");
        std::fs::write(
            &path,
            "start\nload\rloading 9 %\rloading\n\nready\nnot yet written\n",
        )
        .unwrap();
        let mut samples = samples(&[0, 100, 100, 60_000, 60_000]);
        samples[3].log_offset = 37;
        samples[4].at += TimeDelta::seconds(60);
        let events = [RunEvent {
            at: "2026-03-01T10:00:30Z".parse().unwrap(),
            kind: "link".to_owned(),
            detail: "lost".to_owned(),
        }];
        let story = of(&run(Some(&path)), &events, &samples);
        let told: Vec<(&str, &str)> = story
            .iter()
            .map(|entry| (entry.kind.as_str(), entry.detail.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("started", "on `gpu1`"),
                ("memory", "GPU-a: 0.1 GiB -> 58.6 GiB"),
                ("gap", "no figures of GPUs for 60 s"),
                ("link", "lost"),
                ("ended", "the job exited with code 1"),
            ]
        );
        assert_eq!(story[1].log, ["loading 9 %", "loading", "ready"]);
    }

    #[test]
    fn a_log_that_is_not_here_is_left_out() {
        let samples = samples(&[0, 9000]);
        let story = of(&run(Some(Path::new("/nowhere/run.log"))), &[], &samples);
        assert!(
            story
                .iter()
                .any(|entry| entry.kind == "memory" && entry.log.is_empty())
        );
    }
}
