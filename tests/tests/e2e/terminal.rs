//! What differs at a terminal: questions before something is destroyed, and a wait that is shown and has no end.

use crate::SOON;
use crate::trouble::{behind_a_proxy, last_id};
use farrun_tests::{Lab, wait_until};
use std::fs::File;
use std::process::{Child, Command, Stdio};

/// The program at a terminal of its own (by `script`), with `typed` as what the user types; and what it shows.
fn at_a_terminal(lab: &Lab, arguments: &[&str], typed: &str) -> (Child, tempfile::NamedTempFile) {
    let inner = lab.home.command(arguments);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let shown = tempfile::NamedTempFile::new().unwrap();
    let typed = lab.home.write("typed", typed);
    let mut command = Command::new("script");
    command
        .args(["-qefc", &words.join(" "), "/dev/null"])
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .current_dir(lab.home.path())
        .stdin(File::open(typed).unwrap())
        .stdout(shown.reopen().unwrap())
        .stderr(Stdio::null());
    (command.spawn().unwrap(), shown)
}

fn text(shown: &tempfile::NamedTempFile) -> String {
    String::from_utf8_lossy(&std::fs::read(shown.path()).unwrap()).into_owned()
}

fn code(mut child: Child, shown: &tempfile::NamedTempFile) -> i32 {
    wait_until("the end of the command", SOON, || {
        child.try_wait().unwrap().is_some()
    });
    let status = child.wait().unwrap();
    status
        .code()
        .unwrap_or_else(|| panic!("{status}: {}", text(shown)))
}

#[test]
fn gc_asks_once_before_anything_goes() {
    let lab = Lab::new();
    let _ = lab.shell(&[], "true").ok();
    let run = last_id(&lab);
    for (answer, expected, there) in [("n\n", 5, true), ("y\n", 0, false)] {
        let (child, shown) = at_a_terminal(&lab, &["gc"], answer);
        let ended = code(child, &shown);
        let text = text(&shown);
        assert_eq!(ended, expected, "{text}");
        assert_eq!(text.matches("remove this from `lab`?").count(), 1, "{text}");
        let (listed, question) = (text.find(&run), text.find("remove this"));
        assert!(listed < question && listed.is_some(), "{text}");
        assert_eq!(lab.run_folder(&run).is_dir(), there, "{text}");
    }
}

#[test]
fn a_wait_for_a_host_is_shown_and_says_how_to_leave() {
    let (lab, proxy) = behind_a_proxy();
    let run = lab.detached(&[], "echo up; exec sleep 600");
    let (child, shown) = at_a_terminal(&lab, &["attach", &run], "");
    let says = |what: &str| wait_until(what, SOON, || text(&shown).contains(what));
    says("up");
    proxy.refuse(true);
    proxy.cut();
    says("is out of reach");
    says("Ctrl-C detaches, the run goes on");
    proxy.refuse(false);
    says("is back");
    let _ = lab.home.farrun(&["stop", &run]).ok();
    assert_eq!(code(child, &shown), 7, "{}", text(&shown));
}

#[test]
fn nobody_who_watches_waits_longer_than_was_said() {
    let (lab, proxy) = behind_a_proxy();
    let run = lab.detached(&[], "echo up; exec sleep 600");
    let mut attached = lab.home.spawn(&["attach", &run, "--patience", "2s"]);
    attached.wait_for("the log", SOON, |attached| attached.stdout() == b"up\n");
    proxy.refuse(true);
    proxy.cut();
    let outcome = attached.finish(SOON).expect_code(3);
    assert!(outcome.errors().contains("the run is not affected"), "{outcome}");
    proxy.refuse(false);
    assert_eq!(lab.status(&run), "running");
    let _ = lab.home.farrun(&["stop", &run]).ok();
}
