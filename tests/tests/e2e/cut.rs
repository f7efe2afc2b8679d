//! Connections that break or fall silent, at every point of the conversation.

use crate::SOON;
use crate::trouble::{Counter, behind_a_proxy, last_status, runs};
use farrun_tests::{BUSYBOX, Direction};
use std::time::{Duration, Instant};

/// Bytes between two cuts.
const STEP: usize = 600;

fn cut_everywhere(direction: Direction) {
    let (lab, proxy) = behind_a_proxy();
    let counter = Counter::new();
    let order = |key: &str| {
        let mount = counter.mount();
        lab.shell_arguments(BUSYBOX, &["--mount", &mount, "--key", key], Counter::COUNT)
    };
    let before = proxy.passed(direction);
    let _ = lab.home.farrun(&order("whole")).ok();
    let whole = proxy.passed(direction) - before;
    let mut orders = 1;
    for bytes in (300..whole).step_by(STEP) {
        let key = format!("cut-{bytes}");
        proxy.cut_after(direction, bytes);
        let outcome = lab.home.farrun(&order(&key));
        if outcome.code != 0 {
            // The very first connection broke: an answer, after which the same order goes on.
            assert_eq!(outcome.code, 3, "cut after {bytes} bytes: {outcome}");
            let _ = lab.home.farrun(&order(&key)).ok();
        }
        orders += 1;
        assert_eq!(
            (runs(&lab), counter.executions()),
            (orders, orders),
            "cut after {bytes} bytes"
        );
        assert_eq!(last_status(&lab), "completed", "cut after {bytes} bytes");
    }
}

#[test]
fn cut_on_the_way_up_executes_once() {
    cut_everywhere(Direction::Up);
}

#[test]
fn cut_on_the_way_down_executes_once() {
    cut_everywhere(Direction::Down);
}

#[test]
fn silence_is_noticed_in_time_and_the_run_goes_on() {
    let (lab, proxy) = behind_a_proxy();
    let script = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.5; done";
    let mut attached = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], script));
    attached.wait_for("some lines", SOON, |attached| attached.stdout().len() > 20);
    proxy.stall(true);
    let start = Instant::now();
    attached.wait_for("the warning", SOON, |attached| {
        attached.stderr().contains("reconnecting")
    });
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    proxy.stall(false);
    let whole: String = (0..60).map(|n| format!("line {n}\n")).collect();
    assert_eq!(attached.finish(Duration::from_secs(120)).ok().text(), whole);
}
