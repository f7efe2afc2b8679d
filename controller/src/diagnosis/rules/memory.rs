//! Main memory: limits of the container, and of the host.

use super::{Certainty, Figures, Found, Look, PLAIN, Rule, log, run, tell};
use crate::diagnosis::evidence::{KernelLine, kernel};
use crate::diagnosis::judge::Case;
use crate::diagnosis::words::size;
use farrun_protocol::diagnostics::{CONTAINER, KERNEL, SETTLED};
use farrun_protocol::verdict::Reason;

/// Rows about main memory.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "memory_limit",
        when: "the container reached its limit of main memory and the kernel ended the job (exit code 137); not GPU memory",
        looks: &[Look::Facts(|case| killed(case, true))],
        say: "the container reached its limit of main memory[ of {limit}][ (its greatest use was {peak})], and the kernel ended the job; GPU memory is something else",
        figures,
        remedies: &[
            run("give it more memory", "farrun rerun {run} --memory {more_memory}"),
            run("make the job smaller", "farrun rerun {run} --set {smaller}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "host_out_of_memory",
        when: "the host itself ran out of main memory and the kernel ended the job",
        looks: &[Look::Facts(|case| killed(case, false))],
        say: "`{host}` ran out of main memory, and the kernel ended the job[; the host has {host_total}][; the largest processes later on: {largest}]",
        figures,
        remedies: &[
            tell("end what else uses the host's memory, or use a host with more"),
            run(
                "keep one job from taking all",
                "farrun rerun {run} --memory {host_share}",
            ),
            run("make the job smaller", "farrun rerun {run} --set {smaller}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "worker_out_of_memory",
        when: "a data loader or worker process was killed, and the kernel or the container recorded a want of memory",
        looks: &[Look::Facts(worker)],
        say: "a worker process of the job was ended by the kernel for want of main memory[ (limit {limit})]",
        figures,
        remedies: &[
            run("give it more memory", "farrun rerun {run} --memory {more_memory}"),
            run("use fewer workers", "farrun rerun {run} --set {fewer_workers}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "child_out_of_memory",
        when: "a child process was killed for want of memory and the job went on; by itself no cause",
        looks: &[Look::Facts(child)],
        say: "the kernel ended a process of the container for want of main memory, and the job went on without it[; limit {limit}]",
        figures,
        remedies: &[run(
            "give it more memory",
            "farrun rerun {run} --memory {more_memory}",
        )],
        ..PLAIN
    },
    Rule {
        code: "python_memory",
        when: "a program was refused main memory",
        looks: &[
            log(r"^(?:\S+\.)?MemoryError(?::|\s*$)"),
            log(
                r"numpy\.(?:core\._exceptions\.|_core\._exceptions\.)?_?ArrayMemoryError: Unable to allocate (?P<need>[0-9.]+ [KMGT]?i?B)",
            ),
            log(
                r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory): you tried to allocate (?P<bytes>[0-9]+) bytes",
            ),
            log(r"\bterminate called after throwing an instance of 'std::bad_alloc'"),
            log(r"(?:OSError|BlockingIOError|RuntimeError): \[Errno 12\] Cannot allocate memory"),
        ],
        say: "the program was refused main memory[: it asked for {need} at once][; limit {limit}][; the host had {host_available} of {host_total} left]",
        figures,
        remedies: &[
            run("give it more memory", "farrun rerun {run} --memory {more_memory}"),
            run("make the job smaller", "farrun rerun {run} --set {smaller}"),
        ],
        ..PLAIN
    },
];

/// Whether the container's own limit is what the kernel acted on; unknown without a word of it.
fn by_limit(case: &Case<'_>) -> bool {
    match oom_lines(case).first() {
        Some(line) if line.text.contains("CONSTRAINT_NONE") => false,
        Some(line) if line.text.contains("CONSTRAINT_MEMCG") => true,
        _ => case.memory().limit.is_some(),
    }
}

/// Lines of the kernel about this container's memory, within the run's time.
fn oom_lines<'a>(case: &Case<'a>) -> Vec<&'a KernelLine> {
    let id = case.container_id();
    case.kernel()
        .filter(|line| line.text.contains("oom-kill:") && id.is_some_and(|id| line.text.contains(id)))
        .collect()
}

/// The same ends in the kernel's line for people, which has who and how much and not the container; else the lines
/// that have it.
fn readable<'a>(case: &Case<'a>) -> Vec<&'a KernelLine> {
    let own = oom_lines(case);
    let victims: Vec<u32> = own
        .iter()
        .filter_map(|line| kernel::victim(line.message()))
        .collect();
    let tells = |line: &&KernelLine| {
        let text = line.message();
        text.contains("Killed process")
            && kernel::victim(text).is_some_and(|victim| victims.contains(&victim))
    };
    let told: Vec<&KernelLine> = case.kernel().filter(tells).collect();
    if told.is_empty() { own } else { told }
}

/// Whether anything recorded that a process of the container was killed for want of memory.
fn recorded(case: &Case<'_>) -> bool {
    case.oom_kills() > 0
        || case.evidence.container.state.oom_killed
        || case.engine_says_oom()
        || !oom_lines(case).is_empty()
}

fn quoted(case: &Case<'_>, mut found: Found) -> Found {
    for line in readable(case).into_iter().take(2) {
        found = found.quoting(KERNEL, &line.text);
    }
    if case.oom_kills() > 0 {
        found = found.quoting(SETTLED, &format!("oom_kills: {}", case.oom_kills()));
    }
    if case.evidence.container.state.oom_killed {
        found = found.quoting(CONTAINER, "OOMKilled: true");
    }
    found
}

fn killed(case: &Case<'_>, limit: bool) -> Option<Found> {
    let engine_only = case.reason_is(Reason::OutOfMemory).is_some() && case.exit_code().is_none();
    if !(case.was_killed() || engine_only) || !recorded(case) || by_limit(case) != limit {
        return None;
    }
    Some(quoted(case, Found::certain()))
}

fn worker(case: &Case<'_>) -> Option<Found> {
    if case.was_killed() || !recorded(case) {
        return None;
    }
    let mut found = case.in_log(
        r"DataLoader worker \(pid(?:\(s\))? [0-9, ]+\) (?:is killed by signal: Killed|exited unexpectedly)|A worker process managed by the executor was unexpectedly terminated|A process in the process pool was terminated abruptly|exitcode *: -9\b|died with <Signals\.SIGKILL",
    )?;
    found.certainty = Some(Certainty::Certain);
    Some(quoted(case, found))
}

fn child(case: &Case<'_>) -> Option<Found> {
    if case.was_killed() || !recorded(case) || worker(case).is_some() {
        return None;
    }
    Some(quoted(case, Found::with(Certainty::Seen)))
}

fn figures(case: &Case<'_>, found: &Found) -> Figures {
    let mut figures = Figures::new();
    if let Some(bytes) = found.figures.get("bytes").and_then(|text| text.parse().ok()) {
        figures.insert("need", size(bytes));
    }
    let memory = case.memory();
    let known = [
        ("limit", memory.limit),
        ("peak", memory.peak),
        ("host_total", memory.total),
        ("host_available", memory.available),
    ];
    figures.extend(
        known
            .into_iter()
            .filter_map(|(name, value)| Some((name, size(value?)))),
    );
    if let Some(total) = memory.total {
        let gibibytes = (total / (1 << 30)) * 8 / 10;
        if gibibytes > 0 {
            figures.insert("host_share", format!("{gibibytes}g"));
        }
    }
    let mut largest: Vec<_> = case.evidence.processes.iter().collect();
    largest.sort_by_key(|process| std::cmp::Reverse(process.resident));
    let largest: Vec<String> = largest
        .iter()
        .take(3)
        .map(|process| format!("{} of {} {}", process.name, process.user, size(process.resident)))
        .collect();
    if !largest.is_empty() {
        figures.insert("largest", largest.join(", "));
    }
    figures
}
