//! `farrun prompt create|list|show|search|delete`

use super::view::{Prompts, RunView, document};
use super::{Context, find, outcome};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::prompt::MAX_TEXT;
use crate::model::{Prompt, slug};
use crate::store::{PromptFilter, RunFilter, StoreError};
use crate::ui::{Table, escape, format};
use chrono::Utc;
use farrun_protocol::PromptId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// The verbs below `farrun prompt`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a prompt from a text and the files it starts from
    #[command(after_help = "\
Examples:
  farrun prompt create \"a neon city in the rain\" --name city --input video=color.mp4
  farrun prompt create - --name long < text.txt
  farrun prompt create \"a harbour\" --inputs-from renders/scene1   (color.mp4, depth.mp4, segmentation.mp4)")]
    Create(Create),
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

/// Arguments of `farrun prompt create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// What is wanted; `-` reads it from stdin
    text: String,
    /// Its name, which also names the folder of its outputs; default made from the text
    #[arg(long)]
    name: Option<String>,
    /// What is not wanted
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,
    /// An input file for a role of the recipe, such as `video=color.mp4`; may be given several times
    #[arg(long, value_name = "ROLE=FILE", value_parser = super::launch_args::parse_pair)]
    input: Vec<(String, String)>,
    /// A folder with `color.mp4` and, if there, `depth.mp4` and `segmentation.mp4`
    #[arg(long, value_name = "FOLDER")]
    inputs_from: Option<std::path::PathBuf>,
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
        Command::Create(args) => create(&controller, context, args).await,
        Command::List(args) => list(&controller, context, None, args.limit).await,
        Command::Show(args) => show(&controller, context, &args.prompt).await,
        Command::Search(args) => list(&controller, context, Some(args.query), args.limit).await,
        Command::Delete(args) => delete(&controller, context, args).await,
    }
}

async fn create(controller: &Controller, context: &Context, args: Create) -> Result<Exit, CommandError> {
    let text = if args.text == "-" {
        let mut text = String::new();
        let failed = |error: std::io::Error| {
            CommandError::usage(format!("the text cannot be read from stdin: {error}"))
        };
        // One byte more than any acceptable text tells a longer one.
        let mut stdin = std::io::stdin().lock().take(4 * MAX_TEXT as u64 + 1);
        context
            .ui
            .waiting_for_input(|| stdin.read_to_string(&mut text))
            .map_err(failed)?;
        text.trim_end_matches('\n').to_owned()
    } else {
        args.text
    };
    let text = check_text(&text)?;
    let negative = args.negative.map(|negative| check_text(&negative)).transpose()?;
    let inputs = inputs(args.input, args.inputs_from.as_deref())?;
    let default = slug::slug(text.chars().take(60).collect::<String>().as_str());
    let name = free_name(controller, args.name.as_deref(), &default).await?;
    let prompt = Prompt {
        id: PromptId::random(),
        name,
        text,
        negative,
        inputs,
        parent: None,
        made_by: None,
        created_at: Utc::now(),
    };
    controller.store.create_prompt(&prompt).await?;
    if context.ui.is_json() {
        context.ui.json(&document("farrun.prompt/1", &prompt));
    } else {
        context.ui.line(prompt.id.as_str());
        context.ui.note(format!(
            "prompt `{}` created; run it with `farrun inference {}`",
            prompt.name, prompt.name
        ));
    }
    Ok(Exit::Completed)
}

/// The text as it is kept.
///
/// # Errors
/// It is empty, too long, or holds a NUL.
pub fn check_text(text: &str) -> Result<String, CommandError> {
    let length = text.chars().count();
    if text.trim().is_empty() {
        return Err(CommandError::usage("the text is empty"));
    }
    if length > MAX_TEXT {
        return Err(CommandError::usage(format!(
            "the text has {length} characters; at most {MAX_TEXT} are kept"
        )));
    }
    if text.contains('\0') {
        return Err(CommandError::usage("the text holds a NUL character"));
    }
    Ok(text.to_owned())
}

/// The name the user gave, checked, or a free one that begins with `default`.
///
/// # Errors
/// The given name is no prompt name or is taken.
pub async fn free_name(
    controller: &Controller,
    given: Option<&str>,
    default: &str,
) -> Result<String, CommandError> {
    if let Some(name) = given {
        if !slug::is_prompt_name(name) {
            return Err(CommandError::usage(format!("`{}` cannot name a prompt", escape::line(name)))
                .hint("use 1 to 48 characters a-z 0-9 _ -; `prompt_enhancement` and names ending in `_upscaled` are reserved"));
        }
        if taken(controller, name).await? {
            return Err(CommandError::refused(format!(
                "there is a prompt `{name}` already"
            )));
        }
        return Ok(name.to_owned());
    }
    let default = if slug::is_prompt_name(default) {
        default.to_owned()
    } else {
        format!("p_{}", slug::slug(default))
    };
    let stem: String = default.chars().take(43).collect();
    if !taken(controller, &stem).await? {
        return Ok(stem);
    }
    for number in 2..10_000 {
        let name = format!("{stem}_{number}");
        if !taken(controller, &name).await? {
            return Ok(name);
        }
    }
    Err(
        CommandError::refused(format!("there are too many prompts named `{stem}`"))
            .hint("give a name with `--name`"),
    )
}

async fn taken(controller: &Controller, name: &str) -> Result<bool, StoreError> {
    Ok(controller
        .store
        .find_prompts(name)
        .await?
        .iter()
        .any(|prompt| prompt.name == name))
}

fn inputs(
    given: Vec<(String, String)>,
    folder: Option<&Path>,
) -> Result<BTreeMap<String, String>, CommandError> {
    let mut files: Vec<(String, std::path::PathBuf)> = given
        .into_iter()
        .map(|(role, path)| (role, path.into()))
        .collect();
    if let Some(folder) = folder {
        files.push(("video".to_owned(), folder.join("color.mp4")));
        for (role, name) in [("depth", "depth.mp4"), ("segmentation", "segmentation.mp4")] {
            let path = folder.join(name);
            if path.exists() {
                files.push((role.to_owned(), path));
            }
        }
    }
    let mut inputs = BTreeMap::new();
    for (role, path) in files {
        if !role
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return Err(CommandError::usage(format!(
                "`{}` is no role; use a-z 0-9 _",
                escape::line(&role)
            )));
        }
        let shown = path.display().to_string();
        let facts = std::fs::metadata(&path)
            .and_then(|facts| std::fs::File::open(&path).map(|_| facts))
            .map_err(|error| CommandError::usage(format!("input `{shown}` cannot be read: {error}")))?;
        if !facts.is_file() || facts.len() == 0 {
            return Err(CommandError::usage(format!(
                "input `{shown}` is not a file with content"
            )));
        }
        let absolute = std::path::absolute(&path).unwrap_or(path);
        let text = absolute
            .to_str()
            .ok_or_else(|| CommandError::usage(format!("the path `{shown}` is not UTF-8")))?;
        if inputs.insert(role.clone(), text.to_owned()).is_some() {
            return Err(CommandError::usage(format!("two inputs were given for `{role}`")));
        }
    }
    Ok(inputs)
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
