//! Engines that die under a run, and people who end its container behind our back.

use crate::SOON;
use crate::trouble::{Counter, last_status, noise, runs, wait_for_upload};
use farrun_tests::{
    BUSYBOX, Direction, Engine, EngineOptions, FaultProxy, Lab, SshdOptions, wait_for, wait_until,
};
use std::time::Duration;

const COUNTS: &str = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done";

fn reason(lab: &Lab, run: &str) -> String {
    let shown = lab.home.farrun(&["show", run, "--json"]).ok().json();
    shown["run"]["reason"].as_str().unwrap_or_default().to_owned()
}

fn killed_engine(live_restore: bool) -> (Lab, Counter, String, Vec<u8>, i32) {
    let engine = Engine::own(EngineOptions {
        live_restore,
        ..EngineOptions::default()
    });
    let lab = Lab::with(engine, &SshdOptions::default());
    let counter = Counter::new();
    let script = format!("{} {COUNTS}", Counter::COUNT);
    let arguments = lab.shell_arguments(BUSYBOX, &["--mount", &counter.mount()], &script);
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("some lines", SOON, |attached| attached.stdout().len() > 20);
    lab.engine.kill();
    lab.engine.start_again();
    let outcome = attached.finish(Duration::from_secs(90));
    let run = crate::trouble::last_id(&lab);
    (lab, counter, run, outcome.stdout, outcome.code)
}

#[test]
fn an_engine_that_dies_during_the_upload_does_not_cost_the_key() {
    let lab = Lab::apart(Engine::own(EngineOptions::default()), &SshdOptions::default());
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    lab.add_host("lab", proxy.port());
    let counter = Counter::new();
    let input = format!("clip={}", lab.home.write("clip", noise(1_500_000)).display());
    let mount = counter.mount();
    let options = ["--input", &input, "--mount", &mount, "--key", "once"];
    let arguments = lab.shell_arguments(BUSYBOX, &options, Counter::COUNT);
    proxy.rate(Direction::Up, Some(250_000));
    let first = lab.home.spawn(&arguments);
    wait_for_upload(&lab);
    lab.engine.kill();
    proxy.rate(Direction::Up, None);
    let refused = first.finish(SOON).expect_code(1);
    assert!(
        refused.errors().contains("no container engine answers"),
        "{refused}"
    );
    assert_eq!((runs(&lab), counter.executions()), (1, 0));
    lab.engine.start_again();
    for _ in 0..2 {
        let _ = lab.home.farrun(&arguments).ok();
        assert_eq!(counter.executions(), 1);
    }
}

#[test]
fn an_engine_that_was_away_does_not_cost_the_key() {
    let lab = Lab::with(Engine::own(EngineOptions::default()), &SshdOptions::default());
    let counter = Counter::new();
    let mount = counter.mount();
    let arguments = lab.shell_arguments(BUSYBOX, &["--mount", &mount, "--key", "once"], Counter::COUNT);
    lab.engine.kill();
    let refused = lab.home.farrun(&arguments).expect_code(1);
    assert!(
        refused.errors().contains("no container engine answers"),
        "{refused}"
    );
    assert_eq!((last_status(&lab).as_str(), counter.executions()), ("failed", 0));
    lab.engine.start_again();
    let again = lab.home.farrun(&arguments).ok();
    assert!(!again.errors().contains("the key found"), "{again}");
    let third = lab.home.farrun(&arguments).ok();
    assert!(third.errors().contains("the key found"), "{third}");
    assert_eq!((runs(&lab), counter.executions()), (2, 1));
}

#[test]
fn with_live_restore_the_job_goes_on() {
    let (_lab, counter, _, log, code) = killed_engine(true);
    let whole: String = (0..40).map(|n| format!("line {n}\n")).collect();
    assert_eq!(
        (String::from_utf8_lossy(&log).as_ref(), code),
        (whole.as_str(), 0)
    );
    assert_eq!(counter.executions(), 1);
}

#[test]
fn without_live_restore_the_engine_is_named() {
    let (lab, counter, run, log, code) = killed_engine(false);
    let settled = std::fs::read_to_string(lab.run_folder(&run).join("settled.json")).unwrap();
    assert_eq!(
        (code, reason(&lab, &run).as_str()),
        (1, "engine_restart"),
        "{settled}"
    );
    let there = std::fs::read(lab.run_folder(&run).join("record/run.log")).unwrap();
    assert_eq!((log.len(), counter.executions()), (there.len(), 1));
    assert!(log == there);
}

#[test]
fn killed_and_removed_containers_are_told_apart() {
    let lab = Lab::new();
    for (verb, expected) in [
        (vec!["kill"], "killed_by_other"),
        (vec!["rm", "-f"], "container_removed"),
    ] {
        let mut attached = lab
            .home
            .spawn(&lab.shell_arguments(BUSYBOX, &[], "echo on; exec sleep 600"));
        attached.wait_for("the line", SOON, |attached| attached.stdout() == b"on\n");
        let run = crate::trouble::last_id(&lab);
        let container = format!("farrun-{run}");
        let arguments: Vec<&str> = verb.into_iter().chain([container.as_str()]).collect();
        lab.engine.ask(&arguments);
        let outcome = attached.finish(SOON).expect_code(1);
        assert_eq!((outcome.text(), reason(&lab, &run).as_str()), ("on\n", expected));
    }
}

#[test]
fn an_end_is_settled_by_the_first_contact_although_the_engine_stays_away() {
    let engine = Engine::own(EngineOptions::default());
    let lab = Lab::with(engine, &SshdOptions::default());
    let obeys = lab.detached(&[], "echo up; exec sleep 600");
    // It leaves no record: only the kernel says that it lives no more.
    let ignores = lab.detached(&[], "trap '' TERM; echo up; while :; do sleep 0.05; done");
    for run in [&obeys, &ignores] {
        let log = lab.run_folder(run).join("record/run.log");
        wait_until("the job", SOON, || {
            std::fs::read(&log).is_ok_and(|log| log == b"up\n")
        });
    }
    lab.engine.stop();
    for run in [&obeys, &ignores] {
        let shown = lab.show(run);
        assert_eq!(
            (&shown["run"]["status"], &shown["run"]["reason"]),
            (&"failed".into(), &"engine_restart".into()),
            "{shown}"
        );
        let warning = shown["warnings"][0].as_str().unwrap();
        assert!(
            warning.contains("did not answer when the end was recorded"),
            "{warning}"
        );
        let told = lab.home.farrun(&["why", run]).ok();
        assert!(
            told.text()
                .contains("CAUSE  the container engine of `lab` went down"),
            "{told}"
        );
    }
    lab.engine.start_again();
}

#[test]
fn what_only_the_engine_knows_is_asked_until_it_says_so() {
    let engine = Engine::own(EngineOptions {
        live_restore: true,
        ..EngineOptions::default()
    });
    let lab = Lab::with(engine, &SshdOptions::default());
    let told = Counter::new();
    let hook = format!(
        "sh -c 'echo $FARRUN_RUN_ID $FARRUN_REASON >> {}'",
        told.file("told").display()
    );
    let _ = lab
        .home
        .farrun(&["host", "set", "lab", "--notify-command", &hook])
        .ok();
    let mount = told.mount();
    let options = ["--mount", &mount, "--capture-docker"];
    let until = "echo up; until [ -e /count/go ]; do sleep 0.1; done; echo the last line;";
    let well = lab.detached(&options, &format!("{until} echo x > /farrun/outputs/x; exit 0"));
    let ill = lab.detached(&options, &format!("{until} exit 3"));
    let lives = lab.detached(&options, "echo up; exec sleep 600");
    for run in [&well, &ill, &lives] {
        let seen = lab.run_folder(run).join("alive.json");
        wait_until("the look at the job", SOON, || seen.exists());
    }
    lab.engine.stop();
    std::fs::write(told.file("go"), "").unwrap();
    for run in [&well, &ill] {
        // At once when nobody has seen it for a while; the observer waits for an engine that may be restarting.
        lab.wait_status(run, &["failed"], SOON);
        let shown = lab.show(run);
        assert_eq!(shown["run"]["reason"], "engine_silent", "{shown}");
        let line = shown["run"]["error_message"].as_str().unwrap();
        assert!(
            line.contains("whether it succeeded") && line.contains("is not known"),
            "{line}"
        );
        let why = lab.home.farrun(&["why", run]).ok();
        assert!(why.text().contains("did not answer"), "{why}");
    }
    assert_eq!(lab.status(&lives), "running");
    lab.engine.start_again();
    let anew = |run: &str| {
        wait_for("the engine to be asked", SOON, || {
            Some(lab.show(run)).filter(|shown| shown["run"]["reason"] != "engine_silent")
        })
    };
    assert_eq!(anew(&well)["run"]["status"], "downloading");
    let waited = lab.home.farrun(&["wait", &well]).ok();
    assert!(!waited.errors().contains("engine_silent"), "{waited}");
    assert_eq!(lab.status(&well), "completed");
    // Whoever waits for it asks as well.
    let shown = wait_for("the engine to be asked", SOON, || {
        let _ = lab.home.farrun(&["wait", &ill]);
        let shown = lab
            .home
            .farrun(&["show", &ill, "--offline", "--json"])
            .ok()
            .json();
        Some(shown).filter(|shown| shown["run"]["reason"] != "engine_silent")
    });
    assert_eq!(
        (
            &shown["run"]["status"],
            &shown["run"]["reason"],
            &shown["run"]["exit_code"]
        ),
        (&"failed".into(), &"exit_code".into(), &3.into()),
        "{shown}"
    );
    for run in [&well, &ill] {
        let log = lab.home.farrun(&["logs", run]).ok();
        // What was printed while it was down may be lost with it: the weaker promise of this way to capture.
        assert!(log.text().starts_with("up\n"), "{log}");
    }
    let why = lab.home.farrun(&["why", &ill, "--json"]).ok().json();
    assert!(why["diagnosis"]["cause"].is_null(), "{why}");
    let _ = lab.home.farrun(&["stop", &lives, "--kill"]);
    wait_until("the end of all to be told", SOON, || {
        lines(&told.file("told")).len() == 3
    });
    let mut said = lines(&told.file("told"));
    said.sort();
    let mut expected = [
        format!("{well} engine_silent"),
        format!("{ill} engine_silent"),
        format!("{lives} stopped"),
    ];
    expected.sort();
    assert_eq!(said, expected, "each end is told once");
}

fn lines(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
