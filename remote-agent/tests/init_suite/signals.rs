//! Signals reach the job, and so does its time limit.

use crate::harness::{Record, Running, eventually};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Starts a script and waits until it has printed something.
fn started(record: &Record, flags: &[&str], script: &str) -> Running {
    let mut command = record.command(flags);
    let running = Running::start(command.args(["sh", "-c", script]));
    eventually("the job's first output", || {
        (!record.read("run.log").is_empty()).then_some(())
    });
    running
}

#[test]
fn signals_reach_the_job_and_are_recorded() {
    let record = Record::new();
    let script = "trap 'echo usr1' USR1; trap 'echo winch' WINCH; trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let mut running = started(&record, &[], script);
    for (signal, word) in [(Signal::USR1, "usr1"), (Signal::WINCH, "winch")] {
        running.signal(signal);
        eventually(word, || record.text("run.log").contains(word).then_some(()));
    }
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 9);
    let exit = record.checked_exit();
    assert_eq!(exit.code, Some(9));
    assert_eq!(exit.forwarded, [Signal::USR1.as_raw(), Signal::TERM.as_raw()]);
    assert_eq!(exit.end_signal, Some(Signal::TERM.as_raw()));
    assert!(!exit.timed_out);
}

#[test]
fn a_job_without_a_handler_ends_by_the_signal() {
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR2] {
        let record = Record::new();
        let mut running = started(&record, &[], "echo ready; exec sleep 300");
        running.signal(signal);
        assert_eq!(running.wait(), 128 + signal.as_raw());
        let exit = record.checked_exit();
        assert_eq!(exit.signal, Some(signal.as_raw()));
        assert_eq!(exit.forwarded, [signal.as_raw()]);
    }
}

#[test]
fn only_the_first_sixteen_signals_are_remembered() {
    let record = Record::new();
    let script = "trap 'echo .' USR1; echo ready; while :; do sleep 0.01; done";
    let mut running = started(&record, &[], script);
    for count in 1..=20 {
        running.signal(Signal::USR1);
        eventually("the signal's echo", || {
            (record.text("run.log").matches('.').count() >= count).then_some(())
        });
    }
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 143);
    let exit = record.checked_exit();
    assert_eq!(exit.forwarded, [Signal::USR1.as_raw(); 16]);
    assert_eq!(
        exit.end_signal,
        Some(Signal::TERM.as_raw()),
        "what asked it to end is"
    );
}

#[test]
fn a_job_that_stops_at_its_time_limit_is_recorded_as_such() {
    let record = Record::new();
    assert_eq!(record.run(&["--time-limit", "1"], &["sleep", "300"]), 143);
    let exit = record.checked_exit();
    assert!(exit.timed_out);
    assert_eq!(exit.signal, Some(15));
    assert!(exit.forwarded.is_empty());
}

#[test]
fn a_job_that_ignores_its_time_limit_is_killed_with_its_group() {
    let record = Record::new();
    let start = Instant::now();
    let script =
        "trap '' TERM; echo ready; sh -c 'while :; do sleep 0.05; done'; while :; do sleep 0.05; done";
    assert_eq!(record.shell(&["--time-limit", "1", "--grace", "1"], script), 137);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let exit = record.checked_exit();
    assert!(exit.timed_out);
    assert_eq!(exit.signal, Some(9));
}

#[test]
fn an_idle_job_costs_no_processor_time() {
    let record = Record::new();
    let running = started(&record, &["--time-limit", "600"], "echo ready; exec sleep 300");
    let stat = format!("/proc/{}/status", running.pid().as_raw_nonzero());
    let switches = || {
        let text = std::fs::read_to_string(&stat).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt_switches"))
            .unwrap();
        line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    // It falls asleep once after the first output and then has no reason to wake.
    let mut last = (switches(), Instant::now());
    eventually("half a second without a wake-up", || {
        let now = switches();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(500)).then_some(())
    });
    running.signal(Signal::TERM);
}
