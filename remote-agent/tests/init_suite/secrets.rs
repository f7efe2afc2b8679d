//! Secrets arrive on stdin, whole, and go nowhere but into the job's environment.

use crate::harness::{Record, Running, eventually};
use base64::Engine as _;
use farrun_protocol::Sha256;
use farrun_protocol::record::ExecError;
use rustix::process::Signal;
use std::io::Write as _;
use std::process::Stdio;

fn delivery(json: &str) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(json);
    format!("secrets:{text}:{}\n", Sha256::of(text.as_bytes()))
}

fn start(record: &Record, script: &str) -> Running {
    let mut command = record.command(&["--secrets"]);
    Running::start(command.args(["sh", "-c", script]).stdin(Stdio::piped()))
}

#[test]
fn secrets_reach_the_environment_of_the_job_only() {
    let record = Record::new();
    let script = "printf %s \"$TOKEN\" | wc -c; tr '\\0' '\\n' < /proc/$PPID/environ | grep -c TOKEN; cat";
    let mut running = start(&record, script);
    let mut stdin = running.stdin();
    stdin
        .write_all(delivery(r#"{"TOKEN":"hunter2"}"#).as_bytes())
        .unwrap();
    assert_eq!(running.wait(), 0);
    drop(stdin);
    assert_eq!(record.text("run.log"), "7\n0\n");
    assert!(!record.text("started").contains("hunter2"));
    assert!(!String::from_utf8_lossy(&record.read("exit.json")).contains("hunter2"));
}

#[test]
fn a_cut_delivery_is_repeated() {
    let record = Record::new();
    let mut running = start(&record, "echo $TOKEN");
    let mut stdin = running.stdin();
    let whole = delivery(r#"{"TOKEN":"hunter2"}"#);
    for part in ["\n", &whole[..20], "\n", "secrets:AAAA:00\n", &whole[..30]] {
        stdin.write_all(part.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }
    assert_eq!(
        record.text("started"),
        "",
        "nothing starts before the secrets are whole"
    );
    stdin.write_all(format!("\n{whole}").as_bytes()).unwrap();
    assert_eq!(running.wait(), 0);
    assert_eq!(record.text("run.log"), "hunter2\n");
}

#[test]
fn a_delivery_that_ends_early_starts_nothing() {
    let record = Record::new();
    let mut running = start(&record, "echo never");
    let whole = delivery(r#"{"TOKEN":"hunter2"}"#);
    running.stdin().write_all(whole.trim_end().as_bytes()).unwrap();
    assert_eq!(running.wait(), 125);
    let exit = record.checked_exit();
    assert_eq!(exit.exec_error, Some(ExecError::SecretsMissing));
    assert_eq!(record.text("started"), "");
    // The end is on record: later secrets do not revive the run.
    let mut second = start(&record, "echo never");
    let _ = second.stdin().write_all(whole.as_bytes());
    assert_eq!(second.wait(), 125);
    assert_eq!(record.exit(), exit);
    assert_eq!(record.text("run.log"), "");
}

#[test]
fn a_wait_for_secrets_can_be_ended() {
    let record = Record::new();
    let mut running = start(&record, "echo never");
    let status = format!("/proc/{}/status", running.pid().as_raw_nonzero());
    let term = 1_u64 << (Signal::TERM.as_raw() - 1);
    eventually("the handlers", || {
        let text = std::fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        (u64::from_str_radix(caught.trim(), 16).unwrap() & term != 0).then_some(())
    });
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 125);
    let exit = record.checked_exit();
    assert_eq!(exit.exec_error, Some(ExecError::SecretsMissing));
    assert_eq!(exit.forwarded, [15]);
}
