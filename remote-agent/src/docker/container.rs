//! Containers: making, starting, looking at, ending and removing them.

use super::{Engine, EngineError, LOOK};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, DeviceRequest, HostConfig,
    HostConfigLogConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use farrun_protocol::record::ContainerFacts;
use farrun_protocol::{RunId, layout};
use futures_util::{Stream, StreamExt as _};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

const CREATE: Duration = Duration::from_secs(60);
/// Hooks that set up GPUs take seconds, on a busy machine many.
const START: Duration = Duration::from_secs(120);
const SIGNAL: Duration = Duration::from_secs(20);
const REMOVE: Duration = Duration::from_secs(60);
/// How long bytes for a container's stdin may be on their way.
const PASSES_ON: Duration = Duration::from_millis(300);

/// A container to be made.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// Its name.
    pub name: String,
    /// Image reference or id.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// User inside; the image's when absent.
    pub user: Option<String>,
    /// What is executed, program and arguments.
    pub argv: Vec<String>,
    /// Working directory; the image's when absent.
    pub working_dir: Option<String>,
    /// Folders and files of the host.
    pub mounts: Vec<BindMount>,
    /// UUIDs of its GPUs. Never a number of them: an engine would take the first ones, free or not.
    pub gpus: Vec<String>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Whether it shares the host's IPC namespace.
    pub ipc_host: bool,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Network mode.
    pub network: Option<String>,
    /// Whether something will be written to its stdin.
    pub open_stdin: bool,
    /// Seconds between the signals of a stop.
    pub stop_timeout: u64,
    /// Signal of a stop; the image's when absent.
    pub stop_signal: Option<String>,
    /// How much of its output the engine keeps.
    pub log: LogBudget,
}

/// How much output an engine keeps of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogBudget {
    /// One small file: the real log is elsewhere.
    #[default]
    Small,
    /// About this many bytes: there is no other log.
    Bytes(u64),
}

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

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

impl Engine {
    /// Makes a container and answers with its id.
    ///
    /// # Errors
    /// The engine's.
    pub async fn create(&self, new: &NewContainer) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(&new.name).build();
        let call = self.docker.create_container(Some(options), body(new));
        Ok(self.call("create", CREATE, call).await?.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let call = self.docker.start_container(id, None::<StartContainerOptions>);
        self.call("start", START, call).await
    }

    /// The container with this id or name, or `None`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn container(&self, id: &str) -> Result<Option<FoundContainer>, EngineError> {
        let call = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        match self.call("inspect", LOOK, call).await {
            Ok(answer) => Ok(Some(found(answer))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every container that carries the label, also ended ones.
    ///
    /// # Errors
    /// The engine's.
    pub async fn labelled(&self, label: &str) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        self.call("list", LOOK, self.docker.list_containers(Some(options)))
            .await
    }

    /// Every container that was made to have GPUs.
    ///
    /// # Errors
    /// The engine's.
    pub async fn gpu_containers(&self) -> Result<Vec<GpuContainer>, EngineError> {
        let found = self.labelled(layout::LABEL_GPUS).await?;
        Ok(found.into_iter().filter_map(gpu_container).collect())
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The engine's, except that the container does not run.
    pub async fn kill(&self, id: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let call = self.docker.kill_container(id, Some(options));
        match self.call("kill", SIGNAL, call).await {
            Err(error) if error.is_missing() || error.is_conflict() => Ok(()),
            other => other,
        }
    }

    /// Has the engine send SIGTERM and, after `grace`, SIGKILL; it does so even when we are gone.
    ///
    /// # Errors
    /// The engine's, except that there is no such container.
    pub async fn stop(&self, id: &str, grace: u64) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let limit = SIGNAL.saturating_add(Duration::from_secs(grace));
        match self
            .call("stop", limit, self.docker.stop_container(id, Some(options)))
            .await
        {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// Removes a container that does not run, with its anonymous volumes.
    ///
    /// # Errors
    /// The engine's, except that there is no such container.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .v(true)
            .force(false)
            .build();
        match self
            .call("remove", REMOVE, self.docker.remove_container(id, Some(options)))
            .await
        {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// Writes to a container's stdin and lets go of it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn write_stdin(&self, id: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let options = AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stream(true)
            .build();
        let call = async {
            let mut attached = self.docker.attach_container(id, Some(options)).await?;
            attached.input.write_all(bytes).await?;
            attached.input.flush().await?;
            // Half-closing ends the copy on the engine's side after the last byte. A program in between still has
            // that byte to pass on, so the connection is kept until the other side lets go of it, or a moment.
            attached.input.shutdown().await?;
            let closed = async { while attached.output.next().await.is_some() {} };
            let _ = tokio::time::timeout(PASSES_ON, closed).await;
            Ok(())
        };
        self.call("attach", LOOK, call).await
    }

    /// What the engine kept of a container's output, in the order it arrived; with `follow` also what comes, up to the
    /// container's end.
    pub fn output(
        &self,
        id: &str,
        follow: bool,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + Unpin + use<> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail("all")
            .follow(follow)
            .build();
        let address = self.address.clone();
        Box::pin(self.docker.logs(id, Some(options)).map(move |piece| {
            piece
                .map(bollard::container::LogOutput::into_bytes)
                .map_err(|error| EngineError::from_client(&address, "logs", error))
        }))
    }
}

fn signed(value: Option<u64>) -> Option<i64> {
    value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
}

fn body(new: &NewContainer) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(new.image.clone()),
        labels: Some(new.labels.clone().into_iter().collect()),
        env: Some(new.env.clone()),
        user: new.user.clone(),
        entrypoint: Some(new.argv.clone()),
        working_dir: new.working_dir.clone(),
        tty: Some(false),
        open_stdin: Some(new.open_stdin),
        stop_timeout: signed(Some(new.stop_timeout)),
        stop_signal: new.stop_signal.clone(),
        host_config: Some(host_config(new)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(new: &NewContainer) -> HostConfig {
    let mounts = new.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    });
    HostConfig {
        mounts: Some(mounts.collect()),
        auto_remove: Some(false),
        init: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(log_config(new.log)),
        device_requests: device_request(&new.gpus).map(|request| vec![request]),
        shm_size: signed(new.shm_size),
        ipc_mode: new.ipc_host.then(|| "host".to_owned()),
        memory: signed(new.memory_limit),
        network_mode: new.network.clone(),
        ..HostConfig::default()
    }
}

fn log_config(budget: LogBudget) -> HostConfigLogConfig {
    let (size, files) = match budget {
        LogBudget::Small => ("5m".to_owned(), 1),
        LogBudget::Bytes(bytes) => (format!("{}m", (bytes / 1_000_000 + 1).max(5)), 2),
    };
    HostConfigLogConfig {
        typ: Some("local".to_owned()),
        config: Some(HashMap::from([
            ("max-size".to_owned(), size),
            ("max-file".to_owned(), files.to_string()),
            // The engine refuses to start a container with one file and compression.
            ("compress".to_owned(), "false".to_owned()),
        ])),
    }
}

fn device_request(gpus: &[String]) -> Option<DeviceRequest> {
    (!gpus.is_empty()).then(|| DeviceRequest {
        device_ids: Some(gpus.to_vec()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    })
}

fn gpu_container(summary: ContainerSummary) -> Option<GpuContainer> {
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

fn found(answer: ContainerInspectResponse) -> FoundContainer {
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

    #[test]
    fn a_container_never_restarts_nor_removes_itself() {
        let config = host_config(&NewContainer {
            gpus: vec!["GPU-1".into()],
            ..NewContainer::default()
        });
        assert_eq!(config.auto_remove, Some(false));
        assert_eq!(
            config.restart_policy.unwrap().name,
            Some(RestartPolicyNameEnum::NO)
        );
        let request = config.device_requests.unwrap().remove(0);
        assert_eq!(
            (request.count, request.device_ids),
            (None, Some(vec!["GPU-1".into()]))
        );
    }
}
