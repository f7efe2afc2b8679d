//! `farrun recipe list|show|check`, and how the other verbs find and resolve theirs.

use super::Context;
use super::launch_args::parse_pair;
use super::ordering::Subject;
use super::view::document;
use crate::error::{CommandError, Exit};
use crate::model::{OutputRecord, Run};
use crate::recipe::{
    Catalog, Entry, FindError, InputFrom, Origin, Overrides, ParameterHelp, ParentRun, Recipe, RecipeError,
    Request, ResolveError, Resolved,
};
use crate::ui::Table;
use serde::Serialize;
use std::path::PathBuf;

/// The verbs below `farrun recipe`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List built-in recipes and your own
    #[command(
        after_help = "Example:\n  farrun recipe list\n\nYours are the files in ~/.config/farrun/recipes/."
    )]
    List,
    /// Show a recipe's operations and parameters
    #[command(
        after_help = "Examples:\n  farrun recipe show cosmos-transfer1\n  farrun recipe show demo --source > mine.toml"
    )]
    Show(Show),
    /// Check a recipe file
    #[command(after_help = "Example:\n  farrun recipe check ./mine.toml")]
    Check(Check),
}

/// Arguments of `farrun recipe show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// Name or file
    recipe: String,
    /// Print the file itself
    #[arg(long)]
    source: bool,
}

/// Arguments of `farrun recipe check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The file
    file: PathBuf,
}

/// Which recipe, and with which parameters.
#[derive(Debug, Clone, clap::Args)]
pub struct RecipeArgs {
    /// Recipe: a name of `farrun recipe list`, or a file; default the configured one, for `upscale` that of the
    /// earlier run
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Set a parameter of the recipe; may be given several times, `--help-recipe` explains them
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Use this image instead of the recipe's
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Explain the recipe's parameters and inputs, and do nothing else
    #[arg(long)]
    pub help_recipe: bool,
}

impl RecipeArgs {
    /// The recipe of an earlier run.
    pub fn of(run: &Run) -> Self {
        Self {
            recipe: run.recipe.clone(),
            set: Vec::new(),
            image: None,
            help_recipe: false,
        }
    }

    /// These, with the recipe of `run` where none is named.
    #[must_use]
    pub fn or_of(&self, run: &Run) -> Self {
        Self {
            recipe: self.recipe.clone().or_else(|| run.recipe.clone()),
            ..self.clone()
        }
    }

    /// What the recipe is found by again: its name, or the absolute path of its file.
    pub fn reference(&self, context: &Context) -> String {
        let named = self
            .recipe
            .clone()
            .unwrap_or_else(|| context.config.recipe.clone());
        if named.contains('/') || named.ends_with(".toml") {
            return std::path::absolute(&named).map_or(named, |path| path.to_string_lossy().into_owned());
        }
        named
    }

    /// Finds the recipe.
    ///
    /// # Errors
    /// There is none of that name, or its file is wrong.
    pub fn find(&self, context: &Context) -> Result<Recipe, CommandError> {
        Ok(find(context, &self.reference(context))?.recipe)
    }
}

fn catalog(context: &Context) -> Catalog {
    Catalog::load(&context.config.config_folder.join("recipes"))
}

fn find(context: &Context, reference: &str) -> Result<Entry, CommandError> {
    Ok(catalog(context).find(reference)?)
}

impl From<FindError> for CommandError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Unknown { ref meant, .. } => {
                let command = Self::not_found(error.to_string());
                match meant {
                    Some(meant) => command.hint(format!("did you mean `{meant}`?")),
                    None => command.hint("`farrun recipe list` shows what there is"),
                }
            }
            FindError::Broken(error) => error.into(),
        }
    }
}

impl From<RecipeError> for CommandError {
    fn from(error: RecipeError) -> Self {
        let mut command = Self::usage(format!("recipe `{}` is not usable", error.origin));
        for problem in &error.problems {
            let place = problem
                .position
                .map(|(line, column)| format!("{line}:{column}: "))
                .unwrap_or_default();
            let key = match problem.key.as_str() {
                "" => String::new(),
                key => format!("{key}: "),
            };
            command.causes.push(format!("{place}{key}{}", problem.message));
            command.hints.extend(problem.hint.clone());
        }
        command
    }
}

/// Resolves an operation for a subject; all problems are reported at once.
///
/// # Errors
/// Unknown or wrong parameters, missing or unreadable inputs.
pub fn resolve(
    recipe: &Recipe,
    subject: &Subject,
    set: &[(String, String)],
    outputs: &[OutputRecord],
    overrides: Overrides,
) -> Result<Resolved, CommandError> {
    let parent = subject.parent.as_ref().map(|parent| ParentRun {
        run_id: parent.id.clone(),
        outputs: outputs.to_vec(),
    });
    let request = Request {
        run_id: &subject.run_id,
        prompt: subject.prompt.as_ref(),
        parent: parent.as_ref(),
        set,
        overrides,
    };
    crate::recipe::resolve(recipe, &subject.operation, &request).map_err(|error| match error {
        ResolveError::Refused {
            recipe,
            operation,
            problems,
        } => {
            let mut command =
                CommandError::usage(format!("`{operation}` of `{recipe}` cannot be ordered like this"));
            command.causes = problems;
            command.hint(format!(
                "`farrun {operation} --recipe {recipe} --help-recipe` explains parameters and inputs"
            ))
        }
        error => CommandError::not_found(error.to_string()),
    })
}

/// Carries out one of the verbs.
///
/// # Errors
/// A recipe does not exist or is wrong.
pub fn run(command: Command, context: &Context) -> Result<Exit, CommandError> {
    match command {
        Command::List => list(context),
        Command::Show(args) => show(&args, context),
        Command::Check(args) => check(&args, context),
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    description: String,
    operations: Vec<String>,
    origin: String,
}

fn list(context: &Context) -> Result<Exit, CommandError> {
    let catalog = catalog(context);
    for (path, error) in &catalog.problems {
        context
            .ui
            .warning(format!("`{}` is not usable: {error}", path.display()));
    }
    let listed: Vec<Listed> = catalog
        .entries
        .iter()
        .map(|entry| Listed {
            name: entry.recipe.name.clone(),
            description: entry.recipe.description.clone(),
            operations: entry.recipe.operations.keys().cloned().collect(),
            origin: match &entry.origin {
                Origin::BuiltIn => "built in".to_owned(),
                Origin::File(path) => path.display().to_string(),
            },
        })
        .collect();
    if context.ui.is_json() {
        context.ui.json(&document(
            "farrun.recipes/1",
            serde_json::json!({ "recipes": listed }),
        ));
        return Ok(Exit::Completed);
    }
    let mut table = Table::new(["RECIPE", "OPERATIONS", "FROM", "DESCRIPTION"]);
    for recipe in listed {
        table.row([
            recipe.name,
            recipe.operations.join(" "),
            recipe.origin,
            recipe.description,
        ]);
    }
    context.ui.table(&table);
    Ok(Exit::Completed)
}

fn show(args: &Show, context: &Context) -> Result<Exit, CommandError> {
    let entry = find(context, &args.recipe)?;
    if context.ui.is_json() {
        let recipe = &entry.recipe;
        let operations: Vec<_> = recipe
            .operations
            .keys()
            .filter_map(|operation| recipe.help(operation))
            .collect();
        let source = if args.source { Some(source(&entry)?) } else { None };
        let shown = serde_json::json!({ "name": recipe.name, "operations": operations, "source": source });
        context.ui.json(&document("farrun.recipe/1", shown));
        return Ok(Exit::Completed);
    }
    if args.source {
        context.ui.verbatim(&source(&entry)?);
        return Ok(Exit::Completed);
    }
    if context.ui.is_json() {
        print_json(context, &entry.recipe);
        return Ok(Exit::Completed);
    }
    for operation in entry.recipe.operations.keys() {
        print_help(context, &entry.recipe, operation)?;
    }
    Ok(Exit::Completed)
}

fn print_json(context: &Context, recipe: &Recipe) {
    let operations: Vec<_> = recipe
        .operations
        .keys()
        .filter_map(|operation| recipe.help(operation))
        .collect();
    let shown = serde_json::json!({
        "name": recipe.name, "description": recipe.description, "image": recipe.image, "operations": operations,
    });
    context.ui.json(&document("farrun.recipe/1", shown));
}

fn source(entry: &Entry) -> Result<String, CommandError> {
    match &entry.origin {
        Origin::BuiltIn => Ok(entry.built_in_source().unwrap_or_default().to_owned()),
        Origin::File(path) => std::fs::read_to_string(path)
            .map_err(|error| CommandError::usage(format!("`{}` cannot be read: {error}", path.display()))),
    }
}

fn check(args: &Check, context: &Context) -> Result<Exit, CommandError> {
    let shown = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| CommandError::usage(format!("`{shown}` cannot be read: {error}")))?;
    let recipe = Recipe::parse(&text, &shown)?;
    if context.ui.is_json() {
        print_json(context, &recipe);
        return Ok(Exit::Completed);
    }
    let operations: Vec<&str> = recipe.operations.keys().map(String::as_str).collect();
    context
        .ui
        .note(format!("`{shown}` is a valid recipe ({})", operations.join(", ")));
    Ok(Exit::Completed)
}

/// Explains an operation's inputs and parameters.
///
/// # Errors
/// The recipe has no such operation.
pub fn print_help(context: &Context, recipe: &Recipe, operation: &str) -> Result<Exit, CommandError> {
    let missing =
        || CommandError::not_found(format!("recipe `{}` has no operation `{operation}`", recipe.name));
    let help = recipe.help(operation).ok_or_else(missing)?;
    if context.ui.is_json() {
        context.ui.json(&document("farrun.operation/1", &help));
        return Ok(Exit::Completed);
    }
    // Explanations are read, so none is cut: one line for what is typed, one for what it means.
    context
        .ui
        .line(format!("{operation} ({}): {}", recipe.name, help.help));
    for input in &help.inputs {
        let need = if input.required { "needed" } else { "optional" };
        let from = match input.from {
            InputFrom::Prompt => format!("given with `farrun prompt create … --input {}=FILE`", input.role),
            InputFrom::Parent => "an output of the run it works on".to_owned(),
        };
        context.ui.line(format!(
            "  input `{}`, {need}: {from}\n      {}",
            input.role, input.help
        ));
    }
    for parameter in &help.parameters {
        context.ui.line(explained(parameter));
    }
    context.ui.line("");
    Ok(Exit::Completed)
}

/// `--set fps=24`, what is accepted, and what it does.
fn explained(parameter: &ParameterHelp) -> String {
    let value = match &parameter.default {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        None => "…".to_owned(),
    };
    let quote = if value.contains(char::is_whitespace) {
        "'"
    } else {
        ""
    };
    let need = if parameter.required { " (needed)" } else { "" };
    format!(
        "  --set {quote}{}={value}{quote}{need}\n      {}: {}",
        parameter.name, parameter.help, parameter.expected
    )
}
