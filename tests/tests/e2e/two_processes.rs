//! Two commands that work on one run at the same time.

use crate::SOON;
use crate::trouble::{Counter, behind_a_proxy, last_id, last_status, noise, runs, wait_for_upload};
use farrun_tests::{BUSYBOX, Direction, Lab};

const COUNTS: &str =
    "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; echo out >/farrun/outputs/o";

fn counted() -> String {
    (0..30).map(|n| format!("line {n}\n")).collect()
}

#[test]
fn both_see_the_whole_log_and_one_file_is_written() {
    let lab = Lab::new();
    let mut first = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], COUNTS));
    first.wait_for("some lines", SOON, |first| first.stdout().len() > 20);
    let second = lab.home.spawn(&["attach", "@last"]);
    assert_eq!(first.finish(SOON).ok().text(), counted());
    assert_eq!(second.finish(SOON).ok().text(), counted());
    assert_eq!(lab.mirror(&last_id(&lab)), counted().as_bytes());
    assert_eq!(last_status(&lab), "completed");
}

#[test]
fn second_goes_on_writing_when_the_first_is_killed() {
    let lab = Lab::new();
    let mut first = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], COUNTS));
    first.wait_for("a line", SOON, |first| !first.stdout().is_empty());
    let mut second = lab.home.spawn(&["attach", "@last"]);
    second.wait_for("a line", SOON, |second| !second.stdout().is_empty());
    let _ = first.kill();
    assert_eq!(second.finish(SOON).ok().text(), counted());
    assert_eq!(lab.mirror(&last_id(&lab)), counted().as_bytes());
    assert_eq!(last_status(&lab), "completed");
}

#[test]
fn second_waits_for_the_launch_of_the_first() {
    let (lab, proxy) = behind_a_proxy();
    let counter = Counter::new();
    let input = format!("clip={}", lab.home.write("clip", noise(1_500_000)).display());
    let mount = counter.mount();
    let options = ["--input", &input, "--mount", &mount, "--key", "once"];
    let script = format!("{} {COUNTS}", Counter::COUNT);
    let arguments = lab.shell_arguments(BUSYBOX, &options, &script);
    proxy.rate(Direction::Up, Some(250_000));
    let first = lab.home.spawn(&arguments);
    wait_for_upload(&lab);
    let mut attach = lab.home.spawn(&["attach", "@last"]);
    attach.wait_for("its note", SOON, |attach| {
        attach.stderr().contains("another command")
    });
    let mut again = lab.home.spawn(&arguments);
    again.wait_for("its note", SOON, |again| {
        again.stderr().contains("another command")
    });
    let waits = lab.home.spawn(&["wait", "@last"]);
    proxy.rate(Direction::Up, None);
    for command in [first, attach, again] {
        assert_eq!(command.finish(SOON).ok().text(), counted());
    }
    let _ = waits.finish(SOON).ok();
    assert_eq!((runs(&lab), counter.executions()), (1, 1));
}

#[test]
fn stop_during_the_upload_of_another_keeps_the_job_from_starting() {
    let (lab, proxy) = behind_a_proxy();
    let counter = Counter::new();
    let input = format!("clip={}", lab.home.write("clip", noise(1_500_000)).display());
    let mount = counter.mount();
    let options = ["--input", &input, "--mount", &mount];
    proxy.rate(Direction::Up, Some(250_000));
    let first = lab
        .home
        .spawn(&lab.shell_arguments(BUSYBOX, &options, Counter::COUNT));
    wait_for_upload(&lab);
    let _ = lab.home.farrun(&["stop", "@last"]).ok();
    proxy.rate(Direction::Up, None);
    let _ = first.finish(SOON).expect_code(7);
    assert_eq!(last_status(&lab), "cancelled");
    assert_eq!(counter.executions(), 0);
}

#[test]
fn during_a_download_the_others_wait_for_the_first() {
    let (lab, proxy) = behind_a_proxy();
    let run = lab.detached(&[], "head -c 8000000 /dev/urandom >/farrun/outputs/big; echo on");
    let _ = lab.wait_status(&run, &["downloading"], SOON);
    proxy.rate(Direction::Down, Some(250_000));
    let mut first = lab.home.spawn(&["attach", &run]);
    let before = proxy.passed(Direction::Down);
    first.wait_for("a part of the outputs", SOON, |_| {
        proxy.passed(Direction::Down) > before + 200_000
    });
    let others = [vec!["attach", &run], vec!["wait", &run], vec!["sync"]];
    let others = others.map(|arguments| {
        let mut other = lab.home.spawn(&arguments);
        other.wait_for("its note", SOON, |other| {
            other.stderr().contains("another command is bringing")
        });
        other
    });
    proxy.rate(Direction::Down, None);
    let _ = first.finish(SOON).ok();
    let arrived = crate::pull::files(&lab.home.outputs());
    for other in others {
        let _ = other.finish(SOON).ok();
    }
    assert!(arrived == crate::pull::files(&lab.home.outputs()));
    assert_eq!(last_status(&lab), "completed");
}

#[test]
fn ctrl_c_ends_the_wait_for_the_download_of_another() {
    let (lab, proxy) = behind_a_proxy();
    let run = lab.detached(&[], "head -c 8000000 /dev/urandom >/farrun/outputs/big");
    let _ = lab.wait_status(&run, &["downloading"], SOON);
    proxy.rate(Direction::Down, Some(250_000));
    let mut first = lab.home.spawn(&["pull", &run]);
    let before = proxy.passed(Direction::Down);
    first.wait_for("a part of the outputs", SOON, |_| {
        proxy.passed(Direction::Down) > before + 200_000
    });
    let mut second = lab.home.spawn(&["attach", &run]);
    second.wait_for("its note", SOON, |second| {
        second.stderr().contains("another command is bringing")
    });
    second.interrupt();
    let _ = second.finish(SOON).expect_code(130);
    let _ = first.kill();
    proxy.rate(Direction::Down, None);
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert_eq!(last_status(&lab), "completed");
}
