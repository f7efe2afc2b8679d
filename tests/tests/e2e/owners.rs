//! More than one controller, and what a host need not keep.

use crate::SOON;
use crate::pull::named;
use farrun_tests::{Direction, Engine, FaultProxy, Home, Lab, SshdOptions, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
fn a_host_does_not_say_how_much_of_our_disk_a_log_may_take() {
    let lab = Lab::new();
    let honest = lab.detached(&[], "exec sleep 600");
    let liar = lab.detached(&["--log-cap", "3g"], "exec sleep 600");
    let order = lab.run_folder(&liar).join("spec.json");
    let told = std::fs::read_to_string(&order).unwrap();
    let most = format!("\"log_cap\":{}", u64::MAX);
    let lie = told.replace("\"log_cap\":3221225472", &most);
    assert_ne!(lie, told);
    std::fs::remove_file(&order).unwrap();
    std::fs::write(&order, lie).unwrap();
    let other = second(&lab);
    // Every other run of the host is taken over all the same.
    let adopted = other
        .farrun(&["adopt", "lab", "--json"])
        .ok()
        .expect_error("left alone");
    assert_eq!(ids(&adopted.json()), [honest.as_str()], "{adopted}");
    let one = ["adopt", &liar, "--host", "lab"];
    let refused = other.farrun(&one).expect_code(5);
    assert!(
        refused.errors().contains("18446744073709551615 bytes") && refused.errors().contains("--log-cap"),
        "{refused}"
    );
    // It was not made ours on the host either.
    let _ = other.farrun(&["stop", &liar]).expect_code(4);
    // What was ordered so is taken over on request, or when the configuration allows as much for one's own runs.
    std::fs::remove_file(&order).unwrap();
    std::fs::write(&order, told).unwrap();
    let _ = other.farrun(&one).expect_code(5);
    let asked = [one.as_slice(), &["--log-cap", "3g"]].concat();
    let _ = other.farrun(&asked).ok();
    let mut third = second(&lab);
    third.set("FARRUN_LOG_CAP", "3221225472");
    let adopted = third.farrun(&["adopt", "lab", "--json"]).ok().json();
    assert_eq!(ids(&adopted).len(), 2, "{adopted}");
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

    // Without a word of agreement it is listed and left.
    let _ = lab.home.farrun(&["gc"]).expect_code(2).expect_error("--yes");
    assert!(lab.run_folder(&ended).is_dir());

    let _ = lab.home.farrun(&["gc", "--yes"]).ok();
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
fn gc_keeps_what_a_failed_run_left_until_it_is_here_or_given_up() {
    let lab = Lab::new();
    let fail = |script: &str| {
        let _ = lab.shell(&[], script).expect_code(1);
        lab.show("@last")["run"]["id"].as_str().unwrap().to_owned()
    };
    let pulled = fail("echo a > /farrun/outputs/made; exit 3");
    let named = fail("echo b > /farrun/outputs/made; exit 3");
    let kept = fail("echo c > /farrun/outputs/made; exit 3");
    let empty = fail("exit 3");
    let _ = lab.home.farrun(&["pull", &pulled]).ok();
    let _ = lab.home.farrun(&["gc", "--yes"]).ok().expect_error("farrun pull");
    let there = |run: &String| lab.run_folder(run).is_dir();
    assert_eq!(
        [&pulled, &named, &kept, &empty].map(there),
        [false, true, true, false]
    );
    let _ = lab.home.farrun(&["gc", "--yes", &named]).ok();
    assert_eq!([&named, &kept].map(there), [false, true]);
    let plan = lab.home.farrun(&["gc", "--dry-run", "--json"]).ok().json();
    assert_eq!(plan["items"][0]["kept"], "unpulled", "{plan}");
    let _ = lab.home.farrun(&["gc", "--yes", "--discard-unpulled"]).ok();
    assert!(!there(&kept));
}

#[test]
fn gc_lists_the_inputs_that_go_with_their_runs() {
    let lab = Lab::new();
    let order = |content: &str| {
        let clip = lab.home.write("clip", content);
        let _ = lab.shell(&["--input", clip.to_str().unwrap()], "true").ok();
        let blob = lab
            .state()
            .join("blobs")
            .join(farrun_protocol::Sha256::of(content.as_bytes()).as_str());
        // Younger ones may belong to an order that is still on its way.
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
        let file = std::fs::File::options().write(true).open(&blob).unwrap();
        file.set_modified(old).unwrap();
        (lab.show("@last")["run"]["id"].as_str().unwrap().to_owned(), blob)
    };
    let (goes, its_input) = order("the one that goes");
    let (_, other_input) = order("the one that stays");
    let plan = lab.home.farrun(&["gc", "--dry-run", "--json", &goes]).ok().json();
    let listed: Vec<&str> = plan["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["kept"].is_null())
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        listed,
        [goes.as_str(), its_input.file_name().unwrap().to_str().unwrap()],
        "{plan}"
    );
    let _ = lab.home.farrun(&["gc", "--yes", &goes]).ok();
    assert!(!its_input.exists() && other_input.exists());
}

#[test]
fn gc_keeps_the_runs_of_others() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "true").ok();
    let run = lab.show("@last")["run"]["id"].as_str().unwrap().to_owned();
    let other = second(&lab);
    let _ = other.farrun(&["gc", "--yes"]).ok();
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

/// Changes when a file or folder was last changed.
fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    std::fs::File::open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn what_a_killed_command_left_on_the_way_is_listed_and_goes_when_it_is_old() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    lab.home.trust(&lab.sshd, proxy.port());
    let adding = lab.host_arguments("lab", proxy.port());
    proxy.rate(Direction::Up, Some(300_000));
    let added = lab.home.spawn(&adding);
    let agents = lab.state().join("agents");
    wait_until("a part of the agent", SOON, || {
        crate::trouble::bytes_below(&agents) > 100_000
    });
    let _ = added.kill();
    proxy.cut();
    proxy.rate(Direction::Up, None);
    let _ = lab.home.farrun(&adding).ok();
    let entries = || {
        std::fs::read_dir(&agents)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let arriving = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(".arriving-")
    };
    let left = entries().find(arriving).expect("what the killed command left");
    let upload = lab.state().join("blobs/incoming/upload");
    std::fs::create_dir_all(upload.parent().unwrap()).unwrap();
    std::fs::write(&upload, "torn").unwrap();
    // Each with why it stays; anything else is not looked at.
    let listed = |arguments: &[&str]| {
        let collected = lab.home.farrun(arguments).ok().json();
        let items = collected["items"].as_array().unwrap().clone();
        let kept = |kind: &str, path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let found = items
                .iter()
                .find(|item| item["kind"] == kind && item["name"] == name);
            found.map(|item| item["kept"].clone())
        };
        (kept("agent", &left), kept("incoming", &upload))
    };
    let dry = ["gc", "--dry-run", "--json"];
    assert_eq!(listed(&dry), (Some("fresh".into()), Some("fresh".into())));
    age(&left.join("farrun-agent"), 2);
    age(&left, 2);
    age(&upload, 4 * 24);
    assert_eq!(listed(&dry), (Some(Value::Null), Some(Value::Null)));
    assert!(left.exists() && upload.exists());
    assert_eq!(
        listed(&["gc", "--yes", "--json"]),
        (Some(Value::Null), Some(Value::Null))
    );
    assert!(!left.exists() && !upload.exists());
    assert_eq!(entries().count(), 1, "the agent that is used stays");
    assert_eq!(lab.shell(&[], "echo on").ok().text(), "on\n");
}
