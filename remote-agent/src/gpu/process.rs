//! What `/proc` tells about a process. A process id is used again; with the moment of the start it names one process.

use std::path::Path;

/// A process that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    /// Ticks from the boot to its start.
    pub(super) start: u64,
    /// Whether it has ended and only its parent has not noticed.
    pub(super) ended: bool,
}

/// The process with this id, when it can be seen.
pub(super) fn find(root: &Path, pid: u32) -> Option<Process> {
    let stat = std::fs::read(root.join(format!("proc/{pid}/stat"))).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name in parentheses may hold anything, so fields are counted behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    Some(Process {
        start: fields.nth(18)?.parse().ok()?,
        ended: matches!(state, "Z" | "X"),
    })
}

/// A process of this name that waits in the kernel and cannot be ended, of whichever account.
pub(super) fn stuck(root: &Path, name: &str) -> Option<u32> {
    let entries = std::fs::read_dir(root.join("proc")).ok()?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let stat = std::fs::read(root.join(format!("proc/{pid}/stat"))).unwrap_or_default();
            let stat = String::from_utf8_lossy(&stat);
            let waits = stat
                .rsplit_once(')')
                .is_some_and(|(_, fields)| fields.trim_start().starts_with('D'));
            waits && stat.contains(&format!("({name})"))
        })
        .min()
}

/// When the process of this id that lives was started, in ticks since the boot.
pub(crate) fn start(pid: u32) -> Option<u64> {
    find(Path::new("/"), pid)
        .filter(|found| !found.ended)
        .map(|found| found.start)
}

/// Whether the process that began at `start` still has something running.
pub(super) fn lives(root: &Path, pid: u32, start: u64) -> bool {
    find(root, pid).is_some_and(|found| found.start == start && !found.ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_start() {
        let own = std::process::id();
        let found = find(Path::new("/"), own).unwrap();
        assert!(lives(Path::new("/"), own, found.start));
        assert!(!lives(Path::new("/"), own, found.start + 1));
        assert_eq!(find(Path::new("/"), 0), None);
    }

    #[test]
    fn one_that_waits_in_the_kernel_is_found_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        for (pid, stat) in [
            (5, "5 (python) D 1"),
            (6, "6 (nvidia-smi) S 1"),
            (7, "7 (nvidia-smi) D 1"),
        ] {
            let folder = root.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("stat"), stat).unwrap();
        }
        assert_eq!(stuck(root.path(), "nvidia-smi"), Some(7));
        assert_eq!(stuck(root.path(), "dockerd"), None);
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_fields() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/7");
        std::fs::create_dir_all(&folder).unwrap();
        let fields = (4..=52)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        for (state, ended) in [("D", false), ("Z", true)] {
            std::fs::write(folder.join("stat"), format!("7 (a b) c) {state} {fields}\n")).unwrap();
            assert_eq!(find(root.path(), 7), Some(Process { start: 22, ended }));
        }
    }
}
