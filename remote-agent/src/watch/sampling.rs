//! What GPUs do while runs use them.

use super::card::Post;
use super::observer::Observed;
use super::open_runs::OpenRun;
use crate::gpu::boot_clock;
use crate::record::boot_id;
use crate::series::{Moment, Series};
use crate::serve::{Peer, Session};
use chrono::Utc;
use farrun_protocol::RunId;
use farrun_protocol::gpu::{Freshness, GpuProcess, GpuReport, Holder};
use farrun_protocol::lease::Lease;
use farrun_protocol::series::{APART, GpuSample, Sample};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Figures older than this are no sample.
const OLDEST: u64 = 2500;
/// Figures younger than this are not read anew.
const YOUNG: Duration = Duration::from_secs(1);
/// Time until a reading that was not there in time is looked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the engine may take to tell which containers are runs.
const NAMING: Duration = Duration::from_secs(1);

/// A run with GPUs.
#[derive(Debug)]
struct Sampled {
    lease: Lease,
    series: Series,
}

/// Takes the samples of all runs.
#[derive(Debug)]
pub(super) struct Sampler {
    session: Arc<Session>,
    observed: Observed,
    runs: HashMap<RunId, Sampled>,
    /// The reading of the newest samples, by the clock of the boot.
    newest: u64,
}

impl Sampler {
    pub(super) fn new(session: Arc<Session>, observed: Observed) -> Self {
        Self {
            session,
            observed,
            runs: HashMap::new(),
            newest: 0,
        }
    }

    /// Samples for as long as it is polled and has its post.
    pub(super) async fn run(mut self, post: &Post) {
        let apart = Duration::from_secs(APART);
        let mut due = Instant::now();
        loop {
            tokio::time::sleep_until(due).await;
            if !post.is_kept() {
                return;
            }
            self.take_up();
            due += apart;
            if self.runs.is_empty() {
                // A run that starts now is sampled soon.
                due = Instant::now() + AGAIN;
                continue;
            }
            while !self.sample().await && Instant::now() + AGAIN < due {
                tokio::time::sleep(AGAIN).await;
            }
            due = due.max(Instant::now());
        }
    }

    /// Begins with runs that have come to life and ends with those that are gone.
    fn take_up(&mut self) {
        let live = self.observed.live();
        let lives = |run_id: &RunId| live.iter().any(|run| run.folder.run_id() == run_id);
        self.runs.retain(|run_id, _| lives(run_id));
        for OpenRun { folder, .. } in &live {
            if self.runs.contains_key(folder.run_id()) {
                continue;
            }
            let Ok(Some(lease)) = folder.lease() else {
                continue;
            };
            let Ok(mut series) = Series::open(folder) else {
                continue;
            };
            if lease.shared {
                series.tally().set_shared();
            }
            self.runs
                .insert(folder.run_id().clone(), Sampled { lease, series });
        }
    }

    /// Stores a sample of every run; answers whether there were figures to store.
    async fn sample(&mut self) -> bool {
        let mut report = self.session.gpus.report(Some(YOUNG), false).await;
        let usable = matches!(report.state, Freshness::Fresh | Freshness::Cached);
        let (Some(age), true) = (report.age_ms.filter(|age| *age <= OLDEST), usable) else {
            return false;
        };
        let taken = boot_clock().saturating_sub(age);
        if taken <= self.newest.saturating_add(APART.saturating_mul(500)) {
            return false;
        }
        let live = self.observed.live();
        for peer in self.peers(&live) {
            let processes = &mut report.processes;
            self.session
                .containers
                .name(&peer.engine, processes, NAMING)
                .await;
        }
        self.newest = taken;
        let moment = Moment {
            boot_id: boot_id(),
            ms: taken,
        };
        for OpenRun { folder, .. } in &live {
            let Some(run) = self.runs.get_mut(folder.run_id()) else {
                continue;
            };
            if has_intruders(&report, folder.run_id(), &run.lease) {
                run.series.tally().set_intruders();
            }
            let sample = Sample {
                at: report.sampled_at.unwrap_or_else(Utc::now),
                covers: u32::try_from(APART).unwrap_or(u32::MAX),
                log_offset: folder.log_length(),
                gpus: figures(&report, folder.run_id(), &run.lease),
            };
            // A disk that is full costs samples, not the run.
            let _ = run.series.append(sample, moment.clone());
        }
        true
    }

    fn peers(&self, live: &[OpenRun]) -> Vec<Peer> {
        let mut peers: Vec<Peer> = Vec::new();
        for run in live {
            if peers.iter().any(|peer| peer.docker == run.docker) {
                continue;
            }
            let context = &self.session.context;
            peers.extend(Peer::new(context, run.controller_id.clone(), run.docker.clone()));
        }
        peers
    }
}

fn figures(report: &GpuReport, run_id: &RunId, lease: &Lease) -> Vec<GpuSample> {
    let of_one = |uuid: &str| {
        let mut sample = GpuSample {
            uuid: uuid.to_owned(),
            ..GpuSample::default()
        };
        for gpu in &report.gpus {
            let instance = gpu.mig_devices.iter().find(|device| device.uuid == uuid);
            if gpu.uuid != uuid && instance.is_none() {
                continue;
            }
            sample.run_memory = memory_of(&report.processes, &gpu.uuid, run_id);
            match instance {
                // Load, power and heat are those of the whole GPU, which others use as well.
                Some(instance) => sample.memory = instance.memory_used.value(),
                None => {
                    sample.memory = gpu.memory_used.value();
                    sample.utilization = gpu.utilization.value();
                    sample.power = gpu.power.value();
                    sample.temperature = gpu.temperature.value();
                }
            }
        }
        sample
    };
    lease.gpus.iter().map(|gpu| of_one(&gpu.uuid)).collect()
}

/// Unknown when no process of the run is seen: a driver that does not name processes is no run without memory.
fn memory_of(processes: &[GpuProcess], gpu: &str, run_id: &RunId) -> Option<u64> {
    let own = |process: &&GpuProcess| {
        process.gpu_uuid == gpu
            && matches!(&process.holder, Holder::Run { run_id: holder } if holder == run_id)
    };
    let known = processes
        .iter()
        .filter(own)
        .filter_map(|process| process.memory.value());
    known.reduce(u64::saturating_add)
}

/// Whether somebody else's process is on a GPU that is the run's alone. Of an instance's neighbours that cannot be
/// told, and a container that the engine has not named yet may be the run's own.
fn has_intruders(report: &GpuReport, run_id: &RunId, lease: &Lease) -> bool {
    let leased = |process: &&GpuProcess| lease.gpus.iter().any(|gpu| gpu.uuid == process.gpu_uuid);
    !lease.shared
        && report
            .processes
            .iter()
            .filter(leased)
            .any(|process| match &process.holder {
                Holder::Run { run_id: holder } => holder != run_id,
                Holder::Container { name, .. } => name.is_some(),
                Holder::Process { .. } => true,
                Holder::Dead => false,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(processes: serde_json::Value) -> GpuReport {
        let absent = serde_json::json!({"absent": "not_available"});
        serde_json::from_value(serde_json::json!({
            "state": "fresh", "age_ms": 0, "processes": processes,
            "device": {"device": "cuda", "detected_at": "2026-01-01T00:00:00Z", "boot_id": ""},
            "gpus": [{
                "uuid": "GPU-0", "index": 0, "name": "Test", "memory_total": 1000, "memory_reserved": 0,
                "memory_used": 700, "memory_free": 300, "utilization": 40, "memory_utilization": absent,
                "temperature": 66, "fan": absent, "power": absent, "power_limit": absent, "ecc_errors": absent,
                "health": "healthy",
            }],
        }))
        .unwrap()
    }

    fn lease(shared: bool) -> Lease {
        serde_json::from_value(serde_json::json!({
            "format": 1, "shared": shared, "since": "2026-01-01T00:00:00Z",
            "gpus": [{"uuid": "GPU-0", "index": 0, "name": "Test"}],
        }))
        .unwrap()
    }

    fn held(memory: u64, holder: &serde_json::Value) -> serde_json::Value {
        serde_json::json!({"gpu_uuid": "GPU-0", "pid": 7, "memory": memory, "holder": holder})
    }

    #[test]
    fn a_sample_holds_the_memory_of_the_runs_own_processes() {
        let run_id: RunId = "rs_aaaaaaaa".parse().unwrap();
        let own = serde_json::json!({"kind": "run", "run_id": run_id});
        let other = serde_json::json!({"kind": "run", "run_id": "rs_bbbbbbbb"});
        let report = report(serde_json::json!([
            held(100, &own),
            held(250, &own),
            held(300, &other)
        ]));
        let figures = figures(&report, &run_id, &lease(false));
        assert_eq!(
            figures,
            [GpuSample {
                uuid: "GPU-0".into(),
                run_memory: Some(350),
                memory: Some(700),
                utilization: Some(40),
                power: None,
                temperature: Some(66),
            }]
        );
        assert_eq!(
            memory_of(&report.processes, "GPU-0", &"rs_cccccccc".parse().unwrap()),
            None
        );
    }

    #[test]
    fn whoever_is_not_the_run_is_an_intruder_unless_the_gpu_is_shared() {
        let run_id: RunId = "rs_aaaaaaaa".parse().unwrap();
        let container = |name: Option<&str>| serde_json::json!({"kind": "container", "id": "aa", "name": name, "user": "root", "command": "x"});
        for (holder, intrudes) in [
            (serde_json::json!({"kind": "run", "run_id": run_id}), false),
            (serde_json::json!({"kind": "run", "run_id": "rs_bbbbbbbb"}), true),
            (
                serde_json::json!({"kind": "process", "user": "ada", "command": "x"}),
                true,
            ),
            (container(Some("other")), true),
            (container(None), false),
            (serde_json::json!({"kind": "dead"}), false),
        ] {
            let report = report(serde_json::json!([held(1, &holder)]));
            assert_eq!(
                has_intruders(&report, &run_id, &lease(false)),
                intrudes,
                "{holder}"
            );
            assert!(!has_intruders(&report, &run_id, &lease(true)));
        }
    }

    #[test]
    fn an_instance_is_sampled_with_its_own_memory_and_the_runs_processes_of_the_whole_gpu() {
        let run_id: RunId = "rs_aaaaaaaa".parse().unwrap();
        let own = serde_json::json!({"kind": "run", "run_id": run_id});
        let stranger = serde_json::json!({"kind": "process", "user": "ada", "command": "x"});
        let mut report = report(serde_json::json!([held(120, &own), held(400, &stranger)]));
        report.gpus[0].mig = true;
        report.gpus[0].mig_devices = serde_json::from_value(serde_json::json!([
            {"uuid": "MIG-1", "profile": "1g.10gb", "memory_total": 10_000, "memory_used": 150},
            {"uuid": "MIG-2", "profile": "1g.10gb", "memory_total": 10_000, "memory_used": 450},
        ]))
        .unwrap();
        let mut lease = lease(false);
        lease.gpus[0].uuid = "MIG-1".into();
        // Load, heat and power are those of a whole GPU, on which others work as well.
        let expected = GpuSample {
            uuid: "MIG-1".into(),
            run_memory: Some(120),
            memory: Some(150),
            ..GpuSample::default()
        };
        assert_eq!(figures(&report, &run_id, &lease), [expected]);
        // Whose the neighbour's process is cannot be told.
        assert!(!has_intruders(&report, &run_id, &lease));
        // A driver that names no process of an instance leaves the instance's memory.
        report.processes.clear();
        let found = figures(&report, &run_id, &lease);
        assert_eq!((found[0].run_memory, found[0].memory), (None, Some(150)));
        report.gpus[0].mig_devices.clear();
        assert_eq!(
            figures(&report, &run_id, &lease)[0].memory,
            None,
            "an instance that is gone"
        );
    }
}
