//! Agent programs that this controller can put on hosts, one per platform.

use farrun_protocol::Sha256;
use std::path::{Path, PathBuf};

/// An agent program on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProgram {
    /// Where it lies.
    pub path: PathBuf,
    /// Hash of its content; names its folder on every host.
    pub sha256: Sha256,
    /// Its content; a few megabytes.
    pub bytes: Vec<u8>,
}

/// There is no agent for a host.
#[derive(Debug, thiserror::Error)]
pub enum AgentProgramError {
    /// No file for this platform in any of the folders.
    #[error(
        "no agent for `{platform}` was found (looked for `{file}` in {})",
        folders(searched)
    )]
    Missing {
        /// `uname -sm` of the host.
        platform: String,
        /// Name of the folder and file that would have served.
        file: String,
        /// Folders that were looked in.
        searched: Vec<PathBuf>,
    },
    /// The file is there and cannot be read.
    #[error("the agent `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What the host says about itself is not a platform.
    #[error("the host answered `{0}` to `uname -sm`, which names no platform")]
    Platform(String),
}

fn folders(searched: &[PathBuf]) -> String {
    searched
        .iter()
        .map(|folder| format!("`{}`", folder.display()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Where agents are looked for: `$FARRUN_AGENTS`, beside the program, above it, and in the data folder.
pub fn search_path(data_folder: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("FARRUN_AGENTS")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Some(beside) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        folders.push(beside.join("agents"));
        folders.extend(beside.parent().map(|above| above.join("agents")));
    }
    folders.push(data_folder.join("agents"));
    folders
}

/// Finds and reads the agent for a platform such as `Linux x86_64`.
///
/// # Errors
/// The platform is no platform, or no readable agent serves it.
pub fn find(platform: &str, searched: &[PathBuf]) -> Result<AgentProgram, AgentProgramError> {
    // The words become a file name here and were printed by a host.
    let plain = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let words: Vec<&str> = platform.split_whitespace().collect();
    let [system, machine] = words.as_slice() else {
        return Err(AgentProgramError::Platform(platform.chars().take(80).collect()));
    };
    if !plain(system) || !plain(machine) {
        return Err(AgentProgramError::Platform(platform.chars().take(80).collect()));
    }
    let file = format!("{system}-{machine}/{}", farrun_protocol::layout::AGENT);
    for folder in searched {
        let path = folder.join(&file);
        match std::fs::read(&path) {
            Ok(bytes) => {
                return Ok(AgentProgram {
                    sha256: Sha256::of(&bytes),
                    bytes,
                    path,
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(AgentProgramError::Read { path, source }),
        }
    }
    Err(AgentProgramError::Missing {
        platform: platform.to_owned(),
        file,
        searched: searched.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_has_one_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b/Linux-x86_64");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("farrun-agent"), b"program").unwrap();
        let searched = [folder.path().join("a"), folder.path().join("b")];
        let program = find("Linux x86_64", &searched).unwrap();
        assert_eq!(program.sha256, Sha256::of(b"program"));
        assert!(matches!(
            find("Linux aarch64", &searched),
            Err(AgentProgramError::Missing { .. })
        ));
    }

    #[test]
    fn a_hostile_platform_names_no_file() {
        for platform in [
            "",
            "Linux",
            "../../etc passwd",
            "Linux x86_64 extra",
            "Linux /bin",
        ] {
            assert!(
                matches!(find(platform, &[]), Err(AgentProgramError::Platform(_))),
                "{platform}"
            );
        }
    }
}
