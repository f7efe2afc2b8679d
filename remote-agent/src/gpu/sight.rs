//! Whether a container sees the GPUs of its run. PID 1 asks that for itself; where it is the image's own, the agent does it
//! as a second program in the container.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// First argument of the agent in this role.
pub const ROLE: &str = "see-gpus";
/// How an engine tells a container its GPUs.
pub(crate) const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// Longest value that is passed on.
const LONGEST: usize = 500;

/// What a container shows of its GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// What the environment of PID 1 says; none when it says nothing or cannot be read.
    pub(crate) said: Option<String>,
    /// Whether there is any device of a GPU; none when nobody may look.
    #[serde(default)]
    pub(crate) devices: Option<bool>,
}

/// Looks around in the container that this process is in, and answers with one line of JSON.
pub fn look() -> String {
    serde_json::to_string(&Sight::of(Path::new("/"))).unwrap_or_default()
}

impl Sight {
    /// What this process, as PID 1, was told itself, and what there is around it.
    pub(crate) fn of_pid_1() -> Self {
        let said = std::env::vars_os().filter(|(name, _)| name == VISIBLE).last();
        Self {
            said: said.map(|(_, value)| value.to_string_lossy().chars().take(LONGEST).collect()),
            devices: has_devices(Path::new("/")),
        }
    }

    fn of(root: &Path) -> Self {
        let environment = std::fs::read(root.join("proc/1/environ")).unwrap_or_default();
        let mut said = environment.split(|byte| *byte == 0).filter_map(|entry| {
            let value = entry.strip_prefix(VISIBLE.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).chars().take(LONGEST).collect())
        });
        Self {
            // The last one counts: an engine adds its own behind what image and order say.
            said: said.next_back(),
            devices: has_devices(root),
        }
    }

    /// What such a program printed, if it did.
    pub(crate) fn read(printed: &[u8]) -> Option<Self> {
        serde_json::from_slice(printed.trim_ascii()).ok()
    }

    /// Whether it is certain that the GPUs of the run are not there. A program may have taken the variable out of its
    /// environment, so a device speaks for itself; an engine may say the right thing and give nothing.
    pub(crate) fn hides(&self) -> bool {
        self.devices == Some(false)
    }

    /// Whether PID 1 that was told this has the GPUs of its run and no others.
    pub(crate) fn shows(&self, gpus: &[String]) -> bool {
        !self.hides() && is_as_wanted(self.said.as_deref(), gpus)
    }
}

fn has_devices(root: &Path) -> Option<bool> {
    let mut devices = std::fs::read_dir(root.join("dev")).ok()?.flatten();
    Some(devices.any(|entry| entry.file_name().to_str().is_some_and(is_of_a_gpu)))
}

/// Devices of NVIDIA's drivers: on a usual host, in WSL and on boards.
pub(crate) fn is_of_a_gpu(name: &str) -> bool {
    ["nvidia", "dxg", "nvhost", "nvmap"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Whether the variable names these GPUs and no others.
fn is_as_wanted(said: Option<&str>, gpus: &[String]) -> bool {
    // Where devices are described by files (CDI), the variable says `void` and they are there all the same.
    let Some(said) = said else { return false };
    let said: BTreeSet<&str> = said.split(',').collect();
    said == BTreeSet::from(["void"]) || said == gpus.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_gpus_than_those_of_the_run_are_noticed() {
        let gpus = ["GPU-b".to_owned(), "GPU-a".to_owned()];
        for (said, fine) in [
            (Some("GPU-a,GPU-b"), true),
            (Some("void"), true),
            (Some("GPU-a"), false),
            (Some("all"), false),
            (Some("0,1"), false),
            (None, false),
        ] {
            assert_eq!(is_as_wanted(said, &gpus), fine, "{said:?}");
            let sight = |devices| Sight {
                said: said.map(str::to_owned),
                devices,
            };
            for (devices, hidden) in [(Some(false), true), (Some(true), false), (None, false)] {
                let sight = sight(devices);
                assert_eq!(
                    (sight.hides(), sight.shows(&gpus)),
                    (hidden, fine && !hidden),
                    "{sight:?}"
                );
            }
        }
    }

    #[test]
    fn what_a_container_shows_is_found() {
        let root = tempfile::tempdir().unwrap();
        let nothing = |devices| Sight { said: None, devices };
        assert_eq!(Sight::of(root.path()), nothing(None));
        for folder in ["proc/1", "dev"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        assert_eq!(Sight::of(root.path()), nothing(Some(false)));
        let environment =
            b"A=b\0NVIDIA_VISIBLE_DEVICES=all\0XNVIDIA_VISIBLE_DEVICES=1\0NVIDIA_VISIBLE_DEVICES=GPU-a\0";
        std::fs::write(root.path().join("proc/1/environ"), environment).unwrap();
        std::fs::write(root.path().join("dev/null"), "").unwrap();
        let sight = Sight::of(root.path());
        assert_eq!(
            (sight.said.as_deref(), sight.devices),
            (Some("GPU-a"), Some(false))
        );
        std::fs::write(root.path().join("dev/nvidia0"), "").unwrap();
        assert_eq!(Sight::of(root.path()).devices, Some(true));
        let printed = serde_json::to_string(&sight).unwrap() + "\n";
        assert_eq!(Sight::read(printed.as_bytes()), Some(sight));
        assert_eq!(Sight::read(b"exec failed"), None);
    }
}
