//! What tests share that measure their own process: a server to talk to, and how large the process was at most.
#![allow(
    clippy::unwrap_used,
    reason = "the functions that tests share may fail like tests"
)]

use farrun::ssh::transfer::Sftp;
use std::process::Stdio;
use tokio::process::{Child, Command};

pub(crate) const KIB_PER_MIB: u64 = 1024;

/// OpenSSH's own file server, as a host of this name.
pub(crate) async fn connect(host: &str) -> (Sftp, Child) {
    let mut command = Command::new("/usr/lib/openssh/sftp-server");
    let mut server = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stream = tokio::io::join(server.stdout.take().unwrap(), server.stdin.take().unwrap());
    (Sftp::start(stream, host).await.unwrap(), server)
}

/// The highest resident size so far, in KiB.
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
