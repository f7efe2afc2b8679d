//! `farrun enhance`

use super::launch_args::LaunchArgs;
use super::ordering::{self, Subject};
use super::recipe::{self, RecipeArgs};
use super::view::{RunView, document};
use super::{Context, find, launching};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::{Prompt, RunStatus};
use crate::recipe::Recipe;
use crate::run::follow::Ended;
use farrun_protocol::PromptId;
use std::path::Path;

/// Arguments of `farrun enhance`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun enhance city                 writes the result as a new prompt, city_enhanced
  farrun enhance city --name city_v2")]
pub struct Args {
    /// The prompt: name, id or its beginning, or `@last`
    #[arg(required_unless_present = "help_recipe")]
    prompt: Option<String>,
    /// Name of the new prompt; default the old name and `_enhanced`
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    launch: LaunchArgs,
}

/// Lets a model rewrite a prompt and keeps the result as a new prompt.
///
/// # Errors
/// The run could not be carried out, or its result is no prompt. The old prompt is never touched.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    const OPERATION: &str = "enhance";
    let recipe = args.recipe.find(context)?;
    let Some(reference) = args.prompt.clone().filter(|_| !args.recipe.help_recipe) else {
        return recipe::print_help(context, &recipe, OPERATION);
    };
    if args.launch.detach {
        return Err(CommandError::usage(
            "`enhance` writes its result back as a prompt, so it stays attached",
        ));
    }
    let controller = context.controller().await?;
    let host = ordering::host(&controller, &args.launch).await?;
    let prompt = find::prompt(&controller, &reference).await?;
    let name = super::prompt::free_name(
        &controller,
        args.name.as_deref(),
        &format!("{}_enhanced", prompt.name),
    )
    .await?;
    let subject = Subject::of_prompt(OPERATION, prompt.clone(), args.recipe.reference(context));
    let resolved = recipe::resolve(
        &recipe,
        &subject,
        &args.recipe.set,
        &[],
        args.launch.overrides(args.recipe.image.clone()),
    )?;
    let order = ordering::order(&controller, &host, &subject, resolved, &args.launch);
    let Some(ended) = launching::carry_out(context, &controller, order, &args.launch).await? else {
        return Ok(Exit::Completed);
    };
    if ended.run.status == RunStatus::Completed {
        let made = write_back(&controller, &recipe, &prompt, name, &ended).await?;
        if context.ui.is_json() {
            let both = serde_json::json!({ "run": RunView::from(&ended.run), "prompt": made });
            context.ui.json_line(&document("farrun.enhancement/1", both));
            return Ok(Exit::Completed);
        }
        context.ui.note(format!(
            "new prompt `{0}` ({1}); run it with `farrun inference {0}`",
            made.name, made.id
        ));
    }
    Ok(launching::finish(context, &ended))
}

async fn write_back(
    controller: &Controller,
    recipe: &Recipe,
    parent: &Prompt,
    name: String,
    ended: &Ended,
) -> Result<Prompt, CommandError> {
    let wrong = |why: String| {
        CommandError::new(
            Exit::RunFailed,
            format!("the result of {} is no prompt: {why}", ended.run.id),
        )
    };
    let folder = ended
        .run
        .outputs_path
        .as_deref()
        .map(Path::new)
        .ok_or_else(|| wrong("it has no outputs".to_owned()))?;
    let rule = recipe
        .operation("enhance")
        .and_then(|operation| operation.result.as_ref());
    let rule = rule.ok_or_else(|| wrong("its recipe names no result".to_owned()))?;
    let bytes = read_result(&folder.join(&rule.file)).map_err(|error| wrong(error.to_string()))?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let text = value.pointer(&rule.pointer).and_then(serde_json::Value::as_str);
    let text = text
        .ok_or_else(|| wrong(format!("`{}` has no text at `{}`", rule.file, rule.pointer)))?
        .to_owned();
    let text = super::prompt::check_text(&text)?;
    let prompt = Prompt {
        id: PromptId::random(),
        name,
        text,
        parent: Some(parent.id.clone()),
        made_by: Some(ended.run.id.clone()),
        created_at: chrono::Utc::now(),
        ..parent.clone()
    };
    controller.store.create_prompt(&prompt).await?;
    Ok(prompt)
}

/// A result is a prompt of at most 10,000 characters in a little JSON.
fn read_result(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(1024 * 1024)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
