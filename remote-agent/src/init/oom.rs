//! How many processes of the container the kernel ended for want of memory.
//!
//! The engine's own flag misses a child that was killed while the main process lived on, so the count is read
//! from the container's cgroup before the container is gone.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Where each cgroup version keeps the count below its mount.
const FILES: [&str; 2] = ["memory.events", "memory/memory.oom_control"];

/// The files are a few lines; more than this is something else.
const LIMIT: u64 = 4096;

/// The count so far; 0 when no such file can be read.
pub(super) fn kills(cgroup: &Path) -> u64 {
    FILES
        .iter()
        .find_map(|file| read(&cgroup.join(file)))
        .unwrap_or(0)
}

fn read(path: &Path) -> Option<u64> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(LIMIT)
        .read_to_string(&mut text)
        .ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let version_2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        let version_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        assert_eq!(parse(version_2), Some(2));
        assert_eq!(parse(version_1), Some(7));
        assert_eq!(parse("oom 3\n"), None);
        assert_eq!(parse("oom_kill many\n"), None);
    }

    #[test]
    fn the_first_file_that_counts_wins_and_none_is_zero() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kills(folder.path()), 0);
        std::fs::create_dir(folder.path().join("memory")).unwrap();
        std::fs::write(folder.path().join("memory/memory.oom_control"), "oom_kill 7\n").unwrap();
        assert_eq!(kills(folder.path()), 7);
        std::fs::write(folder.path().join("memory.events"), "oom_kill 2\n").unwrap();
        assert_eq!(kills(folder.path()), 2);
    }
}
