//! A container to be made, in our words and in the engine's.

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};
use std::collections::{BTreeMap, HashMap};

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

pub(super) fn body(new: &NewContainer) -> ContainerCreateBody {
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

fn signed(value: Option<u64>) -> Option<i64> {
    value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

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
