//! Two machines that share one PostgreSQL: one controller for every host, with two places for logs and outputs.

use crate::SOON;
use crate::trouble::{Counter, last_id, last_status, noise, runs, wait_for_upload};
use farrun_tests::{
    BUSYBOX, Cluster, Direction, Engine, FaultProxy, Home, Lab, SshdOptions, skipped, wait_until,
};

const COUNTS: &str =
    "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; echo out >/farrun/outputs/o";

fn counted() -> String {
    (0..30).map(|n| format!("line {n}\n")).collect()
}

/// A laptop and a desktop, the host they share behind a proxy, and their database.
struct Two {
    lab: Lab,
    other: Home,
    proxy: FaultProxy,
    _database: Cluster,
}

/// None where this account may not give a process another machine's id.
fn two() -> Option<Two> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root gives a process the id of another machine");
        return None;
    }
    let database = Cluster::start();
    let mut lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    lab.home.set("FARRUN_DATABASE", &database.url());
    lab.add_host("lab", proxy.port());
    let mut other = Home::new();
    other.set("FARRUN_DATABASE", &database.url());
    other.on_another_machine();
    other.trust(&lab.sshd, proxy.port());
    Some(Two {
        lab,
        other,
        proxy,
        _database: database,
    })
}

/// Arguments of a job that is counted and whose input takes several seconds on the way.
fn with_upload(lab: &Lab, counter: &Counter) -> Vec<String> {
    let input = format!("clip={}", lab.home.write("clip", noise(1_500_000)).display());
    let options = ["--input", &input, "--mount", &counter.mount()];
    lab.shell_arguments(BUSYBOX, &options, &format!("{} {COUNTS}", Counter::COUNT))
}

#[test]
fn an_order_belongs_to_the_machine_that_placed_it_until_the_host_has_it() {
    let Some(two) = two() else { return };
    let Two {
        lab, other, proxy, ..
    } = &two;
    let counter = Counter::new();
    let arguments = with_upload(lab, &counter);
    proxy.rate(Direction::Up, Some(250_000));
    let ordering = lab.home.spawn(&arguments);
    wait_for_upload(lab);
    let refuses = |verb: &str| {
        let refused = other.farrun(&[verb, "@last"]).expect_code(5);
        assert!(refused.errors().contains("another machine"), "{refused}");
    };
    refuses("attach");
    refuses("wait");
    // From here nobody can tell that it is dead.
    let _ = ordering.kill();
    refuses("attach");
    proxy.rate(Direction::Up, None);
    assert_eq!(lab.home.farrun(&["attach", "@last"]).ok().text(), counted());
    assert_eq!((runs(lab), counter.executions()), (1, 1));
    // What is over is over for both, and each has a place of its own for it.
    let run = last_id(lab);
    let shown = other.farrun(&["show", &run, "--json"]).ok().json();
    assert_eq!(shown["run"]["status"], "completed", "{shown}");
    assert_eq!(shown["outputs_total"]["pulled"], 0, "{shown}");
    assert_eq!(other.farrun(&["logs", &run]).ok().text(), counted());
    let _ = other.farrun(&["pull", &run]).ok();
    assert_eq!(crate::pull::named_in(other, "o"), b"out\n");
    assert_eq!(crate::pull::named_in(&lab.home, "o"), b"out\n");
}

#[test]
fn what_one_has_stopped_the_other_does_not_start() {
    let Some(two) = two() else { return };
    let Two {
        lab, other, proxy, ..
    } = &two;
    let counter = Counter::new();
    let arguments = with_upload(lab, &counter);
    proxy.rate(Direction::Up, Some(250_000));
    let ordering = lab.home.spawn(&arguments);
    wait_for_upload(lab);
    let _ = other.farrun(&["stop", "@last"]).ok();
    proxy.rate(Direction::Up, None);
    let _ = ordering.finish(SOON).expect_code(7);
    assert_eq!(
        (last_status(lab).as_str(), counter.executions()),
        ("cancelled", 0)
    );
}

#[test]
fn both_follow_a_run_to_its_end_and_have_all_of_it() {
    let Some(two) = two() else { return };
    let Two { lab, other, .. } = &two;
    let mut first = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], COUNTS));
    first.wait_for("a line", SOON, |first| !first.stdout().is_empty());
    let second = other.spawn(&["attach", "@last"]);
    assert_eq!(first.finish(SOON).ok().text(), counted());
    assert_eq!(second.finish(SOON).ok().text(), counted());
    for home in [&lab.home, other] {
        assert_eq!(crate::pull::named_in(home, "o"), b"out\n");
        let shown = home.farrun(&["show", "@last", "--json"]).ok().json();
        assert_eq!(shown["run"]["status"], "completed", "{shown}");
        let log = shown["run"]["log_path"].as_str().unwrap();
        assert!(log.starts_with(home.outputs().to_str().unwrap()), "{log}");
        assert_eq!(std::fs::read(log).unwrap(), counted().as_bytes());
    }
}

#[test]
fn one_stops_what_the_other_follows() {
    let Some(two) = two() else { return };
    let Two { lab, other, .. } = &two;
    let script = "echo on; exec sleep 600";
    let mut following = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], script));
    following.wait_for("the line", SOON, |following| following.stdout() == b"on\n");
    let _ = other.farrun(&["stop", "@last", "--grace", "1s"]).ok();
    let _ = following.finish(SOON).expect_code(7);
    assert_eq!(last_status(lab), "cancelled");
}

#[test]
fn an_order_with_a_key_that_both_place_at_once_is_executed_once() {
    let Some(two) = two() else { return };
    let Two { lab, other, .. } = &two;
    let counter = Counter::new();
    let script = format!("{} echo on", Counter::COUNT);
    let arguments = lab.shell_arguments(BUSYBOX, &["--mount", &counter.mount(), "--key", "once"], &script);
    let ordered: Vec<_> = [&lab.home, other]
        .map(|home| home.spawn(&arguments))
        .into_iter()
        .map(|ordering| ordering.finish(SOON))
        .collect();
    // The one that comes second follows, or is told that the other is about to start it.
    let codes: Vec<i32> = ordered.iter().map(|outcome| outcome.code).collect();
    assert!(
        codes.contains(&0) && codes.iter().all(|code| [0, 5].contains(code)),
        "{ordered:?}"
    );
    wait_until("the one run", SOON, || last_status(lab) == "completed");
    assert_eq!((runs(lab), counter.executions()), (1, 1));
    let _ = other.farrun(&arguments).ok().expect_error("the key found");
    assert_eq!(other.farrun(&["logs", "@last"]).ok().text(), "on\n");
    assert_eq!((runs(lab), counter.executions()), (1, 1));
}
