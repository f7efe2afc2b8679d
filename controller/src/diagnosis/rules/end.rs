//! Ends that say themselves why: those that were asked for, those of the host, and, last, those of which only the way
//! is known.

use super::{Certainty, Figures, Found, Look, PLAIN, Rule, run, said, tell};
use crate::diagnosis::judge::Case;
use farrun_protocol::diagnostics::{CONTAINER, ENGINE, SPEC};
use farrun_protocol::record::RunFacts;
use farrun_protocol::verdict::Reason;

macro_rules! reason {
    ($reason:ident) => {
        Look::Facts(|case| case.reason_is(Reason::$reason))
    };
}

/// What the job could do nothing about.
pub(super) const BEFORE: &[Rule] = &[
    Rule {
        code: "stopped",
        when: "the run was stopped on request",
        looks: &[Look::Facts(stopped)],
        say: "it was stopped on request[ after {ran}]",
        ..PLAIN
    },
    Rule {
        code: "interrupted",
        when: "the order was interrupted before the host had it",
        looks: &[reason!(Interrupted)],
        say: "the order was interrupted before `{host}` had acknowledged it, so nothing was started",
        remedies: &[run("order it again", "farrun rerun {run}")],
        ..PLAIN
    },
    Rule {
        code: "not_launched",
        when: "the order did not reach the host",
        looks: &[Look::Facts(|case| case.unexplained(Reason::NotLaunched))],
        say: "the order did not reach `{host}`[: {detail}]",
        remedies: &[
            run("look whether the host is well", "farrun host doctor {host}"),
            run("order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "engine_unreachable",
        when: "no container engine answered on the host when the run was ordered",
        looks: &[said(
            r"no container engine answers on the host(?:: (?P<address>[a-z]+://\S*[^\s:]))?|the order did not reach the host: (?P<address2>[a-z]+://\S*[^\s:])",
        )],
        say: "no container engine answered on `{host}`[ at {address}], so the job was not started",
        remedies: &[
            tell("start Docker there: `sudo systemctl start docker`"),
            run("see whether it answers", "farrun status {host}"),
            run("then order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "engine_denied",
        when: "the account may not use the container engine of the host",
        looks: &[said(r"the account may not use Docker on the host")],
        say: "the account may not use Docker on `{host}`, so the job was not started",
        remedies: &[
            tell("add the account to the group `docker` there, and log in anew"),
            run(
                "or let it be used by way of sudo",
                "farrun host set {host} --docker-sudo",
            ),
            run("then order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "host_reboot",
        when: "the host was restarted under the run",
        looks: &[Look::Facts(host_reboot)],
        say: "`{host}` was restarted[ after the job had run for {ran}], and the job ended with it",
        remedies: &[run("order it again", "farrun rerun {run}")],
        ..PLAIN
    },
    Rule {
        code: "engine_restart",
        when: "the container engine went down and took the job with it",
        looks: &[Look::Facts(engine_restart)],
        say: "the container engine of `{host}` went down[ after the job had run for {ran}] and took the job with it",
        figures: still_down,
        remedies: &[
            tell("start it there, for it did not answer {still_down}: `sudo systemctl start docker`"),
            tell(
                "set `\"live-restore\": true` in /etc/docker/daemon.json on the host, so that jobs outlive a restart of the engine",
            ),
            run("order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "container_removed",
        when: "somebody removed the container before its end was recorded",
        looks: &[Look::Facts(container_removed)],
        say: "somebody removed the container on `{host}` before its end was recorded",
        remedies: &[
            tell(
                "look for clean-up jobs there, such as `docker system prune` in a crontab; our containers carry the label `farrun.run_id`",
            ),
            run("order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "host_lost",
        when: "the host was given up, or another machine answers at its address",
        looks: &[reason!(HostLost)],
        say: "`{host}` was given up while the run was on it[: {detail}]",
        remedies: &[run("order it on another host", "farrun rerun {run} --host any")],
        ..PLAIN
    },
    Rule {
        code: "outputs_lost",
        when: "the job ended well and its outputs were gone before they were here",
        looks: &[reason!(OutputsLost)],
        say: "the job ended well, and its outputs were lost with `{host}` before they were brought here",
        remedies: &[run("order it on another host", "farrun rerun {run} --host any")],
        ..PLAIN
    },
    Rule {
        code: "wait_expired",
        when: "no GPU became free in the time the order allowed",
        looks: &[reason!(WaitExpired)],
        say: "no GPU of `{host}` became free in the time the order allowed",
        remedies: &[
            run("wait for as long as it takes", "farrun rerun {run} --wait"),
            run("take whichever host has one", "farrun rerun {run} --host any"),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_refused",
        when: "the host had no GPU for the order",
        looks: &[Look::Facts(|case| case.unexplained(Reason::GpuRefused))],
        say: "`{host}` had no GPU for it[: {detail}]",
        remedies: &[
            run("wait until one is free", "farrun rerun {run} --wait"),
            run("take whichever host has one", "farrun rerun {run} --host any"),
            run("see who holds them", "farrun gpu {host}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_taken",
        when: "somebody else held one of the run's GPUs when it was started",
        looks: &[reason!(GpuTaken)],
        say: "another run held one of its GPUs when it was started, so the job was not executed[: {detail}][; {holder} had it then]",
        figures: holder,
        remedies: &[run("order it again", "farrun rerun {run} --wait")],
        ..PLAIN
    },
    Rule {
        code: "secrets_missing",
        when: "the secrets did not reach the job",
        looks: &[reason!(SecretsMissing)],
        say: "the secrets did not reach the job, so it was never started",
        remedies: &[run("order it again; it asks for them", "farrun rerun {run}")],
        ..PLAIN
    },
];

/// Ends of which only the way is known.
pub(super) const AFTER: &[Rule] = &[
    Rule {
        code: "time_limit",
        when: "the run's own time limit ended it",
        looks: &[Look::Facts(time_limit)],
        say: "its time limit[ of {time_limit}] ended it",
        remedies: &[
            run("give it more time", "farrun rerun {run} --time-limit {more_time}"),
            run("see what it did until then", "farrun timeline {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "output_missing",
        when: "the job exited with code 0 and left no output that its recipe demands",
        looks: &[reason!(OutputMissing)],
        say: "the job exited with code 0 and did not leave[ {detail}] what its recipe demands",
        remedies: &[
            run("read the end of its log", "farrun logs {run} --tail 100"),
            run("see what it left", "farrun pull {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "engine_silent",
        when: "the job has ended, and the container engine, which alone knows how, does not answer",
        looks: &[Look::Facts(engine_silent)],
        say: "the job has ended, and the container engine of `{host}`, which alone knows how, did not answer",
        remedies: &[
            tell("start it there, or see why it hangs: `sudo systemctl restart docker`"),
            run("then have it asked how the job ended", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "killed_by_other",
        when: "the container was killed or stopped from outside, not by farrun, and not for want of memory",
        looks: &[Look::Facts(killed_by_other)],
        say: "somebody else killed or stopped the container[ with {signal}][ after {ran}]; no want of memory was recorded",
        remedies: &[
            tell("ask who else uses the host: `docker kill`, `docker stop` and clean-up scripts do this"),
            run("order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "killed_inside",
        when: "exit code 137 of the job itself, and no want of memory was recorded",
        looks: &[Look::Facts(|case| case.ended_by(9, Certainty::Likely))],
        say: "a process of the job was killed (SIGKILL) from inside the container or by the host; no want of memory was recorded",
        remedies: &[
            tell("look in the log for a watchdog or a launcher that ends its workers"),
            run("look at the host's memory", "farrun host doctor {host}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "segmentation_fault",
        when: "exit code 139 or SIGSEGV",
        looks: &[Look::Facts(|case| case.ended_by(11, Certainty::Certain))],
        say: "the program crashed: it used memory that is not its own (SIGSEGV)",
        remedies: &[
            tell(
                "libraries of the image that do not fit one another are the most frequent reason; see which was loaded last in the log",
            ),
            run(
                "have Python tell where it was",
                "farrun rerun {run} --env PYTHONFAULTHANDLER=1",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "illegal_instruction",
        when: "exit code 132 or SIGILL",
        looks: &[Look::Facts(|case| case.ended_by(4, Certainty::Certain))],
        say: "the program used an instruction that the host's processor does not have (SIGILL)",
        remedies: &[tell(
            "the image was built for a newer processor: use a build for older ones, or another host",
        )],
        ..PLAIN
    },
    Rule {
        code: "aborted",
        when: "exit code 134 or SIGABRT",
        looks: &[Look::Facts(|case| case.ended_by(6, Certainty::Certain))],
        say: "the program ended itself because it could not go on (SIGABRT)",
        remedies: &[run(
            "its reason stands in the last lines before",
            "farrun logs {run} --tail 50",
        )],
        ..PLAIN
    },
    Rule {
        code: "terminated_inside",
        when: "exit code 143 or SIGTERM, and nobody outside asked for it",
        looks: &[Look::Facts(|case| case.ended_by(15, Certainty::Likely))],
        say: "a process of the job was asked to end (SIGTERM) from inside the container",
        remedies: &[tell(
            "a launcher such as torchrun ends all workers when one fails: look for the first error in the log",
        )],
        ..PLAIN
    },
    Rule {
        code: "interrupted_inside",
        when: "exit code 130 or SIGINT, and nobody outside asked for it",
        looks: &[Look::Facts(|case| case.ended_by(2, Certainty::Likely))],
        say: "a process of the job was interrupted (SIGINT) from inside the container",
        ..PLAIN
    },
    Rule {
        code: "record_damaged",
        when: "the record of the run could not be written or is damaged",
        looks: &[reason!(RecordDamaged)],
        say: "the record of the job's end is missing or damaged[: {detail}]",
        remedies: &[run(
            "look whether the host's disk is full or broken",
            "farrun host doctor {host}",
        )],
        ..PLAIN
    },
];

/// Another run of the host that was given one of the GPUs which the host names.
fn holder(case: &Case<'_>, _: &Found) -> Figures {
    let run = case.facts.run;
    let settled = case.evidence.settled.as_ref();
    let said = settled.and_then(|settled| settled.verdict.detail.as_deref());
    let is_named = |uuid: &str| {
        let mut own = run.lease.iter().flat_map(|lease| &lease.gpus);
        said.is_some_and(|said| said.contains(uuid)) || own.any(|gpu| gpu.uuid == uuid)
    };
    let has = |facts: &&RunFacts| {
        let mut gpus = facts.lease.iter().flat_map(|lease| &lease.gpus);
        facts.run_id != run.id && gpus.any(|gpu| is_named(&gpu.uuid))
    };
    let other = case.evidence.leases.iter().find(has);
    other
        .map(|facts| ("holder", facts.run_id.to_string()))
        .into_iter()
        .collect()
}

/// As the record and the steps of the agents tell a stop.
fn stopped(case: &Case<'_>) -> Option<Found> {
    let found = case.reason_is(Reason::Stopped)?;
    Some(case.with_record(case.with_step(found, "stop_requested")))
}

fn time_limit(case: &Case<'_>) -> Option<Found> {
    let found = case.reason_is(Reason::TimeLimit)?;
    let limit = case.facts.run.spec.time_limit;
    let found = match limit {
        Some(seconds) => found.quoting(SPEC, &format!("time_limit: {seconds} s")),
        None => found,
    };
    Some(case.with_record(found))
}

/// When the engine let the container go, and when it was there again.
fn engine_restart(case: &Case<'_>) -> Option<Found> {
    let found = case.reason_is(Reason::EngineRestart)?;
    Some(case.with_record(case.with_events(found, &["die", "kill", "stop"])))
}

fn engine_silent(case: &Case<'_>) -> Option<Found> {
    Some(case.with_record(case.reason_is(Reason::EngineSilent)?))
}

/// When an engine was asked that had not come back.
fn still_down(case: &Case<'_>, _: &Found) -> Figures {
    let mut missing = case.evidence.missing.iter();
    let is_down =
        case.evidence.bundle.is_some() && missing.any(|missing| missing.file == ENGINE && !missing.partial);
    is_down
        .then(|| ("still_down", "when the evidence was collected".to_owned()))
        .into_iter()
        .collect()
}

fn host_reboot(case: &Case<'_>) -> Option<Found> {
    Some(case.with_record(case.reason_is(Reason::HostReboot)?))
}

fn container_removed(case: &Case<'_>) -> Option<Found> {
    let found = case.reason_is(Reason::ContainerRemoved)?;
    let found = case.with_events(found, &["destroy"]);
    // An engine that was restarted since has forgotten its events; that it has no such container it still says.
    Some(case.with_absence(found, CONTAINER))
}

fn killed_by_other(case: &Case<'_>) -> Option<Found> {
    let found = case.reason_is(Reason::KilledByOther)?;
    // The engine tells who asked it; a signal from elsewhere leaves no event.
    Some(case.with_record(case.with_events(found, &["kill", "stop"])))
}
