//! A run is executed at most once, and the record of its end is written once.

use crate::harness::{Record, Running, eventually};
use farrun_protocol::record::ExecError;
use rustix::process::Signal;
use std::fs;

/// Every file of the record with its content.
fn snapshot(record: &Record) -> Vec<(String, Vec<u8>)> {
    ["run.log", "run.tail", "started", "exit.json", "generation"]
        .map(|name| (name.to_owned(), record.read(name)))
        .into()
}

#[test]
fn a_second_start_runs_nothing_and_touches_nothing() {
    let record = Record::new();
    let counter = record.scratch("counter");
    let script = format!("echo ran >> {counter}; exit 3");
    assert_eq!(record.shell(&[], &script), 3);
    let before = snapshot(&record);
    for flags in [&[] as &[&str], &["--secrets"]] {
        assert_eq!(record.shell(flags, &script), 125);
    }
    assert!(snapshot(&record) == before);
    assert_eq!(fs::read_to_string(&counter).unwrap(), "ran\n");
}

#[test]
fn a_second_start_beside_a_living_one_is_refused() {
    let record = Record::new();
    let mut command = record.command::<&str>(&[]);
    let mut first = Running::start(command.args(["sh", "-c", "echo first; exec sleep 300"]));
    eventually("the first start", || {
        (record.text("run.log") == "first\n").then_some(())
    });
    assert_eq!(record.shell(&[], "echo second"), 125);
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), 143);
    assert_eq!(record.text("run.log"), "first\n");
    assert_eq!(record.checked_exit().signal, Some(15));
}

#[test]
fn a_start_after_a_kill_runs_nothing() {
    let record = Record::new();
    let mut command = record.command::<&str>(&[]);
    let first = Running::start(command.args(["sh", "-c", "echo first; exec sleep 2"]));
    eventually("the first start", || {
        (record.text("run.log") == "first\n").then_some(())
    });
    drop(first);
    let before = snapshot(&record);
    assert_eq!(record.shell(&[], "echo second"), 125);
    assert!(snapshot(&record) == before);
}

#[test]
fn the_claim_names_time_and_boot() {
    let record = Record::new();
    let boot = record.scratch("boot");
    fs::write(&boot, "0123-abcd\n").unwrap();
    assert_eq!(record.run(&["--boot-id-file", &boot], &["true"]), 0);
    let started = record.text("started");
    let (time, rest) = started.split_once(' ').unwrap();
    assert!(time.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{started}");
    assert_eq!(rest, "0123-abcd\n");
    assert_eq!(record.checked_exit().boot_id.as_deref(), Some("0123-abcd"));
}

#[test]
fn a_record_that_is_not_whole_starts_nothing() {
    for name in ["run.log", "run.tail"] {
        let record = Record::new();
        fs::remove_file(record.path.join(name)).unwrap();
        assert_eq!(record.run(&[], &["true"]), 125);
        match record.exit().exec_error {
            Some(ExecError::Record { error }) => assert!(error.contains(name), "{error}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(record.text("started"), "");
    }
    for name in ["started", "exit.json"] {
        let record = Record::new();
        fs::remove_file(record.path.join(name)).unwrap();
        assert_eq!(record.run(&[], &["true"]), 125);
        assert!(!record.path.join(name).exists(), "nothing is created in a record");
    }
}

#[test]
fn a_log_with_foreign_content_is_left_alone() {
    let record = Record::new();
    fs::write(record.path.join("run.log"), "foreign").unwrap();
    assert_eq!(record.run(&[], &["true"]), 125);
    assert_eq!(record.text("run.log"), "foreign");
    assert!(matches!(record.exit().exec_error, Some(ExecError::Record { .. })));
}

#[test]
fn a_command_line_that_is_not_understood_ends_as_refused() {
    let record = Record::new();
    assert_eq!(record.run(&["--no-such-flag"], &["true"]), 125);
    assert_eq!(record.text("started"), "");
}
