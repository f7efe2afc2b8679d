//! A disk that is full on the user's side: where an order is written down, where evidence arrives, under standard output;
//! and under the images of a host.

use crate::SOON;
use crate::trouble::{Counter, is_alive, last_id, last_status, noise, runs};
use farrun_tests::{BUSYBOX, Engine, EngineOptions, Lab, Registry, SmallDisk, SshdOptions};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Leaves no room at all.
fn fill(folder: &Path) {
    let full = std::fs::write(folder.join("filler"), noise(200_000));
    assert!(full.is_err(), "the disk is larger than that");
}

#[test]
fn under_an_order_nothing_is_ordered_and_nothing_reaches_the_host() {
    let lab = Lab::new();
    let counter = Counter::new();
    let orders = lab.home.path().join(".local/state/farrun/orders");
    let disk = SmallDisk::mount(&orders, "64k");
    fill(&orders);
    let input = format!("clip={}", lab.home.write("clip", "video").display());
    let options = ["--input", &input, "--mount", &counter.mount(), "--key", "once"];
    let arguments = lab.shell_arguments(BUSYBOX, &options, Counter::COUNT);
    let _ = lab
        .home
        .farrun(&arguments)
        .expect_code(8)
        .expect_error("orders/")
        .expect_error("No space left on device");
    assert_eq!((runs(&lab), counter.executions()), (0, 0));
    assert!(!lab.state().join("blobs").exists() || crate::pull::files(&lab.state().join("blobs")).is_empty());
    disk.grow("1m");
    let _ = lab.home.farrun(&arguments).ok();
    assert_eq!((runs(&lab), counter.executions()), (1, 1));
}

#[test]
fn under_evidence_changes_no_outcome_and_it_is_brought_later() {
    let lab = Lab::new();
    let first = lab.shell(&["--name", "city"], "exit 3").expect_code(1);
    drop(first);
    let evidence = lab.home.outputs().join("city/diagnostics");
    let kept = lab.home.path().join("kept");
    std::fs::rename(&evidence, &kept).unwrap();
    let disk = SmallDisk::mount(&evidence, "64k");
    fill(&evidence);
    let _ = lab
        .shell(&["--name", "city"], "echo said; exit 4")
        .expect_code(1)
        .expect_error("could not be brought")
        .expect_error("farrun why");
    let run = last_id(&lab);
    let shown = lab.show(&run);
    assert_eq!(shown["run"]["exit_code"], 4, "{shown}");
    assert_eq!(lab.mirror(&run), b"said\n");
    let bundle = evidence.join(&run).join("bundle.json");
    assert!(!bundle.exists());
    disk.grow("8m");
    let _ = lab.home.farrun(&["why", &run]).ok();
    assert!(bundle.exists());
}

/// Runs a command whose standard output is a full disk; answers with its code and what it said.
fn onto_a_full_disk(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut command = lab.home.command(arguments);
    command.stdin(Stdio::null()).stdout(full);
    let mut child = command.stderr(said.reopen().unwrap()).spawn().unwrap();
    let start = Instant::now();
    let ended = loop {
        match child.try_wait().unwrap() {
            None if start.elapsed() < SOON => std::thread::sleep(Duration::from_millis(10)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{arguments:?} does not end");
            }
            Some(ended) => break ended,
        }
    };
    (
        ended.code().unwrap(),
        std::fs::read_to_string(said.path()).unwrap(),
    )
}

#[test]
fn under_standard_output_is_told() {
    let lab = Lab::new();
    let run = lab.detached(&["--name", "city"], "seq 1 100000; exec sleep 600");
    let full = "error: the output could not be written: No space left on device";
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["show", &run],
        &["status"],
        &["logs", &run],
    ] {
        let (code, said) = onto_a_full_disk(&lab, arguments);
        assert!(code == 8 && said.contains(full), "{arguments:?}: {code}, {said}");
    }
    for arguments in [&["logs", "-f", &run][..], &["attach", &run]] {
        let (code, said) = onto_a_full_disk(&lab, arguments);
        let back = format!("farrun attach {run}");
        assert!(
            code == 8 && said.contains(full) && said.contains(&back),
            "{arguments:?}: {code}, {said}"
        );
    }
    // Nobody could read it, and the job goes on.
    assert!(is_alive(&lab));
    assert_eq!(last_status(&lab), "running");
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
}

#[test]
fn under_the_images_of_a_host_is_named_and_passes() {
    let engine = Engine::own(EngineOptions {
        small_disk: true,
        ..EngineOptions::default()
    });
    let lab = Lab::with(engine, &SshdOptions::default());
    let registry = Registry::start(&lab.engine);
    let image = registry.publish_fresh(&lab.engine, "large:1");
    let filler = lab.engine.fill_disk();
    let counter = Counter::new();
    let arguments = lab.shell_arguments(&image, &["--mount", &counter.mount()], Counter::COUNT);
    let _ = lab
        .home
        .farrun(&arguments)
        .expect_code(1)
        .expect_error("no space left on device");
    let shown = lab.show("@last");
    assert_eq!(shown["run"]["status"], "failed", "{shown}");
    assert_eq!(shown["run"]["reason"], "image_pull", "{shown}");
    assert!(lab.containers(&last_id(&lab)).is_empty());
    drop(filler);
    let _ = lab.home.farrun(&arguments).ok();
    assert_eq!(counter.executions(), 1);
}
