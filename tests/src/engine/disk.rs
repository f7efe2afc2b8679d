//! A small disk of an engine's own, and filling it.

use super::Engine;
use crate::process::{privileged, run};
use std::path::PathBuf;
use std::time::Duration;

/// Size of an engine's own disk.
pub const SMALL_DISK: &str = "200m";
/// What is left of it once it is full: less than any image needs.
const LEFT: u64 = 512 * 1024;

/// Keeps an engine's disk full until it is dropped.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let mut remove = privileged("rm");
        remove.arg("-f").arg(&self.0);
        let _ = run(remove, Duration::from_secs(20));
    }
}

impl Engine {
    /// Fills the disk of an engine that has a small one of its own.
    ///
    /// # Panics
    /// When it has none, or it cannot be filled.
    pub fn fill_disk(&self) -> Filler {
        assert!(self.options.small_disk, "the engine shares its disk with others");
        let data = self.folder.join("data");
        let disk = rustix::fs::statvfs(&data).expect("facts about the engine's disk");
        let filler = Filler(data.join("filler"));
        let mut fill = privileged("fallocate");
        fill.arg("-l")
            .arg((disk.f_bavail * disk.f_frsize).saturating_sub(LEFT).to_string())
            .arg(&filler.0);
        let _ = run(fill, Duration::from_secs(60)).ok();
        filler
    }

    pub(super) fn mount_disk(&self) {
        let data = self.folder.join("data");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(&format!(" {} ", data.display())) {
            return;
        }
        std::fs::create_dir_all(&data).expect("folder of the engine's data");
        let mut mount = privileged("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={SMALL_DISK}"), "tmpfs"])
            .arg(&data);
        let _ = run(mount, Duration::from_secs(20)).ok();
    }
}
