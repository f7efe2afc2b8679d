//! Evidence of hosts and runs: brought whole or not at all, anew, and removed again.

use crate::trouble::behind_a_proxy;
use farrun_tests::{Direction, Lab};
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
