//! Readers of standard output that leave early or do not read.

use crate::SOON;
use crate::trouble::Counter;
use farrun_tests::{BUSYBOX, Lab, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A child that is killed when its test ends without it.
struct Guarded(Child);

impl Guarded {
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn code_within(&mut self, deadline: Duration) -> i32 {
        let ended = farrun_tests::wait_for("the program's end", deadline, || self.0.try_wait().unwrap());
        ended.code().unwrap_or(-1)
    }

    /// Most memory it ever had, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn reader_that_leaves_ends_following() {
    let lab = Lab::new();
    let run = lab.detached(
        &[],
        "i=0; while [ $i -lt 6000 ]; do echo line $i; i=$((i+1)); sleep 0.1; done",
    );
    for arguments in [vec!["logs", "-f", &run], vec!["logs", &run]] {
        let mut follow = Guarded::start(lab.home.command(&arguments));
        let mut head = [0; 10];
        let mut pipe = follow.0.stdout.take().unwrap();
        pipe.read_exact(&mut head).unwrap();
        drop(pipe);
        assert_eq!(&head, b"line 0\nlin");
        assert_eq!(follow.code_within(SOON), 0, "{arguments:?}");
    }
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
}

#[test]
fn reader_that_does_not_read_stops_no_job() {
    let lab = Lab::new();
    let counter = Counter::new();
    let script = format!("yes 0123456789abcde | head -c 48000000; {}", Counter::COUNT);
    let arguments = lab.shell_arguments(BUSYBOX, &["--mount", &counter.mount()], &script);
    let mut attached = Guarded::start(lab.home.command(&arguments));
    wait_until("the job's end", SOON, || counter.executions() == 1);
    let mut pipe = attached.0.stdout.take().unwrap();
    let mut first = [0; 16];
    pipe.read_exact(&mut first).unwrap();
    assert!(attached.peak() < 128 * 1024, "{} KiB", attached.peak());
    let mut rest = Vec::new();
    let mut left = pipe.by_ref().take(47_999_984);
    left.read_to_end(&mut rest).unwrap();
    let peak = attached.0.try_wait().unwrap().is_none().then(|| attached.peak());
    assert!(peak.is_none_or(|peak| peak < 128 * 1024), "{peak:?} KiB");
    assert_eq!(rest.len(), 47_999_984);
    assert!(rest.chunks(16).all(|line| line == b"0123456789abcde\n"));
    assert_eq!(attached.code_within(SOON), 0);
}

#[test]
fn second_interrupt_ends_a_program_that_nobody_reads() {
    let lab = Lab::new();
    let script = "yes | head -c 5000000; exec sleep 600";
    let mut attached = Guarded::start(lab.home.command(&lab.shell_arguments(BUSYBOX, &[], script)));
    let run = farrun_tests::wait_for("the whole log", SOON, || {
        let run = crate::trouble::last(&lab)?["id"].as_str()?.to_owned();
        let log = std::fs::metadata(lab.run_folder(&run).join("record/run.log")).ok()?;
        (log.len() == 5_000_000).then_some(run)
    });
    attached.interrupt();
    assert!(
        attached
            .0
            .try_wait()
            .unwrap()
            .is_none_or(|status| status.code() == Some(130))
    );
    // Two signals that come at once are one.
    wait_until("the end", SOON, || {
        if attached.0.try_wait().unwrap().is_none() {
            attached.interrupt();
        }
        attached.0.try_wait().unwrap().is_some()
    });
    assert_eq!(attached.code_within(SOON), 130);
    let _ = lab.home.farrun(&["stop", &run, "--kill"]).ok();
}
