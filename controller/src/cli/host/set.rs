//! `farrun host set`

use super::notify::NotifyArgs;
use super::report;
use super::settings::{SettingsArgs, apply};
use crate::cli::{Context, find};
use crate::error::{CommandError, Exit};
use crate::run::residence;
use farrun_protocol::message::SetHook;
use farrun_protocol::notify::Hook;

/// Arguments of `farrun host set`.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The host
    name: String,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    /// Docker needs no `sudo` there
    #[arg(long, conflicts_with = "docker_sudo")]
    no_docker_sudo: bool,
    /// Leave nothing on it that starts after a restart; runs that wait go on with the next contact
    #[arg(long, conflicts_with = "resident")]
    no_resident: bool,
}

pub(super) async fn set(args: Set, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let mut host = find::host(&controller, &args.name).await?;
    let moved = args.settings.state.is_some();
    let resident = args.settings.resident;
    if args.settings.is_empty() && !args.no_docker_sudo && !args.no_resident && args.notify.is_empty() {
        return Err(
            CommandError::usage(format!("nothing to change for `{}`", host.name))
                .hint("see `farrun host set --help`"),
        );
    }
    apply(&mut host.settings, args.settings)?;
    if args.no_docker_sudo {
        host.settings.docker_sudo = false;
    }
    if moved && host.settings.resident.is_some() {
        return Err(CommandError::refused(format!(
            "`{}` starts an agent of its state folder after a restart",
            host.name
        ))
        .hint(format!(
            "take that back first: `farrun host set {} --no-resident`",
            host.name
        )));
    }
    if moved
        && !controller
            .store
            .unsettled_runs(Some(&host.name))
            .await?
            .is_empty()
    {
        return Err(CommandError::refused(format!(
            "`{}` has unfinished runs in its state folder",
            host.name
        ))
        .hint("wait for them or stop them first"));
    }
    controller.dialer().endpoint(&host)?;
    if !args.notify.is_empty() {
        let hook = args.notify.hook(&context.ui)?;
        host.settings.notify = hook.as_ref().map(Hook::shown);
        // The host first: what is written down here is what it has acknowledged.
        let link = controller.contact(&host).await?;
        let set = SetHook {
            host: host.name.clone(),
            hook,
        };
        let answer = link.client.set_hook(set).await;
        link.session.close().await;
        answer?;
    }
    let settings = host.settings.clone();
    controller
        .store
        .change_host(&args.name, |row| row.settings = settings)
        .await?;
    if resident || args.no_resident {
        // The host is asked in the way that was just set.
        residence::set(&controller, &host, resident).await?;
        host = find::host(&controller, &host.name).await?;
    }
    report(context, "changed", &host);
    Ok(Exit::Completed)
}
