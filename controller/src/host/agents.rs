//! Agent programs that this controller can put on hosts, one per platform.

use bytes::Bytes;
use farrun_protocol::Sha256;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An agent program on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProgram {
    /// Where it lies.
    pub path: PathBuf,
    /// Hash of its content; names its folder on every host.
    pub sha256: Sha256,
    /// Its content; a few megabytes, shared by everybody who found it.
    pub bytes: Bytes,
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
    let plain = |word: &&str| {
        (1..=32).contains(&word.len()) && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
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
        match read(&path) {
            Ok(program) => return Ok(program),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(AgentProgramError::Read { path, source }),
        }
    }
    Err(AgentProgramError::Missing {
        platform: platform.to_owned(),
        file,
        searched: searched.to_vec(),
    })
}

/// A file as it was when it was read.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    path: PathBuf,
    file: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

/// The program that was read last. Who talks to a hundred hosts at once reads and hashes it once.
static NEWEST: Mutex<Option<(Version, AgentProgram)>> = Mutex::new(None);

fn read(path: &Path) -> io::Result<AgentProgram> {
    let metadata = std::fs::metadata(path)?;
    let version = Version {
        path: path.to_owned(),
        file: (metadata.dev(), metadata.ino()),
        length: metadata.len(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = newest.as_ref().filter(|(known, _)| *known == version) {
        return Ok(program.clone());
    }
    let bytes = Bytes::from(std::fs::read(path)?);
    let program = AgentProgram {
        path: path.to_owned(),
        sha256: Sha256::of(&bytes),
        bytes,
    };
    *newest = Some((version, program.clone()));
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_once_and_again_when_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Linux-x86_64/farrun-agent");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"one").unwrap();
        let searched = [folder.path().to_owned()];
        let found = || find("Linux x86_64", &searched).unwrap();
        assert_eq!(found(), found());
        let other = folder.path().join("other");
        std::fs::write(&other, b"two").unwrap();
        std::fs::rename(other, &path).unwrap();
        assert_eq!(found().sha256, Sha256::of(b"two"));
    }

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
            &format!("Linux {}", "x".repeat(33)),
        ] {
            assert!(
                matches!(find(platform, &[]), Err(AgentProgramError::Platform(_))),
                "{platform}"
            );
        }
    }
}
