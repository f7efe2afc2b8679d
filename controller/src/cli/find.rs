//! Finds what an argument means: an id, an unambiguous prefix of one, a prompt's name, or `@last`.

use crate::controller::Controller;
use crate::error::CommandError;
use crate::model::{Host, Prompt, Run};

/// How many candidates an ambiguous prefix names.
const CANDIDATES: u64 = 5;

/// The run that `reference` means.
///
/// # Errors
/// None or several match, or the database.
pub async fn run(controller: &Controller, reference: &str) -> Result<Run, CommandError> {
    if reference == "@last" {
        let none = || CommandError::not_found("there are no runs yet");
        return controller.store.last_run().await?.ok_or_else(none);
    }
    let mut found = controller.store.find_runs(reference, CANDIDATES).await?;
    match (found.len(), found.pop()) {
        (1, Some(run)) => Ok(run),
        (0, _) | (_, None) => Err(
            CommandError::not_found(format!("no run `{reference}` is known here"))
                .hint("`farrun list` shows the runs; `farrun adopt HOST` finds lost ones"),
        ),
        (_, Some(last)) => {
            let ids: Vec<String> = found
                .iter()
                .chain([&last])
                .map(|run| format!("`{}`", run.id))
                .collect();
            Err(CommandError::usage(format!(
                "`{reference}` could be {}",
                ids.join(", ")
            )))
        }
    }
}

/// The prompt that `reference` means.
///
/// # Errors
/// None or several match, or the database.
pub async fn prompt(controller: &Controller, reference: &str) -> Result<Prompt, CommandError> {
    let mut found = controller.store.find_prompts(reference).await?;
    // A whole name beats prefixes of ids.
    if let Some(index) = found.iter().position(|prompt| prompt.name == reference) {
        return Ok(found.swap_remove(index));
    }
    match (found.len(), found.pop()) {
        (1, Some(prompt)) => Ok(prompt),
        (0, _) | (_, None) => Err(
            CommandError::not_found(format!("no prompt `{reference}` is known here"))
                .hint("`farrun prompt list` shows them; `farrun prompt create TEXT` makes one"),
        ),
        (_, Some(last)) => {
            let ids: Vec<String> = found
                .iter()
                .chain([&last])
                .map(|prompt| format!("`{}`", prompt.id))
                .collect();
            Err(CommandError::usage(format!(
                "`{reference}` could be {}",
                ids.join(", ")
            )))
        }
    }
}

/// A host by name.
///
/// # Errors
/// There is none, or the database.
pub async fn host(controller: &Controller, name: &str) -> Result<Host, CommandError> {
    controller.store.host(name).await?.ok_or_else(|| {
        CommandError::not_found(format!("no host `{name}` is known here"))
            .hint("`farrun host list` shows them; `farrun host add NAME` adds one")
    })
}

/// The host for a new run: the one named, the configured one, or the only one there is.
///
/// # Errors
/// None is named and there is not exactly one.
pub async fn host_for_run(controller: &Controller, named: Option<&str>) -> Result<Host, CommandError> {
    if let Some(name) = named.or(controller.config.host.as_deref()) {
        return host(controller, name).await;
    }
    let mut hosts = controller.store.hosts().await?;
    match (hosts.len(), hosts.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) | (_, None) => Err(CommandError::not_found("no host is known here")
            .hint("add one with `farrun host add NAME --address user@host`")),
        _ => Err(CommandError::usage("there are several hosts and none was named")
            .hint("name one with `--host NAME`, or set `host` in the configuration")),
    }
}
