//! What a killed engine leaves: processes, mounts, its folder.

use super::{Engine, send};
use crate::process::{descendants, privileged, run};
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;

impl Engine {
    /// Ends what still runs from this engine's folder: containers of a killed engine, its containerd.
    pub(super) fn sweep(&self) {
        let mark = format!("{}/", self.folder.display());
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return;
        };
        for pid in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&mark) && is_engine_part(pid) {
                for below in descendants(pid) {
                    send(below, Signal::KILL);
                }
                send(pid, Signal::KILL);
            }
        }
    }
}

/// Only these programs are ever ended by [`Engine::sweep`]; a shell or editor that names the folder is not ours.
fn is_engine_part(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    ["dockerd", "containerd", "containerd-shim", "runc"]
        .iter()
        .any(|part| name.starts_with(part))
}

/// Unmounts what a killed engine left mounted and removes its folder.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mark = format!("{}/", folder.display());
    for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if mount.starts_with(&mark) {
            let mut command = privileged("umount");
            command.args(["-l", mount]);
            let _ = run(command, Duration::from_secs(20));
        }
    }
    if !folder.exists() {
        return Ok(());
    }
    let mut command = privileged("rm");
    command.arg("-rf").arg(folder);
    let _ = run(command, Duration::from_secs(60));
    Ok(())
}
