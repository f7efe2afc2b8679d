//! What surrounded a run: who else was on its GPUs, memory, disks.

use super::evidence::{Evidence, kernel};
use super::words::shown;
use super::{Context, DiskContext, Facts, GpuContext, MemoryContext, OtherUse};
use crate::model::gpu_words;
use farrun_protocol::gpu::{Gpu, GpuReport, Health, Holder};

/// Most others on one GPU.
const MOST: usize = 20;

/// All of it.
pub(super) fn context(evidence: &Evidence, facts: &Facts<'_>) -> Context {
    let report = evidence.gpus.as_ref();
    let bundle = evidence.bundle.as_ref();
    let driver = report.and_then(|report| report.driver.as_ref());
    let engine = &evidence.engine.info.server_version;
    Context {
        collected_at: bundle.map(|bundle| bundle.ended_at),
        machine: bundle.map(|bundle| shown(&bundle.host_name, 100)),
        driver: driver.map(|driver| shown(&driver.version, 40)),
        cuda: driver
            .and_then(|driver| driver.cuda.as_deref())
            .map(|cuda| shown(cuda, 40)),
        engine: (!engine.is_empty()).then(|| shown(engine, 60)),
        gpus: gpus(evidence, facts),
        memory: memory(evidence, facts),
        disks: evidence
            .disks
            .iter()
            .map(|disk| DiskContext {
                role: shown(&disk.role, 40),
                path: shown(&disk.path, 300),
                total: disk.total,
                free: disk.free,
                inodes_free: disk.inodes_free,
                device: disk.device,
            })
            .collect(),
    }
}

impl Context {
    /// Its file systems, each once with all it is there for; those with little room first. A host names the same one
    /// under several paths, and something may be written between two looks at it.
    pub fn file_systems(&self) -> Vec<(&DiskContext, Vec<&str>)> {
        let (full, roomy): (Vec<_>, Vec<_>) = self.disks.iter().partition(|disk| disk.is_full());
        let mut found: Vec<(&DiskContext, Vec<&str>)> = Vec::new();
        for disk in full.into_iter().chain(roomy) {
            match found.iter_mut().find(|(other, _)| other.is_same(disk)) {
                Some((_, roles)) => roles.push(&disk.role),
                None => found.push((disk, vec![&disk.role])),
            }
        }
        found
    }
}

impl DiskContext {
    /// Whether it has less than a twentieth of its room left, or no inodes.
    fn is_full(&self) -> bool {
        self.free < self.total / 20 || self.inodes_free == 0
    }

    /// Whether both are one file system: by its device, else by its figures, the size to the byte and the room nearly.
    fn is_same(&self, other: &Self) -> bool {
        if let (Some(device), Some(of_other)) = (self.device, other.device) {
            return device == of_other;
        }
        let nearly = (self.total / 1000).min(256 << 20);
        self.total == other.total
            && self.free.abs_diff(other.free) <= nearly
            && self.inodes_free.abs_diff(other.inodes_free) <= 1000
            && (self.inodes_free == 0) == (other.inodes_free == 0)
    }
}

/// Whether the run had this GPU, or an instance of it.
pub(super) fn is_own(facts: &Facts<'_>, gpu: &Gpu) -> bool {
    let leased = |uuid: &str| match &facts.run.lease {
        Some(lease) => lease.gpus.iter().any(|own| own.uuid == uuid),
        None => facts.run.gpus.split(',').any(|own| own == uuid),
    };
    leased(&gpu.uuid) || gpu.mig_devices.iter().any(|device| leased(&device.uuid))
}

fn gpus(evidence: &Evidence, facts: &Facts<'_>) -> Vec<GpuContext> {
    let Some(report) = &evidence.gpus else {
        return Vec::new();
    };
    let any_own = report.gpus.iter().any(|gpu| is_own(facts, gpu));
    report
        .gpus
        .iter()
        .filter(|gpu| !any_own || is_own(facts, gpu))
        .map(|gpu| GpuContext {
            uuid: shown(&gpu.uuid, 100),
            index: gpu.index,
            name: shown(&gpu.name, 100),
            of_the_run: is_own(facts, gpu),
            memory_total: gpu.memory_total.value(),
            memory_used: gpu.memory_used.value(),
            memory_before: before(evidence, &gpu.uuid),
            trouble: (gpu.health != Health::Healthy).then(|| gpu_words::health(gpu.health).0.to_owned()),
            others: others(report, gpu, facts),
        })
        .collect()
}

/// Memory in use by anybody at the first sample.
fn before(evidence: &Evidence, uuid: &str) -> Option<u64> {
    let first = evidence.samples.first()?;
    first.gpus.iter().find(|gpu| gpu.uuid == uuid)?.memory
}

/// Processes and leases of others.
fn others(report: &GpuReport, gpu: &Gpu, facts: &Facts<'_>) -> Vec<OtherUse> {
    let own = &facts.run.id;
    let mut others: Vec<OtherUse> = Vec::new();
    for process in report
        .processes
        .iter()
        .filter(|process| process.gpu_uuid == gpu.uuid)
    {
        let who = match &process.holder {
            Holder::Run { run_id } if run_id == own => continue,
            // What the run leaves behind as it ends is its own.
            Holder::Container { id, .. } if facts.run.container_id.as_deref() == Some(id) => continue,
            Holder::Run { run_id } => run_id.to_string(),
            Holder::Container {
                id,
                name,
                user,
                command,
            } => {
                let name = name.clone().unwrap_or_else(|| id.chars().take(12).collect());
                format!("{command} of {user} in container {name}")
            }
            Holder::Process { user, command } => format!("{command} of {user}"),
            Holder::Dead => "a process that is gone and left its memory".to_owned(),
        };
        others.push(OtherUse {
            who: shown(&format!("{who} (pid {})", process.pid), 200),
            memory: process.memory.value(),
            pid: Some(process.pid),
        });
    }
    for lease in report.leases.iter().filter(|lease| lease.gpu_uuid == gpu.uuid) {
        let told = lease.run_id.as_ref().map(ToString::to_string);
        let known = told
            .as_deref()
            .is_some_and(|run| run == own.as_str() || others.iter().any(|other| other.who.starts_with(run)));
        if known || (lease.run_id.is_none() && lease.user.is_none()) {
            continue;
        }
        let who = match (told, &lease.user) {
            (Some(run), _) => run,
            (None, Some(user)) => format!("a run of {user}"),
            (None, None) => continue,
        };
        others.push(OtherUse {
            who: shown(&who, 200),
            memory: None,
            pid: None,
        });
    }
    others.sort_by_key(|other| std::cmp::Reverse(other.memory));
    others.truncate(MOST);
    others
}

fn memory(evidence: &Evidence, facts: &Facts<'_>) -> MemoryContext {
    let limit = evidence.counter(&["memory.max", "memory.limit_in_bytes"]);
    let inspected = Some(evidence.container.host_config.memory);
    let of = |name: &str| meminfo(&evidence.system, name);
    MemoryContext {
        // No limit is written as 0, or as a number that no machine has.
        limit: [facts.run.spec.memory_limit, inspected, limit]
            .into_iter()
            .flatten()
            .find(|limit| (1..1 << 53).contains(limit)),
        peak: evidence
            .counter(&["memory.peak", "memory.max_usage_in_bytes"])
            .filter(|peak| *peak > 0),
        total: of("MemTotal"),
        available: of("MemAvailable"),
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The UUID of the GPU that sits there, as `/proc/driver/nvidia/gpus/*/information` tells it.
pub(super) fn uuid_at(driver: &str, bus: kernel::BusId) -> Option<String> {
    let mut uuid = None;
    for line in driver.lines() {
        let line = line.trim();
        if line.starts_with("==") || line.starts_with("Model:") {
            uuid = None;
        }
        if let Some(value) = line.strip_prefix("GPU UUID:") {
            uuid = Some(value.trim().to_owned());
        }
        if let Some(value) = line.strip_prefix("Bus Location:")
            && kernel::bus_id(value) == Some(bus)
        {
            return uuid;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_system_is_told_once_though_it_was_written_to_meanwhile() {
        let disk = |role: &str, total: u64, free: u64| DiskContext {
            role: role.to_owned(),
            path: format!("/{role}"),
            total,
            free,
            inodes_free: 7,
            device: None,
        };
        let context = Context {
            disks: vec![
                disk("state", 500 << 30, 200 << 30),
                disk("tmp", 500 << 30, (200 << 30) - 4096),
                disk("engine", 500 << 30, 100 << 30),
                disk("shm", 64 << 20, 0),
            ],
            ..Context::default()
        };
        let told = context.file_systems();
        let roles: Vec<&[&str]> = told.iter().map(|(_, roles)| roles.as_slice()).collect();
        assert_eq!(roles, [["shm"].as_slice(), &["state", "tmp"], &["engine"]]);
        // Its device is better than figures, however alike or unlike those are.
        let on = |role: &str, device: u64, free: u64| DiskContext {
            device: Some(device),
            ..disk(role, 64 << 20, free)
        };
        let context = Context {
            disks: vec![
                on("state", 1, 60 << 20),
                on("tmp", 1, 20 << 20),
                on("shm", 2, 60 << 20),
            ],
            ..Context::default()
        };
        let told = context.file_systems();
        let roles: Vec<&[&str]> = told.iter().map(|(_, roles)| roles.as_slice()).collect();
        assert_eq!(roles, [["state", "tmp"].as_slice(), &["shm"]]);
    }
}
