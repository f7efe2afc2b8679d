//! `farrun prompt create`, and the names and texts that any new prompt may have.

use crate::cli::Context;
use crate::cli::view::document;
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::prompt::{MAX_TEXT, check_text};
use crate::model::{Prompt, slug};
use crate::store::StoreError;
use crate::ui::escape;
use chrono::Utc;
use farrun_protocol::PromptId;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

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
    #[arg(long, value_name = "ROLE=FILE", value_parser = crate::cli::launch_args::parse_pair)]
    input: Vec<(String, String)>,
    /// A folder with `color.mp4` and, if there, `depth.mp4` and `segmentation.mp4`
    #[arg(long, value_name = "FOLDER")]
    inputs_from: Option<std::path::PathBuf>,
}

/// Writes a prompt down.
///
/// # Errors
/// A wrong text, name or input, or the database.
pub(super) async fn create(
    controller: &Controller,
    context: &Context,
    args: Create,
) -> Result<Exit, CommandError> {
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
    let text = checked(text)?;
    let negative = args.negative.map(checked).transpose()?;
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
fn checked(text: String) -> Result<String, CommandError> {
    match check_text(&text) {
        Ok(()) => Ok(text),
        Err(error) => Err(CommandError::usage(error.to_string())),
    }
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
