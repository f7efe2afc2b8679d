//! `farrun host add`

use super::report;
use super::settings::{SettingsArgs, apply};
use crate::agent::AgentError;
use crate::cli::placement_args::ANY;
use crate::cli::{Context, find};
use crate::error::{CommandError, Exit};
use crate::host::LinkError;
use crate::host::deploy::DeployError;
use crate::model::{Host, HostSettings, host as model};
use crate::run::{RunError, residence};
use crate::ssh::SshError;
use crate::ui::escape;
use chrono::Utc;
use farrun_protocol::message::HostFacts;
use std::time::Duration;

/// How long a host that was just added may take to say what it is.
const FACTS_BUDGET: Duration = Duration::from_secs(15);

/// Arguments of `farrun host add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Your name for it: a-z 0-9 . _ -
    name: String,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Trust an unknown key unasked; a changed or revoked one is never trusted
    #[arg(long)]
    accept_new_host_key: bool,
    /// Only write it down; do not connect
    #[arg(long, conflicts_with = "resident")]
    no_connect: bool,
}

pub(super) async fn add(args: Add, context: &Context) -> Result<Exit, CommandError> {
    if args.name == ANY {
        return Err(CommandError::usage(
            "no host can be named `any`: `--host any` means the one that fits best",
        ));
    }
    if !model::is_host_name(&args.name) {
        return Err(
            CommandError::usage(format!("`{}` cannot name a host", escape::line(&args.name)))
                .hint("use 1 to 63 characters a-z 0-9 . _ -, beginning with a letter or digit"),
        );
    }
    let controller = context.controller_that(args.accept_new_host_key).await?;
    let mut settings = HostSettings::default();
    let resident = args.settings.resident;
    apply(&mut settings, args.settings)?;
    let host = Host {
        name: args.name,
        settings,
        host_id: None,
        platform: None,
        added_at: Utc::now(),
        last_seen: None,
    };
    let earlier = controller.store.host(&host.name).await?;
    // One that never answered is left over from an `add` that was killed, or was only written down.
    let replaced = !args.no_connect && earlier.as_ref().is_some_and(|earlier| earlier.host_id.is_none());
    if earlier.is_some() && !replaced {
        return Err(
            CommandError::refused(format!("there is a host `{}` already", host.name))
                .hint(format!("change it with `farrun host set {}`", host.name)),
        );
    }
    // What OpenSSH's configuration says must be honoured or refused before the host is written down.
    controller.dialer().endpoint(&host)?;
    if replaced {
        controller
            .store
            .change_host(&host.name, |row| row.settings = host.settings.clone())
            .await?;
    } else {
        controller.store.add_host(&host).await?;
    }
    if args.no_connect {
        report(context, "added; it was not contacted", &host);
        return Ok(Exit::Completed);
    }
    match controller.contact(&host).await {
        Ok(link) => {
            let facts = tokio::time::timeout(FACTS_BUDGET, link.client.host()).await;
            link.session.close().await;
            let made = match resident {
                true => residence::set(&controller, &host, true).await.map(drop),
                false => Ok(()),
            };
            let host = find::host(&controller, &host.name).await?;
            report(context, "added", &host);
            if let Ok(Ok(facts)) = facts {
                warn_of_engine(context, &host, &facts);
            }
            made.map_err(|error| not_resident(&host, error))?;
            Ok(Exit::Completed)
        }
        Err(error) => {
            // A host that never answered is not kept: adding again with other settings must not meet a conflict.
            if !replaced {
                controller.store.remove_host(&host.name).await?;
            }
            Err(not_added(error))
        }
    }
}

fn not_resident(host: &Host, error: RunError) -> CommandError {
    CommandError::from(error).hint(format!(
        "`{0}` was added without it; try again with `farrun host set {0} --resident`",
        host.name
    ))
}

/// An engine that refuses would otherwise be met only when the first run is ordered.
fn warn_of_engine(context: &Context, host: &Host, facts: &HostFacts) {
    let Err(failure) = &facts.engine else { return };
    let problem = CommandError::from(AgentError::Failed(failure.clone()));
    let causes: String = problem.causes.iter().map(|cause| format!(" ({cause})")).collect();
    context.ui.warning(format!(
        "`{}` can run nothing yet: {}{causes}",
        host.name, problem.message
    ));
    for hint in problem.hints {
        context.ui.hint(hint.replace("NAME", &host.name));
    }
}

/// The hints for a host that is kept name verbs that would not know this one.
fn not_added(error: RunError) -> CommandError {
    let hint = match &error {
        RunError::Link(LinkError::Ssh(error)) => match error {
            SshError::HostKeyUnknown { .. } => Some(
                "compare the fingerprint with what the host's owner says, then add it again with `--accept-new-host-key`",
            ),
            SshError::AuthFailed { .. } => {
                Some("name a key with `--identity FILE`, or load it with `ssh-add`, and add it again")
            }
            SshError::Refused { .. } | SshError::Unresolved { .. } | SshError::ConnectTimeout { .. } => {
                Some("check the address (`--address user@host:port`) and add it again")
            }
            _ => None,
        },
        RunError::Link(LinkError::Deploy(DeployError::DoesNotRun { .. })) => {
            Some("if the state folder lies on a file system mounted noexec, add it again with `--state PATH`")
        }
        RunError::Link(LinkError::Deploy(DeployError::Full { .. })) => {
            Some("make room there, or add it again with `--state PATH` on another disk")
        }
        _ => None,
    };
    let mut command = CommandError::from(error);
    if let Some(hint) = hint {
        command.hints = vec![hint.to_owned()];
    }
    command
}
