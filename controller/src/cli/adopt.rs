//! `farrun adopt`

use super::launch_args::parse_size;
use super::view::{RunView, Runs, document};
use super::{Context, find, outcome};
use crate::error::{CommandError, Exit};
use crate::run::adopt;
use crate::ui::Table;
use farrun_protocol::RunId;

/// Arguments of `farrun adopt`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrun adopt gpu1                       every run that gpu1 knows
  farrun adopt rs_k3v9q2m7x4tb --host gpu1   one run, by its whole id when it is not known here
  farrun adopt gpu1 --log-cap 2g          also runs that were ordered with a log of up to 2 GiB")]
pub struct Args {
    /// A run or a host
    what: String,
    /// The host of a run that is not known here
    #[arg(long)]
    host: Option<String>,
    /// Take over runs whose log may have up to this size, for the host alone tells how they were ordered; default
    /// 1 GiB, or `log_cap` of the configuration where that is more
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    log_cap: Option<u64>,
}

/// Takes over runs: a second laptop, or a lost database.
///
/// # Errors
/// There is no such run or host, or it is out of reach.
pub async fn run(args: Args, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let (host, run) = if args.what.starts_with("rs_") {
        match (&args.host, args.what.parse::<RunId>()) {
            (Some(host), Ok(run)) => (find::host(&controller, host).await?, Some(run)),
            _ => {
                let run = find::run(&controller, &args.what).await?;
                (controller.host_of(&run.id, &run.host).await?, Some(run.id))
            }
        }
    } else {
        (find::host(&controller, &args.what).await?, None)
    };
    let most = args
        .log_cap
        .unwrap_or(controller.config.log_cap.max(adopt::UNASKED));
    let runs = adopt::adopt(&controller, &host, run.as_ref(), most).await?;
    if context.ui.is_json() {
        let runs = Runs {
            runs: runs.iter().map(RunView::from).collect(),
            silent_hosts: Vec::new(),
        };
        context.ui.json(&document("farrun.runs/1", runs));
        return Ok(Exit::Completed);
    }
    if runs.is_empty() {
        context
            .ui
            .note(format!("`{}` knows no runs that can be adopted", host.name));
        return Ok(Exit::Completed);
    }
    let mut table = Table::new(["RUN", "NAME", "KIND", "STATE"]);
    for run in &runs {
        table.row([
            run.id.to_string(),
            run.spec.name.clone(),
            run.operation.clone(),
            outcome::state(run),
        ]);
    }
    context.ui.table(&table);
    Ok(Exit::Completed)
}
