//! Errors on the way to a host: SSH, transfers, the agent's program.

use super::{CommandError, Exit};
use crate::host::LinkError;
use crate::host::agents::AgentProgramError;
use crate::host::deploy::DeployError;
use crate::ssh::transfer::TransferError;
use crate::ssh::{ErrorKind as SshKind, SshError};

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
