//! What is said on stderr: notes, warnings, hints, errors.

use super::escape;
use super::terminal::Ui;

impl Ui {
    /// A status line on stderr.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.0.facts.quiet {
            self.message(&(indented(text.as_ref()) + "\n"));
        }
    }

    /// Something the user should look at.
    pub fn warning(&self, text: impl AsRef<str>) {
        self.message(&self.labelled("warning", YELLOW, text.as_ref()));
    }

    /// What the user can do.
    pub fn hint(&self, text: impl AsRef<str>) {
        if !self.0.facts.quiet {
            self.message(&self.labelled("hint", CYAN, text.as_ref()));
        }
    }

    /// What went wrong, why, and what the user can do.
    pub fn error(&self, message: impl AsRef<str>, causes: &[String], hints: &[String]) {
        let mut text = self.labelled("error", RED, message.as_ref());
        for cause in causes {
            text.push_str(&format!("  caused by: {}\n", indented(cause)));
        }
        for hint in hints {
            text.push_str(&self.labelled("hint", CYAN, hint));
        }
        self.message(&text);
    }

    /// A message of our own logs, when the user wants to see them.
    pub fn telemetry(&self, text: &str) {
        self.message(&(indented(text) + "\n"));
    }

    fn labelled(&self, label: &str, color: &str, text: &str) -> String {
        let text = indented(text);
        if self.0.facts.color_stderr {
            format!("\x1b[1;{color}m{label}\x1b[0m: {text}\n")
        } else {
            format!("{label}: {text}\n")
        }
    }

    /// Writes a question, without ending its line.
    pub(super) fn question(&self, text: &str) {
        self.message(&escape::line(text));
    }
}

const RED: &str = "31";

const YELLOW: &str = "33";

const CYAN: &str = "36";

/// Escaped text whose further lines cannot pass for lines of ours.
fn indented(text: &str) -> String {
    escape::block(text.trim_end()).replace('\n', "\n    ")
}
