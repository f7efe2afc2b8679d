use super::*;
use crate::log::LogEnd;
use crate::record::ContainerFacts;
use chrono::{DateTime, Utc};

/// A moment of the day on which all of it happens.
fn at(time: &str) -> DateTime<Utc> {
    format!("2026-03-01T{time}Z").parse().unwrap()
}

/// A job that ended at noon.
fn exit(code: Option<i32>, signal: Option<i32>, forwarded: &[i32]) -> ExitRecord {
    ExitRecord {
        format: crate::record::FORMAT,
        code,
        signal,
        exec_error: None,
        started_at: Some(at("11:00:00")),
        ended_at: at("12:00:00"),
        boot_id: None,
        log: LogEnd {
            length: 0,
            sha256: crate::Sha256::of(b""),
        },
        written: 0,
        dropped: 0,
        tail: 0,
        log_error: None,
        timed_out: false,
        forwarded: forwarded.to_vec(),
        end_signal: None,
        oom_kills: 0,
    }
}

/// The same, as its engine tells of it.
fn container(code: i64) -> ContainerFacts {
    ContainerFacts {
        status: "exited".into(),
        started_at: Some(at("11:00:00")),
        finished_at: Some(at("12:00:00")),
        exit_code: Some(code),
        ..ContainerFacts::default()
    }
}

fn recorded(exit: ExitRecord) -> Evidence {
    Evidence {
        container: Some(container(0)),
        exit: Some(exit),
        ..Evidence::default()
    }
}

fn unrecorded(code: i64) -> Evidence {
    Evidence {
        container: Some(container(code)),
        ..Evidence::default()
    }
}

/// The same run on a host that was booted again at this time.
fn rebooted(evidence: Evidence, booted: &str) -> Evidence {
    Evidence {
        boot_id_then: Some("one".into()),
        boot_id_now: Some("two".into()),
        booted_at: Some(at(booted)),
        ..evidence
    }
}

fn told(evidence: &Evidence) -> (RunResult, Reason) {
    let verdict = judge(evidence);
    (verdict.result, verdict.reason)
}

const OK: (RunResult, Reason) = (RunResult::Succeeded, Reason::Ok);

fn failed_by(reason: Reason) -> (RunResult, Reason) {
    (RunResult::Failed, reason)
}

#[test]
fn a_job_that_somebody_else_asked_to_end_did_not_succeed() {
    let mut evidence = recorded(exit(Some(0), None, &[10, 15]));
    let verdict = judge(&evidence);
    assert_eq!(
        (verdict.result, verdict.reason, verdict.exit_code),
        (RunResult::Failed, Reason::KilledByOther, Some(0))
    );
    evidence.engine_started_at = Some(at("12:00:02"));
    assert_eq!(judge(&evidence).reason, Reason::EngineRestart);
    // Behind more signals than the list holds, and beside a child that died for want of memory.
    let evidence = recorded(ExitRecord {
        end_signal: Some(2),
        oom_kills: 1,
        ..exit(Some(0), None, &[10; 16])
    });
    assert_eq!(judge(&evidence).reason, Reason::KilledByOther);
}

#[test]
fn a_stop_counts_from_the_moment_it_was_asked_for() {
    let cancelled = (RunResult::Cancelled, Reason::Stopped);
    for (exit, asked, expected) in [
        (exit(Some(0), None, &[15]), "11:59:59", cancelled),
        (exit(Some(7), None, &[15]), "11:59:59", cancelled),
        (exit(None, Some(15), &[15]), "11:59:59", cancelled),
        // It ended by itself while the request was on its way to it.
        (exit(Some(0), None, &[]), "11:59:59", OK),
        // Nobody had seen yet that it had ended.
        (exit(Some(0), None, &[]), "12:00:01", OK),
        (exit(Some(3), None, &[]), "12:00:01", failed_by(Reason::ExitCode)),
        (exit(None, Some(11), &[]), "12:00:01", failed_by(Reason::Signal)),
        (
            exit(None, Some(15), &[15]),
            "12:00:01",
            failed_by(Reason::KilledByOther),
        ),
    ] {
        let evidence = Evidence {
            stop_requested_at: Some(at(asked)),
            ..recorded(exit.clone())
        };
        assert_eq!(told(&evidence), expected, "{exit:?} {asked}");
    }
    for (asked, expected) in [
        ("11:59:59", cancelled),
        ("12:00:01", failed_by(Reason::KilledByOther)),
    ] {
        let evidence = Evidence {
            stop_requested_at: Some(at(asked)),
            ..unrecorded(137)
        };
        assert_eq!(told(&evidence), expected);
    }
    let gone = Evidence {
        stop_requested_at: Some(at("11:00:00")),
        ..Evidence::default()
    };
    assert_eq!(told(&gone), cancelled);
}

#[test]
fn a_job_that_ran_into_its_time_limit_did_not_succeed() {
    let evidence = recorded(ExitRecord {
        timed_out: true,
        ..exit(Some(0), None, &[])
    });
    assert_eq!(told(&evidence), failed_by(Reason::TimeLimit));
}

#[test]
fn a_signal_that_a_job_was_told_something_by_did_not_end_it() {
    for (exit, reason) in [
        (exit(Some(0), None, &[10]), Reason::Ok),
        (exit(Some(3), None, &[1, 10]), Reason::ExitCode),
        (exit(None, Some(11), &[1, 10]), Reason::Signal),
        (exit(None, Some(10), &[10]), Reason::KilledByOther),
        // A shell around the job tells of its signal by a code.
        (exit(Some(138), None, &[10]), Reason::KilledByOther),
    ] {
        assert_eq!(judge(&recorded(exit.clone())).reason, reason, "{exit:?}");
    }
}

#[test]
fn memory_is_the_cause_of_a_failure_only() {
    let starved = |exit| ExitRecord { oom_kills: 1, ..exit };
    assert_eq!(told(&recorded(starved(exit(Some(0), None, &[])))), OK);
    for exit in [exit(Some(3), None, &[]), exit(None, Some(9), &[])] {
        assert_eq!(told(&recorded(starved(exit))), failed_by(Reason::OutOfMemory));
    }
    for (code, expected) in [
        (0, OK),
        (3, failed_by(Reason::OutOfMemory)),
        (137, failed_by(Reason::OutOfMemory)),
    ] {
        let mut evidence = unrecorded(code);
        let container = evidence.container.as_mut().unwrap();
        (container.oom_killed, container.engine_capture) = (true, true);
        assert_eq!(told(&evidence), expected, "{code}");
    }
}

#[test]
fn without_a_record_nothing_succeeds_unless_the_engine_captures() {
    for (code, reason) in [
        (0, Reason::RecordDamaged),
        (125, Reason::RecordDamaged),
        (137, Reason::KilledByOther),
        (143, Reason::KilledByOther),
    ] {
        assert_eq!(told(&unrecorded(code)), failed_by(reason), "{code}");
    }
    for (code, expected) in [
        (0, OK),
        (3, failed_by(Reason::ExitCode)),
        (137, failed_by(Reason::KilledByOther)),
        (143, failed_by(Reason::Signal)),
        (255, failed_by(Reason::ExitCode)),
    ] {
        let mut evidence = unrecorded(code);
        evidence.container.as_mut().unwrap().engine_capture = true;
        assert_eq!(told(&evidence), expected, "{code}");
    }
}

#[test]
fn an_engine_takes_down_only_what_it_found_running() {
    for (started, expected) in [
        // It wrote the end of what it had lost.
        (Some("11:59:58"), Reason::EngineRestart),
        // It was away for a while.
        (Some("12:00:02"), Reason::EngineRestart),
        (Some("12:14:00"), Reason::EngineRestart),
        // Killed by somebody, and nobody had come by when the engine was restarted.
        (Some("15:00:00"), Reason::KilledByOther),
        // It lived before, or lived on.
        (Some("11:30:00"), Reason::KilledByOther),
        (Some("09:00:00"), Reason::KilledByOther),
        (None, Reason::KilledByOther),
    ] {
        let evidence = Evidence {
            engine_started_at: started.map(at),
            ..unrecorded(137)
        };
        assert_eq!(judge(&evidence).reason, expected, "{started:?}");
    }
    // Containers live on without it.
    let evidence = Evidence {
        engine_started_at: Some(at("12:00:02")),
        live_restore: true,
        ..unrecorded(137)
    };
    assert_eq!(judge(&evidence).reason, Reason::KilledByOther);
}

#[test]
fn without_an_engine_the_other_facts_do() {
    let down = |evidence| Evidence {
        engine_down: true,
        silence: Some(Silence::default()),
        container: None,
        ..evidence
    };
    let outlives = |evidence| Evidence {
        live_restore: true,
        ..down(evidence)
    };
    let asked = recorded(exit(Some(0), None, &[15]));
    let mut starved = exit(None, Some(9), &[]);
    starved.oom_kills = 1;
    for (evidence, expected) in [
        (down(recorded(exit(Some(0), None, &[]))), OK),
        (
            down(recorded(exit(Some(3), None, &[]))),
            failed_by(Reason::ExitCode),
        ),
        (down(recorded(starved)), failed_by(Reason::OutOfMemory)),
        // Whatever asked it to end: the engine went.
        (down(asked.clone()), failed_by(Reason::EngineRestart)),
        (outlives(asked.clone()), failed_by(Reason::KilledByOther)),
        (rebooted(down(asked), "12:05:00"), failed_by(Reason::HostReboot)),
        // Nothing was recorded, and PID 1 lives no more.
        (down(Evidence::default()), failed_by(Reason::EngineRestart)),
        // The kernel, for want of memory, or somebody: only the engine may know.
        (outlives(Evidence::default()), failed_by(Reason::EngineSilent)),
        (
            down(Evidence {
                stop_requested_at: Some(at("11:59:00")),
                ..Evidence::default()
            }),
            (RunResult::Cancelled, Reason::Stopped),
        ),
    ] {
        assert_eq!(told(&evidence), expected, "{evidence:?}");
    }
}

#[test]
fn of_an_engine_that_hangs_nothing_is_supposed() {
    let hangs = |evidence| Evidence {
        silence: Some(Silence::default()),
        container: None,
        ..evidence
    };
    let outlives = |evidence| Evidence {
        live_restore: true,
        ..hangs(evidence)
    };
    let asked = recorded(exit(Some(0), None, &[15]));
    let stopped = |evidence| Evidence {
        stop_requested_at: Some(at("11:59:00")),
        ..evidence
    };
    let cancelled = (RunResult::Cancelled, Reason::Stopped);
    for (evidence, expected) in [
        (hangs(recorded(exit(Some(0), None, &[]))), OK),
        (hangs(Evidence::default()), failed_by(Reason::EngineSilent)),
        (outlives(Evidence::default()), failed_by(Reason::EngineSilent)),
        (
            rebooted(hangs(Evidence::default()), "12:05:00"),
            failed_by(Reason::HostReboot),
        ),
        // It may be going down just now, and asks the job to end.
        (hangs(asked.clone()), failed_by(Reason::EngineSilent)),
        (outlives(asked.clone()), failed_by(Reason::KilledByOther)),
        (stopped(hangs(asked)), cancelled),
        (stopped(hangs(Evidence::default())), cancelled),
    ] {
        assert_eq!(told(&evidence), expected, "{evidence:?}");
    }
}

#[test]
fn what_an_engine_captured_only_it_knows() {
    let silent = |seen_alive_at: Option<&str>| Evidence {
        silence: Some(Silence {
            engine_captured: true,
            seen_alive_at: seen_alive_at.map(at),
        }),
        stop_requested_at: Some(at("11:59:00")),
        ..Evidence::default()
    };
    let unknown = failed_by(Reason::EngineSilent);
    for (evidence, expected) in [
        (silent(Some("11:59:30")), (RunResult::Cancelled, Reason::Stopped)),
        // It may have ended by itself before the stop, the engine's end, or the restart of the host.
        (silent(Some("11:58:30")), unknown),
        (silent(None), unknown),
        (
            Evidence {
                engine_down: true,
                ..silent(None)
            },
            unknown,
        ),
        (rebooted(silent(Some("11:58:30")), "12:05:00"), unknown),
    ] {
        assert_eq!(told(&evidence), expected, "{evidence:?}");
    }
}

#[test]
fn a_restart_of_the_host_takes_what_lived_then() {
    let captured = |code| {
        let mut evidence = unrecorded(code);
        evidence.container.as_mut().unwrap().engine_capture = true;
        evidence
    };
    for (evidence, booted, expected) in [
        // What an engine writes about containers that were alive: some versions 0, others 255.
        (captured(0), "11:59:00", failed_by(Reason::HostReboot)),
        (captured(255), "11:59:00", failed_by(Reason::HostReboot)),
        (unrecorded(255), "11:59:00", failed_by(Reason::HostReboot)),
        // The shutdown of the host ended it.
        (captured(143), "12:05:00", failed_by(Reason::HostReboot)),
        (
            recorded(exit(Some(0), None, &[15])),
            "12:05:00",
            failed_by(Reason::HostReboot),
        ),
        (
            recorded(exit(None, Some(15), &[15])),
            "12:05:00",
            failed_by(Reason::HostReboot),
        ),
        // It had ended long before, and nobody had come by.
        (captured(0), "15:00:00", OK),
        (captured(3), "15:00:00", failed_by(Reason::ExitCode)),
        (unrecorded(137), "15:00:00", failed_by(Reason::KilledByOther)),
        (
            recorded(exit(None, Some(15), &[15])),
            "15:00:00",
            failed_by(Reason::KilledByOther),
        ),
        // The record of the end is believed whatever happened after it.
        (recorded(exit(Some(0), None, &[])), "12:05:00", OK),
        (
            recorded(exit(Some(3), None, &[])),
            "12:00:01",
            failed_by(Reason::ExitCode),
        ),
        // Nothing is left but the boot id.
        (Evidence::default(), "12:00:00", failed_by(Reason::HostReboot)),
    ] {
        let evidence = rebooted(evidence, booted);
        assert_eq!(told(&evidence), expected, "{evidence:?}");
    }
    assert_eq!(told(&Evidence::default()), failed_by(Reason::ContainerRemoved));
}

#[test]
fn a_container_that_was_never_started_has_the_engines_words() {
    let created = |error: Option<&str>| Evidence {
        container: Some(ContainerFacts {
            status: "created".into(),
            error: error.map(str::to_owned),
            ..ContainerFacts::default()
        }),
        ..Evidence::default()
    };
    let verdict = judge(&created(Some("no such user")));
    assert_eq!(verdict.reason, Reason::EngineRefused);
    assert_eq!(verdict.detail.as_deref(), Some("no such user"));
    assert_eq!(judge(&created(None)).reason, Reason::NotLaunched);
    let stopped = Evidence {
        stop_requested_at: Some(at("10:00:00")),
        ..created(None)
    };
    assert_eq!(told(&stopped), (RunResult::Cancelled, Reason::Stopped));
}

#[test]
fn secrets_that_did_not_come_because_of_a_stop_are_a_cancellation() {
    let mut waiting = exit(None, None, &[]);
    waiting.exec_error = Some(ExecError::SecretsMissing);
    assert_eq!(
        told(&recorded(waiting.clone())),
        failed_by(Reason::SecretsMissing)
    );
    let stopped = Evidence {
        stop_requested_at: Some(at("11:59:00")),
        ..recorded(waiting)
    };
    assert_eq!(told(&stopped), (RunResult::Cancelled, Reason::SecretsMissing));
}
