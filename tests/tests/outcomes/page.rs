//! `docs/outcomes.md` is this suite's table, and names where the rest is tested.

use crate::cell::Cell;
use crate::{cells, engines, silent};
use farrun_protocol::verdict::Reason;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Ends that other suites see to: what happens, the reason, the file, and the test in it.
const ELSEWHERE: &[(&str, Reason, &str, &str)] = &[
    (
        "the registry wants a password",
        Reason::ImageDenied,
        "tests/tests/e2e/registry.rs",
        "registry_that_wants_a_password_is_named",
    ),
    (
        "the registry does not have the image",
        Reason::ImageMissing,
        "tests/tests/e2e/registry.rs",
        "image_that_does_not_exist_is_named",
    ),
    (
        "the registry is lost within a layer",
        Reason::ImagePull,
        "tests/tests/e2e/registry.rs",
        "registry_lost_within_a_layer_is_told_and_the_next_order_fetches_the_rest",
    ),
    (
        "exit code 0 without an output that is required",
        Reason::OutputMissing,
        "tests/tests/e2e/failures.rs",
        "output_that_was_demanded_and_is_missing",
    ),
    (
        "a folder of the host that is to be mounted does not exist",
        Reason::EngineRefused,
        "tests/tests/e2e/failures.rs",
        "mount_whose_source_does_not_exist",
    ),
    (
        "the run's folder on the host was removed",
        Reason::Unknown,
        "tests/tests/e2e/failures.rs",
        "folder_of_the_run_removed_on_the_host",
    ),
    (
        "the disk of the host is full when the job ends",
        Reason::Ok,
        "remote-agent/tests/init_suite/full_disk.rs",
        "a_job_succeeds_while_its_disk_fills_up",
    ),
    (
        "the secrets do not reach the job",
        Reason::SecretsMissing,
        "remote-agent/tests/init_suite/secrets.rs",
        "a_delivery_that_ends_early_starts_nothing",
    ),
    (
        "the engine has no way to hand out GPUs",
        Reason::GpuUnavailable,
        "remote-agent/tests/serve_launch/main.rs",
        "a_refused_start_is_the_end_of_the_run",
    ),
    (
        "the container was given a GPU and has no device of one",
        Reason::GpuUnavailable,
        "tests/tests/e2e/gpus_that_lie.rs",
        "a_toolkit_that_names_a_gpu_and_gives_none_ends_the_run",
    ),
    (
        "the host has no GPU",
        Reason::GpuRefused,
        "tests/tests/e2e/gpus.rs",
        "host_without_gpus_is_refused_before_anything_is_sent",
    ),
    (
        "the lock of its GPU is another's when it is started",
        Reason::GpuTaken,
        "remote-agent/tests/init_suite/locks.rs",
        "a_lock_that_another_holds_starts_nothing_and_one_that_is_looked_at_does",
    ),
    (
        "no GPU became free in time",
        Reason::WaitExpired,
        "remote-agent/tests/serve_launch/gpus.rs",
        "a_run_leaves_the_line_when_it_is_stopped_or_has_waited_enough",
    ),
    (
        "Ctrl-C before the host has acknowledged the order",
        Reason::Interrupted,
        "tests/tests/e2e/interrupt.rs",
        "while_connecting_cancels",
    ),
    (
        "a container that was made and never started",
        Reason::NotLaunched,
        "remote-agent/protocol/src/verdict/tests.rs",
        "a_container_that_was_never_started_has_the_engines_words",
    ),
    (
        "the host is given up while the run is unfinished",
        Reason::HostLost,
        "tests/tests/e2e/owners.rs",
        "host_with_unfinished_runs_is_not_forgotten",
    ),
    (
        "the host is given up before the outputs are here",
        Reason::OutputsLost,
        "tests/tests/e2e/machine.rs",
        "outputs_of_a_machine_that_is_gone_are_given_up_only_on_request",
    ),
    (
        "ends long before the host or the engine was restarted",
        Reason::KilledByOther,
        "remote-agent/protocol/src/verdict/tests.rs",
        "a_restart_of_the_host_takes_what_lived_then",
    ),
];

const HEAD: &str = "# How a run ends, and what is said about it

A run's end is judged by whoever looks first after it, from facts in this order of trust: the record that PID 1 of the
container wrote, then the engine, then the name of the host's boot. Without that record nothing succeeds, unless the
recipe says `capture = \"docker\"`: then the engine's word is all there is. What was asked for after the end, and an engine or a
host that was restarted more than 15 minutes after it, has not caused it.

The first contact after the end settles it, also when no engine answers: by that record, by the lock that PID 1 held on the
run for as long as it lived, or by the name of the boot. Then an engine that is down is what took a job that was asked to end
or left no record, unless it last said `live-restore`; what only it would know is named as missing.

What nobody but the engine can know is not supposed: who ended a container without a record while the engine hangs or its containers
live on without it, and how a job ended that the engine captures. That such a job has ended is known when no process of the host
belongs to its container any more, where the account could see one while it lived, and when the host was booted since. Then the run has
failed with `engine_silent`, after a moment in which an engine that is only being restarted comes back (20 s since the job was last
seen). The first contact after the engine answers puts its word in the place of that, also a success; it is the only final state that
may become another, and nobody who was told of the end is told again. Where the account cannot see the processes of others
(`hidepid`, an agent in a container of its own), or the engine was lost between the start of the job and the look at it, such a run waits
for its engine.

`reason` is a stable code ([json.md](json.md#reason)); the line is what `farrun show`, `farrun list` and `--json` give as
`error_message`, at most 1000 characters. `…` stands for words of the kernel or the engine. Every row below is a job in a real
container; this page is written from the suite in `tests/tests/outcomes` and checked by it.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn written() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "With an engine that works", &cells::all());
    section(
        &mut page,
        "Under an engine that takes its containers along",
        &[engines::restarted(), engines::killed(), engines::gone()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>(),
    );
    section(
        &mut page,
        "Under an engine with `live-restore`",
        &[
            engines::restarted_with_live_restore(),
            engines::killed_with_live_restore(),
            engines::gone_with_live_restore(),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>(),
    );
    let silent = [silent::hangs(), silent::down(), silent::down_with_live_restore()];
    let silent: Vec<Cell> = silent
        .into_iter()
        .flatten()
        .flat_map(|told| [told.silent, told.then])
        .collect();
    section(
        &mut page,
        "While the engine says nothing, and afterwards",
        &silent,
    );
    page.push_str("\n## Tested elsewhere\n\n| what happens | `reason` | where |\n|---|---|---|\n");
    for (what, reason, file, test) in ELSEWHERE {
        writeln!(page, "| {what} | `{}` | `{file}`: `{test}` |", reason.code()).unwrap();
    }
    page
}

fn section(page: &mut String, title: &str, cells: &[Cell]) {
    writeln!(
        page,
        "\n## {title}\n\n| what happens | the run | `reason` | the line |\n|---|---|---|---|"
    )
    .unwrap();
    for cell in cells {
        let says = if cell.says.is_empty() { "" } else { cell.says };
        writeln!(
            page,
            "| {} | {} | `{}` | {says} |",
            cell.name,
            cell.result,
            cell.reason.code()
        )
        .unwrap();
    }
}

/// `FARRUN_WRITE_DOCS=1` writes the page anew.
#[test]
fn the_page_is_this_table() {
    let path = root().join("docs/outcomes.md");
    let written = written();
    if std::env::var_os("FARRUN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == written,
        "docs/outcomes.md is not the table of this suite: run the test once with FARRUN_WRITE_DOCS=1"
    );
}

#[test]
fn every_reason_is_tested_somewhere_and_every_cell_once() {
    let cells: Vec<Cell> = [
        cells::all(),
        engines::restarted(),
        engines::killed(),
        engines::gone(),
        engines::restarted_with_live_restore(),
        engines::killed_with_live_restore(),
        engines::gone_with_live_restore(),
        [silent::hangs(), silent::down(), silent::down_with_live_restore()]
            .into_iter()
            .flatten()
            .map(|told| told.silent)
            .collect(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names: BTreeSet<&str> = cells.iter().map(|cell| cell.name).collect();
    assert_eq!(names.len(), cells.len(), "two cells have one name");
    assert!(cells.len() >= 100, "{}", cells.len());
    let covered = |reason: &Reason| {
        cells.iter().any(|cell| cell.reason == *reason)
            || ELSEWHERE.iter().any(|(_, elsewhere, ..)| elsewhere == reason)
    };
    let missing: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !covered(reason)).collect();
    assert!(missing.is_empty(), "no test is named for {missing:?}");
    for (what, _, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(
            text.contains(&format!("fn {test}(")),
            "{what}: {file} has no test `{test}`"
        );
    }
}
