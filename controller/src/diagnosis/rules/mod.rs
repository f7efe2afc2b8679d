//! The table: what is looked for, what is said about it, and what to try. Order is precedence: of several certain
//! causes the first in the table is the cause, because the later ones are what it leads to.
//!
//! `docs/diagnosis.md` is made of this table; a test compares them.

mod end;
mod gpu;
mod memory;
mod models;
mod network;
mod program;
mod start;
mod storage;

use super::Certainty;
use super::judge::Case;
use std::sync::LazyLock;

/// A row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Stable code.
    pub(super) code: &'static str,
    /// When it is said, for the documentation.
    pub(super) when: &'static str,
    /// What it looks for; the first that is there counts.
    pub(super) looks: &'static [Look],
    /// The sentence. `{name}` is a figure; a part in `[…]` is left out when one of its figures is not known.
    pub(super) say: &'static str,
    /// Figures of this run beyond those that [`super::remedy::common`] has.
    pub(super) figures: fn(&Case<'_>, &Found) -> Figures,
    /// What to try. A line is left out when one of its figures is not known.
    pub(super) remedies: &'static [Try],
    /// Whether it is asked only when nothing else was found.
    pub(super) last_resort: bool,
}

/// What a rule of few parts leaves unsaid.
pub(super) const PLAIN: Rule = Rule {
    code: "",
    when: "",
    looks: &[],
    say: "",
    figures: no_figures,
    remedies: &[],
    last_resort: false,
};

fn no_figures(_: &Case<'_>, _: &Found) -> Figures {
    Figures::new()
}

/// Names and values for a template.
pub(super) type Figures = std::collections::BTreeMap<&'static str, String>;

/// Something to look for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    /// A line of the run log. Its named groups are figures.
    Log(Certainty, &'static str),
    /// What the engine, the registry or the host said when the job could not be started.
    Said(Certainty, &'static str),
    /// Anything else.
    Facts(fn(&Case<'_>) -> Option<Found>),
}

/// An error of a job in its own words: certain when it stands near the end of the log.
pub(super) const fn log(pattern: &'static str) -> Look {
    Look::Log(Certainty::Certain, pattern)
}
/// Words that fit, as others would.
pub(super) const fn likely(pattern: &'static str) -> Look {
    Look::Log(Certainty::Likely, pattern)
}
/// Words that may be anything.
pub(super) const fn seen(pattern: &'static str) -> Look {
    Look::Log(Certainty::Seen, pattern)
}
/// What was said about the start.
pub(super) const fn said(pattern: &'static str) -> Look {
    Look::Said(Certainty::Certain, pattern)
}

/// Something to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    /// What, as a template.
    pub(super) text: &'static str,
    /// A command, as a template; empty for none.
    pub(super) command: &'static str,
}

/// Advice with a command.
pub(super) const fn run(text: &'static str, command: &'static str) -> Try {
    Try { text, command }
}
/// Advice without one.
pub(super) const fn tell(text: &'static str) -> Try {
    Try { text, command: "" }
}

/// What a rule found.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// How sure it is.
    pub(super) certainty: Option<Certainty>,
    /// Pieces of evidence.
    pub(super) quotes: Vec<super::Quote>,
    /// Lines of the log that it was read from.
    pub(super) lines: Vec<usize>,
    /// Named groups of the pattern, and what a function found out.
    pub(super) figures: Figures,
}

impl Found {
    /// Something certain without a quotation.
    pub(super) fn certain() -> Self {
        Self::with(Certainty::Certain)
    }
    /// Something without a quotation.
    pub(super) fn with(certainty: Certainty) -> Self {
        Self {
            certainty: Some(certainty),
            ..Self::default()
        }
    }
    /// As it is, with a quotation from a file other than the log.
    pub(super) fn quoting(mut self, file: &str, text: &str) -> Self {
        self.quotes.push(super::Quote {
            file: file.to_owned(),
            offset: None,
            text: super::words::shown(text, 1000),
        });
        self
    }
    /// As it is, with a figure.
    pub(super) fn figure(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.figures.insert(name, value.into());
        self
    }
}

/// Every row, in order of precedence.
pub(super) static RULES: LazyLock<Vec<&'static Rule>> = LazyLock::new(|| {
    [
        end::BEFORE,
        start::image::RULES,
        start::gpu::RULES,
        start::container::RULES,
        start::UNKNOWN,
        gpu::memory::RULES,
        memory::RULES,
        gpu::hardware::FAULTS,
        gpu::software::RULES,
        gpu::hardware::NOTES,
        gpu::wear::RULES,
        gpu::others::RULES,
        storage::RULES,
        models::RULES,
        network::RULES,
        program::RULES,
        end::AFTER,
    ]
    .into_iter()
    .flatten()
    .collect()
});
