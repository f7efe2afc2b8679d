//! `farrun host doctor` on hosts that are well and on hosts that are not.

use crate::SOON;
use farrun_tests::{
    Engine, EngineOptions, Lab, NvidiaSmi, Outcome, SshdOptions, Toolkit, temporary_folder, wait_until,
};
use serde_json::Value;

fn doctor(lab: &Lab) -> Outcome {
    lab.home
        .farrun_within(SOON * 2, &["host", "doctor", "lab", "--json"])
}

/// The worst check of a name.
fn check(report: &Value, name: &str) -> Value {
    let worth = |check: &Value| {
        let order = ["skipped", "ok", "note", "warning", "broken"];
        let verdict = check["verdict"].as_str().unwrap().to_owned();
        order.iter().position(|word| *word == verdict)
    };
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().filter(|check| check["name"] == name);
    found
        .max_by_key(|check| worth(check))
        .unwrap_or_else(|| panic!("no `{name}` in {report}"))
        .clone()
}

fn verdict(report: &Value, name: &str) -> String {
    check(report, name)["verdict"].as_str().unwrap().to_owned()
}

fn left_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".doctor-") || name.starts_with(".farrun-doctor-"))
        .collect()
}

#[test]
fn a_host_that_is_well_is_told_so_and_nothing_stays_on_it() {
    let lab = Lab::new();
    // An image that is there.
    let _ = lab.shell(&[], "true").ok();
    let report = doctor(&lab).ok().json();
    assert_eq!(
        (&report["schema"], &report["host"]),
        (&"farrun.doctor/1".into(), &"lab".into())
    );
    for name in [
        "host_key",
        "algorithms",
        "round_trip",
        "sessions",
        "login_shell",
        "sftp",
        "clock",
        "account",
        "writing",
        "container",
        "locks",
        "observer",
    ] {
        assert_eq!(verdict(&report, name), "ok", "{}", check(&report, name));
    }
    assert_eq!(verdict(&report, "cards"), "note", "{report}");
    assert_eq!(verdict(&report, "shared_memory"), "note", "{report}");
    let key = check(&report, "host_key");
    assert!(key["text"].as_str().unwrap().contains("SHA256:"), "{key}");
    assert!(left_in(&lab.state()).is_empty());
    let tries = lab.engine.ask(&["ps", "-aq", "--filter", "label=farrun.tries"]);
    assert!(tries.trim().is_empty(), "{tries}");
    let told = lab.home.farrun_within(SOON * 2, &["host", "doctor", "lab"]).ok();
    for line in told.text().lines() {
        assert!(
            line.chars().count() <= 80 || !line.trim_start().contains(' '),
            "{line}"
        );
    }
    assert!(
        told.text().starts_with("SSH\n") && !told.text().contains('\u{1b}'),
        "{told}"
    );
}

#[test]
fn a_host_without_an_engine_is_looked_at_all_the_same() {
    let lab = Lab::new();
    let away = [
        "host",
        "set",
        "lab",
        "--docker-host",
        "unix:///no/such/docker.sock",
    ];
    let _ = lab.home.farrun(&away).ok();
    let report = doctor(&lab).expect_code(1).json();
    assert_eq!(report["verdict"], "broken");
    let engine = check(&report, "engine");
    assert_eq!(engine["verdict"], "broken", "{engine}");
    assert!(
        engine["remedy"].as_str().unwrap().contains("--docker-host"),
        "{engine}"
    );
    assert!(
        engine["evidence"]
            .as_str()
            .unwrap()
            .contains("/no/such/docker.sock"),
        "{engine}"
    );
    for (name, expected) in [("sftp", "ok"), ("writing", "ok"), ("shared_memory", "skipped")] {
        assert_eq!(verdict(&report, name), expected, "{report}");
    }
}

#[test]
fn a_state_folder_that_cannot_be_used_hides_nothing_else() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "true").ok();
    let folder = temporary_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let state = file.join("state").display().to_string();
    let _ = lab.home.farrun(&["host", "set", "lab", "--state", &state]).ok();
    let report = doctor(&lab).expect_code(1).json();
    let agent = check(&report, "agent");
    assert_eq!(agent["verdict"], "broken", "{agent}");
    assert!(
        agent["remedy"].as_str().unwrap().contains("--state PATH"),
        "{agent}"
    );
    for name in ["host_key", "sftp", "engine", "container"] {
        assert_eq!(verdict(&report, name), "ok", "{}", check(&report, name));
    }
    assert!(left_in(std::path::Path::new("/tmp")).is_empty());
}

#[test]
fn a_host_that_does_not_answer_ends_with_its_own_code() {
    let mut lab = Lab::new();
    lab.sshd.stop();
    let outcome = doctor(&lab).expect_code(3).expect_error("hint:");
    let report = outcome.json();
    assert_eq!(verdict(&report, "connection"), "broken", "{report}");
    assert_eq!(report["checks"].as_array().unwrap().len(), 1);
}

#[test]
fn a_server_that_allows_one_session_is_noted() {
    let options = SshdOptions {
        lines: vec!["MaxSessions 1".to_owned()],
        ..SshdOptions::default()
    };
    let lab = Lab::with(Engine::shared(), &options);
    let report = doctor(&lab).json();
    let sessions = check(&report, "sessions");
    assert_eq!(sessions["verdict"], "note", "{sessions}");
    assert!(
        sessions["remedy"].as_str().unwrap().contains("MaxSessions"),
        "{sessions}"
    );
    for name in ["sftp", "login_shell"] {
        assert_eq!(verdict(&report, name), "ok", "{report}");
    }
}

#[test]
fn a_toolkit_that_gives_no_gpu_is_found_out_by_trying() {
    let fake = NvidiaSmi::new();
    fake.add(0, &[("persistence_mode", "Disabled")]);
    let folder = temporary_folder();
    let locks = (
        "FARRUN_LOCKS".to_owned(),
        folder.path().join("locks").display().to_string(),
    );
    let options = SshdOptions {
        environment: vec![fake.variable(), locks],
        ..SshdOptions::default()
    };
    let engine = Engine::own(EngineOptions {
        toolkit: Toolkit::GivesNothing,
        ..EngineOptions::default()
    });
    let lab = Lab::with(engine, &options);
    let report = doctor(&lab).expect_code(1).json();
    assert_eq!(verdict(&report, "gpu"), "ok", "{report}");
    assert_eq!(verdict(&report, "persistence"), "note", "{report}");
    let trial = check(&report, "gpu_container");
    assert_eq!(trial["verdict"], "broken", "{trial}");
    assert!(
        trial["text"].as_str().unwrap().contains("starts without one"),
        "{trial}"
    );
    fake.fail(18, "Failed to initialize NVML: Driver/library version mismatch");
    // Until the old reading is too old.
    wait_until("the driver's complaint", SOON, || {
        let report = doctor(&lab).json();
        let complains = |check: &Value| {
            check["name"] == "nvidia_smi" && check["verdict"] == "broken" && check["remedy"].is_string()
        };
        report["checks"].as_array().unwrap().iter().any(complains)
    });
}

#[test]
fn an_unknown_host_is_not_found() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let _ = lab.home.farrun(&["host", "doctor", "nowhere"]).expect_code(4);
}
