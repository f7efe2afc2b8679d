//! Words that patterns are tried on, and what they name.

use crate::diagnosis::evidence::{Evidence, Line};
use crate::diagnosis::rules::Found;
use crate::diagnosis::{Facts, Quote, words};
use farrun_protocol::diagnostics::{CONTAINER, SETTLED};
use farrun_protocol::verdict::Reason;
use regex::Captures;

/// What a quotation from the run log names as its file.
pub(in crate::diagnosis) const RUN_LOG: &str = "run.log";

/// Named groups that patterns may have. Names of figures are constants, so they are listed.
pub(in crate::diagnosis::judge) const NAMES: [&str; 34] = [
    "address",
    "address2",
    "bytes",
    "capability",
    "class",
    "condition",
    "device",
    "free",
    "free2",
    "gpu",
    "gpu2",
    "key",
    "kind",
    "library",
    "message",
    "model",
    "module",
    "name",
    "name2",
    "need",
    "other",
    "own2",
    "path",
    "platform",
    "program",
    "repository",
    "reserved2",
    "said",
    "said2",
    "status",
    "symbol",
    "total",
    "total2",
    "version",
];

/// What the engine, the registry and PID 1 said about a start that failed.
pub(super) fn said(evidence: &Evidence, facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    const LONGEST: usize = 4000;
    let settled = evidence.settled.as_ref();
    let reason = facts
        .run
        .reason
        .or_else(|| settled.map(|settled| settled.verdict.reason));
    let by_itself = matches!(
        reason,
        Some(Reason::ExitCode | Reason::Signal | Reason::OutOfMemory | Reason::TimeLimit)
    );
    let mut said = Vec::new();
    if by_itself {
        return said;
    }
    let detail = settled.and_then(|settled| settled.verdict.detail.as_deref());
    let engine = settled
        .and_then(|settled| settled.container.as_ref())
        .and_then(|container| container.error.as_deref());
    let row = facts.run.error_message.as_deref().filter(|_| detail.is_none());
    let inspected = Some(evidence.container.state.error.as_str());
    for (file, text) in [
        (SETTLED, detail),
        (SETTLED, engine),
        (CONTAINER, inspected),
        ("error_message", row),
    ] {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let text = words::shown(text, LONGEST);
        if said.iter().all(|(_, known)| *known != text) {
            said.push((file, text));
        }
    }
    said
}

/// Adds the named groups of a match to the figures.
pub(super) fn named(mut found: Found, captures: Option<&Captures<'_>>) -> Found {
    for name in NAMES {
        if let Some(group) = captures.and_then(|captures| captures.name(name)) {
            found.figures.insert(name, words::shown(group.as_str(), 300));
        }
    }
    for (name, other) in [
        ("address", "address2"),
        ("program", "other"),
        ("said", "said2"),
        ("name", "name2"),
    ] {
        if let Some(value) = found.figures.remove(other) {
            found.figures.insert(name, value);
        }
    }
    found
}

impl Found {
    /// As it is, with a line of the run log as a quotation.
    pub(in crate::diagnosis) fn with_line(mut self, line: &Line) -> Self {
        self.quotes.push(Quote {
            file: RUN_LOG.to_owned(),
            offset: line.offset,
            text: line.text.clone(),
        });
        self
    }
}
