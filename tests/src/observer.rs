//! The state folder of a test's host, and the end of whoever observes it.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A folder with a state folder in it, which may not exist yet.
#[derive(Debug)]
pub(crate) struct HostState(tempfile::TempDir);

impl HostState {
    pub(crate) fn new() -> Self {
        Self(crate::temporary_folder())
    }

    /// The folder around it.
    pub(crate) fn around(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// The observer, if the process with its number still runs a program from this folder.
    fn observer(&self) -> Option<Pid> {
        let bytes = std::fs::read(self.path().join("watch.json")).ok()?;
        let card: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let pid = i32::try_from(card.get("pid")?.as_u64()?).ok()?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let own = String::from_utf8_lossy(&command).starts_with(&*self.path().to_string_lossy());
        Pid::from_raw(pid).filter(|_| own)
    }

    /// Ends the one who was started, who may not have said yet who it is.
    pub(crate) fn kill_observer(&self) {
        crate::wait_until("somebody who observes", Duration::from_secs(60), || {
            self.observer().is_some()
        });
        self.end_observer();
        assert!(self.observer().is_none(), "it lives on");
    }

    /// Ends it. It would end by itself, but could still write while its folder is being removed.
    pub(crate) fn end_observer(&self) {
        if let Some(pid) = self.observer() {
            let _ = kill_process(pid, Signal::KILL);
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.observer().is_some() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for HostState {
    fn drop(&mut self) {
        self.end_observer();
    }
}
