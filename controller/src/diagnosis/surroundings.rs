//! What surrounded a run: who else was on its GPUs, memory, disks, and what happened when.

use super::evidence::{Evidence, KernelLine, kernel};
use super::judge::Case;
use super::words::{redacted, shown};
use super::{Context, DiskContext, Facts, GpuContext, MemoryContext, Moment, OtherUse};
use crate::model::gpu_words;
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::gpu::{Gpu, GpuReport, Health, Holder};
use std::collections::BTreeSet;

/// Most moments, and most others on one GPU.
const MOST: (usize, usize) = (200, 20);

/// Everything but the moments.
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
    others.truncate(MOST.1);
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

/// When the job began: its start, or the engine's word on it, whichever is later.
fn begun(case: &Case<'_>) -> Option<DateTime<Utc>> {
    let events = case.evidence.events.iter();
    let told = events.filter(|event| ["create", "start"].contains(&event.action.as_str()));
    told.filter_map(super::evidence::Event::at)
        .chain(case.facts.run.started_at)
        .max()
}

/// Lines of the kernel about the run's container, its GPUs, or the host as a whole while it ran. A host tells of other
/// containers and GPUs in the same log, and whoever reads those here takes them for this run's.
fn of_the_kernel<'a>(case: &Case<'a>) -> Vec<&'a KernelLine> {
    let (run, own) = (case.facts.run, case.container_id());
    let while_it_ran = |line: &KernelLine| {
        let longest = TimeDelta::milliseconds(if line.is_coarse() { 999 } else { 0 });
        let until = line.at.checked_add_signed(longest).unwrap_or(line.at);
        run.started_at.is_none_or(|started| until >= started)
            && run.ended_at.is_none_or(|ended| line.at <= ended)
    };
    let is_limit = |text: &str| text.contains("constraint=CONSTRAINT_MEMCG");
    let is_own = |line: &KernelLine| line.containers().any(|id| Some(id) == own);
    let counts = |line: &KernelLine| {
        let text = line.message();
        if is_own(line) {
            true
        } else if text.starts_with("oom-kill:") {
            // The host itself may run out of memory while it ends another container.
            !is_limit(text) && while_it_ran(line)
        } else if let Some((bus, _)) = kernel::xid(text) {
            case.own_gpu_at(bus).is_some()
        } else {
            line.containers().next().is_none() && while_it_ran(line)
        }
    };
    // Of the lines about one kill a single one names the container; the others have its process.
    let victims: BTreeSet<u32> = case
        .kernel()
        .filter(|line| line.message().starts_with("oom-kill:") && counts(line))
        .filter_map(|line| kernel::victim(line.message()))
        .collect();
    let is_told = |line: &&KernelLine| {
        let text = line.message();
        let of_a_limit = text.starts_with("Memory cgroup out of memory") || text.starts_with("oom_reaper");
        match kernel::victim(text) {
            Some(victim) if of_a_limit => victims.contains(&victim),
            // The first line of a kill names only who asked for memory.
            _ => !text.contains("invoked oom-killer") && counts(line),
        }
    };
    case.kernel().filter(is_told).collect()
}

/// What happened when, by the host's clock; ours for the order.
pub(super) fn moments(case: &Case<'_>) -> Vec<Moment> {
    let (run, evidence) = (case.facts.run, case.evidence);
    let mut moments = Vec::new();
    let mut coarse = BTreeSet::new();
    let mut add = |at: Option<DateTime<Utc>>, what: &str| {
        moments.extend(at.map(|at| Moment {
            at,
            what: redacted(&shown(what, 300)),
        }));
    };
    add(Some(run.created_at), "ordered");
    add(run.launched_at, "the host acknowledged the order");
    add(run.started_at, "the job started");
    add(run.ended_at, "the job ended");
    add(case.context.collected_at, "the evidence was collected");
    for event in &evidence.events {
        // Every health check and every exec is an event as well.
        if [
            "create", "start", "die", "kill", "stop", "oom", "pause", "unpause", "destroy",
        ]
        .contains(&event.action.as_str())
        {
            add(event.at(), &event.words());
        }
    }
    for line in of_the_kernel(case) {
        add(Some(line.at), &format!("kernel: {}", line.message()));
        if line.is_coarse() {
            coarse.insert(line.at);
        }
    }
    let greatest = evidence.samples.iter().flat_map(|sample| {
        sample
            .gpus
            .iter()
            .filter_map(move |gpu| Some((gpu.memory?, sample.at, &gpu.uuid)))
    });
    if let Some((memory, at, _)) = greatest.max_by_key(|(memory, at, _)| (*memory, std::cmp::Reverse(*at))) {
        add(
            Some(at),
            &format!(
                "most memory in use on one of its GPUs: {}",
                gpu_words::mebibytes(memory)
            ),
        );
    }
    let begun = begun(case);
    moments.sort_by_key(|moment| {
        // What is known to the second happened in the job's time: when that began in the same second, behind it.
        let since = begun.filter(|begun| {
            let is_same = (TimeDelta::zero()..TimeDelta::seconds(1)).contains(&(*begun - moment.at));
            is_same && coarse.contains(&moment.at) && moment.what.starts_with("kernel: ")
        });
        since.unwrap_or(moment.at)
    });
    moments.truncate(MOST.0);
    moments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::tests::{CONTAINER, Folder};

    /// The three lines of one kill by a limit.
    fn kill(second: &str, container: &str, pid: u32) -> String {
        let at = format!("2026-03-01T10:{second}+0000 kernel:");
        format!(
            "{at} tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n\
             {at} oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={container},mems_allowed=0,\
             oom_memcg=/docker/{container},task_memcg=/docker/{container},task=tail,pid={pid},uid=0\n\
             {at} Memory cgroup out of memory: Killed process {pid} (tail) total-vm:50488kB\n"
        )
    }

    #[test]
    fn the_story_has_the_kernels_lines_about_this_run_and_no_other() {
        let other = CONTAINER.replace("c0ffee", "badbad");
        let log = [
            kill("05:00", &other, 4711),
            // In the second in which the job began.
            kill("00:00", CONTAINER, 42),
            "2026-03-01T10:06:00+0000 gpu1 kernel: blk_update_request: I/O error, dev sda\n".to_owned(),
            "2026-03-01T10:10:03+0000 kernel: blk_update_request: I/O error, dev sdb\n".to_owned(),
            "2026-03-01T10:07:00+0000 kernel: NVRM: Xid (PCI:0000:0f:00): 31, pid=7, name=x\n".to_owned(),
        ];
        let mut folder = Folder::new().with("kernel.log", log.concat()).log("x\n");
        folder.run.started_at = "2026-03-01T10:00:00.4Z".parse().ok();
        let moments = folder.read().moments;
        let told: Vec<&str> = moments.iter().map(|moment| moment.what.as_str()).collect();
        assert_eq!(told[2], "the job started", "{told:#?}");
        assert!(told[3].starts_with("kernel: oom-kill:"), "{told:#?}");
        assert_eq!(
            told[4..],
            [
                "kernel: Memory cgroup out of memory: Killed process 42 (tail) total-vm:50488kB",
                "kernel: blk_update_request: I/O error, dev sda",
                "the job ended",
            ]
        );
    }

    #[test]
    fn the_host_itself_out_of_memory_is_told_though_it_ended_another_container() {
        let other = CONTAINER.replace("c0ffee", "badbad");
        let log = kill("05:00", &other, 4711)
            .replace("CONSTRAINT_MEMCG", "CONSTRAINT_NONE")
            .replace("Memory cgroup out", "Out");
        let moments = Folder::new().with("kernel.log", log).log("x\n").read().moments;
        let told = moments
            .iter()
            .filter(|moment| moment.what.starts_with("kernel: "));
        assert_eq!(told.count(), 2);
    }

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
