//! Starting runs: exit codes, idempotence, what a container is given.

use crate::SOON;
use farrun_tests::{BUSYBOX, Lab, SCRATCH, USER};

#[test]
fn attached_run_prints_its_log_and_ends_with_0() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], "echo to stdout; echo to stderr >&2").ok();
    let mut lines: Vec<&str> = outcome.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["to stderr", "to stdout"]);
}

#[test]
fn failing_job_ends_with_1_and_says_its_code() {
    let lab = Lab::new();
    let outcome = lab.shell(&[], "echo before; exit 17").expect_code(1);
    assert_eq!(outcome.text(), "before\n");
    assert!(outcome.errors().contains("17"), "{outcome}");
}

#[test]
fn image_from_scratch_runs_its_own_command() {
    let lab = Lab::new();
    let outcome = lab.home.farrun(&["run", SCRATCH, "--host", "lab"]).ok();
    assert_eq!(outcome.text(), "from scratch\n");
}

#[test]
fn entrypoint_and_command_follow_the_engines_rules() {
    let lab = Lab::new();
    let run = |arguments: &[&str]| {
        let arguments = [&["run", "--host", "lab"][..], arguments].concat();
        lab.home.farrun(&arguments).ok().text().to_owned()
    };
    assert_eq!(run(&[BUSYBOX]), "default command\n");
    assert_eq!(run(&[BUSYBOX, "--", "/bin/echo", "own words"]), "own words\n");
    assert_eq!(
        run(&[BUSYBOX, "--entrypoint", "/bin/echo", "--", "a", "b"]),
        "a b\n"
    );
    // An entrypoint of one's own drops the image's command.
    assert_eq!(run(&[BUSYBOX, "--entrypoint", "/bin/echo"]), "\n");
    assert_eq!(run(&[SCRATCH, "--", "own words"]), "own words\n");
    assert_eq!(
        run(&[SCRATCH, "--entrypoint", "/busybox", "--", "echo", "x"]),
        "x\n"
    );
}

#[test]
fn words_reach_the_job_as_they_are() {
    let lab = Lab::new();
    let words = ["", " ", "it's", "\"$(id)\"", "a\nb", "--", "-x", "🦀", "\\"];
    let arguments = ["run", BUSYBOX, "--host", "lab", "--", "/bin/printf", "[%s]"];
    let arguments = [&arguments[..], &words].concat();
    let expected: String = words.iter().map(|word| format!("[{word}]")).collect();
    assert_eq!(lab.home.farrun(&arguments).ok().text(), expected);
}

#[test]
fn user_folder_and_environment_are_set() {
    let lab = Lab::new();
    let options = [
        "--user",
        "1234:5678",
        "--workdir",
        "/work",
        "--env",
        "A=b=c d",
        "--env",
        "EMPTY=",
    ];
    let outcome = lab
        .shell(
            &options,
            "id -u; id -g; pwd; echo \"[$A][${EMPTY-unset}]\"; echo $FARRUN_RUN_ID",
        )
        .ok();
    let run = lab.show("@last")["run"]["id"].as_str().unwrap().to_owned();
    assert_eq!(outcome.text(), format!("1234\n5678\n/work\n[b=c d][]\n{run}\n"));
    let arguments = lab.shell_arguments(USER, &[], "id -u; echo x > /farrun/outputs/x");
    assert_eq!(lab.home.farrun(&arguments).ok().text(), "1234\n");
}

#[test]
fn mounted_folder_is_the_hosts() {
    let lab = Lab::new();
    let models = farrun_tests::temporary_folder();
    std::fs::write(models.path().join("weights"), "heavy").unwrap();
    let mount = format!("{}:/models:ro", models.path().display());
    let script = "cat /models/weights; touch /models/new 2>/dev/null && echo written";
    assert_eq!(
        lab.shell(&["--mount", &mount], script).expect_code(1).text(),
        "heavy"
    );
    for source in ["/", "/etc", "/var/run/docker.sock", "/proc"] {
        let mount = format!("{source}:/x");
        let _ = lab.shell(&["--mount", &mount], "true").expect_code(2);
    }
}

#[test]
fn running_container_is_found_by_its_labels() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    for label in [
        format!("run_id={run}"),
        format!("farrun.run_id={run}"),
        "operation=run".to_owned(),
        "start_time".to_owned(),
        "farrun.gpus=none".to_owned(),
    ] {
        let (one, label) = (format!("label=run_id={run}"), format!("label={label}"));
        let listed = lab.engine.ask(&[
            "ps",
            "--filter",
            &one,
            "--filter",
            &label,
            "--format",
            "{{.Names}}",
        ]);
        assert_eq!(listed, format!("farrun-{run}"), "{label}");
    }
}

#[test]
fn container_carries_the_promised_labels() {
    let lab = Lab::new();
    let run = lab.detached(&[], "sleep 600");
    let container = format!("farrun-{run}");
    for label in ["run_id", "farrun.run_id"] {
        let format = format!("{{{{index .Config.Labels \"{label}\"}}}}");
        assert_eq!(lab.engine.ask(&["inspect", "--format", &format, &container]), run);
    }
    let _ = lab.home.farrun(&["stop", &run]);
    lab.wait_status(&run, &["cancelled", "failed"], SOON);
}

#[test]
fn same_key_finds_the_first_run() {
    let lab = Lab::new();
    let first = lab.detached(&["--key", "order-1"], "echo once; sleep 600");
    let second = lab.detached(&["--key", "order-1"], "echo once; sleep 600");
    assert_eq!(first, second);
    assert_eq!(lab.containers(&first).len(), 1);
    // A run that was stopped was executed, so its key still finds it.
    let _ = lab.home.farrun(&["stop", &first]).ok();
    let again = lab.shell(&["--key", "order-1"], "echo once; sleep 600");
    let again = again.expect_code(7).expect_error(&first);
    assert_eq!(again.text(), "");
    assert_eq!(crate::trouble::runs(&lab), 1);
}

#[test]
fn detached_order_is_done_once_its_job_was_started() {
    let lab = Lab::new();
    // However fast the job fails, and however long ago it did.
    let run = lab.detached(&["--key", "fails"], "exit 3");
    lab.wait_status(&run, &["failed"], SOON);
    assert_eq!(lab.detached(&["--key", "fails"], "exit 3"), run);
    let text = lab.shell(&["--key", "fails", "--detach"], "exit 3").ok();
    assert_eq!(text.text().trim(), run);
    // What was never started is another matter.
    let missing = [
        "run",
        "farrun-nothing:1",
        "--host",
        "lab",
        "--detach",
        "--pull-image",
        "never",
    ];
    let refused = lab.home.farrun(&missing).expect_code(1);
    assert!(refused.errors().contains("farrun-nothing:1"), "{refused}");
}

#[test]
fn dry_run_sends_nothing() {
    let lab = Lab::new();
    let options = [
        "--dry-run",
        "--time-limit",
        "90m",
        "--memory",
        "2g",
        "--mount",
        "~/m:/m:ro",
    ];
    let plan = lab.shell(&options, "echo never").ok();
    for part in ["'echo never'", "1 h 30 m", "2.0 GiB", "~/m -> /m (read only)"] {
        assert!(plan.text().contains(part), "{part}: {plan}");
    }
    assert!(
        !lab.state().join("runs").exists()
            || std::fs::read_dir(lab.state().join("runs")).unwrap().count() == 0
    );
}

#[test]
fn environment_and_input_reach_the_job() {
    let lab = Lab::new();
    let clip = lab.home.write("clip.bin", b"the input's bytes");
    let input = format!("clip={}", clip.display());
    let options = ["--env", "GREETING=hello there", "--input", &input];
    let script =
        "echo \"$GREETING\"; cat /input/* 2>/dev/null || find / -name 'clip*' -type f -exec cat {} +";
    let outcome = lab.shell(&options, script).ok();
    assert!(outcome.text().contains("hello there"), "{outcome}");
    assert!(outcome.text().contains("the input's bytes"), "{outcome}");
}

#[test]
fn time_limit_ends_the_job_and_names_itself() {
    let lab = Lab::new();
    let outcome = lab
        .shell(&["--time-limit", "2s"], "echo started; sleep 600")
        .expect_code(1);
    assert_eq!(outcome.text(), "started\n");
    assert!(outcome.errors().contains("time limit"), "{outcome}");
}

#[test]
fn key_finds_a_run_that_has_ended() {
    let lab = Lab::new();
    let _ = lab.shell(&["--key", "k"], "echo once; exit 3").expect_code(1);
    let again = lab.shell(&["--key", "k"], "echo once; exit 3").expect_code(1);
    assert_eq!(again.text(), "");
    let listed = lab.home.farrun(&["list", "--json"]).ok().json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_large_input_is_in_its_place_and_cannot_be_changed() {
    let lab = Lab::new();
    let content: String = (0..3_000_000).map(|number| format!("{number}\n")).collect();
    let input = format!("deep/clip={}", lab.home.write("clip", &content).display());
    let script = "cd /farrun/inputs/deep; wc -c <clip; echo x >>clip; rm -f clip; mv clip other; chmod 600 clip; \
                  cp clip /farrun/outputs/copy; ls";
    // Once it is sent, and once the host has it.
    for _ in 0..2 {
        let outcome = lab.shell(&["--input", &input], script).ok();
        assert_eq!(
            outcome.text().lines().next(),
            Some(content.len().to_string().as_str()),
            "{outcome}"
        );
        assert_eq!(outcome.text().lines().last(), Some("clip"), "{outcome}");
        assert!(crate::pull::named(&lab, "copy") == content.as_bytes());
        std::fs::remove_dir_all(lab.home.outputs()).unwrap();
    }
    let kept: Vec<u64> = std::fs::read_dir(lab.state().join("blobs"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert_eq!(kept, [content.len() as u64]);
}
