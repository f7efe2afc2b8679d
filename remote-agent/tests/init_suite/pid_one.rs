//! As process 1 of a namespace, where the kernel has no default dispositions and leaves every orphan to us.

use crate::harness::{Record, Running};
use rustix::process::Signal;
use std::process::{Command, Stdio};

/// Runs a script below `init` as process 1 and returns the exit code.
fn run(record: &Record, script: &str) -> i32 {
    let init = record.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(init.get_program())
        .args(init.get_args())
        .args(["sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Running::start(&mut command).wait()
}

#[test]
fn a_signal_to_process_1_reaches_the_job() {
    let record = Record::new();
    let script = "trap 'echo term; exit 9' TERM; echo $PPID; kill -TERM 1; while :; do sleep 0.02; done";
    assert_eq!(run(&record, script), 9);
    assert_eq!(record.text("run.log"), "1\nterm\n");
    assert_eq!(record.checked_exit().forwarded, [Signal::TERM.as_raw()]);
}

#[test]
fn orphans_of_the_namespace_are_reaped_and_end_with_it() {
    let record = Record::new();
    let pid = record.scratch("pid");
    // A zombie is signalled without an error, so the loop ends only when the orphan is reaped.
    let script = format!(
        "(sh -c 'echo $$ > {pid}' &); while [ ! -s {pid} ] || kill -0 $(cat {pid}) 2>&-; do sleep 0.01; done; \
         (sleep 300 &); echo done"
    );
    assert_eq!(run(&record, &script), 0);
    assert_eq!(record.text("run.log"), "done\n");
    record.checked_exit();
}
