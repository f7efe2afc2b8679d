//! Ctrl-C at every step of a run: before the acknowledgement it cancels, afterwards it detaches.

use crate::SOON;
use crate::trouble::{
    Counter, behind_a_proxy, is_alive, last, last_id, last_status, noise, runs, wait_for_upload,
};
use farrun_tests::{BUSYBOX, Direction, Engine, EngineOptions, Lab, SshdOptions, wait_until};

#[test]
fn while_connecting_cancels() {
    let (lab, proxy) = behind_a_proxy();
    let before = proxy.accepted();
    proxy.stall(true);
    let attached = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], "echo never"));
    wait_until("a connection", SOON, || {
        proxy.accepted() > before && last(&lab).is_some()
    });
    attached.interrupt();
    let _ = attached.finish(SOON).expect_code(7);
    proxy.stall(false);
    assert_eq!(last_status(&lab), "cancelled");
    assert_eq!(last(&lab).unwrap()["reason"], "interrupted");
    assert!(!lab.run_folder(&last_id(&lab)).exists());
}

#[test]
fn while_uploading_cancels_and_nothing_runs() {
    let (lab, proxy) = behind_a_proxy();
    let counter = Counter::new();
    let input = format!("clip={}", lab.home.write("clip", noise(2_000_000)).display());
    let mount = counter.mount();
    let options = ["--input", &input, "--mount", &mount, "--key", "once"];
    let arguments = lab.shell_arguments(BUSYBOX, &options, Counter::COUNT);
    proxy.rate(Direction::Up, Some(200_000));
    let attached = lab.home.spawn(&arguments);
    wait_for_upload(&lab);
    assert_eq!(last_status(&lab), "uploading");
    attached.interrupt();
    let _ = attached.finish(SOON).expect_code(7);
    proxy.rate(Direction::Up, None);
    assert_eq!((runs(&lab), counter.executions()), (1, 0));
    assert!(!lab.run_folder(&last_id(&lab)).exists());
    // Nothing was executed, so the key does not stand in the way of another try.
    let _ = lab.home.farrun(&arguments).ok();
    assert_eq!((runs(&lab), counter.executions()), (2, 1));
    // And now it finds what was executed.
    let _ = lab.home.farrun(&arguments).ok();
    assert_eq!((runs(&lab), counter.executions()), (2, 1));
}

#[test]
fn while_launching_is_settled_by_the_host() {
    let (lab, proxy) = behind_a_proxy();
    let counter = Counter::new();
    let mount = counter.mount();
    let script = format!("{} exec sleep 600", Counter::COUNT);
    for broken in [false, true] {
        let folders = || std::fs::read_dir(lab.state().join("runs")).map_or(0, Iterator::count);
        let before = folders();
        let attached = lab
            .home
            .spawn(&lab.shell_arguments(BUSYBOX, &["--mount", &mount], &script));
        wait_until("the order on the host", SOON, || folders() > before);
        proxy.stall_one(Direction::Down, broken);
        attached.interrupt();
        let outcome = attached.finish(SOON);
        proxy.stall(false);
        match outcome.code {
            7 => {
                assert_eq!(last_status(&lab), "cancelled");
                assert!(!is_alive(&lab), "cancelled here and alive there: {outcome}");
            }
            130 => {
                assert_ne!(last_status(&lab), "cancelled", "{outcome}");
                let _ = lab.home.farrun(&["stop", "@last", "--kill"]).ok();
                assert!(!is_alive(&lab));
            }
            _ => panic!("{outcome}"),
        }
    }
    assert!(counter.executions() <= 2);
}

#[test]
fn while_the_engine_does_not_answer_leaves_it_to_be_settled() {
    let engine = Engine::own(EngineOptions::default());
    let lab = Lab::with(engine, &SshdOptions::default());
    let _ = lab.shell(&[], "true").ok();
    let counter = Counter::new();
    let arguments = lab.shell_arguments(BUSYBOX, &["--mount", &counter.mount()], Counter::COUNT);
    lab.engine.freeze(true);
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("the request", SOON, |_| {
        last(&lab).is_some_and(|run| {
            run["owner"]
                .as_str()
                .is_some_and(|owner| owner.ends_with(" asked"))
        })
    });
    attached.interrupt();
    let outcome = attached.finish(SOON);
    match outcome.code {
        // The host gave up on its engine first and could say that it has not taken the order.
        7 => lab.engine.freeze(false),
        130 => {
            assert!(outcome.errors().contains("farrun stop"), "{outcome}");
            assert_eq!(last(&lab).unwrap()["interrupted"], true);
            lab.engine.freeze(false);
            let _ = lab.home.farrun(&["stop", "@last"]).ok();
        }
        _ => panic!("{outcome}"),
    }
    assert_eq!(last_status(&lab), "cancelled");
    assert!(!is_alive(&lab));
    assert_eq!(counter.executions(), 0);
}

#[test]
fn while_running_detaches_and_attach_brings_the_whole() {
    let lab = Lab::new();
    let script =
        "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; echo out >/farrun/outputs/o";
    let mut attached = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], script));
    attached.wait_for("some lines", SOON, |attached| attached.stdout().len() > 20);
    attached.interrupt();
    let _ = attached.finish(SOON).expect_code(130);
    let whole: String = (0..30).map(|n| format!("line {n}\n")).collect();
    assert_eq!(lab.home.farrun(&["attach", "@last"]).ok().text(), whole);
    assert_eq!(last_status(&lab), "completed");
}

#[test]
fn while_downloading_detaches_and_attach_goes_on() {
    let (lab, proxy) = behind_a_proxy();
    // Half a minute of download: a busy machine must not miss it.
    let script = "head -c 6000000 /dev/urandom >/farrun/outputs/big; sha256sum </farrun/outputs/big";
    proxy.rate(Direction::Down, Some(200_000));
    let mut attached = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], script));
    attached.wait_for("outputs on their way", SOON, |_| {
        last_status(&lab) == "downloading"
    });
    let before = proxy.passed(Direction::Down);
    attached.wait_for("a part of the outputs", SOON, |_| {
        proxy.passed(Direction::Down) > before + 200_000
    });
    attached.interrupt();
    let _ = attached.finish(SOON).expect_code(130);
    assert_eq!(last_status(&lab), "downloading");
    proxy.rate(Direction::Down, None);
    let hash = lab.home.farrun(&["attach", "@last"]).ok();
    let files = crate::pull::files(&lab.home.outputs());
    let (_, bytes) = files.iter().find(|(path, _)| path.ends_with("big")).unwrap();
    assert!(
        hash.text()
            .starts_with(farrun_protocol::Sha256::of(bytes).as_str())
    );
    assert_eq!(last_status(&lab), "completed");
}
