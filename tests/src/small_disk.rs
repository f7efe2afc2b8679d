//! A disk that is soon full. Suites that cannot have this crate take this file in by its path.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory that belongs to this account, mounted until its guard goes: by way of `sudo -n` where the account
/// is not root.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    /// Of a disk that has a folder of its own.
    _folder: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// One of this size, as `mount` takes it, in a folder of its own that others may not enter.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Self {
            at: folder.path().to_owned(),
            _folder: Some(folder),
        };
        disk.mounted(&format!("size={size},mode=700,{}", owner()));
        disk
    }

    /// One of this size over a folder, which is made.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("the folder");
        let disk = Self {
            at: at.to_owned(),
            _folder: None,
        };
        disk.mounted(&format!("size={size},mode=755,{}", owner()));
        disk
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Makes it larger.
    ///
    /// # Panics
    /// When it does not grow.
    pub fn grow(&self, size: &str) {
        self.mounted(&format!("remount,size={size}"));
    }

    fn mounted(&self, options: &str) {
        let mounted = privileged("mount")
            .args(["-t", "tmpfs", "-o", options, "farrun-test"])
            .arg(&self.at)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a file system has to be mounted, which needs root or sudo"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = privileged("umount").arg("-l").arg(&self.at).status();
    }
}

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
