//! What the host is and holds.

use super::session::{Peer, Session};
use crate::record::RecordError;
use crate::{residence, watch};
use farrun_protocol::message::{HostFacts, OurContainer};
use farrun_protocol::{ErrorCode, Failure, Reply, Sha256, layout};
use std::time::Duration;

/// How long the engine may take in all.
const BUDGET: Duration = Duration::from_secs(2);

pub(crate) async fn host(session: &Session) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    let slow = || Failure::new(ErrorCode::DockerTimeout, format!("{} s", BUDGET.as_secs()));
    let kept = session.context.engine_facts();
    let engine = async {
        match tokio::time::timeout(BUDGET, peer.engine.facts(&kept)).await {
            Ok(facts) => facts.map_err(Failure::from),
            Err(_) => Err(slow()),
        }
    };
    let containers = async {
        let listing = tokio::time::timeout(BUDGET, containers(session, peer)).await;
        listing.unwrap_or_default()
    };
    let (engine, containers) = tokio::join!(engine, containers);
    let state = &session.context.state;
    let disk = rustix::fs::statvfs(state).map_err(|error| RecordError::io(state)(error.into()))?;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(Reply::Host(Box::new(HostFacts {
        engine,
        disk_free: disk.f_bavail.saturating_mul(disk.f_frsize),
        disk_total: disk.f_blocks.saturating_mul(disk.f_frsize),
        uptime: uptime
            .split('.')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_default(),
        load: load.split(' ').next().unwrap_or_default().to_owned(),
        memory_total: kilobytes(&memory, "MemTotal:"),
        memory_available: kilobytes(&memory, "MemAvailable:"),
        containers,
        agents: agents(session),
        watch: watch::living(state).map(|card| card.facts(state)),
        residence: residence::installed(state),
    })))
}

fn kilobytes(memory: &str, name: &str) -> u64 {
    memory
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_default()
        .saturating_mul(1024)
}

/// Containers with our label; none when the engine does not answer, which the engine's facts then say.
async fn containers(session: &Session, peer: &Peer) -> Vec<OurContainer> {
    let found = peer.engine.labelled(layout::LABEL_RUN).await.unwrap_or_default();
    found
        .into_iter()
        .filter_map(|container| {
            let labels = container.labels;
            let run_id = labels.get(layout::LABEL_RUN)?.parse().ok()?;
            Some(OurContainer {
                id: container.id,
                known: session.folder(&run_id).path().is_dir(),
                run_id,
                controller_id: labels
                    .get(layout::LABEL_CONTROLLER)
                    .and_then(|id| id.parse().ok()),
                status: container.status,
                image: container.image,
                gpus: labels.get(layout::LABEL_GPUS).cloned().unwrap_or_default(),
            })
        })
        .collect()
}

/// Agent versions on disk.
pub(crate) fn agents(session: &Session) -> Vec<Sha256> {
    let folder = session.context.state.join("agents");
    let mut agents: Vec<Sha256> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    agents.sort();
    agents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            kilobytes("MemTotal:       16 kB\nMemAvailable:    4 kB\n", "MemAvailable:"),
            4096
        );
        assert_eq!(kilobytes("", "MemTotal:"), 0);
    }
}
