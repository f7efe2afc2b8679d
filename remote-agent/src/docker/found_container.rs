//! A container that is there, in the engine's words and in ours.

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use chrono::{DateTime, Utc};
use farrun_protocol::record::ContainerFacts;
use farrun_protocol::{RunId, layout};
use std::collections::HashMap;

/// A container as inspect shows it.
#[derive(Debug, Clone)]
pub struct FoundContainer {
    /// Its state.
    pub facts: ContainerFacts,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// PID 1 as the host numbers it, while it lives.
    pub pid: Option<u32>,
}

impl FoundContainer {
    /// Whether it was made and never started.
    pub fn is_unstarted(&self) -> bool {
        self.facts.status == "created" && self.facts.started_at.is_none()
    }

    /// Whether the engine tried to start it and could not.
    pub fn start_failed(&self) -> bool {
        self.is_unstarted() && self.facts.error.as_deref().is_some_and(|error| !error.is_empty())
    }
}

/// A container that was made to have GPUs, of any account that uses the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuContainer {
    /// Its run.
    pub run_id: RunId,
    /// UUIDs.
    pub gpus: Vec<String>,
    /// Whether others may have them as well.
    pub shared: bool,
    /// Whether a process of it lives.
    pub live: bool,
    /// Whether it was made and not started.
    pub unstarted: bool,
    /// Whether the image's own program is PID 1.
    pub engine_capture: bool,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
}

pub(super) fn found(answer: ContainerInspectResponse) -> FoundContainer {
    let state = answer.state.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let status = state.status.map(|status| status.to_string()).unwrap_or_default();
    let started_at = moment(state.started_at.as_deref());
    let ended = matches!(status.as_str(), "exited" | "dead");
    let own = config.entrypoint.unwrap_or_default();
    FoundContainer {
        facts: ContainerFacts {
            id: answer.id.unwrap_or_default(),
            image_id: answer.image,
            started_at,
            finished_at: moment(state.finished_at.as_deref()),
            exit_code: state.exit_code.filter(|_| ended),
            oom_killed: state.oom_killed.unwrap_or_default(),
            error: state.error.filter(|error| !error.is_empty()),
            engine_capture: own.first().map(String::as_str) != Some(layout::CONTAINER_AGENT),
            status,
        },
        labels: config.labels.unwrap_or_default(),
        pid: state
            .pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 0),
    }
}

pub(super) fn gpu_container(summary: ContainerSummary) -> Option<GpuContainer> {
    let labels = summary.labels.unwrap_or_default();
    let gpus: Vec<String> = labels
        .get(layout::LABEL_GPUS)?
        .split(',')
        .filter(|word| word.contains('-'))
        .map(str::to_owned)
        .collect();
    let status = summary.state.map(|state| state.to_string()).unwrap_or_default();
    let by_init = summary
        .command
        .is_some_and(|command| command.starts_with(layout::CONTAINER_AGENT));
    Some(GpuContainer {
        run_id: labels.get(layout::LABEL_RUN)?.parse().ok()?,
        shared: labels.contains_key(layout::LABEL_SHARED),
        live: matches!(status.as_str(), "running" | "paused" | "restarting"),
        unstarted: status == "created",
        engine_capture: !by_init,
        created_at: summary.created.and_then(|at| DateTime::from_timestamp(at, 0)),
        gpus,
    })
    .filter(|container| !container.gpus.is_empty())
}

/// A time the engine names; its zero time means never.
fn moment(text: Option<&str>) -> Option<DateTime<Utc>> {
    let moment: DateTime<Utc> = text?.parse().ok()?;
    (moment.timestamp() > 0).then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_zero_time_is_never() {
        assert_eq!(moment(Some("0001-01-01T00:00:00Z")), None);
        assert!(moment(Some("2026-11-22T08:19:00.031425129Z")).is_some());
    }
}
