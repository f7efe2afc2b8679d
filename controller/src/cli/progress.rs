//! Shows what a story tells: progress on stderr, the run log on stdout.

use crate::controller::{Event, Observer};
use crate::ui::{Progress, Ui, escape, format};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Shows events in the terminal.
pub struct TerminalObserver {
    ui: Ui,
    bar: Mutex<Option<Progress>>,
    interrupt: CancellationToken,
    /// Whether the wait for a host that is out of reach is shown.
    away: AtomicBool,
}

impl TerminalObserver {
    /// Shows through `ui`; cancels `interrupt` when standard output takes no more of the run log.
    pub fn new(ui: Ui, interrupt: CancellationToken) -> Self {
        Self {
            ui,
            bar: Mutex::new(None),
            interrupt,
            away: AtomicBool::new(false),
        }
    }

    /// Shows a step that is over in a moment: only as a bar, for in a file or a pipe it would be noise.
    fn brief(&self, label: &str) {
        if self.ui.draws_bars() {
            self.step(label, None);
        }
    }

    /// Shows `label`, as the bar that is there or a new one, with bytes when they are known.
    fn step(&self, label: &str, bytes: Option<(u64, u64)>) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if bar.as_ref().is_some_and(|bar| bar.label() != label)
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
        let bar = bar.get_or_insert_with(|| self.ui.progress(label));
        if let Some((done, total)) = bytes {
            bar.set_bytes(done, total);
        }
    }

    fn done(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for TerminalObserver {
    fn observe(&self, event: &Event<'_>) {
        match event {
            // The wait is on the screen already.
            Event::Connecting { .. } if self.away.load(Ordering::Relaxed) => {}
            Event::Connecting { host } => self.brief(&format!("connecting to `{host}`")),
            Event::Deploying { host } => self.step(&format!("putting the agent on `{host}`"), None),
            Event::Examining { host } => self.step(&format!("looking at `{host}`"), None),
            Event::HashingInputs { files: 0 } => {}
            Event::HashingInputs { .. } => self.brief("hashing inputs"),
            Event::Uploading { done, total } => self.step("uploading", Some((*done, *total))),
            // Every byte is there and the engine is at work on the layers, for minutes when they are large.
            Event::PullingImage { image, done, total }
                if done == total && *total > 0 && self.ui.draws_bars() =>
            {
                self.step(&format!("unpacking `{image}`"), None);
            }
            Event::PullingImage { image, done, total } => {
                self.step(&format!("pulling `{image}`"), Some((*done, *total)))
            }
            Event::Starting { run, host } => self.brief(&format!("starting {run} on `{host}`")),
            Event::HashingOutputs { .. } if !self.ui.draws_bars() => {}
            Event::HashingOutputs { done, total } => self.step("hashing outputs", Some((*done, *total))),
            Event::Downloading { done, total } => self.step("downloading", Some((*done, *total))),
            Event::CollectingEvidence { host } => {
                self.step(&format!("collecting evidence on `{host}`"), None);
            }
            Event::FetchingEvidence { .. } if !self.ui.draws_bars() => {}
            Event::FetchingEvidence { host, done, total } => {
                self.step(&format!("evidence of `{host}`"), Some((*done, *total)));
            }
            Event::StepDone => self.done(),
            Event::InLine { run, place } => {
                self.done();
                self.ui.note(format!(
                    "{run} is {}; Ctrl-C detaches, it keeps its place",
                    escape::line(place)
                ));
            }
            Event::Running { .. } if self.ui.is_json() => self.done(),
            Event::Running { run, place } => {
                self.done();
                let place = escape::line(place);
                self.ui.note(format!("{run} is running {place}; Ctrl-C detaches"));
            }
            Event::Log(bytes) => {
                self.done();
                self.ui.log_bytes(bytes);
                // What nobody can read is mirrored without us as well.
                if self.ui.stdout_lost() {
                    self.interrupt.cancel();
                }
            }
            Event::LinkLost { host, cause } => {
                self.done();
                self.ui.warning(format!(
                    "the link to `{host}` broke ({cause}); reconnecting, the run is not affected"
                ));
            }
            Event::StillAway {
                host,
                away,
                acknowledged,
                due,
            } => {
                let text = away_text(host, *away, *acknowledged);
                if self.ui.draws_bars() {
                    self.step(&text, None);
                    self.away.store(true, Ordering::Relaxed);
                } else if *due {
                    self.ui.warning(text);
                }
            }
            Event::LinkBack { host } => {
                self.away.store(false, Ordering::Relaxed);
                self.done();
                self.ui.note(format!("the link to `{host}` is back"));
            }
            Event::Warning(text) => self.ui.warning(text),
            Event::Note(text) => self.ui.note(text),
        }
    }
}

/// What a wait for a host looks like.
fn away_text(host: &str, away: Duration, acknowledged: bool) -> String {
    let away = match away.as_secs() {
        0..60 => String::new(),
        seconds => format!(" for {} min", seconds / 60),
    };
    let leave = if acknowledged {
        "Ctrl-C detaches, the run goes on"
    } else {
        "Ctrl-C cancels the order"
    };
    format!("`{host}` is out of reach{away}; {leave}")
}

/// `3 files, 1.2 GiB`.
pub fn count_and_size(files: usize, bytes: u64) -> String {
    format!(
        "{files} file{}, {}",
        if files == 1 { "" } else { "s" },
        format::bytes(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_says_how_long_it_lasts_and_how_to_leave() {
        assert_eq!(
            away_text("gpu1", Duration::from_secs(200), true),
            "`gpu1` is out of reach for 3 min; Ctrl-C detaches, the run goes on"
        );
        assert_eq!(
            away_text("gpu1", Duration::from_secs(5), false),
            "`gpu1` is out of reach; Ctrl-C cancels the order"
        );
    }
}
