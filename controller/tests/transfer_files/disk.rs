//! A disk that is soon full.

use std::path::Path;
use std::process::Command;

/// A file system in memory; gone when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn mount(mebibytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,{}", owner());
        let mounted = privileged("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.unwrap().success(), "these tests need root or sudo");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = privileged("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A command of root's, behind `sudo -n` where this account is not root.
fn privileged(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// That the mounted folder is this account's own.
fn owner() -> String {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    format!("uid={},gid={}", user.as_raw(), group.as_raw())
}
