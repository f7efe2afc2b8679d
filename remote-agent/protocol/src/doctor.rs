//! What a host's agent finds out about it for `farrun host doctor`: facts and no verdicts, which the controller comes to.
//!
//! Every part is looked at by itself and within a time limit of its own; what could not be looked at says why.

use crate::gpu::GpuReport;
use crate::message::{Failure, WatchFacts};
use serde::{Deserialize, Serialize};

/// Most entries of any list here.
pub const MOST: usize = 64;

/// A part, or why it could not be looked at.
pub type Looked<T> = Result<T, Unseen>;

/// Why something could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why:?}: {}", detail.as_deref().unwrap_or("-"))]
pub struct Unseen {
    /// What kind of reason.
    pub why: Why,
    /// What the kernel or a program said; at most 400 characters.
    #[serde(default)]
    pub detail: Option<String>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It took longer than its limit.
    Late,
    /// The account may not.
    NotPermitted,
    /// There is no such thing on the host.
    Absent,
    /// Something that it needs is not there or does not work.
    Needs,
    /// It went wrong.
    Failed,
}

impl Unseen {
    /// A reason without words.
    pub fn new(why: Why) -> Self {
        Self { why, detail: None }
    }

    /// A reason in the words of whoever refused.
    pub fn because(why: Why, detail: impl std::fmt::Display) -> Self {
        let detail: String = detail.to_string().chars().take(400).collect();
        Self {
            why,
            detail: Some(detail),
        }
    }
}

/// Everything that the agent looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkup {
    /// The account and what it may do.
    pub account: AccountFacts,
    /// The state folder.
    pub state: Looked<StateFacts>,
    /// The engine.
    pub engine: Result<EngineCheckup, Failure>,
    /// NVIDIA's hardware and driver, as the kernel tells.
    pub driver: Looked<DriverCheckup>,
    /// What gives containers their GPUs.
    pub toolkit: Looked<ToolkitFacts>,
    /// What `nvidia-smi` says.
    pub gpus: Looked<GpuReport>,
    /// A short container without a GPU.
    pub container: Looked<Trial>,
    /// A short container with one.
    pub gpu_container: Looked<Trial>,
    /// What the kernel wrote about GPUs since its boot.
    pub kernel_log: Looked<KernelLog>,
    /// The folder that all accounts share.
    pub locks: Looked<LocksFacts>,
    /// Shared memory of the host, outside of containers.
    pub shared_memory: Looked<SpaceFacts>,
    /// Caches of models.
    pub caches: Looked<Vec<CacheFacts>>,
    /// What becomes of processes when their session ends.
    pub login: Looked<LoginFacts>,
    /// The resident observer, when one lives.
    #[serde(default)]
    pub watch: Option<WatchFacts>,
    /// What starts it after a boot.
    #[serde(default)]
    pub residence: Option<Residence>,
}

/// What brings the observer back after the host restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residence {
    /// A unit of the account's own systemd, which lingers.
    UserUnit,
    /// A line of the account's crontab.
    Crontab,
}

/// The account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// Its name, or its number where it has none.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Whether this session is in the group `docker`.
    pub in_docker_group: bool,
    /// Whether `/etc/group` puts the account there, whatever this session is in.
    pub listed_in_docker_group: bool,
    /// Whether `sudo -n` starts programs; only found out where the engine refuses the account.
    #[serde(default)]
    pub sudo: Option<bool>,
}

/// The state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFacts {
    /// Its absolute path.
    pub path: String,
    /// Kind of the file system, as the kernel names it; empty when it is not known.
    pub file_system: String,
    /// Whether programs on it cannot be started.
    pub noexec: bool,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Space.
    pub space: SpaceFacts,
    /// Permission bits of the folder.
    pub mode: u32,
    /// How long a small file took to be written, synced and removed, in milliseconds; or why that failed.
    pub written: Result<u64, String>,
    /// Folders from it up to the root that others than root and the account can change.
    pub open_parents: Vec<OpenFolder>,
}

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceFacts {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that the account can use.
    pub free: u64,
    /// Inodes in all; 0 where they are made as needed.
    pub inodes: u64,
    /// Inodes that the account can use.
    pub inodes_free: u64,
}

/// A folder that others can change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFolder {
    /// Its path.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Number of its owner.
    pub uid: u32,
    /// Whether its owner is neither root nor the account.
    pub foreign: bool,
}

/// The engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineCheckup {
    /// Its version.
    pub version: String,
    /// Newest API version it speaks.
    pub api: String,
    /// Where it was reached.
    pub address: String,
    /// How long it took to tell about itself, in milliseconds.
    pub took_ms: u64,
    /// Version of `runc`, when it says so.
    #[serde(default)]
    pub runc: Option<String>,
    /// `systemd` or `cgroupfs`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Whether containers outlive a restart of it.
    pub live_restore: bool,
    /// Its storage driver.
    pub storage: String,
    /// Folder of its images and containers.
    pub root: String,
    /// Space there; none where the account cannot see it.
    #[serde(default)]
    pub space: Option<SpaceFacts>,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Whether root in containers is another user outside.
    pub userns: bool,
    /// Whether SELinux confines containers.
    pub selinux: bool,
    /// Names of its runtimes.
    pub runtimes: Vec<String>,
    /// Folders in which it looks for CDI files.
    pub cdi_folders: Vec<String>,
    /// Devices of NVIDIA that it found by CDI.
    pub cdi_devices: u64,
    /// Whether a program that makes it accept GPU requests is installed.
    pub gpu_hook: bool,
    /// What it warns of itself.
    pub warnings: Vec<String>,
}

/// NVIDIA's hardware and driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverCheckup {
    /// Cards on the bus.
    pub cards: Vec<Card>,
    /// Version of the module that is loaded.
    #[serde(default)]
    pub module: Option<String>,
    /// Version of the library that is installed, which programs load.
    #[serde(default)]
    pub installed: Option<String>,
    /// Device files.
    pub device_files: Vec<String>,
    /// Those without a link in `/dev/char`, which the engine needs with the cgroup driver `systemd`.
    pub unlinked: Vec<String>,
    /// Whether the system says that it wants to be restarted.
    pub reboot_required: bool,
    /// Whether `nvidia-persistenced` runs.
    pub persistence_daemon: bool,
}

/// A card on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its address.
    pub bus_id: String,
    /// Kernel driver it is bound to.
    #[serde(default)]
    pub driver: Option<String>,
    /// PCIe lanes in use, and most that it could.
    #[serde(default)]
    pub lanes: Option<(u32, u32)>,
}

/// What gives containers their GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolkitFacts {
    /// Its version, when one of its programs said so.
    #[serde(default)]
    pub version: Option<String>,
    /// Its programs that are installed.
    pub programs: Vec<String>,
    /// Files that describe GPUs to the engine.
    pub cdi_files: Vec<String>,
    /// Whether its configuration says `no-cgroups = true`.
    pub no_cgroups: bool,
}

/// What a short container saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Image it was made of.
    pub image: String,
    /// From the order to make it until it had ended, in milliseconds.
    pub took_ms: u64,
    /// What was in it; none when it could not be made, started or understood.
    #[serde(default)]
    pub seen: Option<Seen>,
    /// What the engine or the container said instead.
    #[serde(default)]
    pub problem: Option<String>,
}

/// The inside of a container, as the agent sees it there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Size of `/dev/shm` in bytes.
    pub shared_memory: u64,
    /// NVIDIA's device files.
    pub device_files: Vec<String>,
    /// Exit code of `nvidia-smi -L`; none when there is no such program or it did not end.
    #[serde(default)]
    pub smi_code: Option<i32>,
    /// The beginning of what it said.
    #[serde(default)]
    pub smi_said: String,
}

/// What the kernel wrote about GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLog {
    /// Errors of GPUs by kind, newest last.
    pub xids: Vec<Xid>,
    /// Lines of the driver that speak of a GPU which is gone, newest last.
    pub lost: Vec<String>,
}

/// An error that the driver reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    /// Address of the GPU.
    pub bus_id: String,
    /// Its number.
    pub code: u32,
    /// How often since the boot.
    pub count: u64,
    /// Seconds since the newest.
    pub age: u64,
    /// The newest line.
    pub line: String,
}

/// The folder of the locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocksFacts {
    /// Its path.
    pub path: String,
    /// Number of its owner.
    pub uid: u32,
    /// Its permission bits.
    pub mode: u32,
    /// What kept a lock from being opened, when something did.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A cache of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFacts {
    /// What it caches for: `huggingface`, `torch`.
    pub kind: String,
    /// Where it lies.
    pub path: String,
    /// Bytes that were counted.
    pub bytes: u64,
    /// Whether all of it was counted.
    pub complete: bool,
    /// Space there.
    #[serde(default)]
    pub space: Option<SpaceFacts>,
}

/// What becomes of processes when their session ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginFacts {
    /// Whether the host was started by systemd.
    pub systemd: bool,
    /// Whether this session is one of logind's.
    pub in_session: bool,
    /// Whether logind ends all of a session with it; none when it does not say.
    #[serde(default)]
    pub kill_user_processes: Option<bool>,
    /// Whether the account's own systemd outlives its sessions.
    pub linger: bool,
    /// Whether the account's own systemd can be asked.
    pub user_manager: bool,
    /// Whether the account can have a crontab; none where there is no such program.
    #[serde(default)]
    pub crontab: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_and_shown() {
        let unseen = Unseen::because(Why::NotPermitted, "x".repeat(1000));
        assert_eq!(unseen.detail.as_deref().map(str::len), Some(400));
        let json = serde_json::to_value(Looked::<u8>::Err(unseen.clone())).unwrap();
        assert_eq!(json["Err"]["why"], "not_permitted");
        assert!(unseen.to_string().starts_with("NotPermitted: xxx"));
    }
}
