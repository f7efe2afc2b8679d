//! Ctrl-C at every step of a run: before the acknowledgement it cancels, afterwards it detaches.

use crate::SOON;
use crate::trouble::{
    Counter, behind_a_proxy, is_alive, last, last_id, last_status, noise, runs, wait_for_upload,
};
use farrun_tests::{AgentGate, BUSYBOX, Direction, Engine, EngineOptions, Lab, SshdOptions, wait_until};
use rustix::process::Signal;
use std::time::Duration;

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
fn while_the_host_looks_for_inputs_cancels_and_nothing_was_sent() {
    let lab = Lab::new();
    let counter = Counter::new();
    let clip = lab.home.write("clip", "the clip");
    let input = format!("clip={}", clip.display());
    let mount = counter.mount();
    let options = ["--input", &input, "--mount", &mount, "--key", "once"];
    let arguments = lab.shell_arguments(BUSYBOX, &options, Counter::COUNT);
    let gate = AgentGate::before(&lab.state(), "check_inputs");
    let attached = lab.home.spawn(&arguments);
    // Asked, and not answered: the command waits for nothing else now.
    gate.wait(SOON);
    assert_eq!(last_status(&lab), "pending");
    attached.interrupt();
    // Far less than the time after which a silent host is given up, or the program leaves anyway.
    let outcome = attached.finish(Duration::from_secs(15)).expect_code(7);
    assert!(outcome.errors().contains("cancelled"), "{outcome}");
    drop(gate);
    let run = last(&lab).unwrap();
    assert_eq!(
        (&run["status"], &run["reason"]),
        (&"cancelled".into(), &"interrupted".into())
    );
    let blob = farrun_protocol::Sha256::of(b"the clip");
    assert!(!lab.state().join("blobs").join(blob.as_str()).exists());
    assert!(!lab.run_folder(&last_id(&lab)).exists());
    // Nothing keeps the same order from being carried out now.
    let _ = lab.home.farrun(&arguments).ok();
    assert_eq!((runs(&lab), counter.executions()), (2, 1));
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

#[test]
fn while_hashing_inputs_ends_at_once_and_orders_nothing() {
    let lab = Lab::new();
    let clip = lab.home.write("clip", "");
    std::fs::File::options()
        .write(true)
        .open(&clip)
        .unwrap()
        .set_len(200 << 30)
        .unwrap();
    let input = format!("clip={}", clip.display());
    let mut attached = lab
        .home
        .spawn(&lab.shell_arguments(BUSYBOX, &["--input", &input], "true"));
    attached.wait_for("the open input", SOON, |attached| {
        let open = std::fs::read_dir(format!("/proc/{}/fd", attached.pid()));
        open.is_ok_and(|open| {
            open.flatten()
                .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == clip))
        })
    });
    attached.interrupt();
    // Far less than the minutes that reading it would take, and than the time after which the program leaves anyway.
    let outcome = attached.finish(Duration::from_secs(15)).expect_code(7);
    assert!(outcome.errors().contains("nothing was ordered"), "{outcome}");
    assert_eq!(runs(&lab), 0);
}

#[test]
fn while_stopping_leaves_the_wait_for_the_end() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "trap 'echo asked' TERM; echo on; while :; do sleep 0.1; done",
    );
    let log = lab.run_folder(&run).join("record/run.log");
    let says = |word: &str| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains(word)
    };
    wait_until("the job", SOON, || says("on"));
    let stop = lab.home.spawn(&["stop", &run, "--grace", "120s"]);
    wait_until("the request", SOON, || says("asked"));
    stop.interrupt();
    let outcome = stop.finish(Duration::from_secs(15)).expect_code(130);
    assert!(outcome.errors().contains("--kill"), "{outcome}");
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
    assert_eq!(lab.status(&run), "cancelled");
}

#[test]
fn hang_up_and_termination_detach_as_ctrl_c_does() {
    let lab = Lab::new();
    for signal in [Signal::HUP, Signal::TERM] {
        let script = "echo on; exec sleep 600";
        let mut attached = lab.home.spawn(&lab.shell_arguments(BUSYBOX, &[], script));
        attached.wait_for("the line", SOON, |attached| attached.stdout() == b"on\n");
        let pid = i32::try_from(attached.pid()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
        let outcome = attached.finish(SOON).expect_code(130);
        assert!(outcome.errors().contains("farrun attach"), "{outcome}");
        assert!(is_alive(&lab));
        let _ = lab.home.farrun(&["stop", "@last", "--kill"]).ok();
    }
}
