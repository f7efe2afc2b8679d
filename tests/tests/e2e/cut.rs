//! Connections that break or fall silent, at every point of the conversation.

use crate::SOON;
use crate::trouble::{Counter, behind_a_proxy, last_status, noise, runs};
use farrun_tests::{BUSYBOX, Direction, Engine, FaultProxy, Lab, SshdOptions, wait_until};
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

/// Stalls a launch once the host has said something for the `steps`-th time; answers how long it took to give up.
fn give_up_after(lab: &Lab, host: &str, steps: u32) -> Duration {
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    // So far apart that what belongs to one step of the way arrives together.
    for direction in [Direction::Up, Direction::Down] {
        proxy.delay(direction, Duration::from_millis(150));
    }
    lab.add_host(host, proxy.port());
    let before = proxy.turns();
    proxy.stall(steps == 0);
    let arguments = ["run", BUSYBOX, "--host", host, "--detach", "--", "true"];
    let running = lab.home.spawn(&arguments.map(str::to_owned));
    if steps > 0 {
        wait_until("the step of the way", SOON, || {
            proxy.turns() >= before + u64::from(steps)
        });
        proxy.stall(true);
    }
    let start = Instant::now();
    let outcome = running.finish(Duration::from_secs(60));
    assert_eq!(outcome.code, 3, "stalled after {steps}: {outcome}");
    start.elapsed()
}

#[test]
fn silence_on_the_way_in_is_noticed_in_time() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    std::thread::scope(|scope| {
        // From the first word of the handshake to the opening of the channel.
        let stalled: Vec<_> = (0..6)
            .map(|steps| {
                let lab = &lab;
                scope.spawn(move || (steps, give_up_after(lab, &format!("lab{steps}"), steps)))
            })
            .collect();
        for thread in stalled {
            let (steps, took) = thread.join().unwrap();
            assert!(took < Duration::from_secs(25), "stalled after {steps}: {took:?}");
        }
    });
}

/// How often the host answered during a launch, less what signs of life may account for, and over how many connections.
fn ways(lab: &Lab, proxy: &FaultProxy, options: &[&str]) -> (u64, u64) {
    let (turns, accepted) = (proxy.turns(), proxy.accepted());
    let start = Instant::now();
    let _ = lab.detached(options, "true");
    // On a busy machine a launch takes long enough for SSH and the agent to be asked whether they live.
    let signs = 2 * (start.elapsed().as_secs() / 5);
    (
        (proxy.turns() - turns).saturating_sub(signs),
        proxy.accepted() - accepted,
    )
}

#[test]
fn launch_takes_few_round_trips_and_known_content_one_more() {
    let (lab, proxy) = behind_a_proxy();
    let input = format!("clip={}", lab.home.write("clip", noise(3_000_000)).display());
    let _ = lab.detached(&["--input", &input], "true");
    for direction in [Direction::Up, Direction::Down] {
        proxy.delay(direction, Duration::from_millis(100));
    }
    // Keys take two, the login three, the channel one; then the program with its hello, and the order. The server's
    // greeting follows the goodbye of the connection before and counts as one.
    let (turns, connections) = ways(&lab, &proxy, &[]);
    assert!(turns <= 9 && connections == 1, "{turns} over {connections}");
    let before = proxy.passed(Direction::Up);
    let (turns, connections) = ways(&lab, &proxy, &["--input", &input]);
    assert!(turns <= 10 && connections == 1, "{turns} over {connections}");
    let sent = proxy.passed(Direction::Up) - before;
    assert!(sent < 20_000, "{sent} bytes were sent");
}
