//! Programs of the host that tell something: started within limits, ended with what they started.

use crate::diagnostics::item::{Found, Looked};
use crate::gpu::{self, ChildLimits, End, Gpus};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDERS: [&str; 6] = [
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",
];

/// The way to start a program: the agent, which limits itself and becomes it.
#[derive(Debug, Clone)]
pub(in crate::diagnostics) struct Command {
    pub(in crate::diagnostics) launcher: PathBuf,
}

/// A program of the host, where such programs usually are.
pub(in crate::diagnostics) fn find(name: &str) -> Option<PathBuf> {
    let mut paths = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.is_file())
}

impl Command {
    /// What a program prints, on both outputs when it fails.
    pub(in crate::diagnostics) fn output(
        &self,
        program: &Path,
        arguments: &[&str],
        limit: Duration,
    ) -> Looked {
        let limits = ChildLimits {
            run: limit,
            terminate: Duration::from_millis(500),
            kill: Duration::from_millis(500),
        };
        said(gpu::run_limited(&self.launcher, None, program, arguments, limits))
    }
}

/// What `nvidia-smi` prints, unless somebody else asks it now.
pub(in crate::diagnostics) fn nvidia_smi(gpus: &Gpus, arguments: &[&str], limit: Duration) -> Looked {
    let limits = ChildLimits {
        run: limit,
        terminate: Duration::from_secs(1),
        kill: Duration::from_secs(1),
    };
    said(gpus.ask(arguments, limits)?)
}

fn said(finished: gpu::Finished) -> Looked {
    let gpu::Finished {
        end,
        mut stdout,
        stderr,
    } = finished;
    let why = match end {
        End::Exited(0) => return Ok(Found::Whole(stdout)),
        End::Exited(code) => format!("it ended with code {code}"),
        End::Signalled(signal) => format!("signal {signal} ended it"),
        End::NotStarted(why) => return Err(why),
        End::Late => "it took too long and was ended".to_owned(),
        End::Flooded => "it printed too much and was ended".to_owned(),
        End::Stuck(pid) => format!("it took too long and cannot be ended (pid {pid})"),
    };
    stdout.extend_from_slice(&stderr);
    match stdout.is_empty() {
        true => Err(why),
        false => Ok(Found::Part(stdout, why)),
    }
}
