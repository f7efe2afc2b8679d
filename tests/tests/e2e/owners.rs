//! More than one controller, and what a host need not keep.

use crate::SOON;
use crate::pull::named;
use farrun_tests::{Home, Lab};
use serde_json::Value;

/// A second laptop that knows the same host.
fn second(lab: &Lab) -> Home {
    let home = Home::new();
    home.trust(&lab.sshd, lab.sshd.port());
    let _ = home.farrun(&lab.host_arguments("lab", lab.sshd.port())).ok();
    home
}

fn ids(listed: &Value) -> Vec<&str> {
    listed["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["id"].as_str().unwrap())
        .collect()
}

#[test]
fn adopted_runs_are_like_ones_own() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "echo made > /farrun/outputs/made; echo said").ok();
    let ended = lab.show("@last")["run"]["id"].as_str().unwrap().to_owned();
    let live = lab.detached(&[], "echo on; exec sleep 600");
    let other = second(&lab);
    let _ = other.farrun(&["stop", &live]).expect_code(4);
    let adopted = other.farrun(&["adopt", "lab", "--json"]).ok().json();
    assert_eq!(ids(&adopted).len(), 2, "{adopted}");
    assert_eq!(other.farrun(&["logs", &ended]).ok().stdout, b"said\n");
    let _ = other.farrun(&["pull", &ended]).ok();
    assert_eq!(crate::pull::named_in(&other, "made"), b"made\n");
    let _ = other.farrun(&["stop", &live]).ok();
    // Both see how it ended.
    lab.wait_status(&live, &["cancelled"], SOON);
    let shown = other.farrun(&["show", &live, "--json"]).ok().json();
    assert_eq!(shown["run"]["status"], "cancelled", "{shown}");
}

#[test]
fn one_run_is_adopted_by_its_id() {
    let lab = Lab::new();
    let first = lab.detached(&[], "exec sleep 600");
    let _ = lab.detached(&[], "exec sleep 600");
    let other = second(&lab);
    let adopted = other
        .farrun(&["adopt", &first, "--host", "lab", "--json"])
        .ok()
        .json();
    assert_eq!(ids(&adopted), [first.as_str()]);
    let _ = other
        .farrun(&["adopt", "rs_00000000", "--host", "lab"])
        .expect_code(4);
    let _ = other.farrun(&["adopt", "nowhere"]).expect_code(4);
}

#[test]
fn lost_database_is_rebuilt_from_the_host() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "echo made > /farrun/outputs/made; echo said").ok();
    let before = lab.show("@last");
    std::fs::remove_dir_all(lab.home.path().join(".local/state/farrun")).unwrap();
    std::fs::remove_dir_all(lab.home.outputs()).unwrap();
    let _ = lab.home.farrun(&lab.host_arguments("lab", lab.sshd.port())).ok();
    let _ = lab.home.farrun(&["adopt", "lab"]).ok();
    let _ = lab.home.farrun(&["sync"]).ok();
    let after = lab.show("@last");
    assert_eq!(after["run"]["status"], "completed", "{after}");
    for field in ["id", "name", "operation", "image", "log_sha256"] {
        assert_eq!(after["run"][field], before["run"][field], "{field}");
    }
    assert_eq!(named(&lab, "made"), b"made\n");
}

#[test]
fn gc_takes_only_what_ended_and_is_here() {
    let lab = Lab::new();
    let clip = lab.home.write("clip", "the clip");
    let _ = lab
        .shell(
            &["--input", clip.to_str().unwrap()],
            "echo made > /farrun/outputs/made; echo said",
        )
        .ok();
    let ended = lab.show("@last")["run"]["id"].as_str().unwrap().to_owned();
    let live = lab.detached(&[], "exec sleep 600");
    let due = lab.detached(&[], "echo due > /farrun/outputs/due");
    lab.wait_status(&due, &["downloading"], SOON);

    let plan = lab.home.farrun(&["gc", "--dry-run", "--json"]).ok().json();
    assert_eq!(plan["dry_run"], true);
    let named_runs: Vec<&str> = plan["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["kind"] == "run")
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(named_runs, [ended.as_str()], "{plan}");
    assert!(lab.run_folder(&ended).is_dir());
    assert_eq!(lab.containers(&ended).len(), 1);

    let _ = lab.home.farrun(&["gc"]).ok();
    assert!(!lab.run_folder(&ended).exists());
    assert_eq!(lab.containers(&ended), Vec::<String>::new());
    assert!(lab.run_folder(&live).is_dir() && lab.run_folder(&due).is_dir());
    assert_eq!(lab.status(&live), "running");
    // What is here stays here.
    assert_eq!(lab.home.farrun(&["logs", &ended]).ok().stdout, b"said\n");
    assert_eq!(named(&lab, "made"), b"made\n");
    let _ = lab
        .home
        .farrun(&["pull", &ended])
        .ok()
        .expect_error("all of its outputs are here");
    let _ = lab.home.farrun(&["pull", &due]).ok();
}

#[test]
fn gc_keeps_the_runs_of_others() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "true").ok();
    let run = lab.show("@last")["run"]["id"].as_str().unwrap().to_owned();
    let other = second(&lab);
    let _ = other.farrun(&["gc"]).ok();
    assert!(lab.run_folder(&run).is_dir());
    assert_eq!(lab.containers(&run).len(), 1);
}

#[test]
fn host_with_unfinished_runs_is_not_forgotten() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    let _ = lab
        .home
        .farrun(&["host", "remove", "lab"])
        .expect_code(5)
        .expect_error("--abandon");
    let _ = lab.home.farrun(&["host", "remove", "lab", "--abandon"]).ok();
    let shown = lab.show(&run);
    assert_eq!(shown["run"]["reason"], "host_lost", "{shown}");
    // Nothing on the host was touched.
    assert_eq!(lab.containers(&run).len(), 1);
}
