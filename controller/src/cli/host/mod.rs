//! `farrun host add|list|show|set|trust|doctor|remove`

mod add;
mod doctor;
mod list;
mod notify;
mod remove;
mod set;
mod settings;
mod show;
mod trust;

use super::Context;
use super::view::document;
use crate::error::{CommandError, Exit};
use crate::model::Host;
use crate::ui::escape;

/// The verbs below `farrun host`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a host, check its key and put the agent there
    #[command(after_help = "\
Examples:
  farrun host add gpu1                                   an alias of ~/.ssh/config
  farrun host add gpu2 --address me@203.0.113.7:2222 --identity ~/.ssh/id_ed25519
  farrun host add box --address root@[2001:db8::7] --docker-sudo")]
    Add(add::Add),
    /// List hosts
    #[command(after_help = "Example:\n  farrun host list")]
    List,
    /// Show how a host is reached and used
    #[command(after_help = "Example:\n  farrun host show gpu1")]
    Show(Named),
    /// Change how a host is reached or used
    #[command(after_help = "\
Examples:
  farrun host set gpu1 --address me@203.0.113.9           the same machine at another address
  farrun host set gpu1 --resident                         goes on with what waits after a restart
  farrun host set gpu1 --notify-command 'mail-me --run'   run there when a run has ended
  farrun host set gpu1 --notify-url - < webhook.txt       call a webhook from there")]
    Set(set::Set),
    /// Trust the key a host shows
    #[command(after_help = "\
Example:
  farrun host trust gpu1     shows the fingerprint and asks

A key that changed or was revoked is never trusted.")]
    Trust(trust::Trust),
    /// Look at everything on the way to a run, and say what to do about it
    #[command(after_help = "\
Example:
  farrun host doctor gpu1

It ends with 1 when something is broken, with 0 when there are only warnings and notes. Nothing on the host is
changed: a file of at most 16 MiB is sent and removed, and a short container is made of an image that is there.")]
    Doctor(Named),
    /// Forget a host; nothing on it is touched
    #[command(
        after_help = "Examples:\n  farrun host remove gpu1\n  farrun host remove gpu1 --abandon     it will never come back"
    )]
    Remove(remove::Remove),
}

/// A host by name.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// The host
    name: String,
}

/// Carries out one of the verbs.
///
/// # Errors
/// A wrong name or setting, a host that does not exist or answer, or the database.
pub async fn run(command: Command, context: &Context) -> Result<Exit, CommandError> {
    match command {
        Command::Add(args) => add::add(args, context).await,
        Command::List => list::list(context).await,
        Command::Show(args) => show::show(args, context).await,
        Command::Set(args) => set::set(args, context).await,
        Command::Doctor(args) => doctor::doctor(args, context).await,
        Command::Trust(args) => trust::trust(args, context).await,
        Command::Remove(args) => remove::remove(args, context).await,
    }
}

fn report(context: &Context, what: &str, host: &Host) {
    if context.ui.is_json() {
        context.ui.json(&document("farrun.host/1", host));
    } else {
        let platform = host
            .platform
            .as_deref()
            .map(|platform| format!(" ({})", escape::line(platform)));
        context.ui.note(format!(
            "host `{}` {what}{}",
            host.name,
            platform.unwrap_or_default()
        ));
    }
}
