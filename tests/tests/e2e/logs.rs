//! The run log arrives byte for byte.

use crate::SOON;
use farrun_tests::{Lab, wait_until};

/// Every byte value, in an order that is no valid UTF-8, with NUL and escapes.
const EVERY_BYTE: &str = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i+1)); done";

#[test]
fn binary_log_arrives_unchanged() {
    let lab = Lab::new();
    let run = lab.detached(&[], EVERY_BYTE);
    let _ = lab.home.farrun(&["wait", &run]).ok();
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(lab.home.farrun(&["logs", &run]).ok().stdout, every);
    assert_eq!(lab.mirror(&run), every);
}

#[test]
fn log_is_followed_while_the_job_runs() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "echo first; while [ ! -e /output/go ]; do sleep 0.1; done; echo last",
    );
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("first line", SOON, |follow| follow.stdout() == b"first\n");
    let container = format!("farrun-{run}");
    lab.engine.ask(&[
        "exec",
        &container,
        "/bin/sh",
        "-c",
        "mkdir -p /output; touch /output/go",
    ]);
    let outcome = follow.finish(SOON);
    assert_eq!(outcome.stdout, b"first\nlast\n");
}

#[test]
fn large_log_is_complete_and_hashed() {
    let lab = Lab::new();
    let run = lab.detached(&[], "seq 1 400000; seq 1 400000 | sha256sum >&2");
    let _ = lab.home.farrun(&["wait", &run]).ok();
    let _ = lab.home.farrun(&["logs", &run]).ok();
    let there = std::fs::read(lab.run_folder(&run).join("record/run.log")).unwrap();
    assert!(lab.mirror(&run) == there);
    assert!(there.len() > 2_600_000);
}

#[test]
fn capped_log_keeps_head_and_tail() {
    let lab = Lab::new();
    let run = lab.detached(
        &["--log-cap", "65536"],
        "seq 1 2000000; echo the traceback; exit 3",
    );
    let _ = lab.home.farrun(&["wait", &run]).expect_code(1);
    let _ = lab.home.farrun(&["logs", &run]);
    let mirror = lab.mirror(&run);
    assert!(mirror.starts_with(b"1\n2\n3\n"));
    assert!(mirror.len() < 80_000, "{} bytes", mirror.len());
    let tail = std::fs::read(lab.run_folder(&run).join("record/run.tail")).unwrap();
    assert!(tail.windows(13).any(|window| window == b"the traceback"));
}

#[test]
fn remote_escapes_do_not_reach_tables() {
    let lab = Lab::new();
    let run = lab.detached(&[], "printf '\\033]0;owned\\007'; exit 4");
    let _ = lab.home.farrun(&["wait", &run]).expect_code(1);
    for arguments in [vec!["show", run.as_str()], vec!["list"]] {
        let shown = lab.home.farrun(&arguments).ok();
        assert!(
            !shown.stdout.contains(&0x1b) && !shown.stderr.contains(&0x1b),
            "{shown}"
        );
    }
}

#[test]
fn mirror_is_always_a_prefix() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 2",
    );
    let follow = lab.home.spawn(&["logs", "-f", &run]);
    let record = lab.run_folder(&run).join("record/run.log");
    wait_until("the whole log", SOON, || {
        let mirror = follow.stdout();
        let there = std::fs::read(&record).unwrap();
        assert!(there.starts_with(&mirror), "{} bytes are no prefix", mirror.len());
        mirror.ends_with(b"line 2999\n")
    });
}

#[test]
fn several_runs_are_followed_at_once_over_one_connection_also_after_a_cut() {
    let (lab, proxy) = crate::trouble::behind_a_proxy();
    // The first ends last: whoever followed one after the other would not have the logs of the others yet.
    let script = "echo begun; while [ ! -e /farrun/outputs/go ]; do sleep 0.1; done; seq 1 1000";
    let runs: Vec<String> = (0..3).map(|_| lab.detached(&[], script)).collect();
    let before = proxy.accepted();
    let names: Vec<&str> = runs.iter().map(String::as_str).collect();
    let arguments = [&["wait", "--no-pull", "--json"][..], &names].concat();
    let waiting = lab.home.spawn(&arguments);
    let begun = |run: &str| {
        let mirrors = crate::pull::files(&lab.home.outputs());
        let mirror = mirrors
            .iter()
            .find(|(path, _)| path.ends_with(format!("run_{run}.log")));
        mirror.is_some_and(|(path, _)| std::fs::read(path).unwrap() == b"begun\n")
    };
    let all_begun = || names.iter().all(|run| begun(run));
    wait_until("every log to be followed", SOON, all_begun);
    assert_eq!(proxy.accepted() - before, 1);
    proxy.cut();
    for run in runs.iter().rev() {
        std::fs::write(lab.run_folder(run).join("outputs/go"), "").unwrap();
    }
    let outcome = waiting.finish(SOON).ok();
    let told = outcome.json_lines();
    let order: Vec<&str> = told.iter().filter_map(|run| run["id"].as_str()).collect();
    assert_eq!(order, names);
    assert_eq!(proxy.accepted() - before, 2, "one more for all of them");
    let expected: String = std::iter::once("begun\n".to_owned())
        .chain((1..=1000).map(|number| format!("{number}\n")))
        .collect();
    for run in &runs {
        assert!(lab.mirror(run) == expected.as_bytes(), "{run}");
    }
}
