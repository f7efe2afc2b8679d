//! What a command ends with when it does not succeed: a message, its causes, hints, and the exit code.

use crate::agent::AgentError;
use crate::config::ConfigError;
use crate::host::LinkError;
use crate::host::agents::AgentProgramError;
use crate::host::deploy::DeployError;
use crate::mirror::MirrorError;
use crate::run::{RunError, gpu_words};
use crate::ssh::transfer::TransferError;
use crate::ssh::{ErrorKind as SshKind, SshError};
use crate::store::StoreError;
use farrun_protocol::ErrorCode;
use std::error::Error;

/// What a command ended with. The number is the program's exit code, the same in every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, and what was asked for succeeded.
    Completed = 0,
    /// The run failed.
    RunFailed = 1,
    /// The command line or an input is wrong.
    Usage = 2,
    /// The host did not answer.
    Unreachable = 3,
    /// There is no such run, prompt, host or recipe.
    NotFound = 4,
    /// Refused: a conflict, or something that is not allowed now.
    Refused = 5,
    /// The host's key is unknown, changed or revoked.
    HostKey = 6,
    /// The run was cancelled.
    Cancelled = 7,
    /// Our own fault: database, disk, a defect.
    Internal = 8,
    /// Detached by Ctrl-C; the run goes on.
    Detached = 130,
}

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// Decides the exit code.
    pub exit: Exit,
    /// One sentence without a trailing period, backticks around names.
    pub message: String,
    /// What it came from, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
}

impl CommandError {
    /// An error without causes and hints.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A wrong command line or input.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// A conflict.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn from_error(exit: Exit, error: &dyn Error) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // A transparent layer says the same again, or says it behind words of its own.
            if !causes.last().is_some_and(|last: &String| last.ends_with(&text)) {
                causes.push(text);
            }
            source = cause.source();
        }
        Self {
            causes,
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let command = Self::from_error(Exit::Usage, &error);
        match error {
            ConfigError::OutputsTooLong { .. } => {
                command.hint("set `outputs` in the configuration to a shorter path")
            }
            ConfigError::Exposed { path, .. } => command.hint(format!("`chmod 600 {}`", path.display())),
            _ => command,
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::HostExists { .. }
            | StoreError::PromptNameTaken { .. }
            | StoreError::PromptHasRuns { .. } => Exit::Refused,
            _ => Exit::Internal,
        };
        let hints = error.hint().map(str::to_owned).into_iter().collect();
        Self {
            hints,
            ..Self::from_error(exit, &error)
        }
    }
}

impl From<MirrorError> for CommandError {
    fn from(error: MirrorError) -> Self {
        let exit = match &error {
            MirrorError::Source(_) | MirrorError::Contradiction { .. } | MirrorError::Damaged { .. } => {
                Exit::Unreachable
            }
            _ => Exit::Internal,
        };
        Self::from_error(exit, &error)
    }
}

impl From<SshError> for CommandError {
    fn from(error: SshError) -> Self {
        let exit = match error.kind() {
            SshKind::HostKey => Exit::HostKey,
            SshKind::Config => Exit::Usage,
            _ => Exit::Unreachable,
        };
        Self {
            hints: ssh_hints(&error),
            ..Self::from_error(exit, &error)
        }
    }
}

/// What to do about an error of SSH.
fn ssh_hints(error: &SshError) -> Vec<String> {
    match error {
        SshError::HostKeyUnknown { host, .. } => vec![
            format!(
                "compare the fingerprint with what the host's owner says, then `farrun host trust {host}`"
            ),
            format!("without a terminal: `farrun host trust {host} --accept-new-host-key`"),
        ],
        SshError::HostKeyChanged { shown, .. } => vec![
            "the machine was set up anew, or someone is in between: ask its owner".to_owned(),
            format!(
                "if it was set up anew: `ssh-keygen -R '{}'`, then `farrun host trust`",
                shown.key_name
            ),
        ],
        SshError::HostKeyRevoked { .. } => {
            vec!["this key must never be trusted again: ask the host's owner".to_owned()]
        }
        SshError::AuthFailed { host, .. } => {
            vec![format!(
                "name a key with `farrun host set {host} --identity FILE`, or load it with `ssh-add`"
            )]
        }
        SshError::KeyPermissions { path, .. } => vec![format!("`chmod 600 {}`", path.display())],
        SshError::Refused { host, .. }
        | SshError::Unresolved { host, .. }
        | SshError::ConnectTimeout { host, .. } => {
            vec![format!(
                "check the address: `farrun host show {host}`, `farrun host set {host} --address …`"
            )]
        }
        SshError::SftpRefused { .. } => {
            vec!["files travel by SFTP: enable `Subsystem sftp` in the host's sshd_config".to_owned()]
        }
        _ => Vec::new(),
    }
}

impl From<TransferError> for CommandError {
    fn from(error: TransferError) -> Self {
        let exit = if error.is_here() {
            Exit::Internal
        } else {
            Exit::Unreachable
        };
        Self::from_error(exit, &error)
    }
}

impl From<AgentError> for CommandError {
    fn from(error: AgentError) -> Self {
        let Some(failure) = error.failure() else {
            return Self::from_error(Exit::Unreachable, &error);
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
            ErrorCode::DockerTimeout => with(Exit::RunFailed, "Docker does not answer on the host", ""),
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
                causes: gpu_words::refusals(&failure.gpus),
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

impl From<DeployError> for CommandError {
    fn from(error: DeployError) -> Self {
        let command = Self::from_error(Exit::Unreachable, &error);
        match error {
            DeployError::Ssh(error) => error.into(),
            DeployError::DoesNotRun { folder, .. } => command.hint(format!(
                "if `{folder}` lies on a file system mounted noexec, move it with `farrun host set NAME --state PATH`"
            )),
            DeployError::Full { folder, .. } => command
                .hint(format!(
                    "make room there: `df -h {folder}` and `du -sh {folder}/*` on the host show what is in the way"
                ))
                .hint("or move the folder to another disk with `farrun host set NAME --state PATH`"),
            DeployError::Damaged { host } => {
                command.hint(format!("its disk may be failing: see its kernel log, and `farrun host doctor {host}`"))
            }
            DeployError::Transfer { host, .. } => {
                command.hint(format!("`farrun host doctor {host}` looks at the account and its folder"))
            }
        }
    }
}

impl From<LinkError> for CommandError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Ssh(error) => error.into(),
            LinkError::Deploy(error) => error.into(),
            LinkError::Agent(error) => error.into(),
            LinkError::Transfer(error) => error.into(),
            // What answers has no shell, or nothing that we know how to talk to.
            LinkError::NoAgent {
                source: AgentProgramError::Platform(_),
                ..
            } => Self::from_error(Exit::Unreachable, &error),
            LinkError::NoAgent { .. } => Self::from_error(Exit::Internal, &error)
                .hint("build it with `scripts/build-agent`, or name its folder in FARRUN_AGENTS"),
        }
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let plain = |exit| Self::from_error(exit, &error);
        match &error {
            RunError::NoRun(_) => plain(Exit::NotFound)
                .hint("`farrun list` shows the runs; `farrun adopt HOST` finds lost ones"),
            RunError::NoHost { .. } | RunError::OutputsGone { .. } => plain(Exit::NotFound),
            RunError::OtherMachine { host, .. } => plain(Exit::Refused)
                .hint(format!(
                    "if the old machine has another address now: `farrun host set {host} --address …`"
                ))
                .hint(format!(
                    "if it is gone for good: `farrun host remove {host} --abandon`, then add it again"
                )),
            RunError::NoHostFits { why } => Self {
                causes: why.clone(),
                ..plain(Exit::Refused)
            },
            RunError::NotOwner(run) => {
                plain(Exit::Refused).hint(format!("take it over with `farrun adopt {run}`"))
            }
            RunError::Active(run) => {
                plain(Exit::Refused).hint(format!("wait for it with `farrun attach {run}`"))
            }
            RunError::BeingStarted(run) => {
                plain(Exit::Refused).hint(format!("try `farrun stop {run}` again in a moment"))
            }
            RunError::Ended { .. } => plain(Exit::Refused),
            RunError::Input { .. }
            | RunError::InputChanged { .. }
            | RunError::Spec(_)
            | RunError::SecretsNeeded { .. } => plain(Exit::Usage),
            RunError::LogPathTooLong { .. } => {
                plain(Exit::Usage).hint("set `outputs` in the configuration to a shorter path")
            }
            RunError::InputGone { .. } | RunError::NoDigest { .. } => plain(Exit::RunFailed),
            RunError::HostFull { host, .. } => {
                plain(Exit::RunFailed).hint(format!("see `farrun gc --host {host} --dry-run`"))
            }
            RunError::Local { .. } => plain(Exit::Internal),
            RunError::Hostile { .. } | RunError::AnswerNeeded { .. } => plain(Exit::Unreachable),
            RunError::Interrupted { .. } => plain(Exit::Detached),
            RunError::Link(_) | RunError::Store(_) | RunError::Mirror(_) => match error {
                RunError::Link(error) => error.into(),
                RunError::Store(error) => error.into(),
                RunError::Mirror(error) => error.into(),
                other => Self::from_error(Exit::Internal, &other),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_frozen() {
        let codes = [
            Exit::Completed,
            Exit::RunFailed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::NotFound,
            Exit::Refused,
            Exit::HostKey,
            Exit::Cancelled,
            Exit::Internal,
            Exit::Detached,
        ];
        assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn a_cause_that_was_just_said_is_not_said_again() {
        let layers = ["opening it", "connecting: refused", "refused", "no route"];
        let chain = layers
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Layer { text, source })));
        let error = CommandError::from_error(Exit::Internal, &*chain.unwrap());
        assert_eq!(error.causes, ["connecting: refused", "no route"]);
    }
}
