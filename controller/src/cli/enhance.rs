//! `farrun enhance`

use super::launch_args::LaunchArgs;
use super::ordering::{self, Subject};
use super::recipe::{self, RecipeArgs};
use super::view::{RunView, document};
use super::{Context, find, launching};
use crate::error::{CommandError, Exit};
use crate::model::RunStatus;
use crate::run::enhance;
use crate::ui::escape;
use farrun_protocol::spec::PromptResult;

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

/// Lets a model rewrite a prompt. The result becomes a new prompt when it is brought here, by this command or another.
///
/// # Errors
/// The run could not be carried out, or its result is no prompt. The old prompt is never touched.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    const OPERATION: &str = "enhance";
    let recipe = args.recipe.find(context)?;
    let Some(reference) = args.prompt.clone().filter(|_| !args.recipe.help_recipe) else {
        return recipe::print_help(context, &recipe, OPERATION);
    };
    let controller = context.controller().await?;
    let host = ordering::host(&controller, &args.launch).await?;
    let prompt = find::prompt(&controller, &reference).await?;
    let name = super::prompt::free_name(
        &controller,
        args.name.as_deref(),
        &format!("{}_enhanced", prompt.name),
    )
    .await?;
    let subject = Subject::of_prompt(OPERATION, prompt, args.recipe.reference(context));
    let resolved = recipe::resolve(
        &recipe,
        &subject,
        &args.recipe.set,
        &[],
        args.launch.overrides(args.recipe.image.clone()),
    )?;
    let rule = resolved.result.clone().ok_or_else(|| {
        CommandError::usage(format!(
            "recipe `{}` does not say which output holds the new prompt",
            recipe.name
        ))
        .hint("give its operation `enhance` a `result`")
    })?;
    let mut order = ordering::order(&controller, &host, &subject, resolved, &args.launch);
    order.spec.result = Some(PromptResult {
        file: rule.file,
        pointer: rule.pointer,
        name,
    });
    let Some(ended) = launching::carry_out(context, &controller, order, &args.launch).await? else {
        return Ok(Exit::Completed);
    };
    let wrong = ended
        .collected
        .as_ref()
        .and_then(|collected| match &collected.made {
            Some(Err(why)) => Some(why.clone()),
            _ => None,
        });
    if let Some(why) = wrong {
        return Err(CommandError::new(
            Exit::RunFailed,
            format!(
                "the result of {} is no prompt: {}",
                ended.run.id,
                escape::line(&why)
            ),
        ));
    }
    let made = enhance::made_by(&controller, &ended.run).await?;
    if let Some(made) = made.filter(|_| ended.run.status == RunStatus::Completed && context.ui.is_json()) {
        let both = serde_json::json!({ "run": RunView::from(&ended.run), "prompt": made });
        context.ui.json_line(&document("farrun.enhancement/1", both));
        return Ok(Exit::Completed);
    }
    Ok(launching::finish(context, &ended))
}
