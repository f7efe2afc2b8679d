//! kill -9 of the controller while its host starts a run or fetches its image, and while a log is caught up with: the same
//! command again finds everything and starts nothing twice.

use crate::SOON;
use crate::registry::slow_image;
use crate::trouble::{Counter, behind_a_proxy, last, last_id, last_status, runs};
use farrun_tests::{BUSYBOX, Direction, Engine, EngineOptions, Lab, SshdOptions, wait_until};

fn is_asked(lab: &Lab) -> bool {
    let owner = last(lab).map(|run| run["owner"].clone());
    owner.is_some_and(|owner| owner.as_str().is_some_and(|owner| owner.ends_with(" asked")))
}

#[test]
fn during_the_launch() {
    for again in ["the same command", "attach"] {
        let engine = Engine::own(EngineOptions::default());
        let lab = Lab::with(engine, &SshdOptions::default());
        let _ = lab.shell(&[], "true").ok();
        let counter = Counter::new();
        let options = ["--mount", &counter.mount(), "--key", "once"];
        let script = format!("{} echo done", Counter::COUNT);
        let arguments = lab.shell_arguments(BUSYBOX, &options, &script);
        lab.engine.freeze(true);
        let mut attached = lab.home.spawn(&arguments);
        attached.wait_for("the request", SOON, |_| is_asked(&lab));
        let _ = attached.kill();
        lab.engine.freeze(false);
        let outcome = match again {
            "attach" => lab.home.farrun(&["attach", "@last"]).ok(),
            _ => lab.home.farrun(&arguments).ok(),
        };
        assert_eq!(outcome.text(), "done\n", "{again}");
        assert_eq!((runs(&lab), counter.executions()), (2, 1), "{again}");
        assert_eq!(lab.containers(&last_id(&lab)).len(), 1, "{again}");
        assert_eq!(last_status(&lab), "completed", "{again}");
    }
}

#[test]
fn while_the_image_is_pulled() {
    let Some(slow) = slow_image("killed:1") else {
        return;
    };
    let (lab, counter) = (&slow.lab, Counter::new());
    let options = ["--mount", &counter.mount(), "--key", "once"];
    let script = format!("{} echo done", Counter::COUNT);
    let arguments = lab.shell_arguments(&slow.image, &options, &script);
    let attached = lab.home.spawn(&arguments);
    slow.wait_for_a_part();
    let _ = attached.kill();
    slow.proxy.rate(Direction::Down, None);
    assert_eq!(lab.home.farrun(&arguments).ok().text(), "done\n");
    assert_eq!((runs(lab), counter.executions()), (1, 1));
    assert_eq!(lab.containers(&last_id(lab)).len(), 1);
    assert_eq!(last_status(lab), "completed");
}

#[test]
fn while_a_log_is_caught_up_with() {
    let (lab, proxy) = behind_a_proxy();
    let whole: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    for verb in [&["attach"][..], &["logs", "-f"], &["logs"], &["pull"]] {
        let run = lab.detached(&[], "seq 1 300000");
        let settled = lab.run_folder(&run).join("settled.json");
        wait_until("the record of the end", SOON, || settled.exists());
        let path = lab.show(&run)["run"]["log_path"].as_str().unwrap().to_owned();
        let command: Vec<&str> = verb.iter().copied().chain([run.as_str()]).collect();
        proxy.rate(Direction::Down, Some(300_000));
        let mut asked = lab.home.spawn(&command);
        let mirrored = || std::fs::metadata(&path).map_or(0, |file| file.len());
        asked.wait_for("a part of the log", SOON, |_| mirrored() > 300_000);
        let _ = asked.kill();
        let left = std::fs::read(&path).unwrap();
        assert!(
            left.len() < whole.len() && whole.as_bytes().starts_with(&left),
            "{verb:?}"
        );
        let before = proxy.passed(Direction::Down);
        proxy.rate(Direction::Down, None);
        let outcome = lab.home.farrun(&command).ok();
        if *verb != ["pull"] {
            assert!(
                outcome.stdout == whole.as_bytes(),
                "{verb:?}: {} bytes",
                outcome.stdout.len()
            );
        }
        assert!(lab.mirror(&run) == whole.as_bytes(), "{verb:?}");
        // What was here did not travel again.
        let travelled = proxy.passed(Direction::Down) - before;
        assert!(
            travelled < (whole.len() - left.len()) as u64 + 300_000,
            "{verb:?}: {travelled}"
        );
        assert_eq!(lab.containers(&run).len(), 1, "{verb:?}");
    }
}
