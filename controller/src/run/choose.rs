//! Chooses the host that fits an order best: one whose GPUs are free now, with no more memory than needed, else the one
//! with the shortest line. What a host could give, it says itself; here they are only compared.

use super::gpu_words::mebibytes;
use super::{RunError, refusal};
use crate::agent::AgentError;
use crate::controller::Controller;
use crate::model::Host;
use chrono::Utc;
use farrun_protocol::lease::Fit as Told;
use farrun_protocol::spec::RunSpec;
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
    let told = link.client.fit(spec.gpus.clone(), spec.placement.clone()).await;
    link.session.close().await;
    match told {
        Ok(told) => Ok(judge(&told)),
        Err(AgentError::Failed(failure)) => Ok(Fit::Never {
            because: refusal::words(&failure),
        }),
        Err(error) => Err(error.into()),
    }
}

/// What a host's word means beside others'.
fn judge(told: &Told) -> Fit {
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let counted = format!("{} of {} GPUs free", told.free, told.gpus);
    let Some(given) = &told.given else {
        return Fit::Later {
            line: number(told.running.saturating_add(told.waiting)),
            because: format!("{counted}, {} in line there", told.waiting),
        };
    };
    let sizes = given.iter().map(|gpu| gpu.memory_total.unwrap_or_default());
    let because = match sizes.clone().min() {
        Some(least) => format!("{counted}, {} each or more", mebibytes(least)),
        None => format!("{} of our containers run there", told.running),
    };
    Fit::Now {
        memory: sizes.fold(0, u64::saturating_add),
        busy: number(told.running),
        because,
    }
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

    fn judged(told: serde_json::Value) -> Fit {
        judge(&serde_json::from_value(told).unwrap())
    }

    fn free(memory: &[u64], running: u64) -> Fit {
        let gpu = |total| json!({"uuid": "GPU-1", "index": 1, "name": "L40S", "memory_total": total});
        let given: Vec<_> = memory.iter().map(gpu).collect();
        judged(json!({"given": given, "free": 2, "gpus": 4, "running": running, "waiting": 0}))
    }

    #[test]
    fn free_now_beats_waiting_and_smaller_beats_larger() {
        let line = |running, waiting| {
            judged(json!({"given": null, "free": 0, "gpus": 1, "running": running, "waiting": waiting}))
        };
        let (small, busy, large) = (free(&[24_000], 0), free(&[24_000], 3), free(&[80_000], 0));
        let (short, long) = (line(1, 0), line(1, 2));
        let never = Fit::Never {
            because: "GPU 0: it is lost".to_owned(),
        };
        let mut fits = vec![
            never.clone(),
            long.clone(),
            short.clone(),
            large.clone(),
            busy.clone(),
            small.clone(),
        ];
        fits.sort_by_key(Fit::rank);
        assert_eq!(fits, [small, busy, large, short, long, never]);
    }

    #[test]
    fn the_reason_counts_what_the_host_counted() {
        assert_eq!(
            free(&[81_920, 24_576], 0).because(),
            "2 of 4 GPUs free, 24.0 GiB each or more"
        );
        assert_eq!(free(&[], 3).because(), "3 of our containers run there");
        let waits = judged(json!({"given": null, "free": 1, "gpus": 4, "running": 3, "waiting": 2}));
        assert_eq!(waits.because(), "1 of 4 GPUs free, 2 in line there");
    }
}
