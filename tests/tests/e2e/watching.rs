//! `farrun status --watch` at a terminal, over a real link: what it shows, what keys do, and how it leaves the terminal.

use crate::SOON;
use crate::gpus::host_with;
use farrun_tests::{Lab, Pty, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Command;

fn watch(lab: &Lab, rows: u16, columns: u16) -> Pty {
    Pty::start(&lab.home.command(&["status", "--watch"]), rows, columns)
}

/// A word that says that the view is drawn.
const KEYS: &str = "q quit";

#[test]
fn runs_are_chosen_by_keys_and_the_picture_follows_the_size() {
    let host = host_with(1);
    let on_gpu = host
        .lab
        .detached(&["--gpus", "1"], "echo aaaaaaaaaa; exec sleep 600");
    let other = host.lab.detached(&[], "echo 2222222222; exec sleep 600");
    let mut view = watch(&host.lab, 30, 120);
    for part in [KEYS, "up,", "Test H9", on_gpu.as_str(), other.as_str()] {
        view.wait_for(0, part, SOON);
    }
    // Only what changes is written again, so the two logs share no letter. The log is fetched over the same link.
    let (first, first_words, second, second_words) = match view.words(0).contains(&format!("log of {other}"))
    {
        true => (&other, "2222222222", &on_gpu, "aaaaaaaaaa"),
        false => (&on_gpu, "aaaaaaaaaa", &other, "2222222222"),
    };
    view.wait_for(0, first_words, SOON);
    let before = view.written();
    view.press("\x1b[B");
    view.wait_for(before, &format!("> {second}"), SOON);
    view.wait_for(before, second_words, SOON);
    let before = view.written();
    view.press("k");
    view.wait_for(before, first_words, SOON);
    for (rows, columns, part) in [
        (24, 80, first.as_str()),
        (9, 30, "larger; q quits"),
        (24, 80, KEYS),
    ] {
        let before = view.written();
        view.resize(rows, columns);
        view.wait_for(before, part, SOON);
    }
    assert_eq!(
        view.left_behind().len(),
        3,
        "it has the terminal: {:?}",
        view.left_behind()
    );
    view.press("q");
    assert_eq!(view.wait(SOON), Some(0), "{}", view.words(0));
    assert_eq!(view.left_behind(), [""; 0]);
}

#[test]
fn where_nothing_can_be_drawn_nothing_is() {
    let home = farrun_tests::Home::new();
    let piped = home.farrun(&["status", "--watch"]).expect_code(2);
    let _ = piped.expect_error("`farrun status` prints once");
    let inner = home.command(&["status", "--watch"]);
    let mut dumb = Command::new("env");
    dumb.arg("TERM=dumb")
        .arg(inner.get_program())
        .args(inner.get_args());
    dumb.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut shown = Pty::start(&dumb, 24, 80);
    assert_eq!(shown.wait(SOON), Some(2), "{}", shown.words(0));
    assert!(shown.words(0).contains("needs a terminal"), "{}", shown.words(0));
    assert_eq!(shown.left_behind(), [""; 0]);
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let lab = Lab::new();
    type Ending<'a> = &'a dyn Fn(&mut Pty);
    let ways: [(&str, Ending<'_>); 6] = [
        ("q", &|view| view.press("q")),
        ("escape", &|view| view.press("\x1b")),
        ("Ctrl-C", &|view| view.press("\x03")),
        ("SIGINT", &|view| view.signal(Signal::INT)),
        ("SIGTERM", &|view| view.signal(Signal::TERM)),
        ("SIGHUP", &|view| view.signal(Signal::HUP)),
    ];
    for (way, end) in ways {
        let mut view = watch(&lab, 24, 80);
        view.wait_for(0, KEYS, SOON);
        view.wait_for(0, "up,", SOON);
        end(&mut view);
        assert_eq!(view.wait(SOON), Some(0), "{way}: {}", view.words(0));
        assert_eq!(view.left_behind(), [""; 0], "{way}");
    }
    // Before a host has answered, and with one that never will.
    lab.add_host("deaf", lab.sshd.port());
    let _ = lab
        .home
        .farrun(&["host", "set", "deaf", "--address", "nobody@203.0.113.1:9"]);
    let mut view = watch(&lab, 24, 80);
    view.wait_for(0, "deaf", SOON);
    view.press("q");
    assert_eq!(view.wait(SOON), Some(0), "{}", view.words(0));
    assert_eq!(view.left_behind(), [""; 0]);
}

#[test]
fn a_stopped_view_leaves_the_terminal_to_the_shell_and_takes_it_again() {
    let lab = Lab::new();
    let view = lab.home.command(&["status", "--watch"]);
    let mut shell = Command::new("bash");
    // Without its line editor the shell leaves the terminal as a program should find it.
    shell.args(["--norc", "--noprofile", "--noediting", "-i"]);
    shell.envs(view.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PS1", "ready> ");
    let mut terminal = Pty::start(&shell, 24, 80);
    terminal.wait_for(0, "ready>", SOON);
    let program = view.get_program().display();
    terminal.press(&format!(
        "sh -c 'echo pid $$ is it; exec {program} status --watch'\n"
    ));
    terminal.wait_for(0, KEYS, SOON);
    terminal.wait_for(0, "up,", SOON);
    assert_eq!(terminal.left_behind().len(), 3, "{:?}", terminal.left_behind());
    let before = terminal.written();
    terminal.press("\x1a");
    terminal.wait_for(before, "Stopped", SOON);
    assert_eq!(terminal.left_behind(), [""; 0], "{}", terminal.words(before));
    let back = |terminal: &mut Pty| {
        let before = terminal.written();
        terminal.press("fg\n");
        for part in [KEYS, "up,"] {
            terminal.wait_for(before, part, SOON);
        }
        wait_for("the whole terminal", SOON, || {
            (terminal.left_behind().len() == 3).then_some(())
        });
    };
    back(&mut terminal);
    // Stopped by somebody else it cannot give anything back, but it finds its way again.
    let pid = said_pid(&terminal);
    let before = terminal.written();
    kill_process(pid, Signal::STOP).unwrap();
    terminal.wait_for(before, "Stopped", SOON);
    back(&mut terminal);
    let before = terminal.written();
    terminal.press("q");
    terminal.wait_for(before, "ready>", SOON);
    assert_eq!(terminal.left_behind(), [""; 0]);
    terminal.press("exit\n");
    assert_eq!(terminal.wait(SOON), Some(0));
}

/// The number in `pid NUMBER is it`.
fn said_pid(terminal: &Pty) -> Pid {
    let words = terminal.words(0);
    let number = words
        .split("pid ")
        .find_map(|rest| rest.split(' ').next()?.parse().ok());
    number
        .and_then(Pid::from_raw)
        .unwrap_or_else(|| panic!("no number in {words}"))
}

#[test]
fn a_view_that_is_killed_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    let view = lab.home.command(&["status", "--watch"]);
    let mut shell = Command::new("sh");
    // A shell that sets no modes of its own.
    let program = view.get_program().display();
    let viewed = format!("sh -c 'echo pid $$ is it; exec {program} status --watch'; echo killed; read line");
    shell.args(["-c", &viewed]);
    shell.envs(view.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = Pty::start(&shell, 24, 80);
    terminal.wait_for(0, KEYS, SOON);
    terminal.wait_for(0, "up,", SOON);
    assert_eq!(terminal.left_behind().len(), 3, "{:?}", terminal.left_behind());
    kill_process(said_pid(&terminal), Signal::KILL).unwrap();
    terminal.wait_for(0, "killed", SOON);
    wait_for("the terminal as it was", SOON, || {
        terminal.left_behind().is_empty().then_some(())
    });
    terminal.press("\n");
    assert_eq!(terminal.wait(SOON), Some(0));
}

#[test]
fn a_view_whose_terminal_is_closed_ends() {
    let lab = Lab::new();
    let mut view = watch(&lab, 24, 80);
    view.wait_for(0, KEYS, SOON);
    view.wait_for(0, "up,", SOON);
    view.close();
    assert!(view.wait(SOON).is_some());
}
