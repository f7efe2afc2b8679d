//! How a host is reached and used, as the command line says it.

use crate::error::CommandError;
use crate::model::{HostSettings, host as model};
use crate::ui::escape;
use std::path::PathBuf;

/// How a host is reached and used.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SettingsArgs {
    /// `[user@]address[:port]`; without it the name is an alias of ~/.ssh/config
    #[arg(long)]
    pub(super) address: Option<String>,
    /// Private key file; default those of ~/.ssh and ssh-agent, as for `ssh`
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// State folder on the host, relative to the login folder or absolute; default `.local/share/farrun`
    #[arg(long, value_name = "PATH")]
    pub(super) state: Option<String>,
    /// Docker needs `sudo -n` there
    #[arg(long)]
    docker_sudo: bool,
    /// Container engine to use there (`unix://…`, `tcp://…`)
    #[arg(long, value_name = "URL")]
    docker_host: Option<String>,
    /// Have it go on with runs that wait after it was restarted, without a contact: by a unit of the account's systemd, or
    /// its crontab
    #[arg(long)]
    pub(super) resident: bool,
}

impl SettingsArgs {
    pub(super) fn is_empty(&self) -> bool {
        let given = [&self.address, &self.state, &self.docker_host]
            .into_iter()
            .any(Option::is_some);
        !given && self.identity.is_none() && !self.docker_sudo && !self.resident
    }
}

pub(super) fn apply(settings: &mut HostSettings, args: SettingsArgs) -> Result<(), CommandError> {
    if let Some(identity) = args.identity {
        let absolute = std::path::absolute(&identity).unwrap_or(identity);
        if let Err(error) = std::fs::File::open(&absolute) {
            return Err(CommandError::usage(format!(
                "the key `{}` cannot be read: {error}",
                absolute.display()
            )));
        }
        settings.identity = Some(absolute.to_string_lossy().into_owned());
    }
    if let Some(state) = args.state {
        let state = state.trim_end_matches('/').to_owned();
        if !model::is_state_folder(&state) {
            return Err(
                CommandError::usage(format!("`{}` cannot be a state folder", escape::line(&state)))
                    .hint("use at most 200 characters A-Z a-z 0-9 / . _ -, without `..`"),
            );
        }
        settings.state = Some(state);
    }
    if let Some(url) = args.docker_host {
        if !url.starts_with("unix:///") && !url.starts_with("tcp://") {
            return Err(
                CommandError::usage(format!("`{}` is no engine address", escape::line(&url)))
                    .hint("use `unix:///path/to/docker.sock` or `tcp://host:port`, as seen from the host"),
            );
        }
        settings.docker_host = Some(url);
    }
    settings.address = args.address.or(settings.address.take());
    settings.docker_sudo |= args.docker_sudo;
    Ok(())
}
