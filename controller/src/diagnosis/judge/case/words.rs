//! Words that patterns are tried on, and what they name.

use crate::diagnosis::evidence::{Evidence, Line};
use crate::diagnosis::rules::Found;
use crate::diagnosis::{Facts, Quote, words};
use crate::model::Run;
use farrun_protocol::diagnostics::{CONTAINER, SETTLED};
use farrun_protocol::explain::without_record;
use farrun_protocol::record::{ExecError, Settled};
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

/// What a quotation names as its file that is from the answer to the order, of which the host keeps none.
pub(in crate::diagnosis) const ANSWER: &str = "the host's answer";

/// What somebody said about a start that failed.
pub(super) struct Said {
    /// Where it stands.
    pub(super) file: &'static str,
    /// All of it, as patterns see it.
    pub(super) text: String,
    /// The words of whoever said it, without ours around them; empty when it has only ours.
    pub(super) quote: String,
}

/// What the engine, the registry and PID 1 said about a start that failed.
pub(super) fn said(evidence: &Evidence, facts: &Facts<'_>) -> Vec<Said> {
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
    let mut said: Vec<Said> = Vec::new();
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
        (ANSWER, row),
    ] {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let text = words::shown(text, LONGEST);
        let quote = match file {
            ANSWER => of_the_host(facts.run, reason, &text),
            // The name of an image proves nothing; that the host has none of that name does.
            _ if text == facts.run.spec.image => String::new(),
            _ => not_found(settled, &text).unwrap_or_else(|| text.clone()),
        };
        if said.iter().all(|known| known.text != text) {
            said.push(Said { file, text, quote });
        }
    }
    said
}

/// The host's part of the line that we made of its answer.
fn of_the_host(run: &Run, reason: Option<Reason>, line: &str) -> String {
    let ours = reason.map(|reason| without_record(reason, None, &run.spec));
    match ours.and_then(|ours| line.strip_prefix(&ours)) {
        Some(rest) => rest.strip_prefix(": ").unwrap_or_default().to_owned(),
        // What refused an order says so in words of its own.
        None if run.launched_at.is_none() => line.to_owned(),
        None => String::new(),
    }
}

/// What the kernel said of a program that is not there; the record has only its name.
fn not_found(settled: Option<&Settled>, detail: &str) -> Option<String> {
    match settled?.exit.as_ref()?.exec_error.as_ref()? {
        ExecError::NotFound { program } if words::shown(program, detail.len()) == detail => {
            Some(format!("exec {detail}: No such file or directory"))
        }
        _ => None,
    }
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
