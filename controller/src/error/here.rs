//! Errors of this side: its configuration, its database, its mirrors.

use super::{CommandError, Exit};
use crate::config::ConfigError;
use crate::mirror::MirrorError;
use crate::store::StoreError;

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
            MirrorError::Source(_)
            | MirrorError::Contradiction { .. }
            | MirrorError::TooLong { .. }
            | MirrorError::Damaged { .. } => Exit::Unreachable,
            _ => Exit::Internal,
        };
        Self::from_error(exit, &error)
    }
}
