//! Whether a container in which nobody of ours lives has ended, told without the engine: its processes are looked for
//! among those of the host. Where the account does not see them while they live, nothing is ever told from their absence.

use super::RunFolder;
use crate::record::{boot_id, read_bounded};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Version of the file.
const FORMAT: u32 = 1;
/// Longest file that is read.
const LONGEST: u64 = 4096;
/// How exactly it is kept when a job was last seen to live.
const KEPT_APART: Duration = Duration::from_secs(1);

/// `alive.json`: the container's processes can be seen by this account, for one of them was. Its time of change is when
/// they last were.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Alive {
    format: u32,
    boot_id: String,
}

impl RunFolder {
    /// Writes down that the container lives; `pid` is its first process. Best effort and not synced: without it the
    /// engine is waited for.
    pub fn note_alive(&self, container_id: &str, pid: u32) {
        self.note_alive_in(Path::new("/proc"), container_id, pid);
    }

    fn note_alive_in(&self, proc: &Path, container_id: &str, pid: u32) {
        if self.seen_alive().is_some() {
            return self.still_alive();
        }
        if !belongs(&proc.join(pid.to_string()), container_id) {
            return;
        }
        let alive = Alive {
            format: FORMAT,
            boot_id: boot_id(),
        };
        let json = serde_json::to_vec(&alive).unwrap_or_default();
        let _ = std::fs::write(self.alive(), json);
    }

    /// Writes down that a container that was seen before lives on.
    pub fn still_alive(&self) {
        let now = SystemTime::now();
        let recently = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age < KEPT_APART);
        let changed = std::fs::metadata(self.alive()).and_then(|found| found.modified());
        if changed.is_ok_and(|changed| !recently(changed)) {
            let _ = File::options()
                .write(true)
                .open(self.alive())
                .and_then(|file| file.set_modified(now));
        }
    }

    /// When the container was last seen to live, if it was.
    pub fn seen_alive_at(&self) -> Option<DateTime<Utc>> {
        self.seen_alive()?;
        let changed = std::fs::metadata(self.alive()).and_then(|found| found.modified());
        changed.ok().map(DateTime::from)
    }

    /// Whether no process of the container is left, and one would be seen if there were.
    pub fn is_gone(&self, container_id: &str) -> bool {
        self.is_gone_from(Path::new("/proc"), container_id)
    }

    fn is_gone_from(&self, proc: &Path, container_id: &str) -> bool {
        let Some(alive) = self.seen_alive() else {
            return false;
        };
        if alive.boot_id != boot_id() {
            return true;
        }
        // Hidden since, like everything of other accounts.
        if container_id.len() < 64 || std::fs::read(proc.join("1/cgroup")).is_err() {
            return false;
        }
        let Ok(entries) = std::fs::read_dir(proc) else {
            return false;
        };
        !entries.flatten().any(|entry| {
            let is_process = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok());
            is_process && belongs(&entry.path(), container_id)
        })
    }

    fn alive(&self) -> std::path::PathBuf {
        self.path.join("alive.json")
    }

    fn seen_alive(&self) -> Option<Alive> {
        let bytes = read_bounded(&self.alive(), LONGEST).ok()??;
        let alive: Alive = serde_json::from_slice(&bytes).ok()?;
        (alive.format == FORMAT).then_some(alive)
    }
}

/// Whether a process is in the control group of the container, whose name holds the container's id. Other threads of a
/// process whose first one has ended count as well.
fn belongs(process: &Path, container_id: &str) -> bool {
    let names = |file: &Path| {
        std::fs::read(file).is_ok_and(|groups| {
            let id = container_id.as_bytes();
            !id.is_empty() && groups.windows(id.len()).any(|part| part == id)
        })
    };
    if names(&process.join("cgroup")) {
        return true;
    }
    let threads = std::fs::read_dir(process.join("task"));
    threads.is_ok_and(|threads| {
        threads
            .flatten()
            .any(|thread| names(&thread.path().join("cgroup")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

    struct Host {
        folder: tempfile::TempDir,
        run: RunFolder,
    }

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let run = RunFolder::new(folder.path(), &"rs_aaaaaaaa".parse().unwrap());
            run.make().unwrap();
            let host = Self { folder, run };
            host.process(1, "0::/init.scope\n");
            host
        }

        fn proc(&self) -> std::path::PathBuf {
            self.folder.path().join("proc")
        }

        fn process(&self, pid: u32, groups: &str) {
            let process = self.proc().join(pid.to_string());
            std::fs::create_dir_all(&process).unwrap();
            std::fs::write(process.join("cgroup"), groups).unwrap();
        }

        fn ends(&self, pid: u32) {
            std::fs::remove_dir_all(self.proc().join(pid.to_string())).unwrap();
        }

        fn note(&self, pid: u32) {
            self.run.note_alive_in(&self.proc(), ID, pid);
        }

        fn is_gone(&self) -> bool {
            self.run.is_gone_from(&self.proc(), ID)
        }
    }

    #[test]
    fn a_container_is_gone_when_none_of_its_processes_is_left() {
        let host = Host::new();
        assert!(!host.is_gone(), "it was never seen");
        host.process(40, &format!("0::/system.slice/docker-{ID}.scope\n"));
        host.note(40);
        assert!(!host.is_gone());
        // Somebody else started it again: another process, the same container.
        host.ends(40);
        host.process(41, &format!("12:pids:/docker/{ID}\n3:memory:/docker/{ID}\n"));
        assert!(!host.is_gone());
        // Its first thread has ended, and another goes on.
        host.process(41, "0::/\n");
        let thread = host.proc().join("41/task/44");
        std::fs::create_dir_all(&thread).unwrap();
        std::fs::write(thread.join("cgroup"), format!("0::/docker/{ID}\n")).unwrap();
        assert!(!host.is_gone());
        host.ends(41);
        assert!(host.is_gone());
    }

    #[test]
    fn nothing_is_told_from_what_cannot_be_seen() {
        let host = Host::new();
        host.process(40, "0::/\n");
        host.note(40);
        host.ends(40);
        assert!(!host.is_gone(), "a process of another container was noted");
        host.process(40, &format!("0::/docker/{ID}\n"));
        host.note(40);
        host.ends(40);
        host.ends(1);
        assert!(!host.is_gone(), "processes of others are hidden now");
    }

    #[test]
    fn another_boot_has_none_of_its_processes() {
        let host = Host::new();
        let alive = br#"{"format":1,"boot_id":"another"}"#;
        std::fs::write(host.run.alive(), alive).unwrap();
        assert!(host.is_gone() && host.run.seen_alive_at().is_some());
        std::fs::write(host.run.alive(), b"{").unwrap();
        assert!(!host.is_gone());
    }

    #[test]
    fn when_it_was_seen_last_is_kept() {
        let host = Host::new();
        host.process(40, &format!("0::/docker/{ID}\n"));
        host.run.still_alive();
        assert_eq!(host.run.seen_alive_at(), None);
        host.note(40);
        let file = File::options().write(true).open(host.run.alive()).unwrap();
        let before = SystemTime::now() - Duration::from_secs(600);
        file.set_modified(before).unwrap();
        assert_eq!(host.run.seen_alive_at(), Some(before.into()));
        host.run.still_alive();
        assert!(
            host.run.seen_alive_at().unwrap() > DateTime::<Utc>::from(before) + chrono::TimeDelta::minutes(9)
        );
    }
}
