//! What the host's GPUs are and do.

use super::call::blocking;
use super::session::Session;
use crate::docker::{Engine, ListedContainer};
use farrun_protocol::gpu::{GpuProcess, GpuReport, GpuTrouble, HeldLease, Holder};
use farrun_protocol::{Failure, Reply, RunId, layout};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How long the engine may take to tell which containers are runs; the answer is due within a second.
const NAMING: Duration = Duration::from_millis(150);
/// How long a choice waits for the engine's word.
const CHOICE_NAMING: Duration = Duration::from_secs(5);
/// Containers that are remembered.
const MOST: usize = 1000;

pub(crate) async fn gpus(
    session: &Arc<Session>,
    max_age: Option<u64>,
    detect: bool,
) -> Result<Reply, Failure> {
    let engine = session.peer()?.engine.clone();
    let mut report = session
        .gpus
        .report(max_age.map(Duration::from_millis), detect)
        .await;
    session
        .containers
        .name(&engine, &mut report.processes, NAMING)
        .await;
    report.leases = leases(session, &engine, &report, NAMING).await;
    Ok(Reply::Gpus(Box::new(report)))
}

/// What there is, with the runs that processes and leases belong to; within a second.
pub(crate) async fn whole_report(session: &Session, engine: &Engine) -> GpuReport {
    let mut report = session.gpus.report(None, false).await;
    session
        .containers
        .name(engine, &mut report.processes, NAMING)
        .await;
    report.leases = leases(session, engine, &report, NAMING).await;
    report
}

/// Figures that a GPU may be chosen by, with the runs that processes belong to; see
/// [`crate::gpu::Gpus::sample_for_choice`].
pub(crate) async fn for_choice(
    session: &Session,
    engine: &Engine,
    patience: Duration,
) -> Result<GpuReport, GpuTrouble> {
    let mut report = session.gpus.sample_for_choice(patience).await?;
    session
        .containers
        .name(engine, &mut report.processes, CHOICE_NAMING)
        .await;
    Ok(report)
}

/// Who holds the GPUs of a report. An engine that does not answer within `patience` leaves what the locks tell; locks
/// that cannot be used leave nothing, which `doctor` and a launch say.
async fn leases(
    session: &Session,
    engine: &Engine,
    report: &GpuReport,
    patience: Duration,
) -> Vec<HeldLease> {
    let Ok(locks) = session.locks() else {
        return Vec::new();
    };
    let listing = tokio::time::timeout(patience, engine.gpu_containers()).await;
    let containers = listing.ok().and_then(Result::ok).unwrap_or_default();
    let (report, state) = (report.clone(), session.context.state.clone());
    let held = blocking(move || Ok(crate::leases::held(&report, &locks, &containers, &state)?)).await;
    held.unwrap_or_default()
}

/// What is known about containers by their id, for the life of a conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Containers {
    known: Arc<Mutex<HashMap<String, Named>>>,
}

#[derive(Debug, Clone)]
struct Named {
    run_id: Option<RunId>,
    name: Option<String>,
}

impl Containers {
    /// Says which processes belong to a run and how other containers are called, as far as the engine tells it within
    /// `patience`. What it tells later serves the next who asks.
    pub(crate) async fn name(&self, engine: &Engine, processes: &mut [GpuProcess], patience: Duration) {
        if self.fill_in(processes) {
            return;
        }
        let (own, engine) = (self.clone(), engine.clone());
        let listing = tokio::spawn(async move {
            if let Ok(listed) = engine.running().await {
                own.learn(listed);
            }
        });
        let _ = tokio::time::timeout(patience, listing).await;
        self.fill_in(processes);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Named>> {
        match self.known.lock() {
            Ok(known) => known,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn learn(&self, listed: Vec<ListedContainer>) {
        let mut known = self.known();
        if known.len() > MOST {
            known.clear();
        }
        for container in listed.into_iter().take(MOST) {
            let run_id = container.labels.get(layout::LABEL_RUN);
            known.insert(
                container.id,
                Named {
                    run_id: run_id.and_then(|id| id.parse().ok()),
                    name: container.name,
                },
            );
        }
    }

    /// Adds what is known; answers whether that was all.
    fn fill_in(&self, processes: &mut [GpuProcess]) -> bool {
        let known = self.known();
        let mut complete = true;
        for process in processes {
            let Holder::Container { id, name, .. } = &mut process.holder else {
                continue;
            };
            match known.get(id) {
                Some(Named {
                    run_id: Some(run_id), ..
                }) => {
                    process.holder = Holder::Run {
                        run_id: run_id.clone(),
                    };
                }
                Some(found) => name.clone_from(&found.name),
                None => complete = false,
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::gpu::Reading;

    fn process(id: &str) -> GpuProcess {
        GpuProcess {
            gpu_uuid: "GPU-aa01".into(),
            pid: 7,
            memory: Reading::Value(5),
            holder: Holder::Container {
                id: id.into(),
                name: None,
                user: "root".into(),
                command: "python3".into(),
            },
        }
    }

    #[test]
    fn a_container_is_a_run_or_has_a_name() {
        let containers = Containers::default();
        let run_id = RunId::random();
        let listed = |id: &str, labels: &[(&str, &str)]| ListedContainer {
            id: id.into(),
            name: Some("somebody".into()),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            status: "running".into(),
            image: "demo:1".into(),
        };
        containers.learn(vec![
            listed("aa", &[(layout::LABEL_RUN, run_id.as_str())]),
            listed("bb", &[(layout::LABEL_RUN, "../../etc")]),
        ]);
        let mut processes = [process("aa"), process("bb")];
        assert!(containers.fill_in(&mut processes));
        assert_eq!(processes[0].holder, Holder::Run { run_id });
        assert!(
            matches!(&processes[1].holder, Holder::Container { name: Some(name), .. } if name == "somebody")
        );
        assert!(!containers.fill_in(&mut [process("cc")]));
    }
}
