//! GPUs from the user's side: what the program shows of them, who gets which, and runs that wait for one.

use crate::SOON;
use farrun_tests::{Engine, EngineOptions, Lab, NvidiaSmi, Pty, SshdOptions, Toolkit, wait_for};
use serde_json::Value;
use std::time::Duration;

/// A line moves when somebody comes by; these commands are that somebody.
const STARTS: Duration = Duration::from_secs(60);

pub(crate) struct Gpus {
    pub(crate) lab: Lab,
    pub(crate) smi: NvidiaSmi,
    _locks: tempfile::TempDir,
}

/// A host with so many idle GPUs, an engine that hands them out, and a folder of GPU locks of its own.
pub(crate) fn host_with(count: u32) -> Gpus {
    host_with_toolkit(count, Toolkit::Gives)
}

/// The same with another way to hand GPUs out.
pub(crate) fn host_with_toolkit(count: u32, toolkit: Toolkit) -> Gpus {
    let locks = tempfile::tempdir().unwrap();
    let folder = locks.path().join("locks").display().to_string();
    host_with_locks(count, toolkit, &folder, locks)
}

fn host_with_locks(count: u32, toolkit: Toolkit, folder: &str, locks: tempfile::TempDir) -> Gpus {
    let engine = Engine::own(EngineOptions {
        toolkit,
        ..EngineOptions::default()
    });
    let smi = NvidiaSmi::with_gpus(count);
    let environment = vec![smi.variable(), ("FARRUN_LOCKS".to_owned(), folder.to_owned())];
    let options = SshdOptions {
        environment,
        ..SshdOptions::default()
    };
    Gpus {
        lab: Lab::with(engine, &options),
        smi,
        _locks: locks,
    }
}

impl Gpus {
    fn report(&self) -> Value {
        self.lab.home.farrun(&["gpu", "--json"]).ok().json()["hosts"][0]["gpus"].clone()
    }
}

#[test]
fn what_the_driver_says_is_what_is_shown() {
    let host = host_with(2);
    host.smi.add(
        1,
        &[
            ("utilization.gpu", "87"),
            ("memory.used", "40960"),
            ("temperature.gpu", "[N/A]"),
        ],
    );
    let report = host.report();
    assert_eq!(report["device"]["device"], "cuda", "{report}");
    let second = &report["gpus"][1];
    assert_eq!(second["uuid"], NvidiaSmi::uuid(1));
    assert_eq!(second["utilization"], 87);
    assert_eq!(second["memory_used"], 40960);
    assert_eq!(second["temperature"]["absent"], "not_available");
    let shown = host.lab.home.farrun(&["status"]).ok();
    assert!(
        shown.text().contains("87%") || shown.text().contains("87 %"),
        "{shown}"
    );
    let exposed = host.lab.home.farrun(&["gpu", "--prometheus"]).ok();
    let unknown = |line: &&str| line.contains("temperature") && line.contains(&NvidiaSmi::uuid(1));
    assert!(exposed.text().contains("host=\"lab\""), "{exposed}");
    assert_eq!(exposed.text().lines().find(unknown), None, "{exposed}");
}

#[test]
fn a_run_gets_a_free_gpu_and_a_second_one_is_told_who_has_it() {
    let host = host_with(1);
    let first = host.lab.detached(
        &["--gpus", "1"],
        "echo $NVIDIA_VISIBLE_DEVICES $DEVICE; exec sleep 600",
    );
    let shown = host.lab.show(&first);
    assert_eq!(
        shown["run"]["lease"]["gpus"][0]["uuid"],
        NvidiaSmi::uuid(0),
        "{shown}"
    );
    wait_for("the job's first words", SOON, || {
        let _ = host.lab.home.farrun(&["logs", &first]).ok();
        let said = String::from_utf8(host.lab.mirror(&first)).unwrap();
        (said == format!("{} cuda\n", NvidiaSmi::uuid(0))).then_some(())
    });
    let refused = host.lab.shell(&["--gpus", "1"], "true").expect_code(5);
    assert!(refused.errors().contains(&first), "{refused}");
    assert!(refused.errors().contains("--wait"), "{refused}");
    // What needs no GPU is not kept from running.
    assert_eq!(host.lab.shell(&[], "echo $DEVICE").ok().text(), "cpu\n");
    let _ = host.lab.home.farrun(&["stop", &first, "--kill"]).ok();
    assert_eq!(
        host.lab.shell(&["--gpus", "gpu0"], "echo given").ok().text(),
        "given\n"
    );
}

#[test]
fn what_a_run_computes_with_stands_before_its_log_and_never_in_it() {
    let host = host_with(1);
    let home = &host.lab.home;
    let place = "on `lab`, cuda: GPU 0 Test H9 80GB (GPU-00000000)";
    let attached = host.lab.shell(&["--gpus", "1"], "echo $DEVICE").ok();
    assert_eq!(attached.text(), "cuda\n");
    assert!(attached.errors().contains(place), "{attached}");
    let without = host.lab.shell(&[], "echo $DEVICE").ok();
    assert!(without.errors().contains(" on `lab`, cpu"), "{without}");
    for option in ["--json", "--quiet"] {
        let silent = host.lab.shell(&["--gpus", "1", option], "echo $DEVICE").ok();
        assert!(!silent.errors().contains(place), "{silent}");
    }
    let run = host
        .lab
        .detached(&["--gpus", "1"], "echo $DEVICE; exec sleep 600");
    let mut follow = home.spawn(&["attach", &run]);
    follow.wait_for("the log", SOON, |follow| follow.stdout() == b"cuda\n");
    let running = format!("{run} is running {place}; Ctrl-C detaches\n");
    assert!(follow.stderr().contains(&running), "{}", follow.stderr());
    let _ = follow.kill();
    let _ = home.farrun(&["stop", &run, "--kill"]).ok();
    let shown = home.farrun(&["show", &run]).ok();
    let device = |line: &&str| line.split_whitespace().eq(["device:", "cuda"]);
    assert!(shown.text().lines().any(|line| device(&line)), "{shown}");
    let piped = home.farrun(&["logs", &run]).ok();
    assert_eq!((piped.text(), piped.errors().as_str()), ("cuda\n", ""), "{piped}");
    let mut terminal = Pty::start(&home.command(&["logs", &run]), 24, 200);
    assert_eq!(terminal.wait(SOON), Some(0), "{}", terminal.words(0));
    terminal.wait_for(0, &format!("{run} {place} cuda"), SOON);
    for option in ["--json", "--quiet"] {
        let mut terminal = Pty::start(&home.command(&["logs", &run, option]), 24, 200);
        assert_eq!(terminal.wait(SOON), Some(0), "{}", terminal.words(0));
        assert!(!terminal.words(0).contains(place), "{}", terminal.words(0));
    }
}

#[test]
fn runs_wait_in_line_and_start_when_it_is_their_turn() {
    let host = host_with(1);
    let wait = &["--gpus", "1", "--wait"];
    let first = host.lab.detached(wait, "exec sleep 600");
    let second = host.lab.detached(wait, "echo second");
    let urgent = host
        .lab
        .detached(&["--gpus", "1", "--wait", "--priority", "5"], "echo urgent");
    assert_eq!(host.lab.status(&second), "queued");
    let status = host.lab.home.farrun(&["status", "--json"]).ok().json();
    let place = |run: &str| {
        let runs = status["hosts"][0]["runs"].as_array().unwrap();
        let found = runs.iter().find(|shown| shown["id"] == run).unwrap();
        found["queue"]["position"].clone()
    };
    assert_eq!((place(&urgent), place(&second)), (1.into(), 2.into()), "{status}");
    // Its GPU does nothing, as the samples of the observer tell.
    wait_for("idleness", SOON, || {
        let status = host.lab.home.farrun(&["status", "--json"]).ok().json();
        let runs = status["hosts"][0]["runs"].as_array().unwrap().clone();
        let shown = runs
            .into_iter()
            .find(|shown| shown["id"] == first.as_str())
            .unwrap();
        shown["gpu_idle_seconds"].as_u64().filter(|seconds| *seconds > 0)
    });
    // Out of the line again, without a container ever.
    let third = host.lab.detached(wait, "echo never");
    let _ = host.lab.home.farrun(&["stop", &third]).ok();
    assert_eq!(host.lab.status(&third), "cancelled");
    assert!(host.lab.containers(&third).is_empty());
    let _ = host.lab.home.farrun(&["stop", &first, "--kill"]).ok();
    for run in [&urgent, &second] {
        host.lab.wait_status(run, &["downloading", "completed"], STARTS);
    }
    let ended = |run: &str| {
        host.lab.show(run)["run"]["started_at"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(ended(&urgent) < ended(&second));
}

/// A recipe that needs a GPU, and so waits for one unless told otherwise.
const NEEDS_A_GPU: &str = r#"
format = 1
name = "hungry"
image = "farrun-test-busybox:1"
pull = "never"
[container]
entrypoint = []
gpus = 1
[operations.inference]
argv = ["/bin/sh", "-c", "echo {prompt} on $NVIDIA_VISIBLE_DEVICES; sleep 0.3"]
"#;

#[test]
fn several_prompts_take_turns_on_one_gpu_with_the_laptop_closed() {
    let host = host_with(1);
    let home = &host.lab.home;
    home.write(".config/farrun/recipes/hungry.toml", NEEDS_A_GPU);
    let names = ["dawn", "noon", "dusk"];
    for name in names {
        let _ = home.farrun(&["prompt", "create", name, "--name", name]).ok();
    }
    let order = [
        "inference",
        "dawn",
        "noon",
        "dusk",
        "--recipe",
        "hungry",
        "--host",
        "lab",
        "--detach",
    ];
    let _ = home.farrun(&order).ok();
    // From here on nobody connects.
    let runs = host.lab.state().join("runs");
    wait_for("three ends", STARTS, || {
        let entries = std::fs::read_dir(&runs).ok()?;
        let settled = entries.filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|run| run.path().join("settled.json").exists())
        });
        (settled.count() == names.len()).then_some(())
    });
    let listed = home.farrun(&["list", "--json"]).ok().json();
    let mut shown: Vec<Value> = listed["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| host.lab.show(run["id"].as_str().unwrap())["run"].clone())
        .collect();
    let time = |run: &Value, name: &str| -> chrono::DateTime<chrono::Utc> {
        run[name].as_str().unwrap().parse().unwrap()
    };
    shown.sort_by_key(|run| time(run, "started_at"));
    let order: Vec<&str> = shown.iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(order, names, "{listed}");
    for (one, next) in shown.iter().zip(&shown[1..]) {
        assert!(time(one, "ended_at") <= time(next, "started_at"), "{one} {next}");
    }
    for (run, name) in shown.iter().zip(names) {
        let said = home.farrun(&["logs", run["id"].as_str().unwrap()]).ok();
        assert_eq!(said.text(), format!("{name} on {}\n", NvidiaSmi::uuid(0)));
    }
}

#[test]
fn attached_order_tells_its_place_and_follows_when_it_starts() {
    let host = host_with(1);
    let first = host.lab.detached(&["--gpus", "1"], "exec sleep 600");
    let mut waiting = host.lab.home.spawn(&host.lab.shell_arguments(
        farrun_tests::BUSYBOX,
        &["--gpus", "1", "--wait"],
        "echo my turn",
    ));
    waiting.wait_for("its place", SOON, |waiting| waiting.stderr().contains("in line"));
    let _ = host.lab.home.farrun(&["stop", &first, "--kill"]).ok();
    let outcome = waiting.finish(STARTS).ok();
    assert_eq!(outcome.text(), "my turn\n");
}

#[test]
fn host_without_gpus_is_refused_before_anything_is_sent() {
    let host = host_with(0);
    let outcome = host.lab.shell(&["--gpus", "1"], "true").expect_code(5);
    assert!(outcome.errors().contains("no GPU"), "{outcome}");
    assert_eq!(host.lab.show("@last")["run"]["reason"], "gpu_refused");
    host.smi.fail(
        9,
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    );
    // What was found is believed for an hour, unless somebody asks to look again.
    let _ = host.lab.home.farrun(&["gpu", "--detect"]).ok();
    let outcome = host.lab.shell(&["--gpus", "1"], "true").expect_code(5);
    assert!(outcome.errors().contains("modprobe"), "{outcome}");
    let folders = std::fs::read_dir(host.lab.state().join("runs")).map_or(0, Iterator::count);
    assert_eq!(folders, 0);
}

#[test]
fn any_host_is_the_one_with_a_free_gpu() {
    let host = host_with(1);
    host.lab.add_host("twin", host.lab.sshd.port());
    let busy = host.lab.detached(&["--gpus", "1"], "exec sleep 600");
    let refused = host
        .lab
        .home
        .farrun(&[
            "run",
            farrun_tests::BUSYBOX,
            "--host",
            "any",
            "--gpus",
            "1",
            "--",
            "/bin/true",
        ])
        .expect_code(5);
    assert!(refused.errors().contains("`lab`"), "{refused}");
    let _ = host.lab.home.farrun(&["stop", &busy, "--kill"]).ok();
    let chosen = host
        .lab
        .home
        .farrun(&[
            "run",
            farrun_tests::BUSYBOX,
            "--host",
            "any",
            "--gpus",
            "1",
            "--",
            "/bin/echo",
            "here",
        ])
        .ok();
    assert_eq!(chosen.text(), "here\n");
    assert!(chosen.errors().contains("fits best"), "{chosen}");
}

#[test]
fn a_process_of_somebody_else_on_a_leased_gpu_is_told_and_harms_nobody() {
    let host = host_with(1);
    let run = host.lab.detached(&["--gpus", "1"], "exec sleep 600");
    // This test itself is a process of the host that is in no container of ours.
    host.smi.processes(&[(0, std::process::id(), "python", 2048)]);
    wait_for("the intruder to be noticed", STARTS, || {
        let summary = host.lab.show(&run)["run"]["gpu_summary"].clone();
        (summary["intruders"] == true).then_some(())
    });
    let told = host.lab.home.farrun(&["show", &run]).ok();
    assert!(
        told.text().contains("somebody else's process was on them"),
        "{told}"
    );
    let told = host.lab.home.farrun(&["gpu"]).ok();
    assert!(
        told.text().contains(&run) && told.text().contains(&format!("pid {}", std::process::id())),
        "{told}"
    );
    // It is told as well to whoever wants the GPU next; nothing was ended.
    let refused = host.lab.shell(&["--gpus", "1"], "true").expect_code(5);
    assert!(refused.errors().contains(&run), "{refused}");
    assert_eq!(host.lab.status(&run), "running");
    let _ = host.lab.home.farrun(&["stop", &run, "--kill"]).ok();
    let refused = host.lab.shell(&["--gpus", "1"], "true").expect_code(5);
    assert!(
        refused.errors().contains(&format!("pid {}", std::process::id())),
        "{refused}"
    );
}

#[test]
fn show_plots_a_run_at_a_terminal_and_asks_for_nothing() {
    let host = host_with(1);
    let run = host.lab.detached(&["--gpus", "1"], "exec sleep 600");
    wait_for("samples", SOON, || {
        let samples = host.lab.show(&run)["run"]["gpu_summary"]["samples"].as_u64();
        samples.filter(|samples| *samples > 1)
    });
    let shown = || {
        let mut terminal = Pty::start(&host.lab.home.command(&["show", &run]), 60, 100);
        assert_eq!(terminal.wait(SOON), Some(0), "{}", terminal.words(0));
        terminal.wait_for(0, "pending -> running", SOON);
        terminal.words(0)
    };
    let words = shown();
    assert!(words.contains("GPU 0 utilisation (%)"), "{words}");
    let changed = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "sesame", "-f"])
        .arg(host.lab.sshd.identity())
        .status();
    assert!(changed.unwrap().success());
    let words = shown();
    assert!(!words.contains("GPU 0 utilisation (%)"), "{words}");
    assert!(!words.contains("assphrase for"), "{words}");
}

#[test]
fn locks_that_cannot_be_made_are_a_refusal_that_names_them() {
    // Not even root makes a folder there.
    let host = host_with_locks(
        1,
        Toolkit::Gives,
        "/proc/locks-of-farrun",
        tempfile::tempdir().unwrap(),
    );
    let refused = host.lab.shell(&["--gpus", "1"], "true").expect_code(5);
    assert!(refused.errors().contains("/proc/locks-of-farrun"), "{refused}");
    assert!(refused.errors().contains("hint:"), "{refused}");
    assert_eq!(host.lab.shell(&[], "echo runs").ok().text(), "runs\n");
}
