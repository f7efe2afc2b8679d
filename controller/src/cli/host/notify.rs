//! What is to be done on a host when a run has ended, as the command line says it.

use crate::error::CommandError;
use crate::ui::Ui;
use farrun_protocol::message::Secret;
use farrun_protocol::notify::Hook;
use std::io::Read as _;

/// Longest address that is read from standard input.
const LONGEST: u64 = 4096;

/// What is to be done on a host when a run has ended.
#[derive(Debug, Clone, clap::Args)]
#[group(multiple = false)]
pub(super) struct NotifyArgs {
    /// Run this program there when a run has ended: words as for a shell, without one
    #[arg(long, value_name = "COMMAND")]
    notify_command: Option<String>,
    /// Call this webhook from there when a run has ended; `-` reads the address from standard input, which nobody sees
    #[arg(long, value_name = "URL", value_parser = secret)]
    notify_url: Option<Secret>,
    /// Do nothing there when a run has ended
    #[arg(long)]
    no_notify: bool,
}

impl NotifyArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.notify_command.is_none() && self.notify_url.is_none() && !self.no_notify
    }

    /// What is wanted; none for nothing.
    pub(super) fn hook(&self, ui: &Ui) -> Result<Option<Hook>, CommandError> {
        let hook = match (&self.notify_command, &self.notify_url) {
            (Some(command), _) => Hook::Command {
                argv: shlex::split(command)
                    .ok_or_else(|| CommandError::usage("a quotation in --notify-command has no end"))?,
            },
            (None, Some(url)) if url.expose() == "-" => Hook::Webhook { url: read()? },
            (None, Some(url)) => {
                ui.warning("others on this machine can see the webhook's address in the list of processes");
                ui.hint("give it by `--notify-url -` on standard input");
                Hook::Webhook { url: url.clone() }
            }
            (None, None) => return Ok(None),
        };
        let flag = match hook {
            Hook::Command { .. } => "--notify-command",
            Hook::Webhook { .. } => "--notify-url",
        };
        hook.check()
            .map_err(|problem| CommandError::usage(format!("{flag} cannot be used: {problem}")))?;
        Ok(Some(hook))
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn read() -> Result<Secret, CommandError> {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| CommandError::usage(format!("standard input cannot be read: {error}")))?;
    Ok(Secret::new(text.trim()))
}
