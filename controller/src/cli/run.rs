//! `farrun run`

use super::launch_args::LaunchArgs;
use super::ordering::{self, Subject};
use super::{Context, launching};
use crate::error::{CommandError, Exit};
use crate::model::slug::{is_prompt_name, slug};
use crate::recipe::regular;
use crate::run::{Order, OrderInput, OrderSource};
use farrun_protocol::RunId;
use farrun_protocol::spec::{Capture, RunSpec};
use std::path::PathBuf;

/// Arguments of `farrun run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun run ubuntu:24.04 -- echo hello
  farrun run my/image:1 --gpus all --input data.csv -- python train.py /farrun/inputs/data.csv
  farrun run my/image:1 --secret HF_TOKEN=@token.txt --mount ~/models:/models:ro --detach

What the job writes to /farrun/outputs is brought back, verified, when it succeeded; /farrun/inputs holds its inputs.")]
pub struct Args {
    /// Image, as Docker names it
    image: String,
    /// Command; without it the image's own
    #[arg(last = true)]
    command: Vec<String>,
    /// Name of the folder below the outputs; default: made from the image
    #[arg(long)]
    name: Option<String>,
    /// A file the job may read at /farrun/inputs; `NAME=FILE` gives it another name there
    #[arg(long, value_name = "[NAME=]FILE")]
    input: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Working directory inside the container
    #[arg(long, value_name = "PATH")]
    workdir: Option<String>,
    /// User inside the container
    #[arg(long)]
    user: Option<String>,
    /// Network mode, such as `none` or `host`
    #[arg(long)]
    network: Option<String>,
    /// Share the host's IPC namespace
    #[arg(long)]
    ipc_host: bool,
    /// Let the engine capture the output, for images that insist on being PID 1; weaker: bytes can be lost when the
    /// engine restarts
    #[arg(long)]
    capture_docker: bool,
    /// Path below /farrun/outputs without which the run has failed
    #[arg(long, value_name = "PATH")]
    require: Vec<String>,
    #[command(flatten)]
    launch: LaunchArgs,
}

/// Runs any image.
///
/// # Errors
/// An input is unreadable, the order is not acceptable, or the run could not be carried out.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = ordering::host(&controller, &args.launch).await?;
    let subject = Subject {
        run_id: RunId::random(),
        operation: "run".to_owned(),
        name: name(args.name.as_deref(), &args.image)?,
        prompt: None,
        parent: None,
        recipe: None,
    };
    let inputs = args
        .input
        .iter()
        .map(|text| input(text))
        .collect::<Result<Vec<_>, _>>()?;
    let spec = RunSpec {
        entrypoint: args.entrypoint.map(|program| vec![program]),
        command: args.command,
        working_dir: args.workdir,
        user: args.user,
        required_outputs: args.require,
        ipc_host: args.ipc_host,
        network: args.network,
        capture: if args.capture_docker {
            Capture::Docker
        } else {
            Capture::Init
        },
        ..ordering::draft(&controller, &subject, args.image, &args.launch)
    };
    let order = Order {
        host,
        spec,
        inputs,
        parent_run: None,
        key: args.launch.key.clone(),
    };
    let ended = launching::carry_out(context, &controller, order, &args.launch).await?;
    Ok(ended.map_or(Exit::Completed, |ended| launching::finish(context, &ended)))
}

/// The folder's name: the one given, or one made from the image that is none of those other verbs write to.
fn name(given: Option<&str>, image: &str) -> Result<String, CommandError> {
    let name = slug(given.unwrap_or(image));
    match given {
        _ if is_prompt_name(&name) => Ok(name),
        Some(given) => Err(CommandError::usage(format!(
            "`{}` cannot name a run's folder",
            crate::ui::escape::line(given)
        ))
        .hint("`prompt_enhancement` and names ending in `_upscaled` are reserved")),
        None => Ok(slug(&format!("{name}_image"))),
    }
}

fn input(text: &str) -> Result<OrderInput, CommandError> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
        None => {
            let path = PathBuf::from(text);
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            (name, path)
        }
    };
    if !farrun_protocol::manifest::is_safe_path(&name) {
        return Err(CommandError::usage(format!(
            "`{}` cannot name an input",
            crate::ui::escape::line(&name)
        )));
    }
    regular(&path).map_err(|problem| {
        let error = CommandError::usage(format!("input: {problem}"));
        match path.is_dir() {
            true => error.hint("give its files one by one"),
            false => error,
        }
    })?;
    Ok(OrderInput {
        path: name,
        source: OrderSource::Local(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_other_verbs_are_not_taken() {
        assert_eq!(name(None, "h:5000/team/demo:1").unwrap(), "h_5000_team_demo_1");
        assert_eq!(
            name(None, "prompt_enhancement").unwrap(),
            "prompt_enhancement_image"
        );
        assert_eq!(name(Some("mine"), "x").unwrap(), "mine");
        assert_eq!(name(Some("city_upscaled"), "x").unwrap_err().exit, Exit::Usage);
    }
}
