//! Chooses the host that fits an order best: one whose GPUs are free now, with no more memory than needed, else the one
//! with the shortest line.

use super::RunError;
use super::gpu_words::mebibytes;
use crate::controller::Controller;
use crate::host::Link;
use crate::model::Host;
use chrono::Utc;
use farrun_protocol::gpu::{Freshness, Gpu, GpuReport, Health};
use farrun_protocol::lease::{IDLE_MEMORY, Placement, Wait};
use farrun_protocol::message::HostFacts;
use farrun_protocol::spec::{Gpus, RunSpec};
use futures_util::future::join_all;
use std::time::Duration;

/// How long a host may take to say how it stands.
const BUDGET: Duration = Duration::from_secs(5);

/// How an order fits a host, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It can start now.
    Now {
        /// Memory of the GPUs it would get in MiB, together: smaller ones are spared for nobody.
        memory: u64,
        /// Our containers that live there.
        busy: usize,
        /// Why, for people.
        because: String,
    },
    /// It would wait.
    Later {
        /// Our containers that live or wait there.
        line: usize,
        /// Why, for people.
        because: String,
    },
    /// It can never run there, or the host does not answer.
    Never {
        /// Why, for people.
        because: String,
    },
}

impl Fit {
    /// Its place among others; smaller is better. Words decide nothing.
    fn rank(&self) -> (u8, u64, usize) {
        match self {
            Self::Now { memory, busy, .. } => (0, *memory, *busy),
            Self::Later { line, .. } => (1, 0, *line),
            Self::Never { .. } => (2, 0, 0),
        }
    }

    /// Why, for people.
    pub fn because(&self) -> &str {
        match self {
            Self::Now { because, .. } | Self::Later { because, .. } | Self::Never { because } => because,
        }
    }
}

/// A host and how the order fits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the host.
    pub host: String,
    /// How the order fits.
    pub fit: Fit,
}

/// Asks every host and ranks them, best first. Hosts that fit equally well keep the order of their names.
///
/// # Errors
/// The database. A host that does not answer is a candidate that can never run it.
pub async fn rank(controller: &Controller, spec: &RunSpec) -> Result<Vec<Candidate>, RunError> {
    let hosts = controller.store.hosts().await?;
    let asked = hosts.iter().map(|host| async move {
        let fit = match tokio::time::timeout(BUDGET, ask(controller, host, spec)).await {
            Ok(Ok(fit)) => fit,
            Ok(Err(error)) => Fit::Never {
                because: error.to_string(),
            },
            Err(_) => Fit::Never {
                because: format!("no answer within {} s", BUDGET.as_secs()),
            },
        };
        Candidate {
            host: host.name.clone(),
            fit,
        }
    });
    let mut candidates = join_all(asked).await;
    candidates.sort_by_key(|candidate| candidate.fit.rank());
    Ok(candidates)
}

async fn ask(controller: &Controller, host: &Host, spec: &RunSpec) -> Result<Fit, RunError> {
    let link = controller.contact_unasked(host).await?;
    let answers = facts(&link, &spec.gpus).await;
    link.session.close().await;
    let (facts, report) = answers?;
    Ok(match report {
        None => without_gpus(&facts),
        Some(report) => fit(&spec.gpus, &spec.placement, &report, &facts),
    })
}

async fn facts(link: &Link, gpus: &Gpus) -> Result<(HostFacts, Option<GpuReport>), RunError> {
    if *gpus == Gpus::None {
        return Ok((link.client.host().await?, None));
    }
    let (facts, report) = tokio::join!(link.client.host(), link.client.gpus(None, false));
    Ok((facts?, Some(report?)))
}

fn live(facts: &HostFacts) -> usize {
    facts
        .containers
        .iter()
        .filter(|container| container.status == "running")
        .count()
}

fn without_gpus(facts: &HostFacts) -> Fit {
    match &facts.engine {
        Err(failure) => Fit::Never {
            because: failure.to_string(),
        },
        Ok(_) => Fit::Now {
            memory: 0,
            busy: live(facts),
            because: format!("{} of our containers run there", live(facts)),
        },
    }
}

/// How an order for GPUs fits a host that reports these.
pub fn fit(wanted: &Gpus, placement: &Placement, report: &GpuReport, facts: &HostFacts) -> Fit {
    let never = |because: String| Fit::Never { because };
    if let Err(failure) = &facts.engine {
        return never(failure.to_string());
    }
    if report.state == Freshness::Unavailable || report.gpus.is_empty() {
        return never(super::gpu_words::no_gpu(report.trouble.as_ref()));
    }
    let possible: Vec<&Gpu> = report
        .gpus
        .iter()
        .filter(|gpu| is_named(wanted, gpu) && is_large_enough(placement, gpu))
        .collect();
    let needed = match wanted {
        Gpus::None => 0,
        Gpus::All => report.gpus.len(),
        Gpus::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        Gpus::Devices(devices) => devices.len(),
    };
    if possible.len() < needed {
        return never(format!(
            "{} of its GPUs would do, {needed} are wanted",
            possible.len()
        ));
    }
    let mut free: Vec<u64> = possible
        .iter()
        .filter(|gpu| report.state != Freshness::Stale && is_free(placement, report, gpu))
        .map(|gpu| gpu.memory_total.value().unwrap_or_default())
        .collect();
    free.sort_unstable();
    let counted = format!("{} of {} GPUs free", free.len(), report.gpus.len());
    if free.len() >= needed {
        let memory: u64 = free.iter().take(needed).sum();
        return Fit::Now {
            memory,
            busy: live(facts),
            because: format!(
                "{counted}, {} each or more",
                mebibytes(free.first().copied().unwrap_or_default())
            ),
        };
    }
    if placement.wait == Wait::No {
        return never(format!("{counted}, {needed} are wanted"));
    }
    Fit::Later {
        line: facts.containers.len(),
        because: format!("{counted}, {needed} are wanted"),
    }
}

fn is_named(wanted: &Gpus, gpu: &Gpu) -> bool {
    let Gpus::Devices(devices) = wanted else {
        return true;
    };
    devices.iter().any(|device| {
        *device == gpu.index.to_string()
            || gpu.uuid.starts_with(device.as_str())
            || gpu.name.to_lowercase().contains(&device.to_lowercase())
    })
}

fn is_large_enough(placement: &Placement, gpu: &Gpu) -> bool {
    match (placement.min_free, gpu.memory_total.value()) {
        (Some(wanted), Some(total)) => total >= wanted,
        _ => true,
    }
}

fn is_free(placement: &Placement, report: &GpuReport, gpu: &Gpu) -> bool {
    let leased = report
        .leases
        .iter()
        .any(|lease| lease.gpu_uuid == gpu.uuid && !(lease.shared && placement.share));
    let used = gpu.memory_used.value().unwrap_or_default();
    let enough = match (placement.min_free, gpu.memory_free.value()) {
        (Some(wanted), Some(free)) => free >= wanted,
        (Some(_), None) => false,
        (None, _) => true,
    };
    gpu.health == Health::Healthy
        && !leased
        && enough
        && gpu.compute_mode.as_deref() != Some("Prohibited")
        && (placement.share
            || (used <= IDLE_MEMORY
                && !report
                    .processes
                    .iter()
                    .any(|process| process.gpu_uuid == gpu.uuid)))
}

/// Chooses the best host, and says why.
///
/// # Errors
/// No host could ever run it, or the database.
pub async fn choose(controller: &Controller, spec: &RunSpec) -> Result<Candidate, RunError> {
    let started = Utc::now();
    let candidates = rank(controller, spec).await?;
    tracing::debug!(
        ?candidates,
        ms = (Utc::now() - started).num_milliseconds(),
        "Hosts were ranked"
    );
    match candidates.first() {
        Some(best) if !matches!(best.fit, Fit::Never { .. }) => Ok(best.clone()),
        _ => Err(RunError::NoHostFits {
            why: candidates
                .iter()
                .map(|candidate| format!("`{}`: {}", candidate.host, candidate.fit.because()))
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gpu(index: u32, total: u64, used: u64) -> serde_json::Value {
        json!({
            "uuid": format!("GPU-{index}"), "index": index, "name": "NVIDIA L40S", "memory_total": total,
            "memory_reserved": 0, "memory_used": used, "memory_free": total - used, "utilization": 0,
            "memory_utilization": 0, "temperature": 30, "fan": { "absent": "not_available" }, "power": 30_000,
            "power_limit": 300_000, "ecc_errors": 0, "health": "healthy",
        })
    }

    fn report(gpus: &[serde_json::Value]) -> GpuReport {
        serde_json::from_value(json!({
            "state": "fresh", "gpus": gpus,
            "device": { "device": "cuda", "detected_at": "2026-01-02T03:04:05Z", "boot_id": "b" },
        }))
        .unwrap()
    }

    fn facts() -> HostFacts {
        serde_json::from_value(json!({
            "engine": { "Ok": { "version": "28", "api": "1.48", "address": "unix:///x", "live_restore": true,
                "gpus": true, "root": "/var/lib/docker" } },
            "disk_free": 1, "disk_total": 2, "uptime": 3, "load": "0.1", "memory_total": 4, "memory_available": 4,
            "containers": [], "agents": [],
        }))
        .unwrap()
    }

    fn waiting() -> Placement {
        Placement {
            wait: Wait::Until,
            ..Placement::default()
        }
    }

    fn judged(wanted: &Gpus, report: &GpuReport) -> Fit {
        fit(wanted, &waiting(), report, &facts())
    }

    #[test]
    fn free_now_beats_waiting_and_smaller_beats_larger() {
        let one = Gpus::Count(1);
        let small = judged(&one, &report(&[gpu(0, 24_000, 0)]));
        let large = judged(&one, &report(&[gpu(0, 80_000, 0)]));
        let taken = judged(&one, &report(&[gpu(0, 24_000, 20_000)]));
        let none = judged(&Gpus::Count(2), &report(&[gpu(0, 24_000, 0)]));
        let mut fits = vec![none.clone(), taken.clone(), large.clone(), small.clone()];
        fits.sort_by_key(Fit::rank);
        assert_eq!(fits, [small, large, taken, none]);
    }

    #[test]
    fn old_figures_choose_nothing() {
        let mut stale = report(&[gpu(0, 24_000, 0)]);
        stale.state = Freshness::Stale;
        assert!(matches!(judged(&Gpus::Count(1), &stale), Fit::Later { .. }));
    }

    #[test]
    fn what_can_never_fit_is_said() {
        let host = report(&[gpu(0, 24_000, 0), gpu(1, 24_000, 0)]);
        let large = Placement {
            min_free: Some(40_000),
            ..waiting()
        };
        let fit = super::fit(&Gpus::Count(1), &large, &host, &facts());
        assert_eq!(fit.because(), "0 of its GPUs would do, 1 are wanted");
        let named = judged(&Gpus::Devices(vec!["h100".into()]), &host);
        assert!(matches!(named, Fit::Never { .. }), "{named:?}");
        let here = judged(&Gpus::Devices(vec!["l40".into()]), &host);
        assert!(matches!(here, Fit::Now { .. }), "{here:?}");
    }
}
