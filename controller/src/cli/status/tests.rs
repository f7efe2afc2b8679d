use super::*;
use crate::cli::gpu::table::tests::report;
use crate::run::reconcile::Looked;
use crate::ui::{Ui, UiOptions};
use chrono::Utc;
use serde_json::json;
use std::time::Duration;

fn host(name: &str) -> Host {
    Host {
        name: name.to_owned(),
        settings: Default::default(),
        host_id: None,
        platform: None,
        added_at: Utc::now(),
        last_seen: Some(Utc::now() - chrono::TimeDelta::minutes(6)),
    }
}

fn run(id: &str, status: &str) -> Run {
    serde_json::from_value(json!({
        "id": id, "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "inference", "status": status,
        "log_complete": false, "gpus": "all",
        "created_at": Utc::now(), "updated_at": Utc::now(), "confirmed_at": Utc::now(),
        "launched_at": Utc::now(),
        "spec": {
            "format": 1, "run_id": id, "controller_id": "co_abcdefgh", "operation": "inference", "name": "city_night",
            "created_at": Utc::now(), "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
        },
    }))
    .unwrap()
}

fn facts() -> farrun_protocol::message::HostFacts {
    serde_json::from_value(json!({
        "engine": { "Ok": { "version": "27.1", "api": "1.46", "address": "unix:///x", "live_restore": true, "gpus": true,
                            "root": "/d" } },
        "disk_free": 872_300_000_000_u64, "disk_total": 1_900_000_000_000_u64, "uptime": 5, "load": "3.20",
        "memory_total": 270_000_000_000_u64, "memory_available": 216_000_000_000_u64, "containers": [], "agents": [],
    }))
    .unwrap()
}

fn up() -> Known {
    let (mut running, mut waiting) = (run("rs_aaaaaaaa", "running"), run("rs_bbbbbbbb", "queued"));
    running.lease = serde_json::from_value(json!({
        "format": 1, "since": Utc::now(), "gpus": [{ "uuid": "GPU-aaaa", "index": 0, "name": "H100" }],
    }))
    .unwrap();
    waiting.gpus = "1".to_owned();
    let told = |id: &str, phase: &str, queue: serde_json::Value| {
        serde_json::from_value(json!({
            "run_id": id, "controller_id": "co_abcdefgh", "phase": phase, "log_length": 18204,
            "spec_sha256": farrun_protocol::Sha256::of(b""), "queue": queue,
        }))
        .unwrap()
    };
    let queue = json!({
        "position": 1, "since": Utc::now(), "watched": true,
        "waits_for": [{ "uuid": "GPU-aaaa", "index": 0, "name": "H100",
                        "obstacles": [{ "kind": "leased", "run_id": "rs_aaaaaaaa" }] }],
    });
    let mut ended = run("rs_cccccccc", "failed");
    ended.error_message = Some("the job exited with code 3".to_owned());
    ended.ended_at = Some(Utc::now() - chrono::TimeDelta::minutes(12));
    Known {
        host: host("gpu1"),
        answer: Some(Ok(Seen {
            at: Utc::now(),
            round_trip: Some(Duration::from_millis(38)),
            version: "0.1.0".to_owned(),
            facts: Ok(Some(facts())),
            gpus: Ok(report()),
            runs: Ok(Looked {
                facts: vec![
                    told("rs_aaaaaaaa", "running", json!(null)),
                    told("rs_bbbbbbbb", "queued", queue),
                ],
                changed: vec![ended],
            }),
        })),
        last: HostReport::default(),
        runs: vec![running, waiting],
        estimates: Vec::new(),
    }
}

fn down() -> Known {
    Known {
        host: host("gpu2"),
        answer: Some(Err("no answer within 10 s".to_owned())),
        last: HostReport {
            facts: Some((facts(), Utc::now() - chrono::TimeDelta::minutes(6))),
            gpus: Some((report(), Utc::now() - chrono::TimeDelta::minutes(6))),
        },
        runs: Vec::new(),
        estimates: Vec::new(),
    }
}

fn told(known: &[Known]) -> (String, String) {
    let options = UiOptions {
        width: Some(80),
        ..UiOptions::default()
    };
    let (ui, out, err) = Ui::captured_tty(options);
    print::changes(&ui, known);
    known.iter().for_each(|known| print::host(&ui, known));
    (out.text(), err.text())
}

#[test]
fn a_host_with_runs_and_gpus_fits_eighty_columns() {
    let (out, err) = told(&[up()]);
    assert!(
        !out.contains('\u{1b}') && !err.contains('\u{1b}'),
        "no colour where it is not wanted"
    );
    // Sentences may go on in the next line, tables may not.
    let sentence = |line: &&str| line.starts_with("  ") || line.starts_with("trouble");
    for line in out.lines().filter(|line| !sentence(line)) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    insta::assert_snapshot!(format!("{out}---\n{err}"));
}

#[test]
fn a_host_that_is_away_is_shown_as_it_was() {
    let (out, _) = told(&[down()]);
    insta::assert_snapshot!(out);
}

#[test]
fn a_host_that_answers_in_part_says_what_is_missing_and_shows_the_rest_as_it_was() {
    let mut known = up();
    if let Some(Ok(seen)) = &mut known.answer {
        seen.gpus = Err("no answer about GPUs within 4 s".to_owned());
    }
    known.last = down().last;
    let (out, _) = told(std::slice::from_ref(&known));
    assert!(
        out.contains("missing:   no answer about GPUs within 4 s"),
        "{out}"
    );
    assert!(out.contains("STALE 6 min"), "{out}");
    let json = serde_json::to_value(HostStatus::from(&known)).unwrap();
    assert_eq!(json["link"], "up");
    assert_eq!(json["missing"], json!(["no answer about GPUs within 4 s"]));
    assert!(json["gpus_at"].as_str() < json["facts_at"].as_str());
}

#[test]
fn json_tells_where_a_waiting_run_stands_and_what_changed() {
    let known = up();
    let json = serde_json::to_value(HostStatus::from(&known)).unwrap();
    assert_eq!(json["runs"][1]["queue"]["position"], 1);
    assert_eq!(json["runs"][0]["lease"]["gpus"][0]["index"], 0);
    assert_eq!(json["changed"][0]["id"], "rs_cccccccc");
    assert_eq!(json["gpus"]["gpus"][2]["power"], json!({ "absent": "gpu_lost" }));
}

/// Without the breaks of lines that are wrapped.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn estimates_and_silence_are_told_of_runs_that_go_on() {
    let mut known = up();
    known.runs[0].started_at = Some(Utc::now() - chrono::TimeDelta::minutes(12));
    let usual = estimate::Usual {
        duration: Duration::from_secs(1800),
        runs: 4,
    };
    known.estimates = vec![
        Estimate {
            usual: Some(usual),
            starts_in: None,
        },
        Estimate {
            usual: Some(usual),
            starts_in: Some(Duration::from_secs(1080)),
        },
    ];
    if let Some(Ok(seen)) = &mut known.answer {
        let facts = &mut seen.runs.as_mut().unwrap().facts[0];
        (facts.silent_seconds, facts.gpu_idle_seconds) = (Some(301), Some(250));
    }
    let (out, err) = told(std::slice::from_ref(&known));
    assert!(out.contains("12 m 00 s of ~30 min"), "{out}");
    assert!(one_line(&out).contains("starts in about 18 min"), "{out}");
    assert!(
        err.contains("rs_aaaaaaaa may hang: no output for 5 min and its GPU idle for 4 min"),
        "{err}"
    );
    let json = serde_json::to_value(HostStatus::from(&known)).unwrap();
    let running = &json["runs"][0];
    assert_eq!(
        (&running["elapsed_seconds"], &running["estimate_seconds"]),
        (&json!(720), &json!(1800))
    );
    assert_eq!(
        (&running["estimate_runs"], &running["silent_seconds"]),
        (&json!(4), &json!(301))
    );
    assert_eq!(
        running["warning"],
        "no output for 5 min and its GPU idle for 4 min"
    );
    assert_eq!(json["runs"][1]["starts_in_seconds"], 1080);
    assert_eq!(json["runs"][1]["warning"], json!(null));
}
