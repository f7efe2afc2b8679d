//! Hosts that move, and other machines at their addresses.

use crate::SOON;
use crate::trouble::{last, last_status};
use farrun_tests::{Engine, FaultProxy, Lab, SshdOptions};

#[test]
fn host_with_another_address_is_the_same_machine() {
    let lab = Lab::apart(Engine::shared(), &SshdOptions::default());
    let old = FaultProxy::start(lab.sshd.socket_address());
    lab.add_host("lab", old.port());
    let run = lab.detached(&[], "echo on; sleep 1; echo off");
    drop(old);
    let _ = lab.home.farrun(&["attach", &run]).expect_code(3);
    let new = FaultProxy::start(lab.sshd.socket_address());
    lab.home.trust(&lab.sshd, new.port());
    let _ = lab
        .home
        .farrun(&[
            "host",
            "set",
            "lab",
            "--address",
            &lab.sshd.address_by(new.port()),
        ])
        .ok();
    assert_eq!(lab.home.farrun(&["attach", &run]).ok().text(), "on\noff\n");
}

/// Lets the host look like another machine, as one that got its address would.
fn become_another_machine(lab: &Lab) -> String {
    let path = lab.state().join("host-id");
    let id = std::fs::read_to_string(&path).unwrap();
    let id = id.trim().to_owned();
    let last = if id.ends_with('2') { '3' } else { '2' };
    std::fs::write(&path, format!("{}{last}\n", &id[..id.len() - 1])).unwrap();
    id
}

#[test]
fn another_machine_settles_nothing() {
    let lab = Lab::new();
    let run = lab.detached(&[], "echo on; exec sleep 600");
    let id = become_another_machine(&lab);
    let _ = lab
        .home
        .farrun(&["attach", &run])
        .expect_code(5)
        .expect_error("another machine");
    let _ = lab.home.farrun(&["stop", &run]).expect_code(5);
    let _ = lab.home.farrun(&["list"]).ok();
    assert_eq!(last_status(&lab), "running");
    std::fs::write(lab.state().join("host-id"), format!("{id}\n")).unwrap();
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
}

#[test]
fn outputs_of_a_machine_that_is_gone_are_given_up_only_on_request() {
    let lab = Lab::new();
    let ended = lab.detached(&[], "echo out >/farrun/outputs/o");
    lab.wait_status(&ended, &["downloading"], SOON);
    let lost = lab.detached(&[], "exec sleep 600");
    become_another_machine(&lab);
    let _ = lab.home.farrun(&["pull", &ended]).expect_code(5);
    let _ = lab.home.farrun(&["host", "remove", "lab"]).expect_code(5);
    let _ = lab.home.farrun(&["host", "remove", "lab", "--abandon"]).ok();
    let reason = |run: &str| {
        let shown = lab.home.farrun(&["show", run, "--json"]).ok().json();
        shown["run"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(
        (reason(&lost).as_str(), reason(&ended).as_str()),
        ("host_lost", "outputs_lost")
    );
    assert_eq!(last(&lab).unwrap()["status"], "failed");
}
