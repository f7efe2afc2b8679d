//! A machine reached by SSH, as the database knows it.

use chrono::{DateTime, Utc};
use farrun_protocol::HostId;
use farrun_protocol::doctor::Residence;
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::message::HostFacts;
use serde::{Deserialize, Serialize};

/// A machine reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The user's name for it, `[a-z0-9][a-z0-9._-]{0,62}`; also what an alias of `~/.ssh/config` is looked up by
    /// when `settings.address` is none.
    pub name: String,
    /// How to reach and use it.
    pub settings: HostSettings,
    /// The machine that answered last; another one behind the same address settles no run of this one.
    pub host_id: Option<HostId>,
    /// `uname -sm` as seen on the last contact, such as `Linux x86_64`.
    pub platform: Option<String>,
    /// When it was added.
    pub added_at: DateTime<Utc>,
    /// When it last answered.
    pub last_seen: Option<DateTime<Utc>>,
}

/// What a host said last, and when by our clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostReport {
    /// What it is and holds.
    pub facts: Option<(HostFacts, DateTime<Utc>)>,
    /// What its GPUs are and do.
    pub gpus: Option<(GpuReport, DateTime<Utc>)>,
}

/// How to reach and use a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSettings {
    /// `[user@]addr[:port]`, IPv6 in brackets; none to use the name as an alias of `~/.ssh/config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Private key file to use instead of what `~/.ssh/config` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// State folder on the host, relative to the login folder or absolute; characters `[A-Za-z0-9/._-]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whether Docker needs `sudo -n` there.
    #[serde(default)]
    pub docker_sudo: bool,
    /// `DOCKER_HOST` to use there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_host: Option<String>,
    /// What is done there when a run has ended, as far as that may be shown: the host keeps the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// What starts the observer there after a boot, when that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<Residence>,
}

impl HostSettings {
    /// The state folder, with its default.
    pub fn state_folder(&self) -> &str {
        self.state
            .as_deref()
            .unwrap_or(farrun_protocol::layout::DEFAULT_STATE)
    }
}

/// Whether `name` can name a host: `[a-z0-9][a-z0-9._-]{0,62}`.
pub fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

/// Whether `path` can be a state folder: it becomes part of a command line that no shell may reinterpret.
pub fn is_state_folder(path: &str) -> bool {
    (1..=200).contains(&path.len())
        && !path.starts_with('-')
        && path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        && !path.split('/').any(|part| part == "..")
}
