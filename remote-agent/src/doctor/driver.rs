//! NVIDIA's cards and driver, read from `/proc`, `/sys` and `/dev`: no program is started, so nothing hangs.

use farrun_protocol::doctor::{Card, DriverCheckup, Looked, MOST, Unseen, Why};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// NVIDIA on the PCI bus.
const VENDOR: &str = "0x10de";
/// Classes of cards that compute: displays and 3D controllers.
const CLASSES: &[&str] = &["0x0300", "0x0302"];
/// Where distributions put the driver's libraries.
const LIBRARIES: &[&str] = &[
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/local/nvidia/lib64",
    "run/opengl-driver/lib",
];
/// Files by which a system says that it wants to be restarted.
const REBOOT: &[&str] = &["run/reboot-required", "var/run/reboot-required"];

/// Looks at a host whose files lie below `root`.
pub(crate) fn facts(root: &Path) -> Looked<DriverCheckup> {
    let device_files = device_files(root);
    let unlinked = device_files.iter().filter(|path| !is_linked(root, path));
    let facts = DriverCheckup {
        cards: cards(root),
        module: module(root),
        installed: library(root),
        unlinked: unlinked.map(|path| shown(root, path)).collect(),
        device_files: device_files.iter().map(|path| shown(root, path)).collect(),
        reboot_required: REBOOT.iter().any(|path| root.join(path).exists()),
        persistence_daemon: root.join("run/nvidia-persistenced/socket").exists()
            || root.join("var/run/nvidia-persistenced/socket").exists(),
    };
    if facts.cards.is_empty() && facts.module.is_none() && facts.device_files.is_empty() {
        return Err(Unseen::new(Why::Absent));
    }
    Ok(facts)
}

fn text(path: &Path) -> Option<String> {
    let text = super::program::read(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn cards(root: &Path) -> Vec<Card> {
    let entries = std::fs::read_dir(root.join("sys/bus/pci/devices"))
        .into_iter()
        .flatten();
    let mut cards: Vec<Card> = entries
        .filter_map(|entry| card(&entry.ok()?.path()))
        .take(MOST)
        .collect();
    cards.sort_by(|one, other| one.bus_id.cmp(&other.bus_id));
    cards
}

fn card(folder: &Path) -> Option<Card> {
    let class = text(&folder.join("class"))?;
    if text(&folder.join("vendor"))? != VENDOR || !CLASSES.iter().any(|known| class.starts_with(known)) {
        return None;
    }
    let number = |name: &str| text(&folder.join(name))?.parse::<u32>().ok();
    let driver = std::fs::read_link(folder.join("driver")).ok();
    Some(Card {
        bus_id: folder.file_name()?.to_str()?.to_owned(),
        driver: driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
        lanes: number("current_link_width").zip(number("max_link_width")),
    })
}

fn module(root: &Path) -> Option<String> {
    text(&root.join("sys/module/nvidia/version")).or_else(|| {
        // `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May …`
        let text = text(&root.join("proc/driver/nvidia/version"))?;
        text.split_whitespace()
            .find(|word| is_version(word))
            .map(str::to_owned)
    })
}

fn is_version(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    (2..=4).contains(&parts.len())
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Version in the name of the file that `libnvidia-ml.so.1` leads to.
fn library(root: &Path) -> Option<String> {
    LIBRARIES.iter().find_map(|folder| {
        let link = root.join(folder).join("libnvidia-ml.so.1");
        let target = std::fs::read_link(link).ok()?;
        let version = target.file_name()?.to_str()?.strip_prefix("libnvidia-ml.so.")?;
        is_version(version).then(|| version.to_owned())
    })
}

fn device_files(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("dev")).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.strip_prefix("nvidia").is_some_and(|rest| {
                rest.starts_with("ctl")
                    || rest.starts_with("-uvm")
                    || rest.starts_with(|c: char| c.is_ascii_digit())
            })
        })
        .take(MOST)
        .collect();
    files.sort();
    files
}

fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    Path::new("/").join(below).to_string_lossy().into_owned()
}

/// Whether `/dev/char/MAJOR:MINOR` leads to the device.
fn is_linked(root: &Path, path: &Path) -> bool {
    let Ok(found) = std::fs::metadata(path) else {
        return true;
    };
    if !found.file_type().is_char_device() {
        return true;
    }
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    std::fs::symlink_metadata(root.join(format!("dev/char/{major}:{minor}"))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_host_without_nvidia_says_so() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n");
        write(
            root.path(),
            "sys/bus/pci/devices/0000:00:02.0/class",
            "0x030000\n",
        );
        // Its sound device is none that computes.
        write(root.path(), "sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n");
        write(
            root.path(),
            "sys/bus/pci/devices/0000:01:00.1/class",
            "0x040300\n",
        );
        assert_eq!(facts(root.path()).unwrap_err().why, Why::Absent);
    }

    #[test]
    fn cards_module_and_library_are_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = "sys/bus/pci/devices/0000:01:00.0";
        for (name, text) in [
            ("vendor", "0x10de\n"),
            ("class", "0x030200\n"),
            ("current_link_width", "4\n"),
            ("max_link_width", "16\n"),
        ] {
            write(root.path(), &format!("{folder}/{name}"), text);
        }
        std::os::unix::fs::symlink("../../drivers/nouveau", root.path().join(folder).join("driver")).unwrap();
        write(
            root.path(),
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 2024\nGCC version: 12.2.0\n",
        );
        let libraries = root.path().join("usr/lib64");
        std::fs::create_dir_all(&libraries).unwrap();
        std::os::unix::fs::symlink("libnvidia-ml.so.550.90.07", libraries.join("libnvidia-ml.so.1")).unwrap();
        write(root.path(), "run/reboot-required", "");
        write(root.path(), "dev/nvidia0", "");
        write(root.path(), "dev/nvidia-caps", "");
        write(root.path(), "dev/nvidiactl", "");
        let facts = facts(root.path()).unwrap();
        assert_eq!(
            facts.cards,
            [Card {
                bus_id: "0000:01:00.0".into(),
                driver: Some("nouveau".into()),
                lanes: Some((4, 16)),
            }]
        );
        assert_eq!(facts.module.as_deref(), Some("535.183.01"));
        assert_eq!(facts.installed.as_deref(), Some("550.90.07"));
        assert_eq!(facts.device_files, ["/dev/nvidia0", "/dev/nvidiactl"]);
        assert!(facts.reboot_required && facts.unlinked.is_empty());
    }

    #[test]
    fn a_device_without_its_link_is_seen() {
        // /dev/null has a link in /dev/char on a host, and none below an empty root.
        let root = tempfile::tempdir().unwrap();
        assert!(!is_linked(root.path(), Path::new("/dev/null")));
        std::fs::create_dir_all(root.path().join("dev/char")).unwrap();
        std::os::unix::fs::symlink("../null", root.path().join("dev/char/1:3")).unwrap();
        assert!(is_linked(root.path(), Path::new("/dev/null")));
    }
}
