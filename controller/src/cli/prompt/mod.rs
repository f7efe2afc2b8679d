//! `farrun prompt create|list|show|search|delete`

use super::view::{Prompts, RunView, document};
use super::{Context, find, outcome};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::Prompt;
use crate::store::{PromptFilter, RunFilter};
use crate::ui::{Table, format};
use chrono::Utc;
use serde::Serialize;

mod create;

pub use create::free_name;

/// The verbs below `farrun prompt`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a prompt from a text and the files it starts from
    #[command(after_help = "\
Examples:
  farrun prompt create \"a neon city in the rain\" --name city --input video=color.mp4
  farrun prompt create - --name long < text.txt
  farrun prompt create \"a harbour\" --inputs-from renders/scene1   (color.mp4, depth.mp4, segmentation.mp4)")]
    Create(create::Create),
    /// List prompts, newest first
    #[command(after_help = "Example:\n  farrun prompt list --limit 10")]
    List(List),
    /// Show a prompt and its runs
    #[command(after_help = "Examples:\n  farrun prompt show city\n  farrun prompt show @last --json")]
    Show(Show),
    /// Find prompts by a part of their text or name
    #[command(after_help = "Example:\n  farrun prompt search rain")]
    Search(Search),
    /// Delete a prompt
    #[command(after_help = "\
Examples:
  farrun prompt delete city
  farrun prompt delete city --with-runs     also forget its runs

Files here and on hosts stay.")]
    Delete(Delete),
}

/// Arguments of `farrun prompt list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: u64,
}

/// Arguments of `farrun prompt show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// Name, id or its beginning, or `@last`
    prompt: String,
}

/// Arguments of `farrun prompt search`.
#[derive(Debug, clap::Args)]
pub struct Search {
    /// A part of text or name; upper and lower case are the same
    query: String,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: u64,
}

/// Arguments of `farrun prompt delete`.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// Name, id or its beginning, or `@last`
    prompt: String,
    /// Delete the rows of its runs as well; their files stay
    #[arg(long)]
    with_runs: bool,
}

/// Carries out one of the verbs.
///
/// # Errors
/// A wrong text, name or input, a prompt that does not exist, or the database.
pub async fn run(command: Command, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    match command {
        Command::Create(args) => create::create(&controller, context, args).await,
        Command::List(args) => list(&controller, context, None, args.limit).await,
        Command::Show(args) => show(&controller, context, &args.prompt).await,
        Command::Search(args) => list(&controller, context, Some(args.query), args.limit).await,
        Command::Delete(args) => delete(&controller, context, args).await,
    }
}

async fn list(
    controller: &Controller,
    context: &Context,
    search: Option<String>,
    limit: u64,
) -> Result<Exit, CommandError> {
    let prompts = controller
        .store
        .prompts(&PromptFilter {
            search,
            limit: Some(limit),
        })
        .await?;
    if context.ui.is_json() {
        context
            .ui
            .json(&document("farrun.prompts/1", Prompts { prompts: &prompts }));
        return Ok(Exit::Completed);
    }
    if prompts.is_empty() {
        context.ui.note("no prompts");
        return Ok(Exit::Completed);
    }
    let mut table = Table::new(["PROMPT", "NAME", "CREATED", "INPUTS", "TEXT"]);
    let now = Utc::now();
    for prompt in &prompts {
        table.row([
            prompt.id.to_string(),
            prompt.name.clone(),
            format::age(prompt.created_at, now),
            prompt.inputs.keys().cloned().collect::<Vec<_>>().join(","),
            prompt.text.chars().take(200).collect(),
        ]);
    }
    context.ui.table(&table);
    Ok(Exit::Completed)
}

#[derive(Debug, Serialize)]
struct PromptDetail<'a> {
    prompt: &'a Prompt,
    runs: Vec<RunView<'a>>,
}

/// Shows a prompt and its runs.
///
/// # Errors
/// There is no such prompt, or the database.
pub async fn show(controller: &Controller, context: &Context, reference: &str) -> Result<Exit, CommandError> {
    let prompt = find::prompt(controller, reference).await?;
    let filter = RunFilter {
        prompt: Some(prompt.id.clone()),
        limit: Some(50),
        ..RunFilter::default()
    };
    let runs = controller.store.runs(&filter).await?;
    if context.ui.is_json() {
        let detail = PromptDetail {
            prompt: &prompt,
            runs: runs.iter().map(RunView::from).collect(),
        };
        context.ui.json(&document("farrun.prompt_detail/1", detail));
        return Ok(Exit::Completed);
    }
    let mut fields = vec![
        ("prompt", prompt.id.to_string()),
        ("name", prompt.name.clone()),
        ("created", format::time(prompt.created_at)),
        ("text", prompt.text.clone()),
    ];
    fields.extend(prompt.negative.clone().map(|negative| ("negative", negative)));
    fields.extend(
        prompt
            .parent
            .as_ref()
            .map(|parent| ("made from", parent.to_string())),
    );
    fields.extend(prompt.made_by.as_ref().map(|run| ("made by", run.to_string())));
    fields.extend(
        prompt
            .inputs
            .iter()
            .map(|(role, path)| ("input", format!("{role}: {path}"))),
    );
    context.ui.fields(&fields);
    if !runs.is_empty() {
        let mut table = Table::new(["RUN", "KIND", "HOST", "STATE", "ORDERED", "TOOK"]);
        let now = Utc::now();
        for run in &runs {
            table.row([
                run.id.to_string(),
                run.operation.clone(),
                run.host.clone(),
                outcome::state(run),
                format::age(run.created_at, now),
                outcome::elapsed(run).unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        context.ui.line("");
        context.ui.table(&table);
    }
    Ok(Exit::Completed)
}

async fn delete(controller: &Controller, context: &Context, args: Delete) -> Result<Exit, CommandError> {
    let prompt = find::prompt(controller, &args.prompt).await?;
    let filter = RunFilter {
        prompt: Some(prompt.id.clone()),
        ..RunFilter::default()
    };
    let runs = controller.store.runs(&filter).await?;
    if let Some(active) = runs.iter().find(|run| !run.status.is_final()) {
        return Err(CommandError::refused(format!(
            "run {} of `{}` is {}",
            active.id, prompt.name, active.status
        ))
        .hint(format!("end it first with `farrun stop {}`", active.id)));
    }
    if !runs.is_empty() && !args.with_runs {
        return Err(CommandError::refused(format!(
            "prompt `{}` has {} run{}",
            prompt.name,
            runs.len(),
            if runs.len() == 1 { "" } else { "s" }
        ))
        .hint("delete their rows as well with `--with-runs`; logs and outputs stay on disk"));
    }
    controller.store.delete_prompt(&prompt.id, args.with_runs).await?;
    if context.ui.is_json() {
        context.ui.json(&document("farrun.prompt/1", &prompt));
    } else {
        context.ui.note(format!(
            "prompt `{}` deleted; logs and outputs are untouched",
            prompt.name
        ));
    }
    Ok(Exit::Completed)
}
