//! A foreign program, started within limits.

use super::refused;
use crate::gpu::{ChildLimits, End, LIMITED_ROLE, run_child};
use farrun_protocol::doctor::{Looked, Unseen, Why};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Folders that hold programs although PATH does not name them.
const FOLDERS: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// Most that is kept of what a program said.
const MOST: usize = 256 * 1024;

/// How a program ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The same, every byte of it as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl From<Printed> for Said {
    fn from(printed: Printed) -> Self {
        let text = |bytes: &[u8]| {
            let kept = bytes.get(..MOST).unwrap_or(bytes);
            String::from_utf8_lossy(kept).into_owned()
        };
        Self {
            code: printed.code,
            stdout: text(&printed.stdout),
            stderr: text(&printed.stderr),
        }
    }
}

/// Limits of a program that only looks something up.
pub(crate) const LOOKS: ChildLimits = ChildLimits {
    run: Duration::from_secs(4),
    terminate: Duration::from_millis(500),
    kill: Duration::from_millis(500),
};

/// Limits of a program that changes something: what it asks may have to be started first, and one that is cut off may
/// have done its work all the same.
pub(crate) const CHANGES: ChildLimits = ChildLimits {
    run: Duration::from_secs(20),
    ..LOOKS
};

/// Where a program is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end. `launcher` is the agent, which limits itself and then becomes it.
pub(crate) fn run(launcher: &Path, name: &str, arguments: &[&str], limits: ChildLimits) -> Looked<Said> {
    run_with(launcher, name, arguments, &[], limits)
}

/// As [`run`], with variables beside language and PATH.
pub(crate) fn run_with(
    launcher: &Path,
    name: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
    limits: ChildLimits,
) -> Looked<Said> {
    print_with(launcher, name, arguments, environment, limits).map(Said::from)
}

/// As [`run_with`], for one who needs every byte.
pub(crate) fn print_with(
    launcher: &Path,
    name: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
    limits: ChildLimits,
) -> Looked<Printed> {
    let program =
        find(name).ok_or_else(|| Unseen::because(Why::Absent, format!("no `{name}` is installed")))?;
    let mut command = Command::new(launcher);
    command
        .arg(LIMITED_ROLE)
        .arg(std::process::id().to_string())
        .arg("")
        .arg(program)
        .args(arguments);
    let finished = run_child(command, environment, Stdio::null(), limits);
    let printed = |code| Printed {
        code,
        stdout: finished.stdout,
        stderr: finished.stderr,
    };
    match finished.end {
        End::Exited(code) => Ok(printed(code)),
        End::Signalled(signal) => Ok(printed(128_i32.saturating_add(signal))),
        End::NotStarted(reason) => Err(Unseen::because(Why::Failed, reason)),
        End::Flooded => Err(Unseen::because(Why::Failed, format!("`{name}` printed too much"))),
        End::Late | End::Stuck(_) => Err(Unseen::because(
            Why::Late,
            format!("`{name}` took longer than {} s", limits.run.as_secs()),
        )),
    }
}

/// The text of a file, at most a megabyte of it.
pub(super) fn read(path: &Path) -> Looked<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| refused(&error))?;
    let mut bytes = Vec::new();
    file.take(1024 * 1024)
        .read_to_end(&mut bytes)
        .map_err(|error| refused(&error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
