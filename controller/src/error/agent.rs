//! What an agent refused, in words.

use super::{CommandError, Exit};
use crate::agent::AgentError;
use crate::run::gpu_words;
use farrun_protocol::ErrorCode;

impl From<AgentError> for CommandError {
    fn from(error: AgentError) -> Self {
        let Some(failure) = error.failure() else {
            return match &error {
                AgentError::TooLarge { .. } => Self::from_error(Exit::Usage, &error)
                    .hint("give long texts to the job as files, with inputs"),
                _ => Self::from_error(Exit::Unreachable, &error),
            };
        };
        let detail = failure.detail.clone().unwrap_or_default();
        let with = |exit, message: &str, hint: &str| {
            let causes = if detail.is_empty() {
                Vec::new()
            } else {
                vec![detail.clone()]
            };
            let hints = if hint.is_empty() {
                Vec::new()
            } else {
                vec![hint.to_owned()]
            };
            Self {
                exit,
                message: message.to_owned(),
                causes,
                hints,
            }
        };
        match failure.code {
            ErrorCode::DockerUnreachable => with(
                Exit::RunFailed,
                "no container engine answers on the host",
                "start Docker there, or name another one with `farrun host set NAME --docker-host URL`",
            ),
            ErrorCode::DockerDenied => with(
                Exit::RunFailed,
                "the account may not use Docker on the host",
                "add it to the `docker` group there, or use `farrun host set NAME --docker-sudo`",
            ),
            ErrorCode::DockerTimeout => {
                with(Exit::RunFailed, "Docker does not answer on the host in time", "")
            }
            ErrorCode::DockerRefused => with(Exit::RunFailed, "Docker refused", ""),
            ErrorCode::MountMissing => with(
                Exit::RunFailed,
                "a folder to mount does not exist on the host",
                "create it there, or mount another one",
            ),
            ErrorCode::RunUnknown => with(Exit::NotFound, "the host knows no such run", ""),
            ErrorCode::SpecConflict => with(
                Exit::Refused,
                "the host has another order under this run's id",
                "",
            ),
            ErrorCode::NotOwner => with(
                Exit::Refused,
                "the run belongs to another controller",
                "take it over with `farrun adopt RUN`",
            ),
            ErrorCode::NoFreeGpu => Self {
                causes: gpu_words::refusals(&failure.gpus),
                ..with(
                    Exit::Refused,
                    "no GPU is free for the run",
                    "wait in line with `--wait`, or let farrun look elsewhere with `--host any`",
                )
            },
            ErrorCode::NoSuchGpu => Self {
                causes: gpu_words::no_such(&detail, &failure.gpus),
                ..with(
                    Exit::Refused,
                    "the host has no such GPUs",
                    "see what it has with `farrun gpu`",
                )
            },
            ErrorCode::NoGpu => Self {
                causes: vec![gpu_words::no_gpu_detail(&detail)],
                ..with(
                    Exit::Refused,
                    "the host has no GPU that jobs can use",
                    "see `farrun gpu`; after a repair `farrun gpu --detect` looks again",
                )
            },
            ErrorCode::LocksUnusable => with(
                Exit::Refused,
                "the folder of the host's GPU locks cannot be used",
                "its owner must be root or the account, its mode 1777",
            ),
            ErrorCode::ResidenceRefused => with(
                Exit::Refused,
                "the host offers no way to start the observer after a boot",
                "let the account linger (`sudo loginctl enable-linger USER`) or have a crontab, and try again",
            ),
            ErrorCode::RunActive => with(Exit::Refused, "the run has not ended", ""),
            ErrorCode::DiskFull => with(
                Exit::RunFailed,
                "the host's disk is full",
                "see `farrun gc --host NAME --dry-run`",
            ),
            ErrorCode::Io => with(
                Exit::RunFailed,
                "the host could not use its state folder",
                "look with `farrun host doctor NAME`, or name another folder with `farrun host set NAME --state PATH`",
            ),
            ErrorCode::InputMissing => with(
                Exit::RunFailed,
                "an input is not on the host any more",
                "order the run again, which sends it again",
            ),
            ErrorCode::NewerFormat => with(
                Exit::Refused,
                "the host's files belong to a newer farrun",
                "update farrun here",
            ),
            _ => with(
                Exit::Internal,
                &format!("the agent answered `{}`", failure.code),
                "",
            ),
        }
    }
}
