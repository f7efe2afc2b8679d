//! Bars and spinners on stderr that give way to output.

use super::terminal::Ui;
use super::{escape, format, table};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::time::Duration;

/// How often a spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// Columns that a label may take beside a bar: what would not fit in one line of a terminal is drawn over and over.
const LABEL: usize = 44;

thread_local! {
    /// Whether this thread holds the bars' lock already; taking it twice would never return.
    static SUSPENDED: Cell<bool> = const { Cell::new(false) };
}

struct EndOfSuspension;

impl Drop for EndOfSuspension {
    fn drop(&mut self) {
        SUSPENDED.set(false);
    }
}

/// Every bar of one terminal.
pub(super) struct Bars(MultiProgress);

impl Bars {
    pub(super) fn drawn() -> Self {
        Self(MultiProgress::with_draw_target(
            ProgressDrawTarget::stderr_with_hz(10),
        ))
    }

    pub(super) fn hidden() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()))
    }

    /// Runs `write` while no bar is drawn. May be nested, as a write within [`Progress::suspend`] is.
    pub(super) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        if SUSPENDED.replace(true) {
            return write();
        }
        let _end = EndOfSuspension;
        self.0.suspend(write)
    }

    pub(super) fn clear(&self) {
        // A terminal that is gone needs no clearing.
        let _ = self.0.clear();
    }
}

/// One phase that takes a while. Where no bar can be drawn, its label is one note at the start.
///
/// Dropping it takes the bar away. Finish it before a run log starts to flow: a bar and a log's unfinished line
/// cannot share the last line of a terminal.
pub struct Progress {
    ui: Ui,
    bar: ProgressBar,
    label: String,
}

impl Ui {
    /// Whether bars are drawn; where they are not, each phase is a line that stays.
    pub fn draws_bars(&self) -> bool {
        self.0.facts.draws_bars()
    }

    /// Starts a phase.
    pub fn progress(&self, label: impl AsRef<str>) -> Progress {
        let label = escape::line(label.as_ref());
        let bar = if self.0.facts.draws_bars() {
            let bar = self.0.bars.0.add(ProgressBar::new_spinner());
            // A phase that is not measured has the line to itself.
            bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
            bar.set_message(label.clone());
            bar.set_prefix(table::cut(&label, LABEL));
            bar.enable_steady_tick(TICK);
            bar
        } else {
            self.note(&label);
            ProgressBar::hidden()
        };
        Progress {
            ui: self.clone(),
            bar,
            label,
        }
    }
}

impl Progress {
    /// Bytes done of `total`; a total of 0 is unknown.
    pub fn set_bytes(&self, done: u64, total: u64) {
        let message = if total == 0 {
            format!("{} {}", self.label, format::bytes(done))
        } else {
            format!("{} / {}", format::bytes(done), format::bytes(total))
        };
        self.bar.set_message(message);
        if total > 0 && self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(style("{prefix} [{wide_bar}] {msg}  {eta}"));
        }
        self.bar.set_position(done);
    }

    /// Runs `write` while no bar is on the terminal.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.ui.0.bars.suspend(write)
    }

    /// Ends the phase with a note of what came of it.
    pub fn finish(self, text: impl AsRef<str>) {
        let ui = self.ui.clone();
        self.finish_and_clear();
        ui.note(text);
    }

    /// Ends the phase without a word.
    pub fn finish_and_clear(self) {
        drop(self);
    }

    /// The label it was started with.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The style of a template that is known to be valid; a mistake in it shows as a plain bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
