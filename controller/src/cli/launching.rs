//! The way from an order to a run that is followed to its end, shared by every verb that starts one.

use super::launch_args::LaunchArgs;
use super::{Context, ordering, outcome, progress, secrets};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::mirror;
use crate::model::{Run, RunStatus};
use crate::run::collect::Collected;
use crate::run::follow::{self, Ended, Following, follow};
use crate::run::order::{Placed, place};
use crate::run::{Order, RunError, device, launch, why};
use crate::ui::escape;
use farrun_protocol::RunId;
use farrun_protocol::message::Secret;
use farrun_protocol::spec::Capture;
use std::collections::BTreeMap;
use std::time::Duration;

/// Places an order, launches it and, unless detached, follows it to its end. Answers with the run, and none for a
/// dry run.
///
/// # Errors
/// What keeps the order from being carried out; a run that fails is no error.
pub async fn carry_out(
    context: &Context,
    controller: &Controller,
    order: Order,
    args: &LaunchArgs,
) -> Result<Option<Ended>, CommandError> {
    let secrets = secrets(context, args)?;
    carry_out_with(context, controller, order, args, secrets).await
}

/// The secrets that the flags name. They are read once for all orders of a command: stdin is at its end afterwards, and
/// nobody wants to be asked again. A dry run needs none.
///
/// # Errors
/// As [`secrets::read`].
pub fn secrets(context: &Context, args: &LaunchArgs) -> Result<BTreeMap<String, Secret>, CommandError> {
    match args.dry_run {
        true => Ok(BTreeMap::new()),
        false => secrets::read(context, &args.secret),
    }
}

/// As [`carry_out`], with secrets that were read before.
///
/// # Errors
/// As [`carry_out`].
pub async fn carry_out_with(
    context: &Context,
    controller: &Controller,
    mut order: Order,
    args: &LaunchArgs,
    secrets: BTreeMap<String, Secret>,
) -> Result<Option<Ended>, CommandError> {
    if !is_to_be_placed(context, controller, &mut order, args).await? {
        return Ok(None);
    }
    match place(controller, order).await.map_err(not_placed)? {
        Placed::Existing(run) => {
            context.ui.note(format!("the key found {}", run.id));
            if args.detach && (run.launched_at.is_some() || run.status.is_settled()) {
                return Ok(Some(detached(context, run)));
            }
            if run.status.is_final() {
                return Ok(Some(Ended::of(controller, run, None).await?));
            }
            start_and_follow(context, controller, run, secrets, args.detach, args.patience)
                .await
                .map(Some)
        }
        Placed::New(run) => start_and_follow(context, controller, run, secrets, args.detach, args.patience)
            .await
            .map(Some),
    }
}

/// Decides what an order leaves open, and says what it promises. Answers whether it is to be placed: the plan of a dry run is
/// shown instead.
async fn is_to_be_placed(
    context: &Context,
    controller: &Controller,
    order: &mut Order,
    args: &LaunchArgs,
) -> Result<bool, CommandError> {
    args.place.check(&order.spec.gpus)?;
    tell_promise(context, order);
    ordering::decide_host(context, controller, order).await?;
    if args.dry_run {
        ordering::show_plan(context, controller, order)?;
    }
    Ok(!args.dry_run)
}

/// Places an order and launches it without following it: the host goes on from here, also when it has to wait in line.
/// Answers with the run, and none for a dry run.
///
/// # Errors
/// What keeps the order from being carried out.
pub async fn send(
    context: &Context,
    controller: &Controller,
    mut order: Order,
    args: &LaunchArgs,
    secrets: BTreeMap<String, Secret>,
) -> Result<Option<Run>, CommandError> {
    if !is_to_be_placed(context, controller, &mut order, args).await? {
        return Ok(None);
    }
    let run = match place(controller, order).await.map_err(not_placed)? {
        Placed::Existing(run) | Placed::New(run) => run,
    };
    match launch::launch(controller, &run.id, secrets).await {
        Ok((run, link)) => {
            if let Some(link) = link {
                link.let_go().await;
            }
            Ok(Some(run))
        }
        Err(error) => Err(not_launched(controller, &run.id, error).await?),
    }
}

/// What is promised about the log is less where PID 1 is not ours; said before anything is ordered.
fn tell_promise(context: &Context, order: &Order) {
    if order.spec.capture == Capture::Docker {
        context
            .ui
            .note("the engine captures the output: bytes can be lost when it restarts");
    }
}

/// Launches a run unless it was launched, and follows it to its end unless detached.
///
/// # Errors
/// See [`carry_out`].
pub async fn start_and_follow(
    context: &Context,
    controller: &Controller,
    run: Run,
    secrets: BTreeMap<String, Secret>,
    detach: bool,
    patience: Option<u64>,
) -> Result<Ended, CommandError> {
    let id = run.id.clone();
    let (run, link) = match launch::launch(controller, &id, secrets).await {
        Ok(launched) => launched,
        Err(error) => return Err(not_launched(controller, &id, error).await?),
    };
    if detach {
        if let Some(link) = link {
            link.let_go().await;
        }
        return Ok(detached(context, run));
    }
    match run.status {
        // Told as soon as it runs.
        RunStatus::Queued => {}
        status if status.is_settled() => head(context, &run),
        _ => device::tell_running(controller, &run),
    }
    // With --json stdout carries one document; the log is in its file.
    let following = Following {
        from: mirror::From::Start,
        show: !context.ui.is_json(),
        pull: true,
        patience: self::patience(context, patience),
    };
    let ended = follow(controller, run, link, following).await;
    context.ui.log_end();
    ended.map_err(|error| left(&id, error))
}

/// Says where a run was started and what it computes with, before its log.
pub fn head(context: &Context, run: &Run) {
    if context.ui.is_json() || run.started_at.is_none() {
        return;
    }
    let place = escape::line(&device::place(run));
    context.ui.note(format!("{} {place}", run.id));
}

/// How long a host may stay away while a run on it is followed: the `given` seconds; else as long as somebody sees the
/// wait on a terminal, for silence says nothing about the run; else a while, so that a script comes to an end.
pub fn patience(context: &Context, given: Option<u64>) -> Duration {
    match given {
        Some(seconds) => Duration::from_secs(seconds),
        None if context.ui.draws_bars() => Duration::MAX,
        None => follow::PATIENCE,
    }
}

/// Leaves a run alone; its id is what a script wants of it.
fn detached(context: &Context, run: Run) -> Ended {
    if !context.ui.is_json() {
        context.ui.line(run.id.as_str());
    }
    Ended {
        run,
        collected: None,
        log_error: None,
        detached: true,
    }
}

/// Of an order that was interrupted before it was written down nothing goes on.
fn not_placed(error: RunError) -> CommandError {
    match error {
        RunError::Interrupted { .. } => {
            CommandError::new(Exit::Cancelled, "interrupted; nothing was ordered")
        }
        error => error.into(),
    }
}

/// Adds to an error before the acknowledgement what became of the order.
async fn not_launched(
    controller: &Controller,
    id: &RunId,
    error: RunError,
) -> Result<CommandError, CommandError> {
    if let RunError::Interrupted { detached: Some(_) } = error {
        return Ok(left(id, error));
    }
    let mut run = controller.store.run(id).await?;
    let status = run.as_ref().map_or(RunStatus::Pending, |run| run.status);
    if !matches!(error, RunError::Interrupted { .. }) {
        let mut command = CommandError::from(error);
        if let Some(run) = &run {
            command
                .hints
                .iter_mut()
                .for_each(|hint| *hint = hint.replace("NAME", &run.host));
        }
        if let Some(failed) = run.take().filter(|_| status == RunStatus::Failed) {
            why::conclude_in_passing(controller, &failed).await;
            let found = controller.store.run(id).await?;
            let cause = found.as_ref().and_then(outcome::cause);
            // The cause names the host's words again and says what they are about.
            command
                .causes
                .retain(|said| cause.as_ref().is_none_or(|cause| !cause.contains(said)));
            command.causes.extend(cause);
            command = command.hint(format!("`farrun why {id}` tells more"));
        }
        let kept = format!(
            "the order is kept; take it up with `farrun attach {id}`, or drop it with `farrun stop {id}`"
        );
        return Ok(if status.is_settled() {
            command
        } else {
            command.hint(kept)
        });
    }
    Ok(match status {
        RunStatus::Cancelled => CommandError::new(
            Exit::Cancelled,
            format!("{id} was cancelled: interrupted before the host had acknowledged it"),
        ),
        status if status.is_settled() => {
            CommandError::new(Exit::Detached, format!("interrupted; {id} is {status}"))
                .hint(format!("see `farrun attach {id}`"))
        }
        _ => CommandError::new(
            Exit::Detached,
            format!(
                "interrupted while the host was starting {id}; it has not confirmed that the run is stopped"
            ),
        )
        .hint(format!(
            "end it with `farrun stop {id}`, or go on with `farrun attach {id}`"
        )),
    })
}

/// Says what goes on when a command leaves a run that goes on.
pub fn left(id: &RunId, error: RunError) -> CommandError {
    match error {
        RunError::Interrupted { detached: Some(_) } => {
            CommandError::new(Exit::Detached, format!("detached; {id} goes on")).hint(format!(
                "come back with `farrun attach {id}`, end it with `farrun stop {id}`"
            ))
        }
        error => CommandError::from(error).hint(format!(
            "the run is not affected; come back with `farrun attach {id}`"
        )),
    }
}

/// The exit code of a command about a run. Of one that was left alone it says whether its job was started: what
/// became of the job since depends on when one looks.
fn exit_of(ended: &Ended) -> Exit {
    if is_left_started(ended) {
        return Exit::Completed;
    }
    outcome::exit_of(&ended.run)
}

fn is_left_started(ended: &Ended) -> bool {
    ended.detached && ended.run.started_at.is_some()
}

/// Prints how a run ended and says with which exit code.
pub fn finish(context: &Context, ended: &Ended) -> Exit {
    if is_left_started(ended) && ended.run.status.is_settled() && !context.ui.is_json() {
        let (id, status) = (&ended.run.id, ended.run.status);
        context
            .ui
            .note(format!("{id} was started and has ended already ({status})"));
        context
            .ui
            .hint(format!("see `farrun attach {id}` and `farrun show {id}`"));
        return exit_of(ended);
    }
    let brought = ended
        .collected
        .as_ref()
        .map(|collected| brought(context, collected));
    outcome::print_with(
        context,
        &ended.run,
        brought.as_deref(),
        ended.log_error.as_deref(),
    );
    if !context.ui.is_json() && !ended.run.status.is_settled() {
        context
            .ui
            .hint(format!("follow it with `farrun attach {}`", ended.run.id));
    }
    exit_of(ended)
}

/// As [`finish`], for one of several runs: with `--json` a document per line.
pub fn finish_one_of(context: &Context, ended: &Ended, count: usize) -> Exit {
    if context.ui.is_json() && count > 1 {
        let view = super::view::RunView {
            log_error: ended.log_error.as_deref(),
            ..super::view::RunView::from(&ended.run)
        };
        context.ui.json_line(&super::view::document("farrun.run/1", view));
        return exit_of(ended);
    }
    finish(context, ended)
}

/// As [`finish_one_of`], for a run that is left alone.
pub fn leave_one_of(context: &Context, run: Run, count: usize) -> Exit {
    let ended = detached(context, run);
    finish_one_of(context, &ended, count)
}

/// Says what was left behind and which prompt was made, and answers where the rest is and how much; nothing when there were no outputs.
pub fn brought(context: &Context, collected: &Collected) -> String {
    for skipped in &collected.skipped {
        context
            .ui
            .warning(format!("not brought: {}", escape::line(skipped)));
    }
    match &collected.made {
        Some(Ok(made)) => context.ui.note(format!(
            "new prompt `{0}` ({1}); run it with `farrun inference {0}`",
            made.name, made.id
        )),
        Some(Err(why)) => context.ui.warning(format!(
            "the result of {} is no prompt: {}",
            collected.run.id,
            escape::line(why)
        )),
        None => {}
    }
    if collected.files == 0 {
        return String::new();
    }
    let size = progress::count_and_size(collected.files, collected.bytes);
    format!("{} ({size})", collected.folder.display())
}
