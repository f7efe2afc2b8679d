//! Full disks, here and on the host: said, survived, and gone on from when there is room.

use crate::SOON;
use crate::trouble::{Counter, behind_a_proxy, last_status, noise};
use farrun_tests::{BUSYBOX, Engine, Lab, SmallDisk, SshdOptions, wait_until};
use std::time::Duration;

const PRINTS: &str = "seq 1 400000";

fn printed() -> Vec<u8> {
    (1..=400_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect()
}

#[test]
fn mirror_waits_for_room_and_the_job_does_not() {
    let lab = Lab::new();
    let disk = SmallDisk::mount(&lab.home.outputs(), "1m");
    let mut attached = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], PRINTS));
    attached.wait_for("the warning", SOON, |attached| {
        attached.stderr().contains("disk is full")
    });
    let run = crate::trouble::last_id(&lab);
    wait_until("the container's end", SOON, || {
        lab.containers(&run).iter().any(|line| line.ends_with(" exited"))
    });
    disk.grow("32m");
    let outcome = attached.finish(SOON).ok();
    assert!(outcome.stdout == printed(), "{} bytes", outcome.stdout.len());
    assert!(lab.mirror(&run) == printed());
    assert_eq!(last_status(&lab), "completed");
}

#[test]
fn download_says_that_the_disk_is_full_and_goes_on_later() {
    let lab = Lab::new();
    let disk = SmallDisk::mount(&lab.home.outputs(), "1m");
    let script = "head -c 3000000 /dev/urandom >/farrun/outputs/big; sha256sum </farrun/outputs/big";
    let outcome = lab.shell(&[], script).expect_code(8);
    assert!(outcome.errors().contains("needed"), "{outcome}");
    assert_eq!(last_status(&lab), "downloading");
    disk.grow("32m");
    let _ = lab.home.farrun(&["pull", "@last"]).ok();
    assert_eq!(last_status(&lab), "completed");
    let files = crate::pull::files(&lab.home.outputs());
    let (_, bytes) = files.iter().find(|(path, _)| path.ends_with("big")).unwrap();
    assert!(
        outcome
            .text()
            .starts_with(farrun_protocol::Sha256::of(bytes).as_str())
    );
}

/// A disk that the agent nearly fills.
fn agent_and_a_mebibyte() -> String {
    let agent = std::fs::metadata(farrun_tests::static_agent()).unwrap().len();
    format!("{}k", agent / 1024 + 1024)
}

#[test]
fn full_host_does_not_stop_the_job() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let _disk = SmallDisk::mount(&lab.state(), &agent_and_a_mebibyte());
    lab.add_host("lab", lab.sshd.port());
    let counter = Counter::new();
    let script = format!("seq 1 2000000; {}", Counter::COUNT);
    let outcome = lab.shell(&["--mount", &counter.mount()], &script);
    assert_eq!(
        counter.executions(),
        1,
        "the job did not reach its end: {outcome}"
    );
    let log = std::fs::read(
        lab.run_folder(&crate::trouble::last_id(&lab))
            .join("record/run.log"),
    )
    .unwrap();
    assert!(
        outcome.stdout == log,
        "{} of {} bytes",
        outcome.stdout.len(),
        log.len()
    );
    let outcome = outcome.ok().expect_error("the log is not whole");
    assert!(outcome.errors().contains("bytes are missing"), "{outcome}");
    let shown = lab.show("@last");
    let error = shown["run"]["log_error"].as_str().unwrap_or_default();
    assert!(error.contains("No space left"), "{shown}");
    let events = shown["events"].as_array().unwrap();
    let told = events.iter().filter(|event| event["kind"] == "log_error");
    assert_eq!(told.count(), 1, "{shown}");
    let text = lab.home.farrun(&["show", "@last"]).ok();
    assert!(text.text().contains("log error"), "{text}");
}

#[test]
fn upload_to_a_full_host_is_kept_and_goes_on_later() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let disk = SmallDisk::mount(&lab.state(), &agent_and_a_mebibyte());
    lab.add_host("lab", lab.sshd.port());
    let counter = Counter::new();
    let input = format!("clip={}", lab.home.write("clip", noise(4_000_000)).display());
    let mount = counter.mount();
    let outcome = lab.shell(&["--input", &input, "--mount", &mount], Counter::COUNT);
    let _ = outcome
        .expect_code(1)
        .expect_error("the disk of `lab` is full")
        .expect_error("farrun attach");
    disk.grow("64m");
    let _ = lab.home.farrun(&["attach", "@last"]).ok();
    assert_eq!(counter.executions(), 1);
}

#[test]
fn agent_that_does_not_fit_is_said_and_goes_there_later() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let disk = SmallDisk::mount(&lab.state(), "3m");
    lab.home.trust(&lab.sshd, lab.sshd.port());
    let adding = lab.host_arguments("lab", lab.sshd.port());
    let _ = lab
        .home
        .farrun(&adding)
        .expect_code(3)
        .expect_error("bytes free for the agent")
        .expect_error("--state");
    disk.grow("64m");
    let _ = lab.home.farrun(&adding).ok();
    // An upgrade of farrun finds the disk full in the same way; here the agent that is there makes room for nothing.
    std::fs::remove_dir_all(lab.state().join("agents")).unwrap();
    let filler = lab.state().join("filler");
    assert!(std::fs::write(&filler, noise(70_000_000)).is_err());
    let _ = lab
        .shell(&["--detach"], "true")
        .expect_code(3)
        .expect_error("bytes free for the agent")
        .expect_error("make room there");
    std::fs::remove_file(filler).unwrap();
    assert_eq!(lab.shell(&[], "echo room").ok().text(), "room\n");
}

#[test]
fn outputs_that_filled_the_disk_are_brought_home() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let agent = std::fs::metadata(farrun_tests::static_agent()).unwrap().len();
    let size = format!("{}k", agent / 1024 + 4096);
    let _disk = SmallDisk::mount(&lab.state(), &size);
    lab.add_host("lab", lab.sshd.port());
    let script = "cd /farrun/outputs; i=0; while [ $i -lt 500 ]; do echo $i >file$i; i=$((i+1)); done; \
                  dd if=/dev/zero of=big bs=4096 2>/dev/null; exit 3";
    let run = lab.detached(&[], script);
    let _ = lab.home.farrun(&["wait", &run]).expect_code(1);
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert!(
        !lab.run_folder(&run).join("manifest.json").exists(),
        "the disk had room"
    );
    let files = crate::pull::files(&lab.home.outputs());
    let brought = |name: &str| {
        files
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .map(|(_, bytes)| bytes)
    };
    assert_eq!(brought("file499").unwrap(), b"499\n");
    let big = std::fs::metadata(lab.run_folder(&run).join("outputs/big"))
        .unwrap()
        .len();
    assert_eq!(brought("big").unwrap().len() as u64, big);
    // What lies outside of the state folder goes with the run.
    let _ = lab.home.farrun(&["gc", "--host", "lab", "--yes"]).ok();
    let own = format!("/dev/shm/farrun-{}", rustix::process::geteuid().as_raw());
    let name = format!("{run}.json");
    let left = crate::pull::files(std::path::Path::new(&own));
    assert!(!left.iter().any(|(path, _)| path.ends_with(&name)), "{name}");
}

#[test]
fn full_database_has_no_effect_on_the_host() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "true").ok();
    let runs = || std::fs::read_dir(lab.state().join("runs")).unwrap().count();
    let before = runs();
    let state = lab.home.path().join(".local/state");
    let kept = lab.home.path().join("kept");
    std::fs::rename(&state, &kept).unwrap();
    let _disk = SmallDisk::mount(&state, "2m");
    for entry in crate::pull::files(&kept) {
        let target = state.join(entry.0.strip_prefix(&kept).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, entry.1).unwrap();
    }
    let fill = std::fs::write(state.join("filler"), noise(4_000_000));
    assert!(fill.is_err());
    // Where it is noticed depends on which page or file needs the next block.
    let _ = lab.shell(&[], "true").expect_code(8).expect_error("error:");
    assert_eq!(runs(), before);
}

#[test]
fn upload_that_is_not_needed_again_is_not_sent_again() {
    let (lab, proxy) = behind_a_proxy();
    let input = format!("clip={}", lab.home.write("clip", noise(12_000_000)).display());
    proxy.rate(farrun_tests::Direction::Up, Some(3_000_000));
    let attached = lab
        .home
        .spawn(&lab.shell_arguments(BUSYBOX, &["--input", &input], "echo on"));
    let incoming = lab.state().join("blobs/incoming");
    wait_until("most of the upload", SOON, || {
        crate::trouble::bytes_below(&incoming) > 8_000_000
    });
    let _ = attached.kill();
    // What the proxy still holds of the first upload is not to be counted.
    proxy.cut();
    proxy.rate(farrun_tests::Direction::Up, None);
    let before = proxy.passed(farrun_tests::Direction::Up);
    let _ = lab
        .home
        .farrun_within(Duration::from_secs(80), &["attach", "@last"])
        .ok();
    let sent = proxy.passed(farrun_tests::Direction::Up) - before;
    // The cut cost no more than a block.
    assert!(sent < 9_000_000, "{sent} bytes were sent");
}
