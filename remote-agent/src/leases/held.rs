//! Who holds what now: the locks, the labels of live containers, and what ended runs have not let go of yet.

use super::folder::{LockFolder, LocksUnusable};
use super::lock_file::{self, Held};
use crate::docker::GpuContainer;
use crate::record::RunFolder;
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::gpu::{GpuReport, HeldLease, Holder};
use std::path::Path;

/// How long the processes of an ended run may take to go before they are nobody's.
const DRAINS: TimeDelta = TimeDelta::seconds(60);
/// How long an engine may take to start a container that it has made.
const STARTS: TimeDelta = TimeDelta::seconds(180);

/// Leases of every account of the host. Locks and labels are both the truth: whichever says that a GPU is held, it is.
///
/// # Errors
/// A lock file cannot be looked at.
pub fn held(
    report: &GpuReport,
    folder: &LockFolder,
    containers: &[GpuContainer],
    state: &Path,
) -> Result<Vec<HeldLease>, LocksUnusable> {
    let mut leases = by_label(containers, state);
    for unit in super::units::units(report) {
        let lock = lock_file::look(folder, &unit.uuid)?;
        if lock != Held::Free {
            add_locked(&mut leases, folder, &unit.uuid, lock);
        }
    }
    add_draining(&mut leases, report, state);
    Ok(leases)
}

fn by_label(containers: &[GpuContainer], state: &Path) -> Vec<HeldLease> {
    let holding = containers.iter().filter(|container| holds(container, state));
    let leases = holding.flat_map(|container| {
        container.gpus.iter().map(|uuid| HeldLease {
            gpu_uuid: uuid.clone(),
            run_id: Some(container.run_id.clone()),
            user: None,
            since: container.created_at,
            shared: container.shared,
            draining: false,
        })
    });
    leases.collect()
}

/// A container that was made and does not run holds nothing, for a crash between making and starting must not block
/// a GPU. PID 1 finds out by itself when it is started late after all; an image's own PID 1 would not, so such a
/// container counts for as long as its start may be under way.
fn holds(container: &GpuContainer, state: &Path) -> bool {
    if container.live {
        return true;
    }
    let young = |at: DateTime<Utc>| is_within(STARTS, at);
    let intent = RunFolder::new(state, &container.run_id).start_intent();
    // Another account's folder cannot be read, so its containers count.
    let may_start = !matches!(intent, Ok(None)) || !is_own(state, container);
    container.unstarted && container.engine_capture && may_start && container.created_at.is_some_and(young)
}

/// Whether a moment lies no more than a span away. One that has not come yet was told by a clock that was set back
/// since; it must not count for as long as the clock takes to get there again.
fn is_within(span: TimeDelta, at: DateTime<Utc>) -> bool {
    Utc::now().signed_duration_since(at).abs() < span
}

fn is_own(state: &Path, container: &GpuContainer) -> bool {
    RunFolder::new(state, &container.run_id).path().is_dir()
}

fn add_locked(leases: &mut Vec<HeldLease>, folder: &LockFolder, uuid: &str, lock: Held) {
    let shared = lock == Held::Shared;
    let holders = lock_file::holders(folder, uuid);
    for lease in leases.iter_mut().filter(|lease| lease.gpu_uuid == uuid) {
        let holder = holders.iter().find(|holder| holder.run_id == lease.run_id);
        lease.user = holder.and_then(|holder| holder.user.clone());
        lease.since = holder.and_then(|holder| holder.since).or(lease.since);
        // The lock knows better than a label whether somebody else may come in.
        lease.shared = shared;
    }
    if leases.iter().any(|lease| lease.gpu_uuid == uuid) {
        return;
    }
    // An engine that we may not ask runs it. The newest who wrote down his name is the one.
    let holder = holders.last();
    leases.push(HeldLease {
        gpu_uuid: uuid.to_owned(),
        run_id: holder.and_then(|holder| holder.run_id.clone()),
        user: holder.and_then(|holder| holder.user.clone()),
        since: holder.and_then(|holder| holder.since),
        shared,
        draining: false,
    });
}

/// A lease lasts until the container is gone and its processes are.
fn add_draining(leases: &mut Vec<HeldLease>, report: &GpuReport, state: &Path) {
    for process in &report.processes {
        let Holder::Run { run_id } = &process.holder else {
            continue;
        };
        let known =
            |lease: &HeldLease| lease.gpu_uuid == process.gpu_uuid && lease.run_id.as_ref() == Some(run_id);
        if leases.iter().any(known) {
            continue;
        }
        let settled = RunFolder::new(state, run_id).settled().ok().flatten();
        let ended = settled.and_then(|settled| settled.ended_at);
        if ended.is_some_and(|ended| is_within(DRAINS, ended)) {
            leases.push(HeldLease {
                gpu_uuid: process.gpu_uuid.clone(),
                run_id: Some(run_id.clone()),
                user: None,
                since: None,
                shared: false,
                draining: true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::fixtures::{gpu, process, report, run};
    use crate::leases::{Refused, Wish, choose};
    use farrun_protocol::lease::{Obstacle, Placement};
    use farrun_protocol::spec::Gpus;
    use rustix::fs::{FlockOperation, flock};

    fn container(gpu: &str, live: bool) -> GpuContainer {
        GpuContainer {
            run_id: run("rs_label000"),
            gpus: vec![gpu.to_owned()],
            shared: false,
            live,
            unstarted: !live,
            engine_capture: false,
            created_at: Some(Utc::now()),
        }
    }

    #[test]
    fn locks_and_labels_both_count() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        let report = report(vec![gpu(0, 24_000), gpu(1, 24_000), gpu(2, 24_000)]);
        let note = lock_file::Holder {
            run_id: Some(run("rs_lock0000")),
            user: Some("ada".into()),
            pid: None,
            since: None,
            shared: true,
        };
        lock_file::write_holder(&folder, "GPU-0", &note).unwrap();
        lock_file::write_holder(&folder, "GPU-2", &note).unwrap();
        let lock = folder.find("gpu-GPU-0.lock").unwrap().unwrap();
        flock(&lock, FlockOperation::LockShared).unwrap();
        let found = held(&report, &folder, &[container("GPU-1", true)], below.path()).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|lease| {
                (
                    lease.gpu_uuid.as_str(),
                    lease.run_id.clone().unwrap().to_string(),
                    lease.shared,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("GPU-1", "rs_label000".to_owned(), false),
                ("GPU-0", "rs_lock0000".to_owned(), true)
            ]
        );
        assert_eq!(found[1].user.as_deref(), Some("ada"));
    }

    #[test]
    fn a_container_that_was_only_made_holds_nothing_unless_nobody_would_notice() {
        let below = tempfile::tempdir().unwrap();
        let made = container("GPU-0", false);
        let own_start = GpuContainer {
            engine_capture: true,
            ..made.clone()
        };
        let old = GpuContainer {
            created_at: Some(Utc::now() - STARTS),
            ..own_start.clone()
        };
        assert!(!holds(&made, below.path()));
        assert!(holds(&own_start, below.path()));
        assert!(!holds(&old, below.path()));
        let ahead = GpuContainer {
            created_at: Some(Utc::now() + TimeDelta::days(1)),
            ..own_start.clone()
        };
        assert!(!holds(&ahead, below.path()), "a clock that was set back");
        // Its start was never ordered: this account's own files say so.
        RunFolder::new(below.path(), &made.run_id).make().unwrap();
        assert!(!holds(&own_start, below.path()));
    }

    #[test]
    fn processes_outlive_their_lease_for_a_minute_and_are_nobodys_then() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(&below.path().join("locks"))).unwrap();
        let mut report = report(vec![gpu(0, 24_000)]);
        let ended = run("rs_ended000");
        report.processes = vec![process(
            "GPU-0",
            7,
            Holder::Run {
                run_id: ended.clone(),
            },
        )];
        let draining = |ago: TimeDelta| -> Vec<bool> {
            let own = RunFolder::new(below.path(), &ended);
            std::fs::create_dir_all(own.path()).unwrap();
            let settled = serde_json::json!({
                "format": 1, "run_id": ended, "ended_at": Utc::now() - ago,
                "verdict": {"result": "succeeded", "reason": "ok"},
                "log": {"length": 0, "sha256": "0".repeat(64)}, "generation": "0".repeat(32),
            });
            std::fs::write(own.path().join("settled.json"), settled.to_string()).unwrap();
            let found = held(&report, &folder, &[], below.path()).unwrap();
            found.iter().map(|lease| lease.draining).collect()
        };
        assert_eq!(draining(TimeDelta::seconds(5)), [true]);
        assert_eq!(draining(TimeDelta::seconds(61)), [false; 0]);
        assert_eq!(
            draining(TimeDelta::days(-1)),
            [false; 0],
            "a clock that was set back"
        );
        // Nor is it given to anybody before they are gone.
        let wish = Wish {
            run_id: None,
            gpus: Gpus::Count(1),
            placement: Placement::default(),
        };
        for (processes, refused) in [(report.processes.clone(), true), (Vec::new(), false)] {
            let report = GpuReport {
                processes,
                ..report.clone()
            };
            let leases = held(&report, &folder, &[], below.path()).unwrap();
            let obstacles = match choose(&report, &leases, &[], &wish) {
                Err(Refused::NotFree(gpus)) => gpus[0].obstacles.clone(),
                Ok(_) => Vec::new(),
                other => panic!("{other:?}"),
            };
            let draining = Obstacle::Draining {
                run_id: Some(ended.clone()),
            };
            assert_eq!(obstacles.contains(&draining), refused, "{obstacles:?}");
        }
    }

    #[test]
    fn a_container_of_ours_that_nobody_knows_holds_its_gpus_without_a_lock() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(&below.path().join("locks"))).unwrap();
        let report = report(vec![gpu(0, 24_000)]);
        let orphan = [container("GPU-0", true)];
        let leases = held(&report, &folder, &orphan, below.path()).unwrap();
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].run_id, Some(run("rs_label000")));
        // A GPU that the report does not know is held as well: it may come back.
        let other = held(&report, &folder, &[container("GPU-9", true)], below.path()).unwrap();
        assert_eq!(other[0].gpu_uuid, "GPU-9");
        assert_eq!(held(&report, &folder, &[], below.path()).unwrap(), []);
    }
}
