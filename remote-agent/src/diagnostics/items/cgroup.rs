//! Counters of the container's control group, as far as they are left.

use super::kernel_file;
use crate::diagnostics::item::{Found, Looked};
use farrun_protocol::record::Settled;
use std::path::{Path, PathBuf};

/// Files of version 2, then of version 1 by controller.
const V2: [&str; 10] = [
    "memory.events",
    "memory.peak",
    "memory.current",
    "memory.max",
    "memory.swap.current",
    "memory.swap.max",
    "memory.pressure",
    "pids.events",
    "pids.current",
    "pids.max",
];
const V1: [(&str, &str); 8] = [
    ("memory", "memory.oom_control"),
    ("memory", "memory.max_usage_in_bytes"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.failcnt"),
    ("pids", "pids.events"),
    ("pids", "pids.current"),
    ("pids", "pids.max"),
];

/// Names and values, those of PID 1's record first.
pub(in crate::diagnostics) fn counters(
    root: &Path,
    settled: Option<&Settled>,
    container: Option<&str>,
    pid: Option<u64>,
) -> Looked {
    let mut lines = String::new();
    if let Some(exit) = settled.and_then(|settled| settled.exit.as_ref()) {
        lines.push_str(&format!("exit.oom_kills {}\n", exit.oom_kills));
    }
    if let Some(container) = settled.and_then(|settled| settled.container.as_ref()) {
        lines.push_str(&format!("container.oom_killed {}\n", container.oom_killed));
    }
    let mut is_there = false;
    for (file, path) in files(root, container, pid) {
        let Ok(bytes) = kernel_file(&path) else { continue };
        is_there = true;
        for line in String::from_utf8_lossy(&bytes).lines() {
            match line.split_once(' ') {
                Some((name, value)) => lines.push_str(&format!("{file}.{name} {value}\n")),
                None => lines.push_str(&format!("{file} {line}\n")),
            }
        }
    }
    let why = "the container's control group is gone with it".to_owned();
    match (is_there, lines.is_empty()) {
        (true, _) => Ok(Found::Whole(lines.into_bytes())),
        (false, false) => Ok(Found::Part(lines.into_bytes(), why)),
        (false, true) => Err(why),
    }
}

fn files(root: &Path, container: Option<&str>, pid: Option<u64>) -> Vec<(&'static str, PathBuf)> {
    let own = pid
        .filter(|pid| *pid > 0)
        .map(|pid| root.join(format!("proc/{pid}/cgroup")));
    let own = own.and_then(|path| kernel_file(&path).ok()).unwrap_or_default();
    let own = String::from_utf8_lossy(&own).into_owned();
    let of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let is = if controller.is_empty() {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|name| name == controller)
            };
            // Hostile only if the kernel is; the path is its own.
            is.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let usual = |systemd: bool| {
        let container =
            container.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        Some(if systemd {
            format!("system.slice/docker-{container}.scope")
        } else {
            format!("docker/{container}")
        })
    };
    let hierarchy = root.join("sys/fs/cgroup");
    let mut files = Vec::new();
    for folder in [of(""), usual(true), usual(false)].into_iter().flatten() {
        let folder = hierarchy.join(folder);
        if folder.join("memory.events").exists() {
            files.extend(V2.iter().map(|file| (*file, folder.join(file))));
            return files;
        }
    }
    for (controller, file) in V1 {
        let folders = [of(controller), usual(true), usual(false)].into_iter().flatten();
        let mut found = folders.map(|folder| hierarchy.join(controller).join(folder).join(file));
        files.extend(found.find(|path| path.exists()).map(|path| (file, path)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_by_the_pid_or_the_usual_name() {
        let id = "ab".repeat(32);
        let write = |root: &Path, path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let text = |looked: Looked| match looked {
            Ok(Found::Whole(bytes)) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        };
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/7/cgroup", "0::/some.slice/x.scope\n");
        write(
            root.path(),
            "sys/fs/cgroup/some.slice/x.scope/memory.events",
            "low 0\noom_kill 2\n",
        );
        write(
            root.path(),
            "sys/fs/cgroup/some.slice/x.scope/memory.peak",
            "4096\n",
        );
        let two = text(counters(root.path(), None, Some(&id), Some(7)));
        assert_eq!(
            two,
            "memory.events.low 0\nmemory.events.oom_kill 2\nmemory.peak 4096\n"
        );
        let root = tempfile::tempdir().unwrap();
        let path = format!("sys/fs/cgroup/memory/docker/{id}/memory.oom_control");
        write(root.path(), &path, "under_oom 0\noom_kill 1\n");
        let one = text(counters(root.path(), None, Some(&id), None));
        assert_eq!(
            one,
            "memory.oom_control.under_oom 0\nmemory.oom_control.oom_kill 1\n"
        );
        assert!(counters(Path::new("/nonexistent"), None, Some("../x"), None).is_err());
    }
}
