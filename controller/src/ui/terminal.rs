//! Lines, messages, JSON and the run log.

use super::checklist::Checklist;
use super::escape::{self, StreamEscaper};
use super::facts::{DEFAULT_WIDTH, Facts, UiOptions};
use super::progress::Bars;
use super::sink::{Captured, Sink};
use super::table::{self, Table};
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Columns of a wrapped line that are left for words, however narrow the terminal.
const LEAST_WRAPPED: usize = 20;

/// The terminal. Clones write to the same streams.
#[derive(Clone)]
pub struct Ui(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) facts: Facts,
    stdout: Mutex<Sink>,
    stderr: Mutex<Sink>,
    log: Mutex<StreamEscaper>,
    /// The run log's last byte on this terminal was not a line feed.
    mid_line: AtomicBool,
    pub(super) bars: Bars,
    /// The program waits for what a person or a pipe has to say, and notices nothing else.
    asking: AtomicBool,
}

impl Ui {
    /// The program's own streams.
    pub fn new(options: UiOptions) -> Self {
        Self::of(Facts::detect(options), Sink::stdout(), Sink::stderr())
    }

    /// A terminal for tests: what is written to stdout and stderr lands in the two buffers. No TTY, no colour,
    /// 80 columns.
    pub fn captured() -> (Self, Captured, Captured) {
        Self::captured_with(UiOptions::default())
    }

    /// Like [`Self::captured`], with other options.
    pub fn captured_with(options: UiOptions) -> (Self, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let ui = Self::of(
            Facts::captured(options),
            Sink::captured(out.clone()),
            Sink::captured(err.clone()),
        );
        (ui, out, err)
    }

    /// Like [`Self::captured_with`], behaving as if stdout and stderr were terminals, without drawing bars.
    pub fn captured_tty(options: UiOptions) -> (Self, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let facts = Facts {
            stdout_tty: true,
            stderr_tty: true,
            ..Facts::captured(options)
        };
        let mut ui = Self::of(facts, Sink::captured(out.clone()), Sink::captured(err.clone()));
        if let Some(inner) = Arc::get_mut(&mut ui.0) {
            inner.bars = Bars::hidden();
        }
        (ui, out, err)
    }

    fn of(facts: Facts, stdout: Sink, stderr: Sink) -> Self {
        Self(Arc::new(Inner {
            facts,
            stdout: Mutex::new(stdout),
            stderr: Mutex::new(stderr),
            log: Mutex::default(),
            mid_line: AtomicBool::new(false),
            asking: AtomicBool::new(false),
            bars: if facts.draws_bars() {
                Bars::drawn()
            } else {
                Bars::hidden()
            },
        }))
    }

    /// Whether data is to be printed as JSON.
    pub fn is_json(&self) -> bool {
        self.0.facts.json
    }

    /// Whether stdout is a terminal.
    pub fn stdout_is_tty(&self) -> bool {
        self.0.facts.stdout_tty
    }

    /// Whether a whole screen can be drawn there, and keys be heard.
    pub fn draws_screens(&self) -> bool {
        let facts = &self.0.facts;
        facts.stdout_tty && facts.stdin_tty && facts.cursor_moves
    }

    /// Whether colours are shown there.
    pub fn stdout_is_coloured(&self) -> bool {
        self.0.facts.color_stdout
    }

    /// Whether the user can be asked something.
    pub fn stdin_is_tty(&self) -> bool {
        self.0.facts.stdin_tty
    }

    /// Whether the program waits inside [`Self::waiting_for_input`].
    pub fn is_asking(&self) -> bool {
        self.0.asking.load(Ordering::Relaxed)
    }

    /// Does what waits for stdin, so that a signal meanwhile can end the program at once.
    pub fn waiting_for_input<T>(&self, read: impl FnOnce() -> T) -> T {
        self.0.asking.store(true, Ordering::Relaxed);
        let answer = read();
        self.0.asking.store(false, Ordering::Relaxed);
        answer
    }

    /// Columns of the terminal.
    pub fn width(&self) -> usize {
        self.0.facts.width
    }

    /// Whether standard output takes nothing any more: its reader left, or its disk is full.
    pub fn stdout_lost(&self) -> bool {
        lock(&self.0.stdout).is_lost()
    }

    /// Whether the reader of stdout went away, as `head` does: end quietly.
    pub fn stdout_closed(&self) -> bool {
        lock(&self.0.stdout).is_closed()
    }

    /// Ends the output.
    ///
    /// # Errors
    /// What kept data from reaching stdout, such as a full disk; a reader that went away is no error.
    pub fn finish(&self) -> io::Result<()> {
        self.0.bars.clear();
        lock(&self.0.stdout).take_failure().map_or(Ok(()), Err)
    }

    /// Data on stdout; line feeds and tabs in it stay.
    pub fn line(&self, text: impl AsRef<str>) {
        self.data(&(escape::block(text.as_ref()) + "\n"));
    }

    /// A long line on stdout, wrapped between words at the terminal's width, its further lines `indent` columns in; in one
    /// piece where stdout is no terminal.
    pub fn wrapped(&self, text: impl AsRef<str>, indent: usize) {
        let text = escape::line(text.as_ref());
        let facts = self.0.facts;
        if !facts.stdout_tty {
            return self.data(&(text + "\n"));
        }
        let further = " ".repeat(indent);
        // A narrow terminal gets at least a few words on a line.
        let width = facts.width.max(indent.saturating_add(LEAST_WRAPPED));
        let options = textwrap::Options::new(width)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .subsequent_indent(&further);
        self.data(&(textwrap::wrap(&text, options).join("\n") + "\n"));
    }

    /// A text of our own on stdout, such as a script or a manual page, exactly as it is.
    pub fn verbatim(&self, text: &str) {
        self.data(text);
    }

    /// Rows under headers on stdout, cut to the terminal's width; uncut where stdout is no terminal.
    pub fn table(&self, table: &Table) {
        let facts = self.0.facts;
        let limit = facts.stdout_tty.then_some(facts.width);
        self.data(&table.render(limit, facts.color_stdout));
    }

    /// Findings under headings on stdout, wrapped to the terminal's width.
    pub fn checklist(&self, list: &Checklist) {
        let facts = self.0.facts;
        let width = if facts.stdout_tty {
            facts.width
        } else {
            DEFAULT_WIDTH
        };
        self.data(&list.render(width, facts.color_stdout));
    }

    /// Aligned `name: value` lines on stdout.
    pub fn fields(&self, fields: &[(&str, String)]) {
        self.data(&table::fields(fields));
    }

    /// One readable JSON document on stdout.
    pub fn json(&self, value: &impl Serialize) {
        self.json_text(serde_json::to_string_pretty(value));
    }

    /// One line of NDJSON on stdout.
    pub fn json_line(&self, value: &impl Serialize) {
        self.json_text(serde_json::to_string(value));
    }

    fn json_text(&self, text: serde_json::Result<String>) {
        match text {
            Ok(text) => self.data(&(escape::json(&text) + "\n")),
            Err(error) => self.error("the answer cannot be written as JSON", &[error.to_string()], &[]),
        }
    }

    /// A piece of the run log on stdout: byte for byte, or made harmless where stdout is a terminal.
    pub fn log_bytes(&self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if self.0.facts.stdout_tty {
            let text = lock(&self.0.log).push(bytes);
            self.0.mid_line.store(*last != b'\n', Ordering::Relaxed);
            self.write_stdout(text.as_bytes());
        } else {
            self.write_stdout(bytes);
        }
    }

    /// Ends the run log: writes what a terminal's escaper held back, and ends its last line there.
    pub fn log_end(&self) {
        let mut text = lock(&self.0.log).finish();
        if self.0.mid_line.swap(false, Ordering::Relaxed) {
            text.push('\n');
        }
        self.write_stdout(text.as_bytes());
    }

    fn data(&self, text: &str) {
        self.write_stdout(text.as_bytes());
    }

    fn write_stdout(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.bars.suspend(|| lock(&self.0.stdout).write(bytes));
        }
    }

    /// Writes to stderr, on a line of its own.
    pub(super) fn message(&self, text: &str) {
        let facts = self.0.facts;
        self.0.bars.suspend(|| {
            let mut stderr = lock(&self.0.stderr);
            if facts.stderr_tty && facts.stdout_tty {
                // The run log on the same terminal may have left a colour on, or a line without an end.
                if lock(&self.0.log).is_coloured() {
                    stderr.write(b"\x1b[0m");
                }
                if self.0.mid_line.swap(false, Ordering::Relaxed) {
                    stderr.write(b"\n");
                }
            }
            stderr.write(text.as_bytes());
        });
    }

    #[cfg(test)]
    pub(super) fn break_stdout(&self) {
        lock(&self.0.stdout).break_pipe();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a line was written leaves nothing half-changed that the next line could trip over.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
