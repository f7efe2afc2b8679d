//! Errors of stories.

use super::{CommandError, Exit};
use crate::run::RunError;

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
            RunError::OrderedElsewhere(run) => plain(Exit::Refused).hint(format!(
                "take it up there with `farrun attach {run}`, or drop it with `farrun stop {run}` and order it here"
            )),
            RunError::BeingStarted(run) => {
                plain(Exit::Refused).hint(format!("try `farrun stop {run}` again in a moment"))
            }
            RunError::Ended { .. } => plain(Exit::Refused),
            RunError::LogCapTooLarge {
                host, run, claimed, ..
            } => plain(Exit::Refused).hint(format!(
                "if it was ordered so: `farrun adopt {run} --host {host} --log-cap {claimed}`"
            )),
            RunError::Input { .. }
            | RunError::InputChanged { .. }
            | RunError::Spec(_)
            | RunError::SecretsNeeded { .. } => plain(Exit::Usage),
            RunError::LogPathTooLong { .. } => {
                plain(Exit::Usage).hint("set `outputs` in the configuration to a shorter path")
            }
            RunError::InputGone { .. } => plain(Exit::RunFailed),
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
