//! What a conversation takes from the process it runs in.

use crate::gpu::Program;
use crate::record::file_sha256;
use farrun_protocol::Sha256;
use std::io;
use std::path::{Path, PathBuf};

/// The outside world of one conversation.
#[derive(Debug, Clone)]
pub struct Context {
    /// The state folder.
    pub state: PathBuf,
    /// The agent program that containers get as PID 1.
    pub agent: PathBuf,
    /// Its hash.
    pub agent_sha256: Sha256,
    /// The account's home, for `~/…` and registry credentials.
    pub home: PathBuf,
    /// `DOCKER_HOST` of the environment.
    pub docker_host: Option<String>,
    /// `XDG_RUNTIME_DIR`, where a rootless engine has its socket.
    pub runtime_folder: Option<String>,
    /// Folder of the GPU locks instead of the host's usual one.
    pub locks: Option<PathBuf>,
    /// Which `nvidia-smi` tells about GPUs.
    pub nvidia_smi: Program,
    /// Whether an observer is started when there is something to observe; not with `FARRUN_WATCH=off`.
    pub watch: bool,
}

impl Context {
    /// Where it is kept what the engine said about its settings.
    pub fn engine_facts(&self) -> PathBuf {
        self.state.join("engine.json")
    }

    /// Reads it from the process: the state folder lies three levels above the program, unless `FARRUN_STATE`
    /// names another.
    ///
    /// # Errors
    /// The program cannot be found or read.
    pub fn from_environment() -> io::Result<Self> {
        let agent = std::env::current_exe()?;
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let state = match text("FARRUN_STATE") {
            Some(state) => PathBuf::from(state),
            // <state>/agents/<sha256>/farrun-agent
            None => agent
                .ancestors()
                .nth(3)
                .map(Path::to_owned)
                .ok_or(io::ErrorKind::NotFound)?,
        };
        Ok(Self {
            state,
            agent_sha256: own_sha256()?,
            agent,
            home: text("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from),
            docker_host: text("DOCKER_HOST"),
            runtime_folder: text("XDG_RUNTIME_DIR"),
            locks: text("FARRUN_LOCKS").map(PathBuf::from),
            nvidia_smi: Program::from_variable(std::env::var_os("FARRUN_NVIDIA_SMI")),
            watch: text("FARRUN_WATCH").is_none_or(|word| word != "off"),
        })
    }
}

/// Hash of the program that runs, read through the kernel, so that it is the one that runs.
///
/// Reading all of it takes longer than the rest of a start. So beside the program lies which file was found to have the
/// hash that names its folder: whatever changes a file moves its change time, which nobody can set.
///
/// # Errors
/// The kernel's.
pub fn own_sha256() -> io::Result<Sha256> {
    let program = Path::new(RUNNING);
    let facts = facts(program)?;
    let folder = std::env::current_exe()?.parent().map(Path::to_owned);
    let named = folder.and_then(|folder| {
        let name = folder.file_name()?.to_str()?.parse::<Sha256>().ok()?;
        Some((folder.join(farrun_protocol::layout::AGENT_VERIFIED), name))
    });
    if let Some((mark, name)) = &named
        && std::fs::read_to_string(mark).is_ok_and(|known| known == facts)
    {
        return Ok(name.clone());
    }
    let (sha256, _) = file_sha256(program).map_err(io::Error::other)?;
    if let Some((mark, _)) = named.filter(|(_, name)| *name == sha256) {
        // Best effort: without it the program is read again. A torn one is no file's facts.
        let _ = std::fs::write(mark, facts);
    }
    Ok(sha256)
}

/// The program of this process, by whatever name it was started.
const RUNNING: &str = "/proc/self/exe";

/// What changes when a file does.
fn facts(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let facts = path.metadata()?;
    Ok(format!(
        "{} {} {} {}.{:09}\n",
        facts.dev(),
        facts.ino(),
        facts.len(),
        facts.ctime(),
        facts.ctime_nsec()
    ))
}
