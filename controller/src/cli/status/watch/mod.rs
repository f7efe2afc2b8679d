//! `farrun status --watch`: hosts, GPUs, runs and a log, live.
//!
//! One link per host stays open; what it tells arrives as [`link::News`], changes the [`state::State`], and the picture of
//! that is drawn.

mod host;
mod link;
mod state;

use crate::cli::Context;
use crate::controller::{Controller, Silent};
use crate::error::{CommandError, Exit};
use crate::model::Host;
use crate::ssh::NobodyToAsk;
use crate::ui::screen::{Key, Screen};
use futures_util::FutureExt as _;
use link::Following;
use rustix::process::Signal;
use state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Between two drawings while something changes; a key is answered at once.
const DRAW: Duration = Duration::from_millis(200);
/// Between two drawings while nothing changes: ages grow.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks into the database, where other commands write.
const DATABASE: Duration = Duration::from_secs(2);
/// News that wait to be drawn; more make the links wait.
const WAITING: usize = 256;

/// Shows `hosts` until the user leaves.
pub(super) async fn run(hosts: Vec<Host>, context: &Context) -> Result<Exit, CommandError> {
    if context.ui.is_json() {
        return Err(CommandError::usage(
            "`--watch` draws for people and goes not with `--json`",
        ));
    }
    if !context.ui.draws_screens() {
        return Err(CommandError::usage(
            "`--watch` needs a terminal on stdin and stdout that moves its cursor",
        )
        .hint("`farrun status` prints once, and `farrun status --json` for programs"));
    }
    // A question or a progress bar would be drawn over.
    let quiet = Controller::open(
        context.config.clone(),
        context.interrupt.clone(),
        Arc::new(NobodyToAsk),
        Arc::new(Silent),
    );
    let controller = Arc::new(quiet.await?);
    let mut state = State::new(&controller.store, hosts, context.ui.stdout_is_coloured()).await?;
    let broken = CancellationToken::new();
    let unusable = |error: std::io::Error| {
        CommandError::new(Exit::Internal, format!("the terminal cannot be used: {error}"))
    };
    let (mut screen, keys) = Screen::open(&broken).map_err(unusable)?;
    let shown = show(&controller, &mut state, &mut screen, keys, &broken).await;
    drop(screen);
    controller.store.keep_reports(&state.reports()).await?;
    match shown? {
        Left::Unusable(error) => Err(unusable(error)),
        Left::Broken => Err(CommandError::new(Exit::Internal, "a defect ended the live view")),
        Left::Wanted => Ok(Exit::Completed),
    }
}

/// Why the view ended.
enum Left {
    Wanted,
    Broken,
    Unusable(std::io::Error),
}

async fn show(
    controller: &Arc<Controller>,
    state: &mut State,
    screen: &mut Screen,
    mut keys: mpsc::UnboundedReceiver<Key>,
    broken: &CancellationToken,
) -> Result<Left, CommandError> {
    let (send_news, mut news) = mpsc::channel(WAITING);
    let (follow, following) = watch::channel(None::<Following>);
    let mut links = JoinSet::new();
    for (place, host) in state.hosts().into_iter().enumerate() {
        let link = link::keep(
            Arc::clone(controller),
            place,
            host,
            following.clone(),
            send_news.clone(),
        );
        links.spawn(link);
    }
    let mut ticks = tokio::time::interval(DRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw())).ok();
    let mut drawn = Instant::now();
    let mut looked: Option<Instant> = None;
    let mut changed = true;
    loop {
        let mut now = false;
        tokio::select! {
            biased;
            () = controller.interrupt.cancelled() => return Ok(Left::Wanted),
            () = broken.cancelled() => return Ok(Left::Broken),
            key = keys.recv() => match key {
                // The reader of keys ended: the terminal went away.
                None | Some(Key::Quit) => return Ok(Left::Wanted),
                Some(Key::Suspend) => {
                    // One of an earlier stop is not the end of this one.
                    while next(&mut continued).now_or_never().is_some() {}
                    if let Err(error) = screen.suspend(next(&mut continued)).await {
                        return Ok(Left::Unusable(error));
                    }
                    now = true;
                }
                Some(key) => {
                    state.press(key);
                    now = true;
                }
            },
            Some(()) = next(&mut continued) => {
                if let Err(error) = screen.take_again() {
                    return Ok(Left::Unusable(error));
                }
                now = true;
            }
            Some(told) = news.recv() => {
                state.learn(told);
                changed = true;
            }
            _ = ticks.tick() => {
                if looked.is_none_or(|looked| looked.elapsed() >= DATABASE) {
                    state.look(&controller.store).await?;
                    looked = Some(Instant::now());
                    changed = true;
                }
                now = changed || drawn.elapsed() >= IDLE;
            }
        }
        let wanted = state.following();
        follow.send_if_modified(|current| {
            let other = *current != wanted;
            if other {
                current.clone_from(&wanted);
            }
            other
        });
        if now {
            if let Err(error) = screen.show(&state.picture(chrono::Utc::now())) {
                return Ok(Left::Unusable(error));
            }
            drawn = Instant::now();
            changed = false;
        }
    }
}

/// The next signal; never, where they cannot be heard.
async fn next(signals: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signals {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    }
}
