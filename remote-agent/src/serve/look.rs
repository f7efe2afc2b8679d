//! A run's container, and what follows from it: where the run stands before its end is settled.

use crate::docker::{Engine, EngineError, FoundContainer};
use crate::record::{RecordError, RunFolder, boot_id};
use chrono::Utc;
use farrun_protocol::record::StartIntent;
use farrun_protocol::spec::Capture;
use farrun_protocol::{Failure, layout};
use std::time::Duration;

/// How long an engine is waited for about a run that has ended for sure. Less than what a listing takes at most.
pub(super) const PATIENCE: Duration = Duration::from_millis(1200);
/// How long an engine that captured a job may be away after the job was last seen: most are back by then, and say more
/// than could be said without them.
const COMES_BACK: Duration = Duration::from_secs(20);

/// A run's container and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) container: Option<FoundContainer>,
    pub(crate) intent: Option<StartIntent>,
    pub(crate) stage: Stage,
    /// What the engine answered with, where the run's own files had to do instead.
    pub(crate) silent: Option<EngineError>,
}

/// Where a run stands before `settled.json` exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was started.
    Prepared,
    /// A process of it lives.
    Live,
    /// It will never change again.
    Ended,
    /// The engine is in the middle of something.
    Moving,
}

/// Looks at a run's container: the one whose start was ordered, else the one with the run's name and label.
pub(crate) async fn look(engine: &Engine, folder: &RunFolder) -> Result<Look, Failure> {
    let intent = folder.start_intent()?;
    let container = container(engine, folder, intent.as_ref()).await?;
    let stage = stage(container.as_ref(), intent.is_some(), folder.stop_requested());
    Ok(Look {
        container,
        intent,
        stage,
        silent: None,
    })
}

async fn container(
    engine: &Engine,
    folder: &RunFolder,
    intent: Option<&StartIntent>,
) -> Result<Option<FoundContainer>, EngineError> {
    match intent {
        Some(intent) => engine.container(&intent.container_id).await,
        None => named(engine, folder).await,
    }
}

/// As [`look`]; of an engine that does not answer nothing is needed where the host itself proves that the run has ended.
/// `patience` is for how long such an engine is waited for.
pub(crate) async fn look_without_engine(
    engine: &Engine,
    folder: &RunFolder,
    patience: Duration,
) -> Result<Look, Failure> {
    let intent = folder.start_intent()?;
    let asked = container(engine, folder, intent.as_ref());
    let patience = match folder.exit()? {
        // This record says all about the end.
        Some(exit) if exit.forwarded.is_empty() => patience.min(PATIENCE),
        _ => patience,
    };
    let has_ended = || has_ended(folder, intent.as_ref());
    let found = if patience < Duration::MAX && has_ended()? {
        tokio::time::timeout(patience, asked)
            .await
            .unwrap_or_else(|_| Err(EngineError::slow("inspect", patience)))
    } else {
        asked.await
    };
    let container = match found {
        Ok(container) => container,
        // Looked at again: much may have happened meanwhile.
        Err(error) => {
            return match look_at_host(folder, &error)? {
                Some(look) => Ok(look),
                None => Err(error.into()),
            };
        }
    };
    if let Some(found) = &container
        && let (true, true, Some(pid)) = (found.facts.engine_capture, found.facts.is_live(), found.pid)
    {
        folder.note_alive(&found.facts.id, pid);
    }
    Ok(Look {
        stage: stage(container.as_ref(), intent.is_some(), folder.stop_requested()),
        container,
        intent,
        silent: None,
    })
}

/// A look at what has ended for sure, in the place of an engine that answers with `error`; nothing when it may live.
pub(crate) fn look_at_host(folder: &RunFolder, error: &EngineError) -> Result<Option<Look>, Failure> {
    let intent = folder.start_intent()?;
    Ok(has_ended(folder, intent.as_ref())?.then(|| Look {
        container: None,
        intent,
        stage: Stage::Ended,
        silent: Some(error.clone()),
    }))
}

/// Whether a run has ended for sure, told without its engine: PID 1 has recorded its end or lives no more, the host was
/// booted since, or no process of a container that the engine captures is left.
fn has_ended(folder: &RunFolder, intent: Option<&StartIntent>) -> Result<bool, RecordError> {
    let (Some(intent), Some(spec)) = (intent, folder.spec()?) else {
        return Ok(false);
    };
    let rebooted = intent.boot_id.as_ref().is_some_and(|then| *then != boot_id());
    Ok(rebooted
        || match spec.capture {
            Capture::Init => folder.exit()?.is_some() || folder.claim_was_let_go(),
            Capture::Docker => !was_just_alive(folder) && folder.is_gone(&intent.container_id),
        })
}

/// Whether the job was seen to live a moment ago. A time to come is none: the clock was set.
fn was_just_alive(folder: &RunFolder) -> bool {
    folder
        .seen_alive_at()
        .and_then(|at| Utc::now().signed_duration_since(at).to_std().ok())
        .is_some_and(|ago| ago < COMES_BACK)
}

/// The container with the run's name, if it also carries the run's label; a stranger's is left alone.
pub(crate) async fn named(
    engine: &Engine,
    folder: &RunFolder,
) -> Result<Option<FoundContainer>, EngineError> {
    let found = engine.container(&layout::container_name(folder.run_id())).await?;
    Ok(found.filter(|found| {
        found.labels.get(layout::LABEL_RUN).map(String::as_str) == Some(folder.run_id().as_str())
    }))
}

fn stage(container: Option<&FoundContainer>, start_ordered: bool, stop_requested: bool) -> Stage {
    let Some(container) = container else {
        return if start_ordered || stop_requested {
            Stage::Ended
        } else {
            Stage::Prepared
        };
    };
    if container.facts.is_live() {
        return Stage::Live;
    }
    if container.facts.status == "removing" {
        return Stage::Moving;
    }
    if !container.is_unstarted() {
        return Stage::Ended;
    }
    if stop_requested || (start_ordered && container.start_failed()) {
        Stage::Ended
    } else {
        Stage::Prepared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::record::ContainerFacts;

    fn container(status: &str, started: bool, error: Option<&str>) -> FoundContainer {
        FoundContainer {
            facts: ContainerFacts {
                status: status.into(),
                started_at: started.then(chrono::Utc::now),
                error: error.map(str::to_owned),
                ..ContainerFacts::default()
            },
            labels: std::collections::HashMap::new(),
            pid: None,
        }
    }

    #[test]
    fn stages_follow_from_the_container_and_the_two_intents() {
        let cases = [
            (None, false, false, Stage::Prepared),
            (None, true, false, Stage::Ended),
            (None, false, true, Stage::Ended),
            (
                Some(container("created", false, None)),
                false,
                false,
                Stage::Prepared,
            ),
            (
                Some(container("created", false, None)),
                true,
                false,
                Stage::Prepared,
            ),
            (
                Some(container("created", false, Some("no gpu"))),
                true,
                false,
                Stage::Ended,
            ),
            (Some(container("created", false, None)), true, true, Stage::Ended),
            (Some(container("running", true, None)), true, true, Stage::Live),
            (Some(container("exited", true, None)), true, false, Stage::Ended),
            (
                Some(container("removing", true, None)),
                true,
                false,
                Stage::Moving,
            ),
        ];
        for (container, ordered, stopped, expected) in cases {
            assert_eq!(
                stage(container.as_ref(), ordered, stopped),
                expected,
                "{container:?} {ordered} {stopped}"
            );
        }
    }
}
