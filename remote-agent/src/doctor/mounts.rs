//! How the file system of a path is mounted.

use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) file_system: String,
    pub(super) noexec: bool,
    pub(super) read_only: bool,
}

/// The mount that holds `path`, as `/proc/self/mountinfo` tells; `None` when no line of it does.
pub(super) fn holding(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let Some((point, mount)) = parse(line) else {
            continue;
        };
        let depth = point.components().count();
        // Of several at one place the last one is on top.
        if path.starts_with(&point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, mount));
        }
    }
    best.map(|(_, mount)| mount)
}

/// `36 35 98:0 /root /mount/point rw,noexec shared:1 - ext4 /dev/sda rw`
fn parse(line: &str) -> Option<(PathBuf, Mount)> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ').skip(4);
    let point = unescape(head.next()?);
    let options: Vec<&str> = head.next()?.split(',').collect();
    let mut tail = tail.split(' ');
    let file_system = tail.next()?.to_owned();
    let whole: Vec<&str> = tail.nth(1).unwrap_or_default().split(',').collect();
    let mount = Mount {
        file_system,
        noexec: options.contains(&"noexec"),
        read_only: options.contains(&"ro") || whole.contains(&"ro"),
    };
    Some((PathBuf::from(point), mount))
}

/// Blanks, tabs, line feeds and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (octal, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(octal, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw,nosuid,noexec shared:2 - nfs4 server:/home rw,vers=4.2
31 22 0:27 / /home/a\\040b rw - tmpfs tmpfs rw
32 22 0:28 / /data rw - xfs /dev/sdb rw
33 22 0:29 / /data rw - btrfs /dev/sdc ro
not a line";

    #[test]
    fn the_deepest_and_last_mount_holds_a_path() {
        let found = |path: &str| holding(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(found("/var/lib").file_system, "ext4");
        let home = found("/home/ada/.local");
        assert_eq!((home.file_system.as_str(), home.noexec), ("nfs4", true));
        assert_eq!(found("/home/a b/c").file_system, "tmpfs");
        assert_eq!(found("/homeless").file_system, "ext4");
        let data = found("/data/x");
        assert_eq!((data.file_system.as_str(), data.read_only), ("btrfs", true));
        assert_eq!(holding("", Path::new("/")), None);
    }
}
