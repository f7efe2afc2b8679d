use super::*;
use crate::cli::gpu::table::tests::report;
use crate::run::look::Seen;
use crate::run::reconcile::Looked;
use farrun_protocol::gpu::GpuReport;
use serde_json::json;
use std::time::Duration;

fn run(id: &str, status: &str) -> Run {
    serde_json::from_value(json!({
        "id": id, "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "run", "status": status,
        "log_complete": false, "gpus": "none", "created_at": Utc::now(), "updated_at": Utc::now(),
        "launched_at": Utc::now(), "confirmed_at": Utc::now(),
        "spec": {
            "format": 1, "run_id": id, "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
            "created_at": Utc::now(), "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
        },
    }))
    .unwrap()
}

fn state() -> State {
    State {
        hosts: vec![HostState::new(
            Host {
                name: "gpu1".to_owned(),
                settings: Default::default(),
                host_id: None,
                platform: None,
                added_at: Utc::now(),
                last_seen: None,
            },
            HostReport::default(),
        )],
        runs: vec![run("rs_aaaaaaaa", "running"), run("rs_bbbbbbbb", "queued")],
        ended: VecDeque::from([run("rs_cccccccc", "failed")]),
        usual: Vec::new(),
        chosen: Some("rs_aaaaaaaa".parse().unwrap()),
        log: LogTail::default(),
        log_state: String::new(),
        scroll: 0,
        colour: false,
    }
}

fn seen(gpus: Result<GpuReport, String>) -> News {
    News::Seen {
        host: 0,
        seen: Box::new(Seen {
            at: Utc::now(),
            round_trip: Some(Duration::from_millis(38)),
            version: "0.1.0".to_owned(),
            facts: Ok(None),
            gpus,
            runs: Ok(Looked::default()),
        }),
    }
}

#[test]
fn arrows_choose_and_stop_at_both_ends() {
    let mut state = state();
    let chosen = |state: &State| state.chosen.as_ref().map(ToString::to_string).unwrap();
    state.press(Key::Up);
    assert_eq!(chosen(&state), "rs_aaaaaaaa");
    for expected in ["rs_bbbbbbbb", "rs_cccccccc", "rs_cccccccc"] {
        state.press(Key::Down);
        assert_eq!(chosen(&state), expected);
    }
    assert_eq!(state.following().unwrap().run.as_str(), "rs_cccccccc");
}

#[test]
fn a_log_of_a_run_that_was_left_is_not_shown() {
    let mut state = state();
    let log = |run: &str, bytes: &[u8]| News::Log {
        run: run.parse().unwrap(),
        bytes: bytes.to_vec(),
    };
    state.learn(log("rs_aaaaaaaa", b"first\n"));
    assert_eq!(state.picture(Utc::now()).log, ["first"]);
    state.press(Key::Down);
    state.learn(log("rs_aaaaaaaa", b"late\n"));
    assert!(state.picture(Utc::now()).log.is_empty());
    state.learn(log("rs_bbbbbbbb", b"second\n"));
    assert_eq!(state.picture(Utc::now()).log, ["second"]);
}

#[test]
fn a_host_that_goes_away_keeps_its_figures_and_says_how_old_they_are() {
    let mut state = state();
    let mut told = report();
    told.gpus[1].history.clear();
    state.learn(seen(Ok(told)));
    let up = state.picture(Utc::now());
    assert!(up.hosts[0].link.starts_with("up, 38 ms"), "{}", up.hosts[0].link);
    assert_eq!(up.hosts[0].gpus[1].history, [Some(0)]);
    state.learn(News::Away {
        host: 0,
        cause: "the link broke".to_owned(),
    });
    let later = state.picture(Utc::now() + chrono::TimeDelta::minutes(2));
    let panel = &later.hosts[0];
    assert!(
        panel.link.contains("the link broke") && panel.link.contains("STALE 2 min"),
        "{}",
        panel.link
    );
    assert_eq!(panel.gpus.len(), 4);
    // A gap is a gap.
    assert_eq!(panel.gpus[1].history, [Some(0), None]);
}

#[test]
fn an_answer_without_figures_says_why() {
    let mut state = state();
    state.learn(seen(Err("no answer about GPUs within 4 s".to_owned())));
    assert_eq!(
        state.picture(Utc::now()).hosts[0].troubles,
        ["no answer about GPUs within 4 s"]
    );
}

#[test]
fn a_run_that_may_hang_says_so_in_its_row_and_keeps_its_state() {
    let mut state = state();
    state.runs[0].started_at = Some(Utc::now() - chrono::TimeDelta::minutes(12));
    let usual = Usual {
        duration: Duration::from_secs(1800),
        runs: 4,
    };
    state.usual = vec![("rs_aaaaaaaa".parse().unwrap(), Some(usual))];
    state.hosts[0].runs = vec![
        serde_json::from_value(json!({
            "run_id": "rs_aaaaaaaa", "controller_id": "co_abcdefgh", "phase": "running", "log_length": 1,
            "spec_sha256": farrun_protocol::Sha256::of(b""), "silent_seconds": 301, "gpu_idle_seconds": 299,
        }))
        .unwrap(),
    ];
    let rows = state.picture(Utc::now()).runs;
    assert_eq!(
        rows[0].note,
        "may hang: no output for 5 min and its GPU idle for 4 min"
    );
    assert_eq!((rows[0].state.as_str(), rows[0].tone), ("running", Tone::Bad));
    assert_eq!(rows[0].time, "12 m 00 s of ~30 min");
}

#[test]
fn a_run_that_prints_is_shown_before_one_that_waits() {
    let mut state = state();
    state.runs.reverse();
    state.chosen = None;
    let first = |state: &State| state.first().map(|run| run.id.to_string());
    assert_eq!(first(&state).as_deref(), Some("rs_bbbbbbbb"));
    state.runs[1].started_at = Some(Utc::now());
    assert_eq!(first(&state).as_deref(), Some("rs_aaaaaaaa"));
    state.runs.clear();
    assert_eq!(first(&state).as_deref(), Some("rs_cccccccc"));
}
