//! What passes through the program's memory is not left behind in a core file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// Runs a program that may leave a core file, aborts it as soon as `ready` says so, and answers with its end.
fn aborted(folder: &Path, arguments: &[&str], ready: impl Fn() -> bool) -> ExitStatus {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"])
        .args(arguments)
        .env("HOME", folder)
        .env_remove("XDG_STATE_HOME")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + SOON;
    while !ready() {
        assert!(Instant::now() < deadline, "{arguments:?} is not ready");
        assert!(child.try_wait().unwrap().is_none(), "{arguments:?} has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    child.wait().unwrap()
}

#[test]
fn a_crash_leaves_no_core_file() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let script = format!("echo > '{}'; while :; do :; done", said.display());
    let control = aborted(folder.path(), &["sh", "-c", &script], || said.exists());
    assert_eq!(control.signal(), Some(6));
    if !control.core_dumped() {
        // This machine makes none of anybody.
        return;
    }
    let database = folder.path().join(".local/state/farrun/farrun.db");
    let program = env!("CARGO_BIN_EXE_farrun");
    let ended = aborted(folder.path(), &[program, "prompt", "create", "-"], || {
        database.exists()
    });
    assert_eq!(ended.signal(), Some(6));
    assert!(!ended.core_dumped());
}
