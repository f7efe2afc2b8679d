//! Where `nvidia-smi` is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Folders that hold it although PATH does not name them: the usual one, WSL, NixOS, and GKE's.
const FOLDERS: &[&str] = &[
    "/usr/bin",
    "/usr/lib/wsl/lib",
    "/run/current-system/sw/bin",
    "/usr/local/nvidia/bin",
];

/// Which program is asked about GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Program {
    /// The first `nvidia-smi` of PATH and of the usual folders.
    #[default]
    Search,
    /// This one.
    At(PathBuf),
    /// None, as if there were none.
    Absent,
}

impl Program {
    /// What `FARRUN_NVIDIA_SMI` asks for: a path, an empty text for none, or nothing.
    pub fn from_variable(value: Option<std::ffi::OsString>) -> Self {
        match value {
            None => Self::Search,
            Some(path) if path.is_empty() => Self::Absent,
            Some(path) => Self::At(path.into()),
        }
    }

    /// What [`Self::from_variable`] makes this of.
    pub(crate) fn variable(&self) -> Option<std::ffi::OsString> {
        match self {
            Self::Search => None,
            Self::At(path) => Some(path.clone().into_os_string()),
            Self::Absent => Some(std::ffi::OsString::new()),
        }
    }

    /// Its path, when there is such a program.
    pub(super) fn find(&self) -> Option<PathBuf> {
        match self {
            Self::Search => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                search(std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from)))
            }
            Self::At(path) => Some(path.clone()),
            Self::Absent => None,
        }
    }
}

fn search(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("nvidia-smi"))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_of_that_name_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, mode: Option<u32>| {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            if let Some(mode) = mode {
                let path = folder.join("nvidia-smi");
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            folder
        };
        let folders = [
            PathBuf::from("relative"),
            folder("empty", None),
            folder("text", Some(0o644)),
            folder("good", Some(0o755)),
            folder("later", Some(0o755)),
        ];
        let found = search(folders.into_iter());
        assert_eq!(found, Some(root.path().join("good/nvidia-smi")));
    }

    #[test]
    fn the_variable_wins_over_the_search() {
        assert_eq!(Program::from_variable(None), Program::Search);
        assert_eq!(Program::from_variable(Some("".into())).find(), None);
        let named = Program::from_variable(Some("/x/smi".into()));
        assert_eq!(named.find(), Some(PathBuf::from("/x/smi")));
    }
}
