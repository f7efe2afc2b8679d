//! What is known about the streams before anything is written.

use std::io::{self, IsTerminal as _};

/// Width where neither the terminal nor `COLUMNS` says one.
pub(super) const DEFAULT_WIDTH: usize = 80;

/// What the user asked of the output.
#[derive(Debug, Clone, Copy, Default)]
pub struct UiOptions {
    /// Data is printed as JSON.
    pub json: bool,
    /// No notes, hints or progress; warnings and errors stay.
    pub quiet: bool,
    /// Colour always or never; none lets `NO_COLOR`, `TERM` and the terminal decide.
    pub color: Option<bool>,
    /// Width in columns; none lets the terminal, then `COLUMNS` decide.
    pub width: Option<usize>,
}

/// What is known about the streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) color_stdout: bool,
    pub(super) color_stderr: bool,
    pub(super) width: usize,
    pub(super) stdin_tty: bool,
    pub(super) stdout_tty: bool,
    pub(super) stderr_tty: bool,
    /// Whether a terminal would understand more than lines that follow one another.
    pub(super) cursor_moves: bool,
}

impl Facts {
    pub(super) fn detect(options: UiOptions) -> Self {
        let (stdout_tty, stderr_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let cursor_moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !cursor_moves;
        Self {
            json: options.json,
            quiet: options.quiet,
            color_stdout: options.color.unwrap_or(stdout_tty && !refused),
            color_stderr: options.color.unwrap_or(stderr_tty && !refused),
            width: options
                .width
                .or_else(terminal_width)
                .or_else(columns)
                .unwrap_or(DEFAULT_WIDTH),
            stdin_tty: io::stdin().is_terminal(),
            stdout_tty,
            stderr_tty,
            cursor_moves,
        }
    }

    pub(super) fn captured(options: UiOptions) -> Self {
        Self {
            json: options.json,
            quiet: options.quiet,
            color_stdout: options.color.unwrap_or(false),
            color_stderr: options.color.unwrap_or(false),
            width: options.width.unwrap_or(DEFAULT_WIDTH),
            stdin_tty: false,
            stdout_tty: false,
            stderr_tty: false,
            cursor_moves: false,
        }
    }

    /// Whether bars may be drawn.
    pub(super) fn draws_bars(self) -> bool {
        self.stderr_tty && !self.json && !self.quiet
    }
}

fn terminal_width() -> Option<usize> {
    let of = |size: rustix::termios::Winsize| usize::from(size.ws_col);
    rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()))
        .ok()
        .map(of)
        .filter(|width| *width > 0)
}

fn columns() -> Option<usize> {
    std::env::var("COLUMNS")
        .ok()?
        .parse()
        .ok()
        .filter(|width| *width > 0)
}
