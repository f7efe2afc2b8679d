//! Making the container and starting it, once.

use super::{Stop, secrets};
use crate::docker::{Engine, EngineError, FoundContainer, NewContainer};
use crate::record::{RunFolder, boot_id};
use chrono::Utc;
use farrun_protocol::record::{ContainerFacts, FORMAT, StartIntent};
use farrun_protocol::spec::{Capture, RunSpec};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, Failure, layout};
use std::time::{Duration, Instant};

/// An engine frees the name of a removed container a little late.
const NAME_IS_FREED: Duration = Duration::from_secs(3);
/// How long an answer that did not come is sought by inspecting.
const SETTLES: Duration = Duration::from_secs(10);
const LOOK_APART: Duration = Duration::from_millis(100);

/// Refuses a container that carries the run's name and was made for another order.
pub(super) fn require_same_order(spec: &RunSpec, found: &FoundContainer) -> Result<(), Failure> {
    let label = |name| found.labels.get(name).map(String::as_str);
    if label(layout::LABEL_RUN) == Some(spec.run_id.as_str())
        && label(layout::LABEL_SPEC) == Some(spec.sha256().as_str())
    {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::SpecConflict, &found.facts.id))
}

/// Makes the container, or finds the one that an attempt whose answer was lost has made.
pub(super) async fn create(
    engine: &Engine,
    spec: &RunSpec,
    folder: &RunFolder,
    new: &NewContainer,
) -> Result<String, Stop> {
    if folder.stop_requested() {
        return Err(Stop::EndWanted);
    }
    let deadline = Instant::now() + NAME_IS_FREED;
    loop {
        let error = match engine.create(new).await {
            Ok(id) => return Ok(id),
            Err(error) => error,
        };
        if error.is_refusal() && !error.is_conflict() {
            let reason = if error.is_missing() {
                Reason::ImageMissing
            } else {
                reason_of(spec, &error.to_string())
            };
            return Err(Stop::refused(reason, error));
        }
        match engine.container(&new.name).await? {
            Some(found) => {
                require_same_order(spec, &found)?;
                if found.labels.get(layout::LABEL_GPUS) != new.labels.get(layout::LABEL_GPUS) {
                    // Its GPUs may be another run's by now.
                    let problem = format!("{} was made for other GPUs and is still there", new.name);
                    return Err(Failure::new(ErrorCode::DockerRefused, problem).into());
                }
                return Ok(found.facts.id);
            }
            None if error.is_conflict() && Instant::now() < deadline => tokio::time::sleep(LOOK_APART).await,
            None => return Err(error.into()),
        }
    }
}

/// Starts a container that was never started. `start.intent` is on disk before the engine hears of it.
pub(super) async fn start(engine: &Engine, spec: &RunSpec, folder: &RunFolder, id: &str) -> Result<(), Stop> {
    if folder.stop_requested() {
        return Err(Stop::EndWanted);
    }
    folder.write_start_intent(&StartIntent {
        format: FORMAT,
        container_id: id.to_owned(),
        boot_id: Some(boot_id()),
        at: Utc::now(),
    })?;
    if let Err(error) = engine.start(id).await {
        after_failure(engine, spec, id, error).await?;
    }
    if spec.capture == Capture::Docker
        && let Ok(Some(found)) = engine.container(id).await
        && let Some(pid) = found.pid
    {
        // Where nobody of ours lives in the container, its processes tell of its end should the engine not.
        folder.note_alive(id, pid);
    }
    secrets::deliver(engine, folder, id).await;
    // A stop that came between the check above and the start finds a live container and ends it itself.
    Ok(())
}

/// What a start that did not answer with success has done.
async fn after_failure(engine: &Engine, spec: &RunSpec, id: &str, error: EngineError) -> Result<(), Stop> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let found = engine.container(id).await?;
        match found {
            None => return Ok(()),
            Some(found) if !found.is_unstarted() => return Ok(()),
            Some(found) if error.is_refusal() || found.start_failed() => {
                let words = match &error {
                    EngineError::Refused { message, .. } => message.clone(),
                    _ => found.facts.error.clone().unwrap_or_default(),
                };
                return Err(refusal(spec, &words, Some(found.facts)));
            }
            Some(_) if Instant::now() < deadline => tokio::time::sleep(LOOK_APART).await,
            // Whoever launches it again finds it unstarted, or started after all.
            Some(_) => return Err(error.into()),
        }
    }
}

/// The end of a run whose container cannot be started.
pub(super) fn refusal(spec: &RunSpec, words: &str, container: Option<ContainerFacts>) -> Stop {
    Stop::Refused {
        reason: reason_of(spec, words),
        detail: words.to_owned(),
        container: container.map(Box::new),
    }
}

/// What an engine's refusal means.
fn reason_of(spec: &RunSpec, words: &str) -> Reason {
    let words = words.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if says(&["could not select device driver", "nvidia", "nvml"]) {
        return Reason::GpuUnavailable;
    }
    // With `init` it is our own program that the engine executes.
    if spec.capture == Capture::Docker && words.contains("exec: ") {
        if says(&["no such file or directory", "executable file not found"]) {
            return Reason::CommandNotFound;
        }
        if says(&["permission denied", "exec format error"]) {
            return Reason::CommandNotExecutable;
        }
    }
    if says(&["cannot mkdir: ", "chdir to cwd"]) {
        return Reason::WorkingDirectory;
    }
    Reason::EngineRefused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_named() {
        let spec = |capture: &str| -> RunSpec {
            serde_json::from_value(serde_json::json!({
                "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run",
                "name": "x", "created_at": "2026-01-02T03:04:05Z", "image": "x", "capture": capture,
                "inputs_target": "/i", "outputs_target": "/o",
            }))
            .unwrap()
        };
        let exec =
            "runc create failed: exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory: unknown";
        for (capture, words, reason) in [
            (
                "init",
                "could not select device driver \"\" with capabilities: [[gpu]]",
                Reason::GpuUnavailable,
            ),
            (
                "init",
                "error running hook #0: nvidia-container-cli: initialization error",
                Reason::GpuUnavailable,
            ),
            ("init", exec, Reason::EngineRefused),
            ("docker", exec, Reason::CommandNotFound),
            (
                "docker",
                "exec: \"/tmp\": permission denied: unknown",
                Reason::CommandNotExecutable,
            ),
            ("init", "no space left on device", Reason::EngineRefused),
            (
                "docker",
                "Cannot mkdir: /etc/passwd is not a directory",
                Reason::WorkingDirectory,
            ),
            (
                "docker",
                "runc create failed: chdir to cwd (\"/data\") set in config.json failed: permission denied",
                Reason::WorkingDirectory,
            ),
        ] {
            assert_eq!(reason_of(&spec(capture), words), reason, "{words}");
        }
    }
}
