//! The file that names the `nvidia-smi` that runs, so that whoever comes later can end it, or can tell that it cannot
//! be ended: a process in an uninterruptible sleep of the driver stays even after SIGKILL, and starting another would
//! only add a second one.

use super::{clock, process, store};
use crate::record::{RecordError, boot_id, read_json, remove_if_present};
use farrun_protocol::gpu::FORMAT;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// File name below the cache folder.
pub(super) const NAME: &str = "child.json";

/// A child that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChildRecord {
    format: u32,
    /// Its id, which is also its process group's.
    pub(super) pid: u32,
    /// Ticks from the boot to its start.
    start: u64,
    boot_id: String,
    /// When it was started, by the clock of the boot.
    pub(super) since: u64,
}

impl ChildRecord {
    /// Names the process that asks.
    pub(super) fn of_this_process() -> Self {
        let pid = std::process::id();
        Self {
            format: FORMAT,
            pid,
            start: process::find(Path::new("/"), pid).map_or(0, |found| found.start),
            boot_id: boot_id(),
            since: clock::now(),
        }
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> Result<(), RecordError> {
        store::replace(path, self)
    }

    /// Whether the very process still lives.
    fn lives(&self) -> bool {
        self.boot_id == boot_id() && process::lives(Path::new("/"), self.pid, self.start)
    }
}

/// The record that is there.
pub(super) fn read(folder: &Path) -> Option<ChildRecord> {
    read_json(&folder.join(NAME), FORMAT).unwrap_or_default()
}

/// Makes sure that no child of an earlier reading is left, for at most `patience`; answers with the one that cannot
/// be ended. Only who holds the lock may ask.
pub(super) fn clear_away(folder: &Path, patience: Duration) -> Option<ChildRecord> {
    let path = folder.join(NAME);
    let record: ChildRecord = match read_json(&path, FORMAT) {
        Ok(Some(record)) => record,
        Ok(None) => return None,
        // It names nobody.
        Err(_) => {
            let _ = remove_if_present(&path);
            return None;
        }
    };
    let deadline = Instant::now() + patience;
    while record.lives() {
        if Instant::now() >= deadline {
            return Some(record);
        }
        let group = i32::try_from(record.pid).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = remove_if_present(&path);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    fn sleeper(own_group: bool) -> Child {
        let mut command = Command::new("sleep");
        command.arg("600");
        if own_group {
            command.process_group(0);
        }
        command.spawn().unwrap()
    }

    fn record(child: &Child, folder: &Path) -> ChildRecord {
        let record = ChildRecord {
            pid: child.id(),
            start: process::find(Path::new("/"), child.id()).unwrap().start,
            ..ChildRecord::of_this_process()
        };
        record.write(&folder.join(NAME)).unwrap();
        record
    }

    #[test]
    fn a_child_that_was_left_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(true);
        record(&child, folder.path());
        assert_eq!(clear_away(folder.path(), Duration::from_secs(20)), None);
        assert!(!folder.path().join(NAME).exists());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_child_that_does_not_go_is_named_until_it_does() {
        let folder = tempfile::tempdir().unwrap();
        // Not the leader of a group, so the signal does not reach it: to us it is one that cannot be killed.
        let mut child = sleeper(false);
        let written = record(&child, folder.path());
        for _ in 0..2 {
            assert_eq!(clear_away(folder.path(), Duration::ZERO), Some(written.clone()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(clear_away(folder.path(), Duration::ZERO), None);
    }

    #[test]
    fn a_process_of_that_number_that_began_later_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(true);
        let mut other = record(&child, folder.path());
        other.start += 1;
        other.write(&folder.path().join(NAME)).unwrap();
        assert_eq!(clear_away(folder.path(), Duration::from_secs(20)), None);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_damaged_record_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), b"{\"format\":1,").unwrap();
        assert_eq!(clear_away(folder.path(), Duration::ZERO), None);
        assert!(!folder.path().join(NAME).exists());
    }
}
