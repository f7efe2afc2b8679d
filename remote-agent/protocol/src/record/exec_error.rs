//! Why PID 1 could not start the job.

use serde::{Deserialize, Serialize};

/// Why a main process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExecError {
    /// No such program.
    NotFound {
        /// What was to be executed.
        program: String,
    },
    /// It is there and cannot be executed.
    NotExecutable {
        /// What was to be executed.
        program: String,
        /// The kernel's error.
        error: String,
    },
    /// The working directory cannot be entered.
    WorkingDirectory {
        /// The directory.
        path: String,
        /// The kernel's error.
        error: String,
    },
    /// No secrets arrived on stdin.
    SecretsMissing,
    /// The lock of a GPU of the run could not be taken.
    GpuLock {
        /// The lock file as PID 1 sees it.
        lock: String,
        /// Who else has it, or what the kernel said.
        error: String,
    },
    /// The engine did not hand the run's GPUs to the container.
    GpuHidden {
        /// UUIDs of the run's GPUs.
        wanted: String,
        /// What `NVIDIA_VISIBLE_DEVICES` says inside; none when it says nothing.
        #[serde(default)]
        seen: Option<String>,
        /// Whether there is no device of any GPU, whatever the variable says.
        #[serde(default)]
        no_device: bool,
    },
    /// The record could not be opened or claimed.
    Record {
        /// What failed.
        error: String,
    },
}

impl ExecError {
    /// The exit code that a shell has for it; none for what has nothing to do with the job.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::NotFound { .. } => Some(127),
            Self::NotExecutable { .. } | Self::WorkingDirectory { .. } => Some(126),
            Self::SecretsMissing | Self::GpuLock { .. } | Self::GpuHidden { .. } | Self::Record { .. } => {
                None
            }
        }
    }

    /// What the kernel said about what, for people.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NotFound { program } => Some(program.clone()),
            Self::NotExecutable { program, error } => Some(format!("{program}: {error}")),
            Self::WorkingDirectory { path, error } => Some(format!("{path}: {error}")),
            Self::SecretsMissing => None,
            Self::GpuHidden {
                wanted,
                seen,
                no_device,
            } => {
                let seen = seen.as_deref().unwrap_or("not set");
                let device = if *no_device {
                    "; its /dev has no device of a GPU"
                } else {
                    ""
                };
                Some(format!(
                    "the container cannot see its GPU: {wanted} was given and NVIDIA_VISIBLE_DEVICES is {seen}{device}"
                ))
            }
            Self::GpuLock { lock, error } => Some(format!("{lock}: {error}")),
            Self::Record { error } => Some(error.clone()),
        }
    }
}
