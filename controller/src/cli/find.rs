//! Finds what an argument means: an id, an unambiguous prefix of one, a prompt's name (where a run is meant, its
//! newest run), the name of a run, or `@last`.

use crate::controller::Controller;
use crate::error::CommandError;
use crate::model::slug::slug;
use crate::model::{Host, Prompt, Run};
use crate::run::order::place_here;
use crate::store::{PromptFilter, RunFilter};

/// How many candidates an ambiguous prefix names.
const CANDIDATES: u64 = 5;

/// The run that `reference` means, with a place for its log and outputs on this machine.
///
/// # Errors
/// None or several match, or the database.
pub async fn run(controller: &Controller, reference: &str) -> Result<Run, CommandError> {
    let run = meant(controller, reference).await?;
    Ok(place_here(controller, run).await?)
}

async fn meant(controller: &Controller, reference: &str) -> Result<Run, CommandError> {
    if reference == "@last" {
        let none = || CommandError::not_found("there are no runs yet");
        return controller.store.last_run().await?.ok_or_else(none);
    }
    let mut found = controller.store.find_runs(reference, CANDIDATES).await?;
    match (found.len(), found.pop()) {
        (1, Some(run)) => Ok(run),
        (0, _) | (_, None) => {
            let unknown = || {
                CommandError::not_found(format!("no run `{reference}` is known here"))
                    .hint("`farrun list` shows the runs; `farrun adopt HOST` finds lost ones")
            };
            if let Some(run) = newest_of_prompt(controller, reference).await? {
                return Ok(run);
            }
            newest_of_name(controller, reference).await?.ok_or_else(unknown)
        }
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

/// The newest run of the prompt with this name.
async fn newest_of_prompt(controller: &Controller, name: &str) -> Result<Option<Run>, CommandError> {
    let found = controller.store.find_prompts(name).await?;
    let Some(prompt) = found.into_iter().find(|prompt| prompt.name == name) else {
        return Ok(None);
    };
    let filter = RunFilter {
        prompt: Some(prompt.id),
        limit: Some(1),
        ..RunFilter::default()
    };
    Ok(controller.store.runs(&filter).await?.pop())
}

/// Whether `reference` could mean a prompt.
///
/// # Errors
/// The database.
pub async fn is_prompt(controller: &Controller, reference: &str) -> Result<bool, CommandError> {
    Ok(!controller.store.find_prompts(reference).await?.is_empty())
}

/// The newest run with this name, as `farrun run --name` was given it or as it was kept.
///
/// # Errors
/// The database.
pub async fn newest_of_name(controller: &Controller, name: &str) -> Result<Option<Run>, CommandError> {
    // The database refuses what no name can hold.
    if name.contains('\0') || !name.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    let kept = slug(name);
    for name in [name.to_owned(), kept] {
        let filter = RunFilter {
            name: Some(name),
            limit: Some(1),
            ..RunFilter::default()
        };
        if let Some(run) = controller.store.runs(&filter).await?.pop() {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// The prompt that `reference` means.
///
/// # Errors
/// None or several match, or the database.
pub async fn prompt(controller: &Controller, reference: &str) -> Result<Prompt, CommandError> {
    if reference == "@last" {
        let newest = PromptFilter {
            limit: Some(1),
            ..PromptFilter::default()
        };
        let none = || CommandError::not_found("there are no prompts yet");
        return controller.store.prompts(&newest).await?.pop().ok_or_else(none);
    }
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

/// The hosts of these names, each once; all of them when none is named.
///
/// # Errors
/// There is none of a name, or the database.
pub async fn hosts(controller: &Controller, names: &[String]) -> Result<Vec<Host>, CommandError> {
    if names.is_empty() {
        return Ok(controller.store.hosts().await?);
    }
    let mut found: Vec<Host> = Vec::new();
    for name in names {
        let host = host(controller, name).await?;
        if !found.iter().any(|known| known.name == host.name) {
            found.push(host);
        }
    }
    Ok(found)
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
