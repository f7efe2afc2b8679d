//! How jobs end, also those that never began.

use crate::harness::{Record, Running, eventually};
use farrun_protocol::record::ExecError;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn exit_codes_are_recorded_and_passed_on() {
    for code in [0, 1, 3, 137, 255] {
        let record = Record::new();
        assert_eq!(record.shell(&[], &format!("exit {code}")), code);
        let exit = record.checked_exit();
        assert_eq!((exit.code, exit.signal), (Some(code), None));
        assert!(exit.started_at.unwrap() <= exit.ended_at);
        assert_eq!(exit.boot_id.unwrap().len(), 36);
    }
}

#[test]
fn a_job_ended_by_a_signal_says_which() {
    for signal in [6, 9, 11, 15] {
        let record = Record::new();
        assert_eq!(record.shell(&[], &format!("kill -{signal} $$")), 128 + signal);
        let exit = record.checked_exit();
        assert_eq!((exit.code, exit.signal), (None, Some(signal)));
        assert!(exit.forwarded.is_empty());
    }
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    for program in ["no-such-program", "/no/such/program"] {
        let record = Record::new();
        assert_eq!(record.run(&[], &[program, "x"]), 127);
        let expected = ExecError::NotFound {
            program: program.to_owned(),
        };
        assert_eq!(record.checked_exit().exec_error, Some(expected));
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_named_with_the_reason() {
    let record = Record::new();
    let put = |name: &str, content: &str, mode: u32| {
        let path = record.scratch(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let cases = [
        (put("plain", "text", 0o644), "Permission denied"),
        (put("garbage", "text", 0o755), "Exec format error"),
        (put("script", "#!/no/such/interpreter\n", 0o755), "No such file"),
        ("/tmp".to_owned(), "Permission denied"),
    ];
    for (path, reason) in cases {
        let record = Record::new();
        assert_eq!(record.run(&[], &[&path]), 126, "{path}");
        match record.checked_exit().exec_error {
            Some(ExecError::NotExecutable { program, error }) => {
                assert_eq!(program, path);
                assert!(error.contains(reason), "{error}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn the_working_directory_is_entered_or_named() {
    let record = Record::new();
    assert_eq!(record.run(&["--working-dir", "/usr"], &["pwd"]), 0);
    assert_eq!(record.text("run.log"), "/usr\n");

    let record = Record::new();
    assert_eq!(record.run(&["--working-dir", "/no/such"], &["pwd"]), 126);
    match record.checked_exit().exec_error {
        Some(ExecError::WorkingDirectory { path, error }) => {
            assert_eq!(path, "/no/such");
            assert!(error.contains("No such file"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_of_any_length_and_kind_fit_the_exit_record() {
    let record = Record::new();
    let program = format!("/{}", "\u{1}".repeat(4000));
    assert!([126, 127].contains(&record.run(&[], &[&program])));
    assert!(record.checked_exit().exec_error.is_some());
}

#[test]
fn a_job_has_no_input_and_an_unbuffered_python() {
    let record = Record::new();
    assert_eq!(record.shell(&[], "cat; echo $PYTHONUNBUFFERED"), 0);
    assert_eq!(record.text("run.log"), "1\n");

    let record = Record::new();
    let mut command = record.command::<&str>(&[]);
    command
        .env("PYTHONUNBUFFERED", "")
        .args(["sh", "-c", "echo \"<$PYTHONUNBUFFERED>\""]);
    assert_eq!(Running::start(&mut command).wait(), 0);
    assert_eq!(record.text("run.log"), "<>\n");
}

#[test]
fn a_job_starts_with_default_signals_and_none_of_our_descriptors() {
    let record = Record::new();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' INT HUP CHLD USR1 PIPE; exec \"$@\"", "sh"]);
    let init = record.command::<&str>(&[]);
    command.arg(init.get_program()).args(init.get_args());
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2; ls -l /proc/self/fd | grep -c record";
    command.args(["sh", "-c", script]);
    assert_eq!(Running::start(&mut command).wait(), 1, "`grep -c` finds nothing");
    let log = record.text("run.log");
    let mut lines = log.lines();
    let mut mask = || u64::from_str_radix(lines.next().unwrap(), 16).unwrap();
    // The C library keeps the signals above 31 to itself, and some environments pass them on as ignored.
    assert_eq!([mask(), mask()].map(|mask| mask & 0x7fff_ffff), [0, 0]);
    assert_eq!(lines.next(), Some("0"));
}

#[test]
fn a_descendant_that_holds_the_pipe_delays_the_end_by_a_second_at_most() {
    let record = Record::new();
    let pid_file = record.scratch("pid");
    let start = Instant::now();
    assert_eq!(
        record.shell(
            &[],
            &format!("sleep 300 & echo $! > {pid_file}; echo last words; exit 4")
        ),
        4
    );
    let took = start.elapsed();
    kill(&pid_file);
    assert_eq!(record.text("run.log"), "last words\n");
    assert!(
        took >= Duration::from_millis(900),
        "{took:?}: a descendant has a second to finish"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(record.checked_exit().code, Some(4));
}

fn kill(pid_file: &str) {
    let pid: i32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_descendant_that_still_prints_is_heard_within_that_second() {
    let record = Record::new();
    assert_eq!(record.shell(&[], "(sleep 0.2; echo late) & echo early"), 0);
    assert_eq!(record.text("run.log"), "early\nlate\n");
}

#[test]
fn a_job_that_closes_its_output_early_is_waited_for() {
    let record = Record::new();
    assert_eq!(record.shell(&[], "echo bye; exec >&- 2>&-; sleep 0.3; exit 5"), 5);
    assert_eq!(record.text("run.log"), "bye\n");
}

#[test]
fn orphans_are_reaped() {
    let record = Record::new();
    let (ready, go) = (record.scratch("ready"), record.scratch("go"));
    let script = format!(
        "(sh -c 'echo $$ > {ready}.new; mv {ready}.new {ready}' &); while [ ! -e {go} ]; do sleep 0.01; done"
    );
    let mut command = record.command::<&str>(&[]);
    let mut running = Running::start(command.args(["sh", "-c", &script]));
    let orphan = eventually("the orphan's pid", || fs::read_to_string(&ready).ok());
    let stat = format!("/proc/{}/stat", orphan.trim());
    eventually("the orphan to be reaped", || {
        (!fs::exists(&stat).unwrap()).then_some(())
    });
    fs::write(&go, "").unwrap();
    assert_eq!(running.wait(), 0);
}

#[test]
fn processes_killed_for_memory_during_the_run_are_counted() {
    let record = Record::new();
    let cgroup = record.scratch("cgroup");
    fs::create_dir(&cgroup).unwrap();
    fs::write(format!("{cgroup}/memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
    let script = format!("printf 'low 0\\noom 1\\noom_kill 5\\n' > {cgroup}/memory.events; exit 1");
    assert_eq!(record.shell(&["--cgroup", &cgroup], &script), 1);
    assert_eq!(record.checked_exit().oom_kills, 3);
}

#[test]
fn the_name_the_job_was_called_by_is_its_own() {
    let record = Record::new();
    let mut command = record.command::<&str>(&[]);
    command
        .arg0("init")
        .args(["sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline | cut -c1-5"]);
    assert_eq!(Running::start(&mut command).wait(), 0);
    assert_eq!(record.text("run.log"), "sh -c\n");
}
