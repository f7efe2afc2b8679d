//! Evidence of hosts and runs: brought whole or not at all, anew, and removed again.

use crate::SOON;
use crate::trouble::{Counter, behind_a_proxy};
use farrun_tests::{Direction, Engine, EngineOptions, Lab, SshdOptions, wait_for, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A run that failed and left much to say.
fn failed(lab: &Lab) -> String {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i of a log that is worth bringing; i=$((i+1)); done; exit 3";
    let run = lab.detached(&[], script);
    crate::wait_until_settled(lab, &run);
    assert_eq!(lab.wait_status(&run, &["failed"], crate::SOON), "failed");
    run
}

fn folder(brought: &Value) -> PathBuf {
    PathBuf::from(brought["folder"].as_str().unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn cut_transfer_goes_on_and_leaves_nothing_half() {
    let (lab, proxy) = behind_a_proxy();
    let run = failed(&lab);
    // Collected, and brought once, to know how much that is.
    let before = proxy.passed(Direction::Down);
    let brought = lab.home.farrun(&["diagnose", &run, "--json"]).ok().json();
    let whole = proxy.passed(Direction::Down) - before;
    let folder = folder(&brought);
    let expected = names(&folder);
    let mut cuts = 0;
    for part in 1..10 {
        std::fs::remove_dir_all(&folder).unwrap();
        proxy.cut_after(Direction::Down, whole * part / 10);
        let outcome = lab.home.farrun(&["diagnose", &run]);
        if outcome.code != 0 {
            cuts += 1;
            assert_eq!(outcome.code, 3, "{outcome}");
            assert!(
                !folder.exists(),
                "half of it has its final name: {:?}",
                names(&folder)
            );
            let _ = lab.home.farrun(&["diagnose", &run]).ok();
        }
        assert_eq!(names(&folder), expected);
        assert_eq!(names(folder.parent().unwrap()), [run.as_str()]);
    }
    assert!(cuts > 3, "{cuts}");
    assert_eq!(crate::trouble::last_status(&lab), "failed");
}

#[test]
fn evidence_is_collected_anew_when_asked_and_of_hosts_each_time() {
    let lab = Lab::new();
    let run = failed(&lab);
    let ask = |arguments: &[&str]| lab.home.farrun(arguments).ok().json();
    let first = ask(&["diagnose", &run, "--json"]);
    let again = ask(&["diagnose", &run, "--json"]);
    assert_eq!(first["bundle"], again["bundle"]);
    let anew = ask(&["diagnose", &run, "--anew", "--json"]);
    assert!(anew["bundle"]["began_at"].as_str() > first["bundle"]["ended_at"].as_str());
    assert_eq!(anew["folder"], first["folder"]);

    let host = ask(&["diagnose", "lab", "--json"]);
    assert!(
        host["run_id"].is_null() && host["bundle"]["run_id"].is_null(),
        "{host}"
    );
    let folder = folder(&host);
    assert_eq!(
        folder.parent(),
        Some(lab.home.outputs().join("diagnostics/lab").as_path())
    );
    assert!(names(&folder).contains(&"bundle.json".to_owned()));
    let table = lab.home.farrun(&["diagnose", "lab"]).ok();
    assert!(table.text().contains("system.txt"), "{table}");
}

#[test]
fn evidence_that_is_here_goes_only_when_listed_and_agreed() {
    let lab = Lab::new();
    let run = failed(&lab);
    let _ = lab.home.farrun(&["wait", &run]).expect_code(1);
    let shown = lab.show(&run);
    let evidence = PathBuf::from(shown["run"]["diagnostics_path"].as_str().unwrap());
    let log = PathBuf::from(shown["run"]["log_path"].as_str().unwrap());
    let listed = lab
        .home
        .farrun(&["gc", "--here", "--dry-run", "--json"])
        .ok()
        .json();
    let items = listed["items"].as_array().unwrap();
    assert!(
        items
            .iter()
            .any(|item| item["kind"] == "diagnostics" && item["name"] == run.as_str())
    );
    assert!(!items.iter().any(|item| item["kind"] == "log"), "{listed}");
    let _ = lab
        .home
        .farrun(&["gc", "--here"])
        .expect_code(2)
        .expect_error("--yes");
    let kept = lab.home.farrun(&["gc", "--here", "--keep-failed", "--yes"]).ok();
    assert!(evidence.exists() && log.exists(), "{kept}");
    let _ = lab.home.farrun(&["gc", "--here", "--yes"]).ok();
    assert!(!evidence.exists() && log.exists());
    let _ = lab.home.farrun(&["gc", &run, "--here", "--logs", "--yes"]).ok();
    assert!(!log.exists());
    let shown = lab
        .home
        .farrun(&["show", &run, "--offline", "--json"])
        .ok()
        .json();
    assert!(shown["run"]["diagnostics_path"].is_null() && shown["run"]["log_path"].is_null());
    // The timer does not bring back what was removed, but for evidence that its host still has.
    let _ = lab.home.farrun(&["sync"]).ok();
    assert!(!log.exists());
}

/// The evidence that the host has of a run.
fn kept(lab: &Lab, run: &str) -> Option<Value> {
    let file = lab.run_folder(run).join("diagnostics/bundle.json");
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// A script that ends once the file `start` is there.
const WAITS: &str = "echo waits; until [ -e /count/start ]; do sleep 0.1; done;";

#[test]
fn runs_that_fail_at_once_have_evidence_of_their_own_each() {
    let lab = Lab::new();
    let told = Counter::new();
    let options = ["--mount", &told.mount()];
    let runs: Vec<String> = (0..3)
        .map(|number| {
            lab.detached(
                &options,
                &format!("{WAITS} echo number {number}; exit {}", number + 3),
            )
        })
        .collect();
    std::fs::write(told.file("start"), "").unwrap();
    for (number, run) in runs.iter().enumerate() {
        let bundle = wait_for("the evidence on the host", SOON, || kept(&lab, run));
        assert_eq!(
            (&bundle["run_id"], &bundle["trigger"]),
            (&run.as_str().into(), &"failure".into())
        );
        let folder = lab.run_folder(run).join("diagnostics");
        let head = std::fs::read_to_string(folder.join("log.head")).unwrap();
        assert_eq!(head, format!("waits\nnumber {number}\n"));
        let container: Value =
            serde_json::from_slice(&std::fs::read(folder.join("container.json")).unwrap()).unwrap();
        assert_eq!(container["Name"], format!("/farrun-{run}"));
        assert_eq!(container["State"]["ExitCode"], number + 3);
        let said = lab.home.farrun(&["why", run, "--json"]).ok().json();
        assert_eq!(said["run"]["exit_code"], number + 3, "{said}");
        assert!(said["folder"].is_string() && said["absent"].is_null(), "{said}");
    }
}

#[test]
fn what_a_killed_observer_did_not_collect_is_collected_at_the_next_contact() {
    let lab = Lab::new();
    let told = Counter::new();
    let run = lab.detached(&["--mount", &told.mount()], &format!("{WAITS} exit 3"));
    // Killed before the end: nobody sees it.
    lab.kill_observer();
    std::fs::write(told.file("start"), "").unwrap();
    crate::wait_until_settled(&lab, &run);
    wait_until("the container to end", SOON, || {
        lab.containers(&run)
            .iter()
            .all(|container| container.ends_with("exited"))
    });
    assert!(kept(&lab, &run).is_none() && !lab.run_folder(&run).join("settled.json").exists());
    let _ = lab.home.farrun(&["status"]).ok();
    let bundle = wait_for("the evidence on the host", SOON, || kept(&lab, &run));
    assert_eq!(bundle["trigger"], "failure", "{bundle}");

    // Killed between the end, which is written down, and its evidence. Killed last: one that a conversation starts in
    // between would find everything explained and not look again.
    let folder = lab.run_folder(&run);
    std::fs::remove_dir_all(folder.join("diagnostics")).unwrap();
    std::fs::create_dir(folder.join(".diagnostics.half")).unwrap();
    lab.end_observer();
    let ended = std::fs::read(folder.join("settled.json")).unwrap();
    // A job that is over before its order is answered calls for no observer, so this one stays.
    let other = Counter::new();
    let _ = lab.detached(&["--mount", &other.mount()], WAITS);
    let again = wait_for("the evidence on the host", SOON, || kept(&lab, &run));
    std::fs::write(other.file("start"), "").unwrap();
    assert!(
        again["began_at"].as_str() > bundle["ended_at"].as_str(),
        "{again}"
    );
    assert_eq!(again["trigger"], "failure", "{again}");
    assert_eq!(std::fs::read(folder.join("settled.json")).unwrap(), ended);
    let said = lab.home.farrun(&["why", &run, "--json"]).ok().json();
    assert!(said["folder"].is_string() && said["absent"].is_null(), "{said}");
}

#[test]
fn a_run_that_is_active_has_evidence_that_its_end_replaces() {
    let lab = Lab::new();
    let told = Counter::new();
    let secret = lab.home.write("token", "planted-while-it-runs");
    let options = [
        "--mount",
        &told.mount(),
        "--secret",
        &format!("TOKEN=@{}", secret.display()),
    ];
    let run = lab.detached(&options, &format!("echo $TOKEN; {WAITS} echo over; exit 3"));
    wait_until("its first lines", SOON, || {
        std::fs::metadata(lab.run_folder(&run).join("record/run.log")).is_ok_and(|log| log.len() > 20)
    });
    let brought = lab.home.farrun(&["diagnose", &run, "--json"]).ok().json();
    let folder = folder(&brought);
    let of = |file: &str| {
        let items = brought["bundle"]["items"].as_array().unwrap();
        items.iter().find(|item| item["file"] == file).unwrap()["outcome"].clone()
    };
    assert_eq!(brought["bundle"]["trigger"], "request");
    assert_eq!(of("settled.json")["why"], "it has not ended");
    for file in [
        "log.head",
        "container.json",
        "events.jsonl",
        "agent.jsonl",
        "spec.json",
        "processes.json",
    ] {
        assert_eq!(of(file)["outcome"], "collected", "{file}: {brought}");
    }
    let container: Value =
        serde_json::from_slice(&std::fs::read(folder.join("container.json")).unwrap()).unwrap();
    assert_eq!(container["State"]["Running"], true);
    let head = std::fs::read_to_string(folder.join("log.head")).unwrap();
    assert_eq!(head, "[redacted:TOKEN]\nwaits\n");
    let steps = std::fs::read_to_string(folder.join("agent.jsonl")).unwrap();
    assert!(
        steps.contains("start_ordered") && !steps.contains("settled"),
        "{steps}"
    );
    // It runs on, and the values that its evidence needs at the end are still there.
    assert_eq!(lab.status(&run), "running");
    assert!(lab.run_folder(&run).join("secrets.json").exists());

    std::fs::write(told.file("start"), "").unwrap();
    let _ = lab.home.farrun(&["wait", &run]).expect_code(1);
    let said = lab.home.farrun(&["why", &run, "--json"]).ok().json();
    assert_eq!(said["folder"], brought["folder"], "{said}");
    let head = std::fs::read_to_string(folder.join("log.head")).unwrap();
    assert_eq!(head, "[redacted:TOKEN]\nwaits\nover\n");
    let steps = std::fs::read_to_string(folder.join("agent.jsonl")).unwrap();
    assert!(
        steps.contains("job_ended") && steps.contains("settled"),
        "{steps}"
    );
    let bundle: Value = serde_json::from_slice(&std::fs::read(folder.join("bundle.json")).unwrap()).unwrap();
    assert_eq!(bundle["trigger"], "failure", "{bundle}");
}

#[test]
fn gc_names_evidence_apart_and_images_of_the_demo_only_when_asked() {
    let engine = Engine::own(EngineOptions::default());
    let lab = Lab::with(engine, &SshdOptions::default());
    let _ = lab.shell(&[], "exit 3").expect_code(1);
    let _ = lab.home.farrun(&["diagnose", "lab"]).ok();
    // An image as the script makes it.
    let nothing = lab.home.write("nothing.tar", vec![0; 10_240]);
    let label = ["import", "--change", "LABEL farrun.demo=1"];
    let image = [nothing.to_str().unwrap(), "farrun-test-demo:1"];
    let _ = lab.engine.ask(&[label.as_slice(), &image].concat());
    let items = |arguments: &[&str]| {
        let all = [["gc", "lab", "--json"].as_slice(), arguments].concat();
        lab.home.farrun(&all).ok().json()["items"].clone()
    };
    let of_kind = |items: &Value, kind: &str| {
        let found = items
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["kind"] == kind);
        found.cloned().collect::<Vec<_>>()
    };

    let listed = items(&["--dry-run"]);
    let [of_host] = of_kind(&listed, "diagnostics").try_into().unwrap();
    let [run] = of_kind(&listed, "run").try_into().unwrap();
    assert!(
        of_host["bytes"].as_u64() > Some(0) && run["diagnostics"].as_u64() > Some(0),
        "{listed}"
    );
    assert!(of_kind(&listed, "image").is_empty(), "{listed}");
    let told = lab.home.farrun(&["gc", "lab", "--dry-run"]).ok();
    assert!(
        told.errors().contains("diagnostics among it: 2 bundles, "),
        "{told}"
    );
    // Runs are told by what they are called and when they ended, not by their ids alone.
    let lines: Vec<&str> = told.text().lines().collect();
    assert!(
        lines[0].contains("NAME")
            && lines[0].contains("ENDED")
            && [" ago", "just now"].iter().any(|age| lines[1].contains(age)),
        "{told}"
    );
    let young = items(&["--dry-run", "--older-than", "1d"]);
    assert!(
        of_kind(&young, "diagnostics").is_empty() && of_kind(&young, "run").is_empty(),
        "{young}"
    );
    wait_until("both to be older than a second", SOON, || {
        let old = items(&["--dry-run", "--older-than", "1s"]);
        ["diagnostics", "run"]
            .iter()
            .all(|kind| of_kind(&old, kind).len() == 1)
    });

    let removed = items(&["--yes", "--demo-images"]);
    let [image] = of_kind(&removed, "image").try_into().unwrap();
    assert_eq!(
        (&image["name"], &image["kept"]),
        (&"farrun-test-demo:1".into(), &Value::Null)
    );
    assert!(!lab.engine.ask(&["images"]).contains("farrun-test-demo"));
    assert!(
        std::fs::read_dir(lab.state().join("diagnostics"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(of_kind(&items(&["--dry-run", "--demo-images"]), "image").is_empty());
}
