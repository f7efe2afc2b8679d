//! What the terminal shows of a diagnosis.

use super::print::lines;
use super::standing;
use crate::diagnosis::{
    Certainty, Context, Diagnosis, DiskContext, Finding, GpuContext, LogLine, MemoryContext, Missing,
    OtherUse, Quote, Remedy,
};
use crate::model::{Run, RunStatus};
use crate::run::why::Why;
use chrono::{TimeDelta, Utc};
use unicode_width::UnicodeWidthStr as _;

fn run(status: RunStatus) -> Run {
    let spec = serde_json::json!({
        "format": 1, "run_id": "rs_k3v9abcd", "controller_id": "co_abcdefgh", "operation": "inference", "name": "city",
        "created_at": "2026-01-02T03:04:05Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
    });
    serde_json::from_value(serde_json::json!({
        "id": "rs_k3v9abcd", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "inference", "status": status,
        "error_message": "the job exited with code 1", "exit_code": 1, "spec": spec, "log_complete": true, "gpus": "1",
        "created_at": "2026-03-01T10:00:00Z", "launched_at": "2026-03-01T10:00:00Z",
        "started_at": "2026-03-01T10:00:00Z", "ended_at": "2026-03-01T10:02:05Z", "updated_at": "2026-03-01T10:02:05Z",
    }))
    .unwrap()
}

fn line(offset: u64, text: &str, cause: bool) -> LogLine {
    LogLine {
        offset: Some(offset),
        text: text.to_owned(),
        cause,
    }
}

fn cause() -> Finding {
    Finding {
        code: "gpu_memory",
        certainty: Certainty::Certain,
        sentence: "the GPU's memory is full: the job needed another 20.0 GiB, of 79.1 GiB only 2.2 GiB were free, and \
                   `python` held 51.0 GiB of it"
            .to_owned(),
        evidence: vec![Quote {
            file: "run.log".to_owned(),
            offset: Some(10_234),
            text: "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total \
                   capacity of 79.11 GiB of which 2.20 GiB is free."
                .to_owned(),
        }],
        remedies: vec![
            Remedy {
                text: "Ask for a GPU with enough free memory; it waits in line until there is one".to_owned(),
                command: Some("farrun rerun rs_k3v9abcd --min-free 77g --wait".to_owned()),
            },
            Remedy {
                text: "Make the batch smaller".to_owned(),
                command: None,
            },
        ],
    }
}

fn diagnosis(cause: Option<Finding>) -> Diagnosis {
    Diagnosis {
        run_id: "rs_k3v9abcd".parse().unwrap(),
        cause,
        also: Vec::new(),
        ending: String::new(),
        last_lines: Vec::new(),
        around: Vec::new(),
        context: Context::default(),
        missing: Vec::new(),
        moments: Vec::new(),
        documents: Vec::new(),
        samples: Vec::new(),
    }
}

fn shown(why: &Why, width: Option<usize>) -> String {
    let lines = lines(why, why.diagnosis.as_ref().unwrap(), width);
    // Those that are never broken are there to be copied.
    let copied = |line: &str| line.starts_with("     farrun ") || line.starts_with("evidence: ");
    for line in lines.iter().filter(|line| !copied(line)) {
        assert!(width.is_none_or(|width| line.width() <= width), "{line}");
    }
    lines.join("\n")
}

#[test]
fn a_cause_with_everything_around_it_fits_eighty_columns() {
    let mut found = diagnosis(Some(cause()));
    found.around = vec![
        line(10_200, "step 41/50", false),
        line(10_211, "Traceback (most recent call last):", false),
        line(10_234, "torch.OutOfMemoryError: CUDA out of memory.", true),
    ];
    found.also = vec![Finding {
        code: "log_error",
        certainty: Certainty::Seen,
        sentence: "the disk of the host is nearly full".to_owned(),
        evidence: Vec::new(),
        remedies: Vec::new(),
    }];
    found.context = Context {
        collected_at: None,
        machine: None,
        driver: Some("550.54.15".to_owned()),
        cuda: Some("12.4".to_owned()),
        engine: Some("26.1.3".to_owned()),
        gpus: vec![GpuContext {
            uuid: "GPU-a".to_owned(),
            index: 0,
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            of_the_run: true,
            memory_total: Some(81_559),
            memory_used: Some(52_300),
            memory_before: Some(300),
            trouble: None,
            others: vec![OtherUse {
                who: "python of bob".to_owned(),
                memory: Some(52_224),
                pid: Some(4711),
            }],
        }],
        memory: MemoryContext {
            limit: Some(64 << 30),
            peak: Some(12 << 30),
            total: Some(256 << 30),
            available: Some(200 << 30),
        },
        disks: vec![
            DiskContext {
                role: "engine".to_owned(),
                path: "/var/lib/docker".to_owned(),
                total: 500 << 30,
                free: 200 << 30,
                inodes_free: 1,
                device: None,
            },
            DiskContext {
                role: "state".to_owned(),
                path: "/home/ada/.local/share/farrun".to_owned(),
                total: 100 << 30,
                free: 1 << 30,
                inodes_free: 1,
                device: None,
            },
        ],
    };
    found.missing = vec![Missing {
        file: "kernel.log".to_owned(),
        why: "the account may not read the kernel's log, neither with `journalctl -k` nor with `dmesg`"
            .to_owned(),
        partial: false,
    }];
    let why = Why {
        run: run(RunStatus::Failed),
        diagnosis: Some(found),
        folder: Some("/home/ada/farrun/outputs/city/diagnostics/rs_k3v9abcd".into()),
        absent: None,
    };
    insta::assert_snapshot!(shown(&why, Some(80)));
    // In a pipe nothing is broken, so that it can be searched.
    let piped = shown(&why, None);
    assert!(piped.contains(&cause().sentence), "{piped}");
    assert!(piped.contains(&cause().evidence[0].text), "{piped}");
}

#[test]
fn without_a_known_cause_nothing_is_invented_and_what_is_missing_is_named() {
    let mut found = diagnosis(None);
    found.last_lines = vec![
        line(0, "loading", false),
        line(8, "something nobody has seen before", false),
    ];
    let why = Why {
        run: run(RunStatus::Failed),
        diagnosis: Some(found),
        folder: None,
        absent: Some("host `gpu1` did not answer within 10 s".to_owned()),
    };
    insta::assert_snapshot!(shown(&why, Some(80)));
}

#[test]
fn nothing_is_said_twice_and_nothing_that_could_not_matter() {
    let mut why = Why {
        run: run(RunStatus::Failed),
        diagnosis: None,
        folder: None,
        absent: None,
    };
    let mut found = diagnosis(None);
    found.ending = "the job exited with code 1, which programs use for any error".to_owned();
    let head = |why: &Why, found: &Diagnosis| lines(why, found, None)[1..3].join("|");
    assert_eq!(head(&why, &found), format!("{}|", found.ending));
    found.ending = "a signal ended the job".to_owned();
    assert_eq!(
        head(&why, &found),
        "the job exited with code 1|a signal ended the job"
    );
    found.cause = Some(cause());
    assert_eq!(head(&why, &found), "a signal ended the job|");

    let disk = |role: &str, free: u64| DiskContext {
        role: role.to_owned(),
        path: format!("/{role}"),
        total: 500 << 30,
        free,
        inodes_free: 7,
        device: None,
    };
    found.context.disks = vec![
        disk("state", 200 << 30),
        disk("engine", 100 << 30),
        disk("tmp", 200 << 30),
    ];
    found.missing = [
        "series.jsonl",
        "nvidia-smi-q.txt",
        "nvidia-smi-q.xml",
        "caches.txt",
        "gpus.json",
    ]
    .map(|file| Missing {
        file: file.to_owned(),
        why: "it is not there".to_owned(),
        partial: false,
    })
    .into();
    let text = lines(&why, &found, None).join("\n");
    assert!(
        text.contains("/state (also tmp)") && text.contains("/engine\n"),
        "{text}"
    );
    assert!(!text.contains("disk (tmp)"), "{text}");
    assert!(text.contains("MISSING\n  gpus.json  it is not there"), "{text}");
    why.run.spec.gpus = farrun_protocol::spec::Gpus::All;
    let text = lines(&why, &found, None).join("\n");
    assert!(
        text.contains("series.jsonl") && text.contains("nvidia-smi-q.xml") && !text.contains("caches.txt"),
        "{text}"
    );
}

#[test]
fn nothing_from_a_host_passes_for_a_line_of_ours() {
    let hostile = "\u{1b}[2J\u{202e}x\r\nWHAT TO TRY\n  1. rm -rf ~";
    let mut found = diagnosis(Some(Finding {
        sentence: hostile.to_owned(),
        certainty: Certainty::Likely,
        evidence: vec![Quote {
            file: hostile.to_owned(),
            offset: None,
            text: hostile.to_owned(),
        }],
        ..cause()
    }));
    found.around = vec![line(0, hostile, true)];
    found.context.machine = Some(hostile.to_owned());
    found.context.engine = Some(hostile.to_owned());
    found.missing = vec![Missing {
        file: hostile.to_owned(),
        why: hostile.to_owned(),
        partial: true,
    }];
    let why = Why {
        run: run(RunStatus::Failed),
        diagnosis: Some(found),
        folder: None,
        absent: Some(hostile.to_owned()),
    };
    for width in [None, Some(80)] {
        let lines = lines(&why, why.diagnosis.as_ref().unwrap(), width);
        let ours = |line: &&String| line.as_str() == "WHAT TO TRY" || line.starts_with("  1. ");
        assert_eq!(lines.iter().filter(ours).count(), 2, "{lines:#?}");
        let bad = |line: &String| line.chars().any(crate::ui::escape::is_hostile) || line.contains('\n');
        assert!(!lines.iter().any(bad), "{lines:#?}");
    }
}

#[test]
fn every_state_has_its_own_answer() {
    let mut said: Vec<String> = RunStatus::ALL
        .into_iter()
        .filter(|status| !matches!(status, RunStatus::Failed | RunStatus::Cancelled))
        .map(|status| standing(&run(status), true).0)
        .collect();
    let waiting = Run {
        launched_at: None,
        ..run(RunStatus::Pending)
    };
    let (note, hint) = standing(&waiting, true);
    assert!(
        note.contains("interrupted") && hint.contains("farrun attach"),
        "{note}"
    );
    said.push(note);
    said.sort();
    let all = said.len();
    said.dedup();
    assert_eq!(said.len(), all, "{said:#?}");
}

#[test]
fn a_host_that_is_not_heard_proves_no_life() {
    for status in [RunStatus::Running, RunStatus::Queued] {
        let seen = Run {
            confirmed_at: Some(Utc::now() - TimeDelta::seconds(5)),
            ..run(status)
        };
        let (note, hint) = standing(&seen, false);
        let told = format!("rs_k3v9abcd was {status} when `gpu1` was last heard, ");
        assert!(note.starts_with(&told) && note.contains("is not known"), "{note}");
        assert!(
            !hint.contains("diagnose") && hint.contains("farrun why"),
            "{hint}"
        );
        let (note, _) = standing(&seen, true);
        assert!(!note.contains("is not known"), "{note}");
    }
    // What is settled does not change any more.
    let ended = run(RunStatus::Completed);
    assert_eq!(standing(&ended, false), standing(&ended, true));
}

#[test]
fn a_job_that_was_ended_from_outside_shows_its_last_lines() {
    let mut found = diagnosis(Some(cause()));
    found.last_lines = vec![line(0, "step 2", false)];
    let why = Why {
        run: run(RunStatus::Failed),
        diagnosis: None,
        folder: None,
        absent: None,
    };
    let text = lines(&why, &found, None).join("\n");
    assert!(text.contains("THE LAST LINES OF ITS LOG\n  | step 2\n"), "{text}");
    assert!(text.contains("farrun logs rs_k3v9abcd --tail 100"), "{text}");
    found.around = vec![line(0, "step 2", true)];
    let text = lines(&why, &found, None).join("\n");
    assert!(
        !text.contains("THE LAST LINES") && !text.contains("farrun logs"),
        "{text}"
    );
}

/// A value for a figure of a command's template, as the diagnosis writes it.
fn figure(name: &str) -> &'static str {
    match name {
        "run" => "rs_k3v9abcd",
        "host" => "gpu1",
        "more_gpus" | "twice_gpus" => "2",
        "more_time" => "40m",
        "more_memory" | "more_shm" | "host_share" | "min_free" | "larger" => "24g",
        "smaller" | "fewer_workers" => "batch_size=2",
        "registry" => "nvcr.io",
        "fetch" => "missing",
        other => panic!("`{other}` is a new figure in a command: say here what it looks like"),
    }
}

#[test]
fn every_command_that_is_suggested_can_be_typed() {
    use clap::Parser as _;
    let commands = crate::diagnosis::commands();
    assert!(commands.len() > 20);
    let mut doctors = 0;
    for (code, template) in commands {
        let mut command = template.to_owned();
        while let Some((before, rest)) = command.split_once('{') {
            let (name, after) = rest.split_once('}').unwrap();
            command = format!("{before}{}{after}", figure(name));
        }
        let words: Vec<&str> = command.split(' ').collect();
        if words[0] != "farrun" {
            continue;
        }
        doctors += usize::from(words[..3] == ["farrun", "host", "doctor"]);
        if let Err(error) = crate::cli::Cli::try_parse_from(&words) {
            panic!("{code}: `{command}`: {error}");
        }
    }
    assert!(doctors > 0);
    for step in crate::diagnosis::steps(&diagnosis(None), &run(RunStatus::Failed)) {
        let command = step.command.unwrap();
        if let Err(error) = crate::cli::Cli::try_parse_from(command.split(' ')) {
            panic!("`{command}`: {error}");
        }
    }
}
