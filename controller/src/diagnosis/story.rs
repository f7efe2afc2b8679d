//! What happened when around a run: its own moments, the engine's events, and what the kernel told of it.

use super::Moment;
use super::evidence::{KernelLine, kernel};
use super::judge::Case;
use super::words::{redacted, shown};
use crate::model::gpu_words;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;

/// Most moments.
const MOST: usize = 200;

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
    let is_readable = |text: &str| text.contains("Killed process");
    let readable: BTreeSet<u32> = case
        .kernel()
        .filter(|line| is_readable(line.message()))
        .filter_map(|line| kernel::victim(line.message()))
        .collect();
    let is_told = |line: &&KernelLine| {
        let text = line.message();
        let of_a_limit = text.starts_with("Memory cgroup out of memory") || text.starts_with("oom_reaper");
        match kernel::victim(text) {
            Some(victim) if of_a_limit => victims.contains(&victim),
            // The line for people says it better, to whom a line of ids says nothing.
            Some(victim) if text.starts_with("oom-kill:") && readable.contains(&victim) => false,
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
    moments.truncate(MOST);
    moments
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            told[3..],
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
        assert_eq!(told.count(), 1);
    }
}
