//! A job that prints nothing and whose GPU does nothing: a warning while it lasts, and never a verdict.

use crate::SOON;
use crate::gpus::host_with;
use farrun_tests::{Lab, Pty, wait_for, wait_until};
use serde_json::Value;
use std::time::{Duration, SystemTime};

const WARNING: &str = "no output for 6 min and its GPU idle for ";

/// What `status` says of the only run.
fn run(lab: &Lab) -> Value {
    let status = lab.home.farrun(&["status", "--json"]).ok().json();
    status["hosts"][0]["runs"][0].clone()
}

/// Has minutes pass in which the run printed nothing and used no GPU: the figures of the observer are moved on, and
/// those of the log.
fn let_minutes_pass(lab: &Lab, run: &str) {
    lab.kill_observer();
    let folder = lab.run_folder(run);
    let path = folder.join("series.json");
    let mut tally: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(tally["idle"].as_u64().is_some(), "{tally}");
    tally["idle"] = 400.into();
    std::fs::write(path, serde_json::to_vec(&tally).unwrap()).unwrap();
    let log = std::fs::File::options()
        .append(true)
        .open(folder.join("record/run.log"))
        .unwrap();
    log.set_modified(SystemTime::now() - Duration::from_secs(370))
        .unwrap();
}

#[test]
fn a_job_that_may_hang_is_warned_of_until_it_goes_on() {
    let host = host_with(1);
    let lab = &host.lab;
    let script = "echo begins; until [ -e /farrun/outputs/go ]; do sleep 0.2; done; echo goes on; \
                  until [ -e /farrun/outputs/end ]; do sleep 0.2; done; exit 0";
    let id = lab.detached(&["--gpus", "1"], script);
    wait_until("figures of its GPU", SOON, || {
        run(lab)["gpu_idle_seconds"].is_u64()
    });
    let well = run(lab);
    assert!(well["warning"].is_null(), "{well}");
    let_minutes_pass(lab, &id);
    // The observer comes back with the next contact, and goes on where it was.
    let warned = wait_for("the warning", SOON, || {
        Some(run(lab)).filter(|run| !run["warning"].is_null())
    });
    let warning = warned["warning"].as_str().unwrap();
    assert!(warning.starts_with(WARNING), "{warned}");
    assert!(warned["silent_seconds"].as_u64().unwrap() >= 360, "{warned}");
    assert!(warned["gpu_idle_seconds"].as_u64().unwrap() >= 240, "{warned}");
    let plain = lab.home.farrun(&["status"]).ok();
    assert!(
        plain.errors().contains(&format!("{id} may hang: {WARNING}")),
        "{plain}"
    );
    let mut view = Pty::start(&lab.home.command(&["status", "--watch"]), 30, 140);
    view.wait_for(0, "no output for 6 min", SOON);
    view.press("q");
    assert_eq!(view.wait(SOON), Some(0), "{}", view.words(0));
    // It is no verdict.
    let shown = lab.show(&id);
    assert_eq!(shown["run"]["status"], "running", "{shown}");
    for nothing in ["reason", "error_message", "finding"] {
        assert!(shown["run"][nothing].is_null(), "{nothing}: {shown}");
    }
    assert_eq!(shown["warnings"].as_array().unwrap().len(), 0, "{shown}");
    let why = lab.home.farrun(&["why", &id, "--json"]).ok().json();
    assert!(why["diagnosis"].is_null(), "{why}");
    // It goes when the job prints again, although its GPU does nothing still.
    std::fs::write(lab.run_folder(&id).join("outputs/go"), "").unwrap();
    wait_until("the warning to go", SOON, || run(lab)["warning"].is_null());
    let again = run(lab);
    assert!(again["silent_seconds"].as_u64().unwrap() < 240, "{again}");
    let plain = lab.home.farrun(&["status"]).ok();
    assert!(!plain.errors().contains("may hang"), "{plain}");
    std::fs::write(lab.run_folder(&id).join("outputs/end"), "").unwrap();
    let _ = lab.home.farrun(&["wait", &id]).ok();
    assert_eq!(lab.status(&id), "completed");
}
