//! Runs that failed tell why, also when nobody looked, the host is away or its engine is dead.

use crate::SOON;
use farrun_tests::{BUSYBOX, Engine, EngineOptions, Lab, SshdOptions, wait_until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A job that ends as one does whose GPU is too small.
const GPU_MEMORY: &str = "echo step 1; echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has \
     a total capacity of 79.11 GiB of which 2.20 GiB is free.'; exit 1";

fn why(lab: &Lab, arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["why", "--json"].iter().chain(arguments).copied().collect();
    lab.home.farrun(&all).ok().json()
}

fn folder(why: &Value) -> PathBuf {
    PathBuf::from(
        why["folder"]
            .as_str()
            .unwrap_or_else(|| panic!("no evidence: {why}")),
    )
}

fn bundle(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("bundle.json")).unwrap()).unwrap()
}

/// Waits until the host has collected by itself.
fn wait_until_collected(lab: &Lab, run: &str) {
    let there = lab.run_folder(run).join("diagnostics/bundle.json");
    wait_until("the evidence on the host", SOON, || there.exists());
}

#[test]
fn what_failed_while_nobody_looked_was_collected_then_and_is_explained_later() {
    let lab = Lab::new();
    let run = lab.detached(&[], &format!("sleep 1; {GPU_MEMORY}"));
    wait_until_collected(&lab, &run);
    let said = why(&lab, &[]);
    assert_eq!(said["run"]["id"], run.as_str(), "the newest that failed: {said}");
    assert_eq!(said["diagnosis"]["cause"]["code"], "gpu_out_of_memory", "{said}");
    let quoted = said["diagnosis"]["cause"]["evidence"][0]["text"]
        .as_str()
        .unwrap();
    assert!(quoted.contains("Tried to allocate 20.00 GiB"), "{said}");
    let folder = folder(&said);
    assert!(
        folder.ends_with(format!("diagnostics/{run}")),
        "{}",
        folder.display()
    );
    let bundle = bundle(&folder);
    assert_eq!(bundle["trigger"], "failure", "{bundle}");
    assert_eq!(bundle["run_id"], run.as_str());
    for item in bundle["items"].as_array().unwrap() {
        let file = folder.join(item["file"].as_str().unwrap());
        let is_there = item["outcome"]["outcome"] != "missing";
        assert_eq!(file.exists(), is_there, "{item}");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "evidence is nobody else's");
    }
    // From now on it is known here, whoever asks and whatever becomes of the host.
    let shown = lab.home.farrun(&["show", &run, "--offline"]).ok();
    assert!(shown.text().contains("gpu_out_of_memory"), "{shown}");
    let listed = lab.home.farrun(&["list", "--offline", "--json"]).ok().json();
    assert_eq!(listed["runs"][0]["finding"], "gpu_out_of_memory", "{listed}");
}

#[test]
fn whoever_is_attached_is_told_the_cause_and_where_more_is() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], GPU_MEMORY).expect_code(1);
    let run = crate::trouble::last_id(&lab);
    let outcome = outcome
        .expect_error("exited with code 1")
        .expect_error("caused by: ")
        .expect_error(&format!("farrun why {run}"));
    assert!(!outcome.errors().contains("warning"), "{outcome}");
    // Nothing has to be asked for what was brought already.
    let told = lab.home.farrun(&["why", &run, "--offline"]).ok();
    for part in [
        "CAUSE",
        "Tried to allocate",
        "WHAT TO TRY",
        "farrun rerun",
        "evidence: /",
    ] {
        assert!(told.text().contains(part), "`{part}` is not in {told}");
    }
    let page = lab.home.path().join("page.html");
    let _ = lab
        .home
        .farrun(&["why", &run, "--offline", &format!("--html={}", page.display())])
        .ok();
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("Tried to allocate") && !page.contains("<script"),
        "{page}"
    );
}

#[test]
fn memory_limit_of_a_container_is_told_from_a_full_gpu() {
    let lab = Lab::new();
    let after = |script| {
        let _ = lab.shell(&["--memory", "24m"], script).expect_code(1);
        why(&lab, &["@last"])
    };
    let said = after("echo begins; exec tail /dev/zero");
    assert_eq!(said["diagnosis"]["cause"]["code"], "memory_limit", "{said}");
    // That a child was ended is no cause by itself.
    let said = after("echo begins; tail /dev/zero; exit 3");
    assert!(said["diagnosis"]["cause"].is_null(), "{said}");
    assert_eq!(
        said["diagnosis"]["also"][0]["code"], "child_out_of_memory",
        "{said}"
    );
}

#[test]
fn host_that_is_away_costs_its_evidence_and_that_is_said() {
    let mut lab = Lab::new();
    let run = lab.detached(&[], GPU_MEMORY);
    crate::wait_until_settled(&lab, &run);
    assert_eq!(lab.wait_status(&run, &["failed"], SOON), "failed");
    let _ = lab.home.farrun(&["logs", &run]).ok();
    lab.sshd.stop();
    let said = why(&lab, &[&run]);
    assert!(said["folder"].is_null(), "{said}");
    assert!(
        said["absent"].as_str().is_some_and(|why| !why.is_empty()),
        "{said}"
    );
    // The log is here, and says enough.
    assert_eq!(said["diagnosis"]["cause"]["code"], "gpu_out_of_memory", "{said}");
    let told = lab.home.farrun(&["why", &run]).ok();
    assert!(told.text().contains("MISSING"), "{told}");
    lab.sshd.start_again();
    let said = why(&lab, &[&run]);
    assert!(said["absent"].is_null(), "{said}");
    let _ = folder(&said);
}

#[test]
fn dead_engine_costs_only_what_it_would_have_said() {
    let engine = Engine::own(EngineOptions::default());
    let lab = Lab::with(engine, &SshdOptions::default());
    let run = lab.detached(&[], GPU_MEMORY);
    crate::wait_until_settled(&lab, &run);
    assert_eq!(lab.wait_status(&run, &["failed"], SOON), "failed");
    lab.engine.stop();
    let brought = lab
        .home
        .farrun(&["diagnose", &run, "--anew", "--json"])
        .ok()
        .json();
    let items = brought["bundle"]["items"].as_array().unwrap();
    let engine = items.iter().find(|item| item["file"] == "engine.json").unwrap();
    assert_eq!(engine["outcome"]["outcome"], "missing", "{engine}");
    assert!(
        engine["outcome"]["why"]
            .as_str()
            .is_some_and(|why| !why.is_empty()),
        "{engine}"
    );
    let said = why(&lab, &[&run]);
    assert_eq!(said["diagnosis"]["cause"]["code"], "gpu_out_of_memory", "{said}");
    let missing = said["diagnosis"]["missing"].as_array().unwrap();
    assert!(missing.iter().any(|item| item["file"] == "engine.json"), "{said}");
    lab.engine.start_again();
}

#[test]
fn every_state_of_a_run_has_an_answer() {
    let lab = Lab::new();
    let _ = lab
        .home
        .farrun(&["why"])
        .expect_code(4)
        .expect_error("every run here has succeeded or goes on");
    let running = lab.detached(&[], "exec sleep 600");
    let _ = lab
        .home
        .farrun(&["why", &running])
        .ok()
        .expect_error("it has not failed");
    let _ = lab.home.farrun(&["stop", &running, "--kill"]).ok();
    let stopped = lab.home.farrun(&["why", &running]).ok();
    assert!(stopped.text().contains("cancelled"), "{stopped}");
    // Nor has it succeeded, so it is what is meant when none is named.
    let newest = lab.home.farrun(&["why"]).ok();
    assert_eq!(newest.text(), stopped.text());
    let newest = newest.expect_error(&format!("{running} is the newest run that did not succeed"));
    assert!(newest.errors().contains("ordered"), "{newest}");
    let _ = lab.shell(&[], "true").ok();
    let _ = lab
        .home
        .farrun(&["why", "@last"])
        .ok()
        .expect_error("nothing failed");
    // Refused before it was started: there is no evidence, and that is said.
    let absent = lab.shell_arguments(BUSYBOX, &["--mount", "/no/such/folder:/models:ro"], "true");
    let outcome = lab.home.farrun(&absent).expect_code(1);
    let run = crate::trouble::last_id(&lab);
    let _ = outcome.expect_error(&format!("farrun why {run}"));
    let said = why(&lab, &[&run]);
    assert!(said["absent"].is_string() && said["folder"].is_null(), "{said}");
    let _ = lab.home.farrun(&["why"]).ok().expect_error(&format!(
        "{run} is the newest order that did not succeed; it was never started"
    ));
    let _ = lab.home.farrun(&["why", "rs_nosuchrun"]).expect_code(4);
}

#[test]
fn a_run_is_found_by_the_name_it_was_given() {
    let lab = Lab::new();
    let first = lab.detached(&["--name", "night-run"], "echo first; exit 3");
    crate::wait_until_settled(&lab, &first);
    let second = lab.detached(&["--name", "night-run"], "echo second; exit 4");
    crate::wait_until_settled(&lab, &second);
    let _ = lab.shell(&[], "true").ok();
    assert_eq!(why(&lab, &["night-run"])["run"]["id"], second.as_str());
    assert_eq!(lab.show("night-run")["run"]["id"], second.as_str());
    assert_eq!(lab.home.farrun(&["logs", "night-run"]).ok().text(), "second\n");
    // A prompt of that name comes first, as it does where only prompts are meant.
    let _ = lab
        .home
        .farrun(&["prompt", "create", "a city", "--name", "night-run"])
        .ok();
    assert!(
        lab.home
            .farrun(&["show", "night-run"])
            .ok()
            .text()
            .contains("a city")
    );
    let _ = lab.home.farrun(&["why", "no-such-name"]).expect_code(4);
    let _ = lab.home.farrun(&["show", "no-such-name"]).expect_code(4);
}

#[test]
fn every_end_without_success_has_evidence_or_says_why_there_is_none() {
    let mut lab = Lab::new();
    let stopped = lab.detached(&[], "exec sleep 600");
    let _ = lab.home.farrun(&["stop", &stopped, "--kill"]).ok();
    let last_of = |arguments: &[String]| {
        let _ = lab.home.farrun(arguments).expect_code(1);
        crate::trouble::last_id(&lab)
    };
    // The engine refuses the image, and PID 1 the program.
    let refused = last_of(&lab.shell_arguments("farrun-nosuch:1", &[], "true"));
    let missing = ["run", BUSYBOX, "--host", "lab", "--", "/no/such/program"].map(str::to_owned);
    let missing = last_of(&missing);
    for (run, result, reason) in [
        (&stopped, "cancelled", "stopped"),
        (&refused, "failed", "image_"),
        (&missing, "failed", "command_not_found"),
    ] {
        wait_until_collected(&lab, run);
        wait_until("the values to be gone", SOON, || {
            !lab.run_folder(run).join("secrets.json").exists()
        });
        let said = why(&lab, &[run]);
        assert_eq!(said["run"]["status"], result, "{said}");
        let told = said["run"]["reason"].as_str().unwrap_or_default();
        assert!(told.starts_with(reason), "{said}");
        assert!(said["absent"].is_null(), "{said}");
        let bundle = bundle(&folder(&said));
        assert_eq!(bundle["run_id"], run.as_str());
        for item in bundle["items"].as_array().unwrap() {
            let outcome = &item["outcome"];
            let is_told = outcome["why"].as_str().is_some_and(|why| !why.is_empty());
            assert!(outcome["outcome"] == "collected" || is_told, "{item}");
        }
        let settled = std::fs::read_to_string(folder(&said).join("settled.json")).unwrap();
        assert!(settled.contains(reason), "{settled}");
    }
    // What the engine said of the image is all there is of its pull.
    let said = why(&lab, &[&refused]);
    let settled = std::fs::read(folder(&said).join("settled.json")).unwrap();
    let settled: Value = serde_json::from_slice(&settled).unwrap();
    let detail = settled["verdict"]["detail"].as_str().unwrap_or_default();
    assert!(!detail.is_empty(), "{settled}");

    // Never on the host: nothing is there to collect.
    lab.sshd.stop();
    let _ = lab
        .home
        .farrun(&lab.shell_arguments(BUSYBOX, &["--detach"], "true"));
    let away = crate::trouble::last_id(&lab);
    let _ = lab.home.farrun(&["stop", &away]);
    lab.sshd.start_again();
    let _ = lab.home.farrun(&["stop", &away]);
    let said = why(&lab, &[&away]);
    assert_eq!(said["run"]["status"], "cancelled", "{said}");
    assert!(
        said["folder"].is_null() && !lab.run_folder(&away).exists(),
        "{said}"
    );
    let absent = said["absent"].as_str().unwrap_or_default();
    assert!(absent.contains("host has nothing of it"), "{said}");
}
