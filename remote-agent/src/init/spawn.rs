//! Finding the job's program and starting it on one pipe.

use super::args::InitArgs;
use super::secrets::Secrets;
use farrun_protocol::record::ExecError;
use rustix::fs::{Access, OFlags, access, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::Pid;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The pipe is made this large so that the job rarely waits for the disk.
const PIPE_SIZE: usize = 1024 * 1024;

/// A job that runs.
#[derive(Debug)]
pub(super) struct Job {
    /// Its main process, which leads a process group of its own.
    pub(super) pid: Pid,
    /// What it prints, both streams on one pipe so that the order between them is kept; reading does not block.
    pub(super) output: OwnedFd,
}

/// Starts the job. Our own working directory becomes the job's.
///
/// # Errors
/// Which of the three ways it cannot be started.
pub(super) fn start(args: &InitArgs, secrets: &Secrets) -> Result<Job, ExecError> {
    if let Some(folder) = &args.working_dir {
        std::env::set_current_dir(folder).map_err(|error| ExecError::WorkingDirectory {
            path: super::bounded(folder.display()),
            error: super::bounded(error),
        })?;
    }
    let search = secrets
        .get("PATH")
        .map(Into::into)
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_else(|| DEFAULT_PATH.into());
    let program = find(&args.program, &search).map_err(|error| exec_error(&args.program, &error))?;
    launch(args, &program, secrets).map_err(|error| ExecError::NotExecutable {
        program: super::bounded(args.program.display()),
        error: super::bounded(error),
    })
}

fn exec_error(program: &OsStr, error: &io::Error) -> ExecError {
    let program = super::bounded(program.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ExecError::NotFound { program },
        _ => ExecError::NotExecutable {
            program,
            error: super::bounded(error),
        },
    }
}

/// The path of a program as a shell would find it. It always holds a slash, so that it is not searched again.
fn find(program: &OsStr, search: &OsStr) -> io::Result<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        return executable(Path::new(program)).map(|()| program.into());
    }
    let mut refused = None;
    for folder in std::env::split_paths(search) {
        let folder = if folder.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            folder
        };
        let path = folder.join(program);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn executable(path: &Path) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(rustix::io::Errno::ACCESS.into());
    }
    Ok(access(path, Access::EXEC_OK)?)
}

fn launch(args: &InitArgs, program: &Path, secrets: &Secrets) -> io::Result<Job> {
    let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
    // Both are for speed: without the size writers wait more often, never longer than for one read.
    let _ = fcntl_setpipe_size(&output, PIPE_SIZE);
    fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
    let mut command = Command::new(program);
    command
        .arg0(&args.program)
        .args(&args.arguments)
        .envs(secrets)
        .stdin(no_input()?)
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0);
    if std::env::var_os("PYTHONUNBUFFERED").is_none() && !secrets.contains_key("PYTHONUNBUFFERED") {
        command.env("PYTHONUNBUFFERED", "1");
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.map(|pid| Job { pid, output })
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// An input that is at its end; a pipe without a writer where the image has no `/dev/null`.
fn no_input() -> io::Result<Stdio> {
    match std::fs::File::open("/dev/null") {
        Ok(null) => Ok(null.into()),
        Err(_) => Ok(pipe_with(PipeFlags::CLOEXEC)?.0.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn put(path: &Path, mode: u32) {
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_executable_on_the_path_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        for folder in [&one, &two] {
            std::fs::create_dir(folder).unwrap();
        }
        put(&one.join("tool"), 0o644);
        put(&two.join("tool"), 0o755);
        std::fs::create_dir(one.join("folder")).unwrap();
        put(&one.join("text"), 0o644);
        let search = std::env::join_paths([Path::new("/nowhere"), &one, &two]).unwrap();
        let kind = |name: &str| find(name.as_ref(), &search).map_err(|error| error.kind());
        assert_eq!(kind("tool"), Ok(two.join("tool")));
        assert_eq!(kind("folder"), Err(io::ErrorKind::PermissionDenied));
        assert_eq!(kind("text"), Err(io::ErrorKind::PermissionDenied));
        assert_eq!(kind("nothing"), Err(io::ErrorKind::NotFound));
        assert_eq!(kind("/nowhere/tool"), Err(io::ErrorKind::NotFound));
        assert_eq!(kind("/etc/passwd/tool"), Err(io::ErrorKind::NotADirectory));
    }
}
