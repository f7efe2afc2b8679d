//! What the kernel tells about the engine's process.

use super::Address;
use crate::record::boot_id;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// The unit in which the kernel shows times of processes, on every platform an agent is built for.
const MILLISECONDS_PER_TICK: i64 = 10;

/// Whether the programs that make an engine accept GPU requests are installed.
pub(super) fn has_gpu_hook() -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin", "/usr/sbin"];
    path.split(':').chain(usual).any(|folder| {
        let folder = std::path::Path::new(folder);
        ["nvidia-container-runtime-hook", "nvidia-container-toolkit"]
            .iter()
            .any(|name| folder.join(name).is_file())
    })
}

/// One life of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EngineProcess {
    /// Of the boot it lives in.
    pub(super) boot: String,
    pub(super) pid: i32,
    /// Its start, in ticks since that boot.
    pub(super) started: i64,
}

/// The process that listens on the engine's socket; nothing where another program listens for it.
pub(super) fn engine_process(address: &Address) -> Option<EngineProcess> {
    let pid = listening(address)?;
    Some(EngineProcess {
        boot: boot_id(),
        pid,
        started: start_ticks(pid)?,
    })
}

/// Start of the engine's process: the one that listens on the socket, or the only `dockerd` of the machine.
pub(super) fn engine_started_at(address: &Address) -> Option<DateTime<Utc>> {
    process_started_at(listening(address).or_else(only_engine)?)
}

fn listening(address: &Address) -> Option<i32> {
    match address {
        Address::Unix(path) => listener(path).filter(|pid| is_engine(*pid)),
        Address::Tcp(_) | Address::Sudo => None,
    }
}

fn listener(socket: &std::path::Path) -> Option<i32> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

fn is_engine(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd")
}

fn only_engine() -> Option<i32> {
    let mut engines = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| is_engine(*pid));
    let first = engines.next()?;
    engines.next().is_none().then_some(first)
}

fn start_ticks(pid: i32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted behind it; the start is the 22nd.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

fn process_started_at(pid: i32) -> Option<DateTime<Utc>> {
    let ticks = start_ticks(pid)?;
    // Told from the uptime, for the kernel names the moment of the boot in whole seconds only.
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let age =
        TimeDelta::try_milliseconds((uptime * 1000.0) as i64 - ticks.checked_mul(MILLISECONDS_PER_TICK)?)?;
    Utc::now().checked_sub_signed(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_its_start() {
        let started = process_started_at(std::process::id().try_into().unwrap()).unwrap();
        let age = Utc::now() - started;
        assert!(age.num_seconds().abs() < 600, "{age}");
    }
}
