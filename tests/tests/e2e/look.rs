//! Looking at runs and hosts: lists, logs, waiting, and what `--json` promises.

use crate::SOON;
use crate::pull::{files, named};
use farrun_tests::{BUSYBOX, Lab, Sshd};
use serde_json::Value;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn list_and_show_keep_their_schema() {
    let lab = Lab::new();
    let _ = lab
        .shell(&["--name", "shown"], "echo x; echo y > /farrun/outputs/y")
        .ok();
    let listed = lab.home.farrun(&["list", "--json"]).ok().json();
    assert_eq!(listed["schema"], "farrun.run_list/1");
    let run = &listed["runs"][0];
    for field in [
        "id",
        "name",
        "host",
        "operation",
        "status",
        "created_at",
        "started_at",
        "ended_at",
    ] {
        assert!(keys(run).contains(&field), "{field} in {run}");
    }
    assert_eq!(run["status"], "completed");
    let shown = lab.show("@last");
    assert_eq!(shown["schema"], "farrun.run_detail/1");
    assert_eq!(
        keys(&shown),
        [
            "events",
            "outputs",
            "outputs_total",
            "run",
            "schema",
            "spec",
            "warnings"
        ]
    );
    assert_eq!(shown["outputs"][0]["path"], "y");
    assert_eq!(
        shown["outputs_total"],
        serde_json::json!({"files": 1, "bytes": 2, "pulled": 1})
    );
    assert_eq!(shown["run"]["log_complete"], true);
    assert_eq!(shown["run"]["log_length"], 2);
    assert_eq!(shown["run"]["exit_code"], 0);
}

#[test]
fn list_is_filtered() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "true").ok();
    let _ = lab.shell(&[], "false").expect_code(1);
    for (arguments, count) in [
        (&["--status", "failed"][..], 1),
        (&["--status", "failed", "--status", "completed"], 2),
        (&["--operation", "upscale"], 0),
        (&["--host", "lab"], 2),
        (&["--host", "other"], 0),
        (&["--limit", "1"], 1),
    ] {
        let arguments = [&["list", "--json"][..], arguments].concat();
        let listed = lab.home.farrun(&arguments).ok().json();
        assert_eq!(listed["runs"].as_array().unwrap().len(), count, "{arguments:?}");
    }
    let _ = lab.home.farrun(&["list", "--status", "asleep"]).expect_code(2);
}

#[test]
fn attached_run_prints_one_document_as_json() {
    let lab = Lab::new();
    let outcome = lab
        .shell(&["--json"], "echo not on stdout; exit 3")
        .expect_code(1);
    let document = outcome.json();
    assert_eq!(document["schema"], "farrun.run/1");
    assert_eq!(document["reason"], "exit_code");
    assert_eq!(document["exit_code"], 3);
}

#[test]
fn status_tells_hosts_and_runs() {
    let mut lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    let status = lab.home.farrun(&["status", "--json"]).ok().json();
    assert_eq!(status["schema"], "farrun.status/1");
    let host = &status["hosts"][0];
    assert_eq!(host["link"], "up", "{status}");
    assert_eq!(host["runs"][0]["id"], run.as_str());
    assert_eq!(host["runs"][0]["status"], "running");
    assert!(host["facts"]["disk_total"].as_u64().unwrap() > 0);
    let ours = host["facts"]["containers"].as_array().unwrap();
    assert!(
        ours.iter().any(|container| container["run_id"] == run.as_str()),
        "{status}"
    );
    assert!(lab.home.farrun(&["status"]).ok().text().contains(&run));
    lab.sshd.stop();
    let status = lab.home.farrun(&["status", "--json"]).ok().json();
    assert_eq!(status["hosts"][0]["link"], "down", "{status}");
    let away = &status["hosts"][0];
    assert!(away["cause"].is_string());
    // What it said last, and when.
    assert!(away["facts"]["disk_total"].as_u64().unwrap() > 0, "{status}");
    assert!(away["facts_at"].is_string(), "{status}");
    let offline = lab.home.farrun(&["status", "--offline", "--json"]).ok().json();
    assert_eq!(offline["hosts"][0]["link"], "not asked");
    assert_eq!(offline["hosts"][0]["facts"], away["facts"]);
    let _ = lab.home.farrun(&["status", "nowhere"]).expect_code(4);
    lab.sshd.start_again();
}

#[test]
fn status_tells_when_a_run_printed_last_and_how_long_such_runs_take() {
    let lab = Lab::new();
    let script = "echo begins; exec sleep $FOR";
    let _ = lab.shell(&["--env", "FOR=1"], script).ok();
    let run = lab.detached(&["--env", "FOR=600"], script);
    let log = lab.run_folder(&run).join("record/run.log");
    farrun_tests::wait_until("its output", SOON, || {
        std::fs::read(&log).is_ok_and(|log| log == b"begins\n")
    });
    let status = lab.home.farrun(&["status", "--json"]).ok().json();
    let shown = &status["hosts"][0]["runs"][0];
    assert_eq!(shown["id"], run.as_str(), "{status}");
    let printed: chrono::DateTime<chrono::Utc> = shown["last_output_at"].as_str().unwrap().parse().unwrap();
    assert!((chrono::Utc::now() - printed).num_seconds() < 60, "{shown}");
    assert!(shown["silent_seconds"].as_u64().unwrap() < 60, "{shown}");
    assert_eq!(
        (&shown["estimate_seconds"], &shown["estimate_runs"]),
        (&1.into(), &1.into())
    );
    assert!(shown["elapsed_seconds"].is_u64(), "{shown}");
    // Without a GPU silence is no warning.
    assert_eq!(
        (&shown["gpu_idle_seconds"], &shown["warning"]),
        (&Value::Null, &Value::Null)
    );
    let told = lab.home.farrun(&["status"]).ok();
    assert!(told.text().contains(" of ~10 s"), "{told}");
}

#[test]
fn status_tells_what_happened_since_somebody_looked() {
    let lab = Lab::new();
    let script = "while [ ! -e /farrun/outputs/go ]; do sleep 0.1; done; exit 3";
    let run = lab.detached(&[], script);
    std::fs::write(lab.run_folder(&run).join("outputs/go"), "").unwrap();
    crate::wait_until_settled(&lab, &run);
    let status = lab.home.farrun(&["status", "--json"]).ok().json();
    let host = &status["hosts"][0];
    assert_eq!(host["changed"][0]["id"], run.as_str(), "{status}");
    assert_eq!(host["changed"][0]["reason"], "exit_code", "{status}");
    assert_eq!(host["runs"], serde_json::json!([]), "{status}");
    // Once is enough.
    let again = lab.home.farrun(&["status", "--json"]).ok().json();
    assert_eq!(again["hosts"][0]["changed"], serde_json::json!([]), "{again}");
}

#[test]
fn timeline_tells_the_story_of_a_run() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "echo hello; exit 3").expect_code(1);
    let story = lab.home.farrun(&["timeline", "@last", "--json"]).ok().json();
    assert_eq!(story["schema"], "farrun.timeline/1");
    let entries = story["entries"].as_array().unwrap();
    let kinds: Vec<&str> = entries
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    let place = |kind: &str| kinds.iter().position(|known| *known == kind);
    assert!(
        place("started").is_some() && place("started") < place("ended"),
        "{story}"
    );
    let told = lab.home.farrun(&["timeline", "@last", "--offline"]).ok();
    let text = told.text();
    assert!(text.contains("exited with code 3"), "{text}");
}

#[test]
fn host_that_is_away_leaves_what_was_known() {
    let mut lab = Lab::new();
    let run = lab.detached(&[], "echo early; exec sleep 600");
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the first line", SOON, |follow| follow.stdout() == b"early\n");
    let _ = follow.kill();
    lab.sshd.stop();
    let listed = lab.home.farrun(&["list", "--json"]).ok().json();
    assert_eq!(listed["silent_hosts"], serde_json::json!(["lab"]));
    assert_eq!(listed["runs"][0]["id"], run.as_str());
    assert_eq!(
        lab.home.farrun(&["logs", &run, "--offline"]).ok().stdout,
        b"early\n"
    );
    let partly = lab.home.farrun(&["logs", &run]).expect_code(3);
    assert_eq!(partly.stdout, b"early\n");
    let _ = lab.home.farrun(&["pull", &run]).expect_code(3);
    let _ = lab.home.farrun(&["stop", &run]).expect_code(3);
    let _ = lab.home.farrun(&["sync"]).expect_code(3);
    let _ = lab.home.farrun(&["show", &run, "--offline"]).ok();
    lab.sshd.start_again();
    assert_eq!(lab.status(&run), "running");
}

#[test]
fn logs_begin_where_they_are_told() {
    let lab = Lab::new();
    let run = lab.detached(&[], "seq 1 100");
    let _ = lab.home.farrun(&["wait", &run]).ok();
    let logs = |arguments: &[&str]| {
        let arguments = [&["logs", run.as_str()][..], arguments].concat();
        lab.home.farrun(&arguments).ok().text().to_owned()
    };
    let whole = logs(&[]);
    assert!(whole.starts_with("1\n2\n") && whole.ends_with("99\n100\n"));
    assert_eq!(logs(&["--tail", "2"]), "99\n100\n");
    assert_eq!(logs(&["--tail", "0"]), "");
    assert_eq!(logs(&["--tail", "1000"]), whole);
    assert_eq!(logs(&["--offset", "288"]), "100\n");
    assert_eq!(logs(&["--offset", "292"]), "");
    assert_eq!(logs(&["--offset", "100000"]), "");
    assert_eq!(logs(&["-f", "--tail", "1"]), "100\n");
    assert_eq!(logs(&["--offline"]), whole);
}

#[test]
fn logs_of_a_live_run_begin_where_they_are_told() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "seq 1 100; while [ ! -e /farrun/outputs/go ]; do sleep 0.1; done; echo last",
    );
    let mut follow = lab.home.spawn(&["logs", "-f", &run, "--tail", "2"]);
    follow.wait_for("the newest lines", SOON, |follow| {
        follow.stdout().ends_with(b"100\n")
    });
    assert_eq!(
        lab.home.farrun(&["logs", &run, "--tail", "1"]).ok().text(),
        "100\n"
    );
    std::fs::write(lab.run_folder(&run).join("outputs/go"), "").unwrap();
    let shown = follow.finish(SOON).ok().stdout;
    assert!(
        shown.ends_with(b"100\nlast\n"),
        "{}",
        String::from_utf8_lossy(&shown)
    );
    assert!(lab.mirror(&run).starts_with(b"1\n2\n3\n"));
}

#[test]
fn wait_tells_the_first_that_failed() {
    let lab = Lab::new();
    let good = lab.detached(&[], "echo x > /farrun/outputs/x");
    let bad = lab.detached(&[], "exit 9");
    let _ = lab.home.farrun(&["wait", &good, "--no-pull"]).ok();
    assert_eq!(lab.status(&good), "downloading");
    assert!(
        files(&lab.home.outputs())
            .iter()
            .all(|(path, _)| !path.ends_with("x"))
    );
    let _ = lab.home.farrun(&["wait", &good, &bad]).expect_code(1);
    assert_eq!(named(&lab, "x"), b"x\n");
    assert_eq!(lab.status(&good), "completed");
    let _ = lab.home.farrun(&["wait", "rs_00000000"]).expect_code(4);
}

#[test]
fn wait_goes_on_with_the_others_when_one_host_is_away() {
    let lab = Lab::new();
    let away = Sshd::start();
    let mut arguments = lab.host_arguments("away", away.port());
    let place = |option: &str| arguments.iter().position(|word| word == option).unwrap() + 1;
    let (address, identity) = (place("--address"), place("--identity"));
    arguments[address] = away.address();
    arguments[identity] = away.identity().display().to_string();
    lab.home.trust(&away, away.port());
    let _ = lab.home.farrun(&arguments).ok();
    let script = ["--", "/bin/sh", "-c", "exec sleep 600"];
    let order = [&["run", BUSYBOX, "--host", "away", "--detach"][..], &script].concat();
    let gone = lab.home.farrun(&order).ok().text().trim().to_owned();
    let failed = lab.detached(&[], "exit 3");
    let ended = lab.detached(&[], "echo there >/farrun/outputs/file");
    drop(away);
    let waited = lab
        .home
        .farrun(&["wait", &gone, &failed, &ended, "--patience", "1s"])
        .expect_code(3);
    let told = waited.errors();
    for run in [&gone, &failed, &ended] {
        assert!(told.contains(run.as_str()), "{run}: {waited}");
    }
    assert_eq!(named(&lab, "file"), b"there\n");
}

#[test]
fn sync_brings_everything_that_is_due() {
    let lab = Lab::new();
    let good = lab.detached(&[], "echo x > /farrun/outputs/x; echo log of the good");
    let bad = lab.detached(&[], "echo log of the bad; exit 9");
    lab.wait_status(&good, &["downloading"], SOON);
    lab.wait_status(&bad, &["failed"], SOON);
    let _ = lab.home.farrun(&["sync"]).ok();
    assert_eq!(lab.status(&good), "completed");
    assert_eq!(named(&lab, "x"), b"x\n");
    assert_eq!(lab.mirror(&good), b"log of the good\n");
    assert_eq!(lab.mirror(&bad), b"log of the bad\n");
    let again = lab.home.farrun(&["sync", "--json"]).ok().json();
    assert_eq!(again["schema"], "farrun.runs/1");
    assert_eq!(again["runs"], serde_json::json!([]));
}

#[test]
fn ended_run_is_shown_as_ended_without_asking_for_it() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exit 4");
    crate::wait_until_settled(&lab, &run);
    let listed = lab.home.farrun(&["list", "--json"]).ok().json();
    assert_eq!(listed["runs"][0]["status"], "failed", "{listed}");
    let _ = lab.home.farrun(&["attach", &run]).expect_code(1);
}

#[test]
fn prefixes_and_last_are_accepted() {
    let lab = Lab::new();
    let run = lab.detached(&[], "true");
    let _ = lab.home.farrun(&["wait", "@last"]).ok();
    let _ = lab.home.farrun(&["show", &run[..9]]).ok();
    let _ = lab.detached(&[], "true");
    let _ = lab.home.farrun(&["show", "rs_"]).expect_code(2);
}

#[test]
fn looking_in_passing_asks_for_no_passphrase() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    let lock = |old: &str, new: &str| {
        let changed = std::process::Command::new("ssh-keygen")
            .args(["-q", "-p", "-P", old, "-N", new, "-f"])
            .arg(lab.sshd.identity())
            .status();
        assert!(changed.unwrap().success());
    };
    lock("", "sesame");
    let listed = lab
        .home
        .farrun(&["list"])
        .ok()
        .expect_error("needs the passphrase");
    assert!(listed.errors().contains("ssh-add"), "{listed}");
    let status = lab.home.farrun(&["status"]).ok();
    assert!(
        status.text().contains("down: it needs the passphrase"),
        "{status}"
    );
    lock("sesame", "");
    let _ = lab.home.farrun(&["stop", &run]).ok();
}
