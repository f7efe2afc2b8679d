//! The inside of a container, looked at by the agent as its only program.

use super::program::{self, Said};
use super::space;
use crate::gpu::{ChildLimits, is_of_a_gpu};
use farrun_protocol::doctor::{Looked, MOST, Seen};
use std::path::Path;
use std::time::Duration;

/// First argument of this role.
pub const ROLE: &str = "look-inside";
/// How long `nvidia-smi` may take.
const SMI: ChildLimits = ChildLimits {
    run: Duration::from_secs(10),
    terminate: Duration::from_secs(1),
    kill: Duration::from_secs(1),
};
/// Most of what it said that is kept.
const SAID: usize = 500;

/// Looks around and answers with one line of JSON.
pub fn look() -> String {
    let launcher = std::env::current_exe().unwrap_or_default();
    let smi = program::run(&launcher, "nvidia-smi", &["-L"], SMI);
    let seen = seen(Path::new("/"), smi);
    serde_json::to_string(&seen).unwrap_or_default()
}

fn seen(root: &Path, smi: Looked<Said>) -> Seen {
    let entries = std::fs::read_dir(root.join("dev")).into_iter().flatten();
    let mut device_files: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_of_a_gpu(name))
        .take(MOST)
        .collect();
    device_files.sort();
    let shared_memory = space::of(&root.join("dev/shm")).map_or(0, |space| space.total);
    let (smi_code, said) = match smi {
        Ok(said) => (Some(said.code), said.stdout + &said.stderr),
        Err(unseen) => (None, unseen.detail.unwrap_or_default()),
    };
    Seen {
        shared_memory,
        device_files,
        smi_code,
        smi_said: said.chars().take(SAID).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev/shm")).unwrap();
        for name in ["dxg", "nvidia0", "nvidiactl", "null"] {
            std::fs::write(root.path().join("dev").join(name), "").unwrap();
        }
        let said = Said {
            code: 0,
            stdout: "GPU 0: x".into(),
            stderr: String::new(),
        };
        let seen = seen(root.path(), Ok(said));
        assert_eq!(seen.device_files, ["dxg", "nvidia0", "nvidiactl"]);
        assert_eq!((seen.smi_code, seen.smi_said.as_str()), (Some(0), "GPU 0: x"));
        assert!(seen.shared_memory > 0);
    }

    #[test]
    fn a_place_without_anything_is_told_as_well() {
        let answer: Seen = serde_json::from_str(&look()).unwrap();
        assert!(answer.smi_code != Some(0) || !answer.smi_said.is_empty());
    }
}
