use super::*;
use serde_json::json;

fn run() -> Run {
    serde_json::from_value(json!({
        "id": "rs_abcdefgh", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "run",
        "status": "running", "log_complete": false, "gpus": "none",
        "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
        "launched_at": "2026-01-02T03:04:06Z", "confirmed_at": "2026-01-02T03:05:05Z",
        "spec": {
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
            "created_at": "2026-01-02T03:04:05Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
        },
    }))
    .unwrap()
}

fn facts(phase: &str, container: serde_json::Value) -> RunFacts {
    serde_json::from_value(json!({
        "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "phase": phase, "log_length": 0,
        "spec_sha256": farrun_protocol::Sha256::of(b""), "container": container,
    }))
    .unwrap()
}

#[test]
fn an_engine_that_keeps_silent_confirms_nothing_and_takes_nothing_back() {
    let mut row = run();
    let before = row.confirmed_at;
    apply_facts(&mut row, &facts("unclear", json!(null)), Utc::now());
    assert_eq!((row.confirmed_at, row.status), (before, RunStatus::Running));
    let now = Utc::now();
    apply_facts(&mut row, &facts("running", json!(null)), now);
    assert_eq!(row.confirmed_at, Some(now));
}

#[test]
fn names_that_no_engine_gives_are_not_kept() {
    let mut row = run();
    let honest = json!({ "id": "ab".repeat(32), "status": "running", "image_id": "sha256:01" });
    apply_facts(&mut row, &facts("running", honest), Utc::now());
    assert_eq!(row.container_id, Some("ab".repeat(32)));
    let hostile = json!({ "id": "\u{0}".repeat(64), "status": "running", "image_id": "x".repeat(100_000) });
    apply_facts(&mut row, &facts("running", hostile), Utc::now());
    assert_eq!(row.container_id, Some("ab".repeat(32)));
    assert_eq!(row.image_digest.as_deref(), Some("sha256:01"));
}

#[test]
fn what_the_host_tells_of_gpus_is_kept_and_never_taken_back() {
    let mut row = run();
    let mut told = facts("running", json!(null));
    told.lease = serde_json::from_value(json!({
        "format": 1, "since": "2026-01-02T03:04:06Z",
        "gpus": [
            { "uuid": "GPU-a", "index": 2, "name": "H100", "memory_total": 81559 },
            { "uuid": "GPU-b", "index": 5, "name": "H100" },
        ],
    }))
    .unwrap();
    told.gpu_summary =
        serde_json::from_value(json!({ "peak_memory": 61000, "samples": 3, "gaps": 0 })).unwrap();
    apply_facts(&mut row, &told, Utc::now());
    assert_eq!(row.gpus, "GPU-a,GPU-b");
    assert_eq!(row.lease, told.lease);
    apply_facts(&mut row, &facts("running", json!(null)), Utc::now());
    assert_eq!((&row.lease, &row.gpu_summary), (&told.lease, &told.gpu_summary));
    if let Some(lease) = &mut told.lease {
        lease.gpus[0].name = "x".repeat(100_000);
    }
    let before = row.lease.clone();
    apply_facts(&mut row, &told, Utc::now());
    assert_eq!(row.lease, before, "a lie costs its fact and not the row");
}

#[test]
fn a_log_longer_than_any_file_is_not_believed() {
    let mut row = run();
    let mut hostile = facts("settled", json!(null));
    hostile.settled = serde_json::from_value(json!({
        "format": 1, "run_id": "rs_abcdefgh", "generation": "0".repeat(32),
        "verdict": { "result": "failed", "reason": "exit_code", "exit_code": 1 },
        "log": { "length": u64::MAX, "sha256": farrun_protocol::Sha256::of(b"") },
    }))
    .unwrap();
    apply_facts(&mut row, &hostile, Utc::now());
    assert_eq!((row.status, row.log_length), (RunStatus::Failed, None));
    assert!(row.error_message.is_some());
}

fn settled(result: &str, reason: &str, code: Option<i32>, length: u64) -> RunFacts {
    let mut told = facts("settled", json!(null));
    told.settled = serde_json::from_value(json!({
        "format": 1, "run_id": "rs_abcdefgh", "generation": "0".repeat(32),
        "verdict": { "result": result, "reason": reason, "exit_code": code },
        "log": { "length": length, "sha256": farrun_protocol::Sha256::of(b"") },
    }))
    .unwrap();
    told
}

#[test]
fn what_an_engine_had_yet_to_say_takes_the_place_of_its_silence_and_of_nothing_else() {
    let mut row = run();
    let now = Utc::now();
    apply_facts(&mut row, &settled("failed", "engine_silent", None, 5), now);
    assert!(row.awaits_engine() && row.status == RunStatus::Failed, "{row:?}");
    (row.log_complete, row.finding) = (true, Some("engine_silent".to_owned()));
    row.diagnostics_path = Some("/somewhere".to_owned());
    let silent = row.clone();
    apply_facts(&mut row, &settled("failed", "engine_silent", None, 5), now);
    assert_eq!(row, silent, "nothing new");
    // It succeeded; what it printed last was with the engine.
    apply_facts(&mut row, &settled("succeeded", "ok", Some(0), 20), now);
    assert_eq!(
        (
            row.status,
            row.reason,
            row.exit_code,
            row.error_message.as_deref()
        ),
        (RunStatus::Downloading, Some(Reason::Ok), Some(0), None)
    );
    assert!(!row.log_complete && row.finding.is_none());
    // It failed; its evidence is collected anew.
    let mut row = silent;
    apply_facts(&mut row, &settled("failed", "exit_code", Some(3), 5), now);
    assert_eq!((row.reason, row.exit_code), (Some(Reason::ExitCode), Some(3)));
    assert!(row.log_complete && row.diagnostics_path.is_none());
    // That is final.
    apply_facts(&mut row, &settled("succeeded", "ok", Some(0), 5), now);
    assert_eq!(
        (row.status, row.reason),
        (RunStatus::Failed, Some(Reason::ExitCode))
    );
}
