//! Ctrl-C in commands that only look, and where a run waits for something else than its host's answer.

use crate::SOON;
use crate::gpus::host_with;
use crate::kill::freeze_conversations;
use crate::registry::slow_image;
use crate::trouble::{
    Counter, behind_a_proxy, bytes_below, is_alive, last_id, last_status, noise, wait_for_upload,
};
use farrun_tests::{AgentGate, BUSYBOX, Direction, Lab, wait_until};
use std::time::Duration;

/// Within this a command ends that notices by itself, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
fn looking_at_a_host_that_does_not_answer_ends_with_a_word() {
    let (lab, proxy) = behind_a_proxy();
    let run = lab.detached(&[], "exec sleep 600");
    let commands: [&[&str]; 9] = [
        &["list"],
        &["show", &run],
        &["status"],
        &["status", "--json"],
        &["gpu"],
        &["why", &run],
        &["logs", &run],
        &["gc", "--dry-run"],
        &["adopt", "lab"],
    ];
    for arguments in commands {
        proxy.stall(true);
        let before = proxy.accepted();
        let asked = lab.home.spawn(arguments);
        wait_until("a connection", SOON, || proxy.accepted() > before);
        asked.interrupt();
        let outcome = asked.finish(AT_ONCE).expect_code(130).expect_error("interrupted");
        // Nothing is shown that could be taken for what the host says.
        assert_eq!(outcome.text(), "", "{outcome}");
        proxy.stall(false);
    }
    assert_eq!(lab.status(&run), "running");
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
}

#[test]
fn whatever_answer_is_awaited_a_command_ends_and_can_be_given_again() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "echo said; exit 3").expect_code(1);
    let failed = last_id(&lab);
    let due = lab.detached(&[], "echo due; echo made >/farrun/outputs/made");
    lab.wait_status(&due, &["downloading"], SOON);
    let live = lab.detached(&[], "exec sleep 600");
    let commands: [(&str, &[&str]); 13] = [
        ("outputs", &["pull", &due]),
        ("outputs", &["attach", &due]),
        ("outputs", &["wait", &due]),
        ("outputs", &["sync"]),
        ("fetch_log", &["logs", &live]),
        ("diagnose", &["diagnose", &failed]),
        ("collect", &["gc", "--yes"]),
        ("runs", &["adopt", "lab"]),
        ("host", &["status"]),
        ("gpus", &["gpu"]),
        ("doctor", &["host", "doctor", "lab"]),
        (
            "set_hook",
            &["host", "set", "lab", "--notify-command", "/bin/true"],
        ),
        ("stop_run", &["stop", &live]),
    ];
    for (verb, arguments) in commands {
        let gate = AgentGate::before(&lab.state(), verb);
        let asked = lab.home.spawn(arguments);
        gate.wait(SOON);
        asked.interrupt();
        let outcome = asked.finish(AT_ONCE).expect_code(130);
        let said = outcome.errors();
        assert!(
            ["interrupted", "detached"].iter().any(|word| said.contains(word)),
            "{outcome}"
        );
        drop(gate);
        assert_eq!(
            (lab.status(&due), lab.status(&live)),
            ("downloading".into(), "running".into())
        );
    }
    for (_, arguments) in commands {
        // The machine on which this runs may have no GPU to tell of, and a doctor may find something.
        if !["gpu", "host"].contains(&arguments[0]) {
            let _ = lab.home.farrun(arguments).ok();
        }
    }
    assert_eq!(lab.status(&due), "completed");
    assert_eq!(lab.status(&live), "cancelled");
}

#[test]
fn following_a_log_leaves_the_job_alone() {
    let lab = Lab::new();
    let run = lab.detached(&[], "echo on; exec sleep 600");
    let mut following = lab.home.spawn(&["logs", "-f", &run]);
    following.wait_for("the line", SOON, |following| following.stdout() == b"on\n");
    following.interrupt();
    let _ = following
        .finish(AT_ONCE)
        .expect_code(130)
        .expect_error(&format!("farrun attach {run}"));
    assert!(is_alive(&lab));
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
}

#[test]
fn while_the_host_verifies_inputs_cancels_and_nothing_runs() {
    const LENGTH: usize = 1_000_000;
    let (lab, proxy) = behind_a_proxy();
    let counter = Counter::new();
    let input = format!("clip={}", lab.home.write("clip", noise(LENGTH)).display());
    let options = ["--input", &input, "--mount", &counter.mount()];
    let arguments = lab.shell_arguments(BUSYBOX, &options, Counter::COUNT);
    proxy.rate(Direction::Up, Some(200_000));
    let attached = lab.home.spawn(&arguments);
    wait_for_upload(&lab);
    // Files travel on; who would say that they are the right ones is silent.
    let frozen = freeze_conversations(&lab);
    proxy.rate(Direction::Up, None);
    let incoming = lab.state().join("blobs/incoming");
    wait_until("all of the upload", SOON, || {
        bytes_below(&incoming) >= LENGTH as u64
    });
    attached.interrupt();
    let _ = attached
        .finish(AT_ONCE)
        .expect_code(7)
        .expect_error("before the host had acknowledged it");
    drop(frozen);
    assert_eq!(last_status(&lab), "cancelled");
    assert!(!lab.run_folder(&last_id(&lab)).exists());
    assert_eq!(counter.executions(), 0);
}

#[test]
fn while_the_image_is_pulled_cancels_and_nothing_runs() {
    let Some(slow) = slow_image("left:1") else { return };
    let (lab, counter) = (&slow.lab, Counter::new());
    let arguments = lab.shell_arguments(&slow.image, &["--mount", &counter.mount()], Counter::COUNT);
    let attached = lab.home.spawn(&arguments);
    slow.wait_for_a_part();
    attached.interrupt();
    let _ = attached
        .finish(SOON)
        .expect_code(7)
        .expect_error("before the host had acknowledged it");
    assert_eq!(last_status(lab), "cancelled");
    slow.proxy.rate(Direction::Down, None);
    // What the engine had fetched is not lost, and the order can be given again.
    let _ = lab.home.farrun(&arguments).ok();
    assert_eq!(counter.executions(), 1);
}

#[test]
fn waiting_in_line_leaves_the_run_in_line() {
    let host = host_with(1);
    let lab = &host.lab;
    let first = lab.detached(&["--gpus", "1"], "exec sleep 600");
    let arguments = lab.shell_arguments(BUSYBOX, &["--gpus", "1", "--wait"], "echo its turn");
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("its place in line", SOON, |_| last_status(lab) == "queued");
    attached.interrupt();
    let outcome = attached.finish(AT_ONCE).expect_code(130);
    let run = last_id(lab);
    assert!(
        outcome.errors().contains(&format!("farrun attach {run}")),
        "{outcome}"
    );
    assert_eq!(lab.status(&run), "queued");
    let _ = lab.home.farrun(&["stop", &first, "--kill"]).ok();
    assert_eq!(lab.home.farrun(&["attach", &run]).ok().text(), "its turn\n");
}
